import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Queue, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Action, Handlers, Memory, Service, Transport } from "fiberbus"
import * as Scripted from "../scripted.ts"

const Work = Service.make("work", Action.make("wait"), Action.make("add", { success: Schema.Finite }))

const serving = Effect.gen(function* () {
  const open = yield* Deferred.make<void>()
  const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
  const layer = Handlers.layer(
    Work,
    {
      wait: () => Effect.onExit(Deferred.await(open), (exit) => Queue.offer(over, exit)),
      add: () => Effect.succeed(1)
    },
    { concurrency: 1 }
  ).pipe(Layer.provideMerge(Memory.layer))
  return { layer, open: Deferred.succeed(open, undefined), over: Queue.take(over) }
})

/** What an inbox gets, and how to ask for it. */
const asking = Effect.gen(function* () {
  const frames = yield* Queue.unbounded<Record<string, any>>()
  yield* (yield* Transport.Transport).subscribe({ _tag: "Channel", channel: "caller:test" }, (frame) => {
    Queue.offerUnsafe(frames, JSON.parse(String(frame)))
  })
  const ask = (action: string, id: string, fiberbus?: object, replyTo = "caller:test") =>
    Transport.publish("work", JSON.stringify({ action, request_id: id, reply_to: replyTo, fiberbus }))
  return { ask, arrived: Effect.andThen(Scripted.turns(), Queue.clear(frames)) }
})

const isReceipt = (frame: Record<string, any>) => frame["fiberbus"]?.alive === true && frame["final"] === false

describe("the word that a handler has begun", () => {
  it.effect("is sent once, when half of the time is over", () =>
    Effect.gen(function* () {
      const { layer, open } = yield* serving
      yield* Effect.gen(function* () {
        const { arrived, ask } = yield* asking
        yield* ask("wait", "1", { v: 1, timeout_ms: 1_000 })
        yield* Scripted.turns()
        yield* TestClock.adjust(490)
        assert.deepStrictEqual(yield* arrived, [])
        yield* TestClock.adjust(20)
        const [receipt, ...others] = yield* arrived
        assert.isTrue(isReceipt(receipt!))
        assert.deepInclude(receipt, { request_id: "1", payload: null })
        assert.deepStrictEqual(others, [])
        yield* TestClock.adjust(400)
        assert.deepStrictEqual(yield* arrived, [])
        yield* open
        const [answer] = yield* arrived
        assert.deepInclude(answer, { request_id: "1", final: true })
        assert.isUndefined(answer!["fiberbus"])
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )

  it.effect("is not sent of a handler that ends at once, nor to callers that name no time", () =>
    Effect.gen(function* () {
      const { layer } = yield* serving
      yield* Effect.gen(function* () {
        const { arrived, ask } = yield* asking
        yield* ask("add", "1", { v: 1, timeout_ms: 1_000 })
        yield* ask("wait", "2")
        yield* Scripted.turns()
        yield* TestClock.adjust("1 minute")
        const frames = yield* arrived
        assert.deepStrictEqual(
          frames.map((frame) => frame["request_id"]),
          ["1"]
        )
        assert.isFalse(frames.some(isReceipt))
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )

  it.effect("is sent as soon as it begins, where it waited for more than half of the time", () =>
    Effect.gen(function* () {
      const { layer, open } = yield* serving
      yield* Effect.gen(function* () {
        const { arrived, ask } = yield* asking
        yield* ask("wait", "1")
        yield* ask("wait", "2", { v: 1, timeout_ms: 1_000 })
        yield* ask("add", "3", { v: 1, timeout_ms: 1_000 })
        yield* Scripted.turns()
        yield* TestClock.adjust(700)
        // Those that wait have not begun: nothing is said of them.
        assert.deepStrictEqual(yield* arrived, [])
        yield* Transport.publish("work", JSON.stringify({ reply_to: "caller:test", fiberbus: { v: 1, cancel: "1" } }))
        const [receipt, ...others] = yield* arrived
        assert.isTrue(isReceipt(receipt!))
        assert.strictEqual(receipt!["request_id"], "2")
        assert.deepStrictEqual(others, [])
        // One that ends as soon as it begins needs none.
        yield* open
        assert.deepStrictEqual(
          (yield* arrived).map((frame) => [frame["request_id"], frame["final"]]),
          [
            ["2", true],
            ["3", true]
          ]
        )
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )

  it.effect("finds a caller that has gone: its handler is stopped", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* serving
      yield* Effect.gen(function* () {
        const { ask } = yield* asking
        yield* ask("wait", "1", { v: 1, timeout_ms: 60_000 }, "caller:gone")
        yield* Scripted.turns()
        yield* TestClock.adjust("30 seconds")
        assert.isTrue(Exit.hasInterrupts(yield* over))
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )
})
