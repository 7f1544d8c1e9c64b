import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Queue, Schedule, Schema, Stream, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { Action, Broadcast, Caller, Handlers, Listener, Memory, Retry, Service, Topic, Transport } from "fiberbus"
import * as Recorder from "../recorder.ts"
import * as Scripted from "../scripted.ts"
import { Users, UsersLive } from "../users.ts"

const Hop = (name: string) => Service.make(name, Action.make("go", { success: Schema.String }))
const First = Hop("first")
const Second = Hop("second")
const Third = Hop("third")

const relay = (service: typeof First, next: typeof First) =>
  Handlers.layer(
    service,
    Effect.map(Caller.make(next), (caller) => ({ go: () => Effect.orDie(caller.go()) }))
  )

/** What the last of three services sees of the trace. */
const seen = Effect.map(Effect.option(Effect.currentParentSpan), (span) =>
  Option.match(span, { onNone: () => "none", onSome: ({ _tag, traceId }) => `${_tag} ${traceId}` })
)

const chain = Layer.mergeAll(relay(First, Second), relay(Second, Third), Handlers.layer(Third, { go: () => seen }))

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`

const traced = <A, E, R>(effect: Effect.Effect<A, E, R>, recorder: Recorder.Recorder) =>
  Effect.provideService(effect, Tracer.Tracer, recorder.tracer)

describe("a traced call", () => {
  it.effect("is one trace over three hops, each span the child of the one before it", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const first = yield* Caller.make(First)
      yield* first.go()
      const { spans } = recorder
      assert.deepStrictEqual(
        spans.map(({ name, kind }) => `${kind} ${name}`),
        [
          "client first.go",
          "server first.go",
          "client second.go",
          "server second.go",
          "client third.go",
          "server third.go"
        ]
      )
      assert.strictEqual(new Set(spans.map((span) => span.traceId)).size, 1)
      assert.deepStrictEqual(spans.map(Recorder.parentOf), [
        undefined,
        ...spans.slice(0, -1).map(({ spanId }) => spanId)
      ])
      assert.deepStrictEqual(spans.map(Recorder.statusOf), Array(6).fill("success"))
      // Another process could not know its caller's span but by the wire.
      const server = recorder.span("second.go", "server")
      assert.strictEqual(Option.getOrThrow(server.parent)._tag, "ExternalSpan")
    }).pipe(Effect.provide(chain), Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
  })

  it.effect("says what was called in OpenTelemetry's words, and nothing of what was said", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      yield* Effect.ignore(users.get_user({ id: "secret" }))
      const rpc = { "rpc.system": "fiberbus", "rpc.service": "user_service", "rpc.method": "get_user" }
      const failed = { ...rpc, "error.type": "Forbidden" }
      const [client, server] = recorder.spans
      assert.deepStrictEqual(Object.fromEntries(client!.attributes), failed)
      const { "fiberbus.request_id": id, ...rest } = Object.fromEntries(server!.attributes)
      assert.deepStrictEqual(rest, failed)
      assert.match(String(id), /^[0-9a-f-]{36}-1$/)
    }).pipe(Effect.provide(UsersLive), Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
  })

  for (const { id, client, server } of [
    { id: "1", client: undefined, server: undefined },
    { id: "nobody", client: "UserNotFound", server: "UserNotFound" },
    { id: "bug", client: "RemoteDefect", server: "defect" }
  ]) {
    it.effect(`ends as the call does: ${client ?? "success"}`, () => {
      const recorder = Recorder.make()
      return Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        yield* Effect.exit(users.get_user({ id }))
        const status = client === undefined ? "success" : "failure"
        assert.deepStrictEqual(recorder.spans.map(Recorder.statusOf), [status, status])
        assert.deepStrictEqual(
          recorder.spans.map(({ attributes }) => attributes.get("error.type")),
          [client, server]
        )
      }).pipe(Effect.provide(UsersLive), Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
    })
  }

  it.effect("ends on both sides when it is interrupted, and when its payload cannot be sent", () => {
    const gone = Deferred.makeUnsafe<void>()
    const recorder = Recorder.make(({ kind }) => {
      if (kind === "server") Deferred.doneUnsafe(gone, Effect.void)
    })
    return Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      yield* Layer.build(
        Handlers.layer(First, {
          go: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
        })
      )
      const first = yield* Caller.make(First)
      const call = yield* Effect.forkChild(first.go())
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(call)
      yield* Deferred.await(gone)
      assert.deepStrictEqual(
        recorder.spans.map((span) => [span.kind, Recorder.statusOf(span), span.attributes.get("error.type")]),
        [
          ["client", "failure", "interrupted"],
          ["server", "failure", "interrupted"]
        ]
      )
      const users = yield* Caller.make(Users)
      yield* Effect.ignore(users.get_user({ id: 3 as never }))
      assert.strictEqual(recorder.span("user_service.get_user").attributes.get("error.type"), "InvalidPayload")
    }).pipe(Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
  })

  it.effect("has one span on the caller's side, however many attempts its policies make", () => {
    const recorder = Recorder.make()
    const { layer } = Scripted.make({ request: (index) => (index < 2 ? "refused" : "arrives") })
    return Effect.gen(function* () {
      const first = yield* Caller.make(First, { policies: [Retry.policy({ schedule: Schedule.spaced(100) })] })
      const call = yield* Effect.forkChild(first.go())
      yield* TestClock.adjust(1_000)
      yield* Fiber.join(call)
      const client = recorder.span("first.go", "client")
      assert.strictEqual(client.attributes.get("fiberbus.attempts"), 3)
      assert.deepStrictEqual(
        client.events.map(([name]) => name),
        ["attempt", "attempt"]
      )
      assert.isUndefined(client.attributes.get("error.type"))
      const server = recorder.span("first.go", "server")
      assert.strictEqual(Recorder.parentOf(server), client.spanId)
      assert.strictEqual(server.attributes.get("fiberbus.attempt"), 3)
    }).pipe(
      Effect.provide(Handlers.layer(First, { go: () => Effect.succeed("done") })),
      Effect.provide(layer),
      (effect) => traced(effect, recorder)
    )
  })

  it.effect("streams in one span, which ends with the stream", () => {
    const gone = Deferred.makeUnsafe<void>()
    const recorder = Recorder.make((span) => {
      if (span.kind === "server" && Recorder.statusOf(span) === "failure") Deferred.doneUnsafe(gone, Effect.void)
    })
    const Steps = Service.make(
      "steps",
      Action.make("go", { payload: { last: Schema.Boolean }, progress: Schema.Finite })
    )
    return Effect.gen(function* () {
      const steps = yield* Caller.make(Steps)
      assert.lengthOf(yield* Stream.runCollect(steps.go.stream({ last: true })), 2)
      yield* Stream.runDrain(Stream.take(steps.go.stream({ last: false }), 1))
      yield* Deferred.await(gone)
      const clients = recorder.spans.filter(({ kind }) => kind === "client")
      assert.deepStrictEqual(
        clients.map((span) => [span.name, Recorder.statusOf(span), span.attributes.get("error.type")]),
        [
          ["steps.go", "success", undefined],
          ["steps.go", "failure", "interrupted"]
        ]
      )
    }).pipe(
      Effect.provide(
        Handlers.layer(Steps, {
          go: ({ last }, { progress }) => Effect.andThen(progress(1), last ? Effect.void : Effect.never)
        })
      ),
      Effect.provide(Memory.layer),
      (effect) => traced(effect, recorder)
    )
  })

  it.effect("is not sampled where the trace is not", () => {
    const recorder = Recorder.make()
    const scripted = Scripted.make({})
    return Effect.gen(function* () {
      const third = yield* Caller.make(Third)
      yield* Effect.withParentSpan(
        third.go(),
        Tracer.externalSpan({ traceId, spanId: "00f067aa0ba902b7", sampled: false })
      )
      assert.deepStrictEqual(
        recorder.spans.map(({ sampled, traceId }) => [sampled, traceId]),
        [
          [false, traceId],
          [false, traceId]
        ]
      )
      assert.match(scripted.requests[0]!["fiberbus"].traceparent, new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
    }).pipe(Effect.provide(Handlers.layer(Third, { go: () => seen })), Effect.provide(scripted.layer), (effect) =>
      traced(effect, recorder)
    )
  })
})

describe("a traced message", () => {
  const Events = Topic.make("events", { n: Schema.Finite })
  const All = Topic.make("ev*", { n: Schema.Finite })

  it.effect("has a producer's and a consumer's span when it is one-way", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const handled = yield* Deferred.make<void>()
      yield* Layer.build(Handlers.layer(First, { go: () => Effect.as(Deferred.succeed(handled, undefined), "heard") }))
      const first = yield* Caller.make(First)
      yield* first.go.send()
      yield* Deferred.await(handled)
      assert.deepStrictEqual(
        recorder.spans.map(({ kind }) => kind),
        ["producer", "consumer"]
      )
      const [sent, heard] = recorder.spans
      assert.strictEqual(Recorder.parentOf(heard!), sent!.spanId)
    }).pipe(Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
  })

  it.effect("of a topic has both, and is on the wire what it always was", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const frames: Array<string> = []
      yield* transport.subscribe({ _tag: "Channel", channel: "events" }, (frame) => frames.push(String(frame)))
      const heard = yield* Queue.unbounded<number>()
      yield* Layer.build(Listener.layer(All, ({ n }) => Queue.offer(heard, n)))
      yield* Broadcast.publish(Events, { n: 1 })
      assert.strictEqual(yield* Queue.take(heard), 1)
      assert.deepStrictEqual(frames, ['{"n":1}'])
      const messaging = { "messaging.system": "fiberbus", "messaging.destination.name": "events" }
      const publish = recorder.span("publish events", "producer")
      assert.deepStrictEqual(Object.fromEntries(publish.attributes), {
        ...messaging,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send"
      })
      const process = recorder.span("process ev*", "consumer")
      assert.deepStrictEqual(Object.fromEntries(process.attributes), {
        ...messaging,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.template": "ev*"
      })
      // A topic's message is the message alone: there is no room for a trace in it.
      assert.isTrue(Option.isNone(process.parent))

      yield* Effect.ignore(Broadcast.publish(Events, { n: "x" } as never))
      assert.strictEqual(recorder.spans.at(-1)!.attributes.get("error.type"), "InvalidMessage")

      // Whoever writes it all the same is understood.
      yield* Transport.publish("events", JSON.stringify({ n: 2, fiberbus: { v: 1, traceparent } }))
      yield* Queue.take(heard)
      assert.strictEqual(recorder.spans.at(-1)!.traceId, traceId)
    }).pipe(Effect.provide(Memory.layer), (effect) => traced(effect, recorder))
  })
})

describe("without a tracer", () => {
  it.effect("no span is opened, and requests carry none", () => {
    const scripted = Scripted.make({})
    return Effect.gen(function* () {
      const first = yield* Caller.make(First)
      assert.strictEqual(yield* first.go(), "none")
      assert.lengthOf(scripted.requests, 3)
      for (const request of scripted.requests) assert.notProperty(request["fiberbus"], "traceparent")
    }).pipe(Effect.provide(chain), Effect.provide(scripted.layer))
  })

  it.effect("a trace goes through from hop to hop", () => {
    const scripted = Scripted.make({})
    return Effect.gen(function* () {
      const first = yield* Caller.make(First)
      const span = Tracer.externalSpan({ traceId, spanId: "00f067aa0ba902b7", sampled: true })
      assert.strictEqual(yield* Effect.withParentSpan(first.go(), span), `ExternalSpan ${traceId}`)
      assert.deepStrictEqual(
        scripted.requests.map((request) => request["fiberbus"].traceparent),
        [traceparent, traceparent, traceparent]
      )
      // The next request has nothing to do with it.
      assert.strictEqual(yield* first.go(), "none")
    }).pipe(Effect.provide(chain), Effect.provide(scripted.layer))
  })

  it.effect("nor where tracing is switched off", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const first = yield* Caller.make(First)
      yield* first.go()
      assert.lengthOf(recorder.spans, 0)
    }).pipe(
      Effect.provide(chain),
      Effect.provide(Memory.layer),
      (effect) => traced(effect, recorder),
      Effect.withTracerEnabled(false)
    )
  })
})

describe("what a service is built in", () => {
  it.effect("is not the parent of what it handles", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const third = yield* Caller.make(Third)
      yield* third.go()
      assert.notStrictEqual(recorder.span("third.go", "server").traceId, recorder.span("main").traceId)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Handlers.layer(Third, { go: () => seen }).pipe(
          (layer) => Layer.effectContext(Effect.withSpan(Layer.build(layer), "main")),
          Layer.provideMerge(Memory.layer)
        )
      ),
      (effect) => traced(effect, recorder)
    )
  })
})

describe("a hostile traceparent", () => {
  const hostile = [
    "",
    "00",
    traceparent.toUpperCase(),
    `${traceparent}-00`,
    `01${traceparent.slice(2)}`,
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${"4".repeat(100_000)}`,
    `${traceparent}\n${traceparent}`,
    null,
    1,
    true,
    [traceparent],
    { traceparent }
  ]

  it.effect("is ignored, and the request handled", () => {
    const recorder = Recorder.make()
    return Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* Layer.build(
        Handlers.layer(Third, { go: () => Effect.flatMap(seen, (text) => Effect.as(Queue.offer(handled, text), text)) })
      )
      const ask = (given: unknown) =>
        Effect.andThen(
          Transport.publish("third", JSON.stringify({ action: "go", fiberbus: { v: 1, traceparent: given } })),
          Queue.take(handled)
        )
      for (const given of hostile) assert.strictEqual(yield* ask(given), "none", JSON.stringify(given).slice(0, 60))
      assert.strictEqual(yield* ask(traceparent), `ExternalSpan ${traceId}`)
      assert.lengthOf(recorder.spans, 0)
    }).pipe(Effect.provide(Memory.layer))
  })
})
