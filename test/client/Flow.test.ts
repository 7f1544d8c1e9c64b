import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue, Stream } from "effect"
import * as Flow from "../../src/client/internal/flow.ts"

/** A flow whose grants are kept. */
const make = (window: number) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<any, any>()
    const flow = new Flow.Flow(queue, window)
    const granted: Array<number> = []
    flow.grant = (until) => void granted.push(until)
    return { flow, granted, queue }
  })

const batch = (size: number) => ({ size, events: Effect.succeed(Array.from({ length: size }, (_, i) => i)) })

describe("Flow", () => {
  it.effect("tells of more room each time that half of the window is taken, as many as were taken", () =>
    Effect.gen(function* () {
      const { flow, granted } = yield* make(8)
      assert.strictEqual(flow.granted, 8)
      for (let i = 0; i < 3; i++) flow.take(batch(1))
      assert.deepStrictEqual(granted, [])
      flow.take(batch(1))
      assert.deepStrictEqual([granted, flow.granted], [[12], 12])
      flow.take(batch(3))
      assert.deepStrictEqual(granted, [12])
      flow.take(batch(5))
      assert.deepStrictEqual([granted, flow.granted], [[12, 20], 20])
    })
  )

  it.effect("says again what it said last, if it said anything, until it is forgotten", () =>
    Effect.gen(function* () {
      const { flow, granted } = yield* make(2)
      flow.remind()
      assert.deepStrictEqual(granted, [])
      flow.take(batch(1))
      flow.remind()
      assert.deepStrictEqual(granted, [3, 3])
      flow.forget()
      flow.remind()
      flow.take(batch(2))
      assert.deepStrictEqual(granted, [3, 3])
    })
  )

  it.effect("takes what its window has room for, and 1,024 at least: of those who do not count", () =>
    Effect.gen(function* () {
      for (const [window, room] of [
        [1, 1_024],
        [1_024, 1_024],
        [1_025, 1_025]
      ] as const) {
        const { flow } = yield* make(window)
        const events = Effect.succeed([])
        assert.isFalse(flow.offer(room + 1, events))
        assert.isTrue(flow.offer(room - 1, events))
        assert.isFalse(flow.offer(2, events))
        assert.isTrue(flow.offer(1, events))
        assert.isFalse(flow.offer(1, events))
        // Room is what was taken, not what was offered.
        flow.take(batch(room - 1))
        assert.isTrue(flow.offer(room - 1, events))
        assert.isFalse(flow.offer(1, events))
      }
    })
  )

  it.effect("streams what is put into it, then what its result makes", () =>
    Effect.gen(function* () {
      const stream = (last: ReadonlyArray<unknown>) =>
        Flow.stream(
          4,
          (flow) =>
            Effect.sync(() => {
              flow.offer(2, Effect.succeed([1, 2]))
              flow.offer(1, Effect.succeed([3]))
              return "result"
            }),
          (result) => (last.length === 0 ? [] : [result, ...last])
        )
      assert.deepStrictEqual(yield* Stream.runCollect(stream([])), [1, 2, 3])
      assert.deepStrictEqual(yield* Stream.runCollect(stream(["last"])), [1, 2, 3, "result", "last"])
    })
  )

  it.effect("fails as the call does, after what came before, and as a batch that does not fit", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const run = (call: (flow: Flow.Flow) => Effect.Effect<unknown, unknown>) =>
        Effect.flip(
          Stream.runForEach(
            Flow.stream(4, call, () => []),
            (event) => Effect.sync(() => seen.push(event))
          )
        )
      const offering = (events: Effect.Effect<ReadonlyArray<unknown>, unknown>, end: Effect.Effect<unknown, unknown>) =>
        run((flow) =>
          Effect.andThen(
            Effect.sync(() => flow.offer(1, events)),
            end
          )
        )
      assert.strictEqual(yield* offering(Effect.succeed([1]), Effect.fail("lost")), "lost")
      assert.deepStrictEqual(seen, [1])
      assert.strictEqual(yield* offering(Effect.fail("does not fit"), Effect.never), "does not fit")
    })
  )
})
