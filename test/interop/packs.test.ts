/** Who gets several answers in one frame, on a real wire: those who have said that they take it, and nobody else. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Service, Transport } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as RedisServer from "../../src/testing/RedisServer.ts"

class Numbers extends Service.make(
  "numbers",
  Action.make("double", { payload: { n: Schema.Finite }, success: Schema.Finite }),
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite })
) {}

const NumbersLive = Handlers.layer(Numbers, {
  double: ({ n }) => Effect.succeed(2 * n),
  count: ({ to }) => Stream.range(1, to)
})

const redis = Layer.unwrap(Effect.map(RedisServer.RedisServer, ({ url }) => RedisPubSub.layer({ url })))

/** Everything that comes on channels, and a wait for so many envelopes of them. */
const hear = Effect.fnUntraced(function* (target: Transport.Target, count: number) {
  const transport = yield* Transport.Transport
  const frames: Array<unknown> = []
  const all = Deferred.makeUnsafe<void>()
  yield* transport.subscribe(target, (frame) => {
    frames.push(JSON.parse(frame.toString()))
    if (frames.flat().length >= count) Deferred.doneUnsafe(all, Exit.void)
  })
  return { frames, all: Deferred.await(all) }
})

describe("Packs", () => {
  it.layer(RedisServer.layerOptions({}))((it) => {
    const served = NumbersLive.pipe(Layer.provide(Layer.fresh(redis)))
    it.effect("carry answers to a fiberbus caller, each to its own call", () =>
      Effect.gen(function* () {
        const { all, frames } = yield* hear({ _tag: "Pattern", pattern: "caller:*" }, 200)
        const { double } = yield* Caller.make(Numbers)
        const calls = Array.from({ length: 200 }, (_, n) => double({ n }))
        const answers = yield* Effect.all(calls, { concurrency: "unbounded" })
        assert.deepStrictEqual(
          answers,
          Array.from({ length: 200 }, (_, n) => 2 * n)
        )
        yield* all
        assert.isTrue(frames.some((frame) => Array.isArray(frame)))
        assert.isTrue(frames.every((frame) => !Array.isArray(frame) || (frame.length > 1 && frame.length <= 64)))
        assert.strictEqual(frames.flat().length, 200)
      }).pipe(Effect.provide(Layer.merge(served, redis)))
    )

    it.effect("carry requests to a process that says it takes them", () =>
      Effect.gen(function* () {
        const { double } = yield* Caller.make(Numbers)
        const { all, frames } = yield* hear({ _tag: "Pattern", pattern: "numbers.instance:*" }, 201)
        // Until the process is known.
        yield* Effect.repeat(double({ n: 1 }), { until: () => frames.length > 0 })
        const calls = Array.from({ length: 200 }, (_, n) => double({ n }))
        const answers = yield* Effect.all(calls, { concurrency: "unbounded" })
        assert.deepStrictEqual(
          answers,
          Array.from({ length: 200 }, (_, n) => 2 * n)
        )
        yield* all
        assert.isTrue(frames.some((frame) => Array.isArray(frame)))
        assert.isTrue(frames.every((frame) => !Array.isArray(frame) || (frame.length > 1 && frame.length <= 64)))
      }).pipe(Effect.provide(Layer.merge(served, redis)), TestClock.withLive)
    )

    it.effect("carry a stream's items in their order", () =>
      Effect.gen(function* () {
        const { count } = yield* Caller.make(Numbers)
        const streams = Array.from({ length: 5 }, () => Stream.runCollect(count({ to: 2_000 })))
        for (const items of yield* Effect.all(streams, { concurrency: "unbounded" })) {
          assert.deepStrictEqual(
            items,
            Array.from({ length: 2_000 }, (_, n) => n + 1)
          )
        }
      }).pipe(Effect.provide(Layer.merge(served, redis)))
    )

    it.effect("are nothing that a Daebus caller ever gets", () =>
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const { all, frames } = yield* hear({ _tag: "Channel", channel: "caller:daebus" }, 100)
        for (let n = 0; n < 100; n++) {
          const request = { action: "double", payload: { n }, reply_to: "caller:daebus", request_id: `r${n}` }
          transport.send("numbers", JSON.stringify(request), () => {})
        }
        yield* all
        assert.deepStrictEqual(
          frames,
          Array.from({ length: 100 }, (_, n) => ({
            status: "success",
            payload: 2 * n,
            request_id: `r${n}`,
            final: true
          }))
        )
      }).pipe(Effect.provide(Layer.merge(served, redis)))
    )
  })
})
