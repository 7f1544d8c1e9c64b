import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Schema } from "effect"
import * as Steps from "../../src/server/internal/steps.ts"
import * as Scripted from "../scripted.ts"

interface Frame {
  readonly payload: string
  readonly packed: boolean
  readonly seq: number
  readonly confirmed: () => void
}

const make = (credit: number, options: { readonly maxFrameBytes?: number; readonly confirms?: boolean } = {}) => {
  const frames: Array<Frame> = []
  const steps = new Steps.Steps(
    (payload, packed, seq, confirmed) => {
      frames.push({ payload, packed, seq, confirmed })
      if (options.confirms ?? true) confirmed()
    },
    credit,
    options.maxFrameBytes ?? 1_000_000
  )
  return { frames, steps, seen: () => frames.map(({ packed, payload, seq }) => [payload, packed, seq] as const) }
}

/** Writes in a fiber, which is done or waits when this has succeeded. */
const writing = (steps: Steps.Steps, ...texts: ReadonlyArray<string>) =>
  Effect.forkChild(steps.write(texts), { startImmediately: true })

/** What the frames hold: steps of one turn are in one, and a busy machine has more turns. */
const numbersOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<number> =>
  frames.flatMap(({ packed, payload }) => (packed ? JSON.parse(payload) : [JSON.parse(payload)]))

const isDone = (fiber: Fiber.Fiber<void>) => fiber.pollUnsafe() !== undefined

