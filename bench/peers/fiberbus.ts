/**
 * fiberbus as its users run it: built JavaScript, schemas checked on both sides and in both directions. The variants are `redis`, `single` (no frame
 * holds more than one message, as Daebus has it), `live` (its delivery), `packed` (a topic whose messages share frames), `cluster` (`redis` names
 * its nodes), `nats`, `memory`, and `traced` (memory, with a tracer installed: two spans per
 * call, which nobody exports).
 */
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { effects } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { type Client, type Peer, publishesAtOnce, type Setting, waitMillis } from "../Peer.ts"
import * as schemas from "../schemas.ts"

const tracer = Layer.succeed(Tracer.Tracer, Tracer.make({ span: (options) => new Tracer.NativeSpan(options) }))

/** The build to be measured is named by main.ts, so that two may be compared. */
const load = async (setting: Setting) => {
  const file = (name: string) => import(pathToFileURL(Path.join(setting.build, name)).href)
  const bus = (await file("index.js")) as typeof import("../../src/index.ts")
  const { Action, Service, Topic } = bus
  // Builds before it know one delivery only.
  const delivery = setting.variant === "live" && Action.Delivery !== undefined ? "live" : undefined
  const echo = Action.make("echo", { payload: schemas.payload, success: schemas.payload })
  // A name per peer: two builds that answered to the same one would both get every request.
  class Echo extends Service.make(
    setting.name,
    delivery === undefined ? echo : echo.pipe(Action.annotate(Action.Delivery, delivery)),
    Action.make("wait", { payload: schemas.payload, success: schemas.payload }),
    Action.make("hold", { payload: schemas.payload, success: schemas.payload }),
    Action.make("blob", { payload: schemas.blob, success: schemas.blob }),
    Action.make("items", { payload: { count: Schema.Int }, items: Schema.Struct(schemas.payload) })
  ) {}
  const happened = Topic.make(`${setting.name}.happened`, schemas.payload)
  // Builds before it know no such topics.
  const isPacked = setting.variant === "packed" && Topic.Packed !== undefined
  const Happened = isPacked ? happened.pipe(Topic.annotate(Topic.Packed, true)) : happened
  const transport = async () => {
    if (setting.variant === "memory") return bus.Memory.layer
    if (setting.variant === "traced") return Layer.merge(bus.Memory.layer, tracer)
    if (setting.variant === "nats") {
      const Nats = (await file("transport/Nats.js")) as typeof import("../../src/transport/Nats.ts")
      return Nats.layer({ servers: setting.nats ?? "" })
    }
    if (setting.variant === "cluster") {
      const RedisCluster = (await file(
        "transport/RedisCluster.js"
      )) as typeof import("../../src/transport/RedisCluster.ts")
      const nodes = setting.redis.split(",").map((node) => {
        const [host = "", port] = node.split(":")
        return { host, port: Number(port) }
      })
      return RedisCluster.layer({ nodes })
    }
    const RedisPubSub = (await file("transport/RedisPubSub.js")) as typeof import("../../src/transport/RedisPubSub.ts")
    return RedisPubSub.layer({
      url: setting.redis,
      ...(setting.limits === "default"
        ? {}
        : { maxFrameBytes: 16 * 1_048_576, maxBytesInFlight: 512 * 1_048_576, commandTimeout: "1 minute" }),
      // Who takes frames of less than 32 KiB is sent none with several messages.
      ...(setting.variant === "single" ? { maxFrameBytes: 32_000 } : {})
    })
  }
  const EchoLive = bus.Handlers.layer(
    Echo,
    {
      echo: (payload) => Effect.succeed(payload),
      wait: (payload) => Effect.delay(Effect.succeed(payload), waitMillis),
      hold: () => Effect.never,
      blob: (blob) => Effect.succeed(blob),
      items: ({ count }) => Stream.map(Stream.range(0, count - 1), Payload.make)
    },
    {
      ...(setting.pool === undefined ? {} : { concurrency: setting.pool }),
      ...(setting.limits === "default" ? {} : { backlog: 200_000 })
    }
  )
  /** Of the role `idle`, one of many. */
  const idle = (index: number) =>
    Service.make(
      `${setting.name}-idle${index}`,
      Action.make("echo", { payload: schemas.payload, success: schemas.payload })
    )
  return { bus, Echo, EchoLive, Happened, idle, Transport: await transport() }
}

