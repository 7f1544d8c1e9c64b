import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue, Schema } from "effect"
import { Broadcast, Listener, Memory, Topic } from "fiberbus"

const Events = Topic.make("events", Schema.Record(Schema.String, Schema.Any))

/** Arrays around a number, so many levels of them. */
const nested = (depth: number) => {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = [value]
  return value
}

describe("Broadcast.publish", () => {
  it.effect("refuses what listeners would not read, and delivers the deepest that they do", () =>
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<unknown>()
      yield* Effect.gen(function* () {
        for (const depth of [64, 80, 5_000]) {
          const error = yield* Effect.flip(Broadcast.publish(Events, { value: nested(depth) }))
          assert.deepInclude(error.reason, { _tag: "InvalidMessage", expected: "a message nested at most 64 deep" })
        }
        assert.strictEqual(yield* Broadcast.publish(Events, { value: nested(63) }), 1)
        assert.deepStrictEqual(yield* Queue.takeAll(heard), [{ value: nested(63) }])
      }).pipe(
        Effect.provide(
          Listener.layer(Events, (message) => Queue.offer(heard, message)).pipe(Layer.provideMerge(Memory.layer))
        )
      )
    })
  )

  it.effect("refuses what JSON cannot carry", () =>
    Effect.gen(function* () {
      const cycle: Record<string, unknown> = {}
      cycle["self"] = cycle
      for (const message of [{ value: 1n }, cycle]) {
        const error = yield* Effect.flip(Broadcast.publish(Events, message))
        assert.strictEqual(error.reason._tag, "InvalidMessage")
      }
    }).pipe(Effect.provide(Memory.layer))
  )
})