describe("The steps of an exchange", () => {
  it.effect("that are written in one turn leave together, numbered by those before them", () =>
    Effect.gen(function* () {
      const { seen, steps } = make(100)
      yield* steps.write(["1"])
      yield* steps.write(["2", "3"])
      assert.deepStrictEqual([seen(), steps.total], [[], 3])
      yield* Scripted.turns(2)
      yield* steps.write(["4"])
      yield* Scripted.turns(2)
      assert.deepStrictEqual(seen(), [
        ["[1,2,3]", true, 0],
        ["4", false, 3]
      ])
      assert.strictEqual(steps.total, 4)
    })
  )

  it.effect("leave at once when they are flushed, and nothing leaves where there is nothing", () =>
    Effect.gen(function* () {
      const { seen, steps } = make(100)
      steps.flush()
      yield* steps.write(["1", "2"])
      steps.flush()
      steps.flush()
      assert.deepStrictEqual(seen(), [["[1,2]", true, 0]])
      yield* Scripted.turns(2)
      assert.lengthOf(seen(), 1)
    })
  )

  it.effect("wait while the caller has no room, those that came first before others", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(2)
      const first = yield* writing(steps, "1", "2", "3")
      const second = yield* writing(steps, "4")
      assert.deepStrictEqual([isDone(first), isDone(second), steps.total], [false, false, 2])
      // No more than before, and no less.
      steps.grant(2)
      steps.grant(0)
      assert.deepStrictEqual([isDone(first), isDone(second), steps.total], [false, false, 2])
      steps.grant(3)
      yield* Effect.yieldNow
      assert.deepStrictEqual([isDone(first), isDone(second), steps.total], [true, false, 3])
      const third = yield* writing(steps, "5")
      steps.grant(5)
      yield* Effect.yieldNow
      assert.deepStrictEqual([isDone(second), isDone(third)], [true, true])
      steps.flush()
      assert.deepStrictEqual(numbersOf(frames), [1, 2, 3, 4, 5])
    })
  )

  it.effect("need no place any more when whoever sends them was interrupted", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(1)
      yield* steps.write(["1"])
      const interrupted = yield* writing(steps, "2")
      const other = yield* writing(steps, "3")
      yield* Fiber.interrupt(interrupted)
      steps.grant(2)
      yield* Fiber.join(other)
      steps.flush()
      assert.deepStrictEqual(numbersOf(frames), [1, 3])
    })
  )

  it.effect("fill a frame to its limit of characters, and one that is larger leaves alone", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(100, { maxFrameBytes: 400 })
      const text = (length: number) => "x".repeat(length)
      yield* steps.write([text(40), text(60)])
      // Exactly what a frame holds: it leaves in the same turn.
      assert.deepStrictEqual(
        frames.map(({ payload }) => payload.length),
        [40 + 60 + "[,]".length]
      )
      yield* steps.write([text(40), text(61)])
      yield* steps.write([text(500)])
      yield* steps.write([text(99)])
      assert.deepStrictEqual(
        frames.slice(1).map(({ payload, packed, seq }) => [payload.length, packed, seq]),
        [
          [40, false, 2],
          [61, false, 3],
          [500, false, 4]
        ]
      )
      yield* Scripted.turns(2)
      assert.lengthOf(frames, 5)
    })
  )

  it.effect("fill no frame beyond 16,384 characters, however large frames may be", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(100)
      yield* steps.write(["x".repeat(16_383)])
      assert.lengthOf(frames, 0)
      yield* steps.write(["x"])
      assert.lengthOf(frames, 1)
    })
  )

  it.effect("are no deeper on the stack for a transport that confirms at once, however many wait", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(0, { maxFrameBytes: 4 })
      const waiting = yield* writing(steps, ...Array.from({ length: 20_000 }, () => "1"))
      steps.grant(20_000)
      yield* Fiber.join(waiting)
      assert.lengthOf(frames, 20_000)
    })
  )

  it.effect("wait while 64 frames are not confirmed, whatever room there is", () =>
    Effect.gen(function* () {
      const { frames, steps } = make(1_000, { confirms: false })
      for (let i = 0; i < 64; i++) {
        yield* steps.write([`${i}`])
        steps.flush()
      }
      const waiting = yield* writing(steps, "64", "65")
      assert.deepStrictEqual([frames.length, isDone(waiting)], [64, false])
      frames[0]!.confirmed()
      yield* Fiber.join(waiting)
      steps.flush()
      assert.deepStrictEqual([frames[64]!.payload, frames[64]!.seq], ["[64,65]", 64])
      const next = yield* writing(steps, "66")
      assert.isFalse(isDone(next))
      for (const { confirmed } of frames.slice(1)) confirmed()
      yield* Fiber.join(next)
    })
  )

  it.effect("do not leave any more once closed; whoever waits or writes goes on", () =>
    Effect.gen(function* () {
      const { seen, steps } = make(2)
      yield* steps.write(["1"])
      const waiting = yield* Effect.forEach(["2", "3", "4"], (text) => writing(steps, text))
      assert.deepStrictEqual(waiting.map(isDone), [true, false, false])
      steps.close()
      yield* Effect.forEach(waiting, Fiber.join)
      yield* steps.write(["5", "6", "7"])
      steps.grant(100)
      steps.flush()
      yield* Scripted.turns(2)
      assert.deepStrictEqual(seen(), [])
    })
  )

  it.effect.prop(
    "arrive all, in order, within the room there is, whatever becomes of grants and confirmations",
    [Schema.Array(Schema.Literals(["write", "write many", "grant", "confirm", "turn"]))],
    ([moves]) =>
      Effect.gen(function* () {
        const { frames, steps } = make(3, { confirms: false, maxFrameBytes: 80 })
        const unconfirmed = yield* Queue.unbounded<() => void>()
        let known = 0
        let granted = 3
        let written = 0
        const arrived: Array<number> = []
        const look = Effect.gen(function* () {
          for (const { confirmed, packed, payload, seq } of frames.slice(known)) {
            assert.strictEqual(seq, arrived.length)
            arrived.push(...(packed ? JSON.parse(payload) : [JSON.parse(payload)]))
            yield* Queue.offer(unconfirmed, confirmed)
          }
          known = frames.length
          assert.isAtMost(arrived.length, granted)
          assert.isAtMost(steps.total, granted)
        })
        const fibers: Array<Fiber.Fiber<void>> = []
        for (const move of moves) {
          if (move === "turn") yield* Scripted.turns(1)
          else if (move === "grant") {
            granted += 2
            steps.grant(granted)
          } else if (move === "confirm") {
            if ((yield* Queue.size(unconfirmed)) > 0) (yield* Queue.take(unconfirmed))()
          } else {
            const count = move === "write" ? 1 : 5
            fibers.push(yield* writing(steps, ...Array.from({ length: count }, () => String(written++))))
          }
          yield* look
        }
        granted = written
        steps.grant(granted)
        while (arrived.length < written) {
          yield* look
          while ((yield* Queue.size(unconfirmed)) > 0) (yield* Queue.take(unconfirmed))()
          yield* Scripted.turns(1)
        }
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual(
          arrived,
          Array.from({ length: written }, (_, i) => i)
        )
      }),
    { arbitrary: { runs: 50 } }
  )
})