/** Builds a layer that lives as long as the process, and resolves when it stands. */
const stand = <E>(layer: Layer.Layer<never, E>) =>
  new Promise<void>((resolve, reject) => {
    const standing = Layer.effectDiscard(Effect.sync(resolve)).pipe(Layer.provide(layer))
    Effect.runPromise(Layer.launch(Layer.merge(layer, standing))).catch(reject)
  })

export const peer: Peer = {
  serve: async (setting) => {
    const { EchoLive, Transport } = await load(setting)
    await stand(EchoLive.pipe(Layer.provide(Transport)))
  },
  connect: async (setting) => {
    const { bus, Echo, EchoLive, Happened, idle, Transport } = await load(setting)
    const inOneProcess = setting.variant === "memory" || setting.variant === "traced"
    const options = setting.limits === "default" ? undefined : { timeout: "10 minutes" as const }
    return new Promise<Client>((resolve, reject) => {
      const client = Effect.gen(function* () {
        const echo = yield* bus.Caller.make(Echo)
        const many = yield* Effect.forEach(Array.from({ length: setting.services ?? 0 }), (_, index) =>
          bus.Caller.make(idle(index))
        )
        const context = yield* Effect.context<typeof bus.Transport.Transport.Identifier>()
        resolve({
          calls: effects(
            {
              echo: (payload) =>
                many.length === 0
                  ? echo.echo(payload, options)
                  : many[payload.id % many.length]!.echo(payload, options),
              wait: (payload) => echo.wait(payload, options),
              blob: (blob) => echo.blob(blob, options),
              // Held for longer than any row takes.
              hold: (payload) => echo.hold(payload, { timeout: "1 hour" })
            },
            context
          ),
          stream: (count, take) =>
            Effect.runPromise(Stream.runForEach(echo.items({ count }), (item) => Effect.sync(() => take(item)))),
          publish: (count) =>
            Effect.forEach(
              Array.from({ length: count }, (_, id) => Payload.make(id)),
              (message) => bus.Broadcast.publish(Happened, message),
              { concurrency: publishesAtOnce, discard: true }
            ).pipe(Effect.runPromiseWith(context))
        })
        return yield* Effect.never
      })
      const Peers = inOneProcess ? EchoLive.pipe(Layer.provideMerge(Transport)) : Transport
      // Builds before it have a limit that nobody can raise.
      const isRaised = setting.limits !== "default" && bus.Caller.MaxPending !== undefined
      const Live = isRaised ? Layer.merge(Peers, Layer.succeed(bus.Caller.MaxPending, 200_000)) : Peers
      Effect.runPromise(Effect.scoped(client).pipe(Effect.provide(Live))).catch(reject)
    })
  },
  listen: async (setting, listeners, heard) => {
    const { bus, Happened, Transport } = await load(setting)
    const listener = () => bus.Listener.layer(Happened, (message) => Effect.sync(() => heard(message)))
    const layers = Layer.mergeAll(listener(), ...Array.from({ length: listeners - 1 }, listener))
    await stand(layers.pipe(Layer.provide(Transport)))
  },
  idle: async (setting, services) => {
    const { bus, idle, Transport } = await load(setting)
    const one = (index: number) =>
      bus.Handlers.layer(idle(index), { echo: (payload: Payload.Payload) => Effect.succeed(payload) })
    const layers = Layer.mergeAll(one(0), ...Array.from({ length: services - 1 }, (_, index) => one(index + 1)))
    await stand(layers.pipe(Layer.provide(Transport)))
  }
}
