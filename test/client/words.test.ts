import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Schema, Stream } from "effect"
import { Broadcast, CallError, Caller, CallMetrics, Memory, Topic, Transport } from "fiberbus"

const refused = new Transport.TransportError({
  kind: "Unreachable",
  operation: "send",
  detail: "refused",
  hint: "",
  sent: "no"
})

describe("An error of a caller", () => {
  it("says which call it ended, and why", () => {
    const failed = (reason: CallError.CallErrorReason) =>
      new CallError.CallError({ service: "jobs", action: "run", started: "no", reason })
    assert.strictEqual(
      failed(new CallError.Busy({ retryAfterMillis: 5 })).message,
      "jobs.run: Busy, the service is busy, try again in 5 ms"
    )
    assert.strictEqual(failed(refused).message, `jobs.run: TransportError, ${refused.message}`)
    assert.strictEqual(failed(refused)._tag, "CallError")
  })

  it.effect("travels where an action declares it, with every reason there is", () =>
    Effect.gen(function* () {
      const codec = Schema.toCodecJson(CallError.CallError)
      for (const reason of [
        new CallError.NoResponders({}),
        new CallError.RateLimited({ retryAfterMillis: 1 }),
        new CallError.CircuitOpen({ retryAfterMillis: 1 }),
        new CallError.ConnectionLost({ detail: "gone" }),
        new CallError.RemoteError({ error: "no", payload: { n: 1 } }),
        new CallError.ContractMismatch({ part: "error", path: ["a"], expected: "Expected string" }),
        refused
      ]) {
        const error = new CallError.CallError({ service: "jobs", action: "run", started: "unknown", reason })
        const json = JSON.parse(JSON.stringify(yield* Schema.encodeEffect(codec)(error)))
        const back = yield* Schema.decodeUnknownEffect(codec)(json)
        assert.strictEqual(back.message, error.message)
        assert.instanceOf(back.reason, reason.constructor as new () => typeof reason)
      }
    })
  )
})

describe("A message that is not published", () => {
  const News = Topic.make("news", Schema.Struct({ title: Schema.String }))
  const Bare = Topic.make("bare", Schema.Any)

  it.effect("says what did not fit, and where", () =>
    Effect.gen(function* () {
      const wrong = yield* Effect.flip(Broadcast.publish(News, { title: 5 as never }))
      assert.strictEqual(wrong._tag, "PublishError")
      assert.strictEqual(wrong.channel, "news")
      assert.deepInclude(wrong.reason, { _tag: "InvalidMessage", path: ["title"] })
      assert.match(wrong.message, /^news: invalid message at \["title"\]: .+/)
      for (const message of [1, "text", null, [], [{}]]) {
        const bare = yield* Effect.flip(Broadcast.publish(Bare, message))
        assert.strictEqual(bare.message, "bare: invalid message: a message that encodes to a JSON object")
      }
      const unwritable = yield* Effect.flip(Broadcast.publish(Bare, { n: 1n }))
      assert.strictEqual(unwritable.message, "bare: invalid message: a message that JSON can carry")
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("is too large to the byte", () =>
    Effect.gen(function* () {
      const size = JSON.stringify({ title: "é" }).length + 1
      const publish = (maxFrameBytes: number) => {
        const inner = Memory.make()
        const transport = { ...inner, capabilities: { ...inner.capabilities, maxFrameBytes } }
        return Broadcast.publish(News, { title: "é" }).pipe(Effect.provideService(Transport.Transport, transport))
      }
      assert.strictEqual(yield* publish(size), 0)
      const error = yield* Effect.flip(publish(size - 1))
      assert.deepInclude(error.reason, { what: "message", bytes: size, maxBytes: size - 1 })
    })
  )

  it.effect("says why the transport did not take it", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Broadcast.publish(News, { title: "x" }))
      assert.strictEqual(error.reason, refused)
      assert.strictEqual(error.message, `news: ${refused.message}`)
    }).pipe(Effect.provideService(Transport.Transport, { ...Memory.make(), send: (_, __, sent) => sent(refused, 0) }))
  )
})

describe("Caller.onProgress", () => {
  const steps = [
    { _tag: "Progress", value: 1 },
    { _tag: "Progress", value: 2 }
  ] as const

  it.effect("gives the steps to its function in order, and succeeds with the result, which may be nothing", () =>
    Effect.gen(function* () {
      for (const value of ["done", undefined]) {
        const seen: Array<number> = []
        const events: ReadonlyArray<Caller.Event<number, string | undefined>> = [...steps, { _tag: "Success", value }]
        const stream = Stream.fromArray(events)
        const result = yield* Caller.onProgress((n: number) => Effect.sync(() => seen.push(n)))(stream)
        assert.deepStrictEqual([seen, result], [[1, 2], value])
      }
    })
  )

  it.effect("fails as its function does, and dies of a stream without a result", () =>
    Effect.gen(function* () {
      const fails = Caller.onProgress((n: number) => (n === 2 ? Effect.fail("enough") : Effect.void))
      assert.strictEqual(yield* Effect.flip(fails(Stream.make(...steps))), "enough")
      const exit = yield* Effect.exit(Caller.onProgress(() => Effect.void)(Stream.make(...steps)))
      assert.include(String(exit), "the stream ended without a result")
    })
  )
})

describe("What a caller counts", () => {
  it("has the names that docs/observability.md has", () => {
    assert.deepStrictEqual(
      [CallMetrics.inFlight, CallMetrics.calls, CallMetrics.duration, CallMetrics.sends].map(({ id }) => id),
      [
        "fiberbus_calls_in_flight",
        "fiberbus_calls_total",
        "fiberbus_call_duration_milliseconds",
        "fiberbus_sends_total"
      ]
    )
  })

  it.effect("only grows, except for what is in flight", () =>
    Effect.gen(function* () {
      for (const counter of [CallMetrics.calls, CallMetrics.sends]) {
        assert.isTrue((yield* Metric.value(counter)).incremental)
      }
    })
  )
})
