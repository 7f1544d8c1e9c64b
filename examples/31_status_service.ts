// A status service: the complete example of Daebus' documentation, with heartbeat, events, a status and a notice at start.
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Console, Effect, Layer, Queue, Ref, Schedule, Schema } from "effect"
import { Action, Background, Broadcast, Caller, Handlers, Listener, Memory, Service, Topic } from "fiberbus"

class NoData extends Schema.TaggedError<NoData>()("NoData", {}) {}

class DataProcessor extends Service.make(
  "data_processor",
  Action.make("get_status", { success: { status: Schema.String, uptimeMillis: Schema.Finite, requests: Schema.Int } }),
  Action.make("process_data", {
    payload: { data: Schema.Array(Schema.Finite) },
    success: { size: Schema.Int, result: Schema.Finite },
    error: NoData
  })
) {}

// The channels and the forms that Daebus services use for them.
const Registry = Topic.make("service_registry", { type: Schema.Literal("service_started"), service: Schema.String })
const SystemEvents = Topic.make("system_events", { type: Schema.String })
const Monitoring = Topic.make("monitoring", {
  type: Schema.Literal("heartbeat"),
  service: Schema.String,
  timestamp: Schema.Finite,
  status: Schema.String
})

const service = DataProcessor.serviceName

const DataProcessorLive = Layer.unwrap(
  Effect.gen(function* () {
    const state = yield* Ref.make({ status: "healthy", requests: 0, started: yield* Clock.currentTimeMillis })

    const Actions = Handlers.layer(DataProcessor, {
      get_status: Effect.fnUntraced(function* () {
        const { requests, started, status } = yield* Ref.updateAndGet(state, (now) => ({
          ...now,
          requests: now.requests + 1
        }))
        return { status, uptimeMillis: (yield* Clock.currentTimeMillis) - started, requests }
      }),
      process_data: ({ data }) =>
        data.length === 0
          ? Effect.fail(new NoData())
          : Effect.succeed({ size: data.length, result: data.reduce((sum, n) => sum + n, 0) })
    })

    const OnSystemEvent = Listener.layer(SystemEvents, ({ type }) =>
      type === "shutdown_request" ? Ref.update(state, (now) => ({ ...now, status: "shutting_down" })) : Effect.void
    )

    // Every minute in earnest. A beat that fails is logged and counted, and does not stop the next.
    const Heartbeat = Background.layer(
      "heartbeat",
      Schedule.spaced("20 millis"),
      Effect.gen(function* () {
        const { status } = yield* Ref.get(state)
        const timestamp = (yield* Clock.currentTimeMillis) / 1000
        yield* Broadcast.publish(Monitoring, { type: "heartbeat", service, timestamp, status })
      })
    )

    // Built last: whoever hears of the service can call it.
    const Announced = Layer.effectDiscard(Broadcast.publish(Registry, { type: "service_started", service }))
    return Announced.pipe(Layer.provideMerge(Layer.mergeAll(Actions, OnSystemEvent, Heartbeat)))
  })
)

const program = Effect.gen(function* () {
  const started = yield* Queue.sliding<string>(16)
  const heard = yield* Queue.sliding<string>(16)
  yield* Layer.build(
    Layer.mergeAll(
      Listener.layer(Registry, ({ service }) => Queue.offer(started, service)),
      Listener.layer(Monitoring, ({ status }) => Queue.offer(heard, status))
    )
  )
  yield* Layer.build(DataProcessorLive)
  const monitor = (status: string) => Queue.take(heard).pipe(Effect.repeat({ until: (beat) => beat === status }))

  yield* Console.log(`registry  ${yield* Queue.take(started)} has started`)
  yield* Console.log(`monitor   a heartbeat: ${yield* monitor("healthy")}`)

  const processor = yield* Caller.make(DataProcessor)
  yield* Console.log(`caller    sum ${(yield* processor.process_data({ data: [1, 2, 3] })).result}`)
  yield* processor
    .process_data({ data: [] })
    .pipe(Effect.catchTag("NoData", () => Console.log("caller    there was no data")))

  yield* Broadcast.publish(SystemEvents, { type: "shutdown_request" })
  yield* Console.log(`monitor   a heartbeat: ${yield* monitor("shutting_down")}`)
  const { requests, status } = yield* processor.get_status()
  yield* Console.log(`caller    ${status}, ${requests} request for it`)
})

program.pipe(Effect.scoped, Effect.provide(Memory.layer), NodeRuntime.runMain)
