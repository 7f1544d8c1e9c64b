import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Memory, Transport } from "fiberbus"
import * as Followed from "../../src/server/internal/followed.ts"
import { List, Member } from "../../src/server/internal/list.ts"
import { Outbox } from "../../src/server/internal/outbox.ts"
import { maxOpen, Questions } from "../../src/server/internal/questions.ts"
import * as Ticks from "../../src/server/internal/ticks.ts"

class Named extends Member {
  readonly name: number
  constructor(name: number) {
    super()
    this.name = name
  }
}

const forwards = (list: List<Named>) => {
  const names: Array<number> = []
  for (let member = list.first; member !== undefined; member = member.next) names.push(member.name)
  return names
}

const backwards = (list: List<Named>) => {
  const names: Array<number> = []
  for (let member = list.last; member !== undefined; member = member.previous) names.push(member.name)
  return names
}

describe("A list", () => {
  const Moves = Schema.Array(
    Schema.Literals([
      "push",
      "remove first",
      "remove middle",
      "remove last",
      "rotate first",
      "rotate middle",
      "rotate last"
    ])
  )

  it.prop("is what an array would be, from both ends", [Moves], ([moves]) => {
    const list = new List<Named>()
    const array: Array<Named> = []
    for (const [name, move] of moves.entries()) {
      const at = move.endsWith("first") ? 0 : move.endsWith("last") ? array.length - 1 : Math.floor(array.length / 2)
      const member = array[at]
      if (move === "push") {
        array.push(new Named(name))
        list.push(array.at(-1)!)
      } else if (member !== undefined) {
        array.splice(at, 1)
        if (move.startsWith("rotate")) {
          array.push(member)
          list.rotate(member)
        } else {
          list.remove(member)
          assert.deepStrictEqual([member.next, member.previous], [undefined, undefined])
        }
      }
      const names = array.map(({ name }) => name)
      assert.deepStrictEqual([forwards(list), list.size], [names, names.length])
      assert.deepStrictEqual(backwards(list), [...names].reverse())
    }
  })
})

describe("An outbox", () => {
  it.effect("is flushed when as many are confirmed as had been sent by then", () =>
    Effect.gen(function* () {
      const outbox = new Outbox(Memory.make().capabilities, { note: () => {}, count: () => {}, total: () => 0 })
      yield* outbox.flushed
      outbox.send()
      outbox.send()
      const two = yield* Effect.forkChild(outbox.flushed, { startImmediately: true })
      outbox.send()
      const three = yield* Effect.forkChild(outbox.flushed, { startImmediately: true })
      const gone = yield* Effect.forkChild(outbox.flushed, { startImmediately: true })
      outbox.confirm()
      yield* Effect.yieldNow
      assert.deepStrictEqual([two.pollUnsafe(), three.pollUnsafe()], [undefined, undefined])
      outbox.confirm()
      yield* Fiber.join(two)
      assert.isUndefined(three.pollUnsafe())
      yield* Fiber.interrupt(gone)
      outbox.confirm()
      yield* Fiber.join(three)
      yield* outbox.flushed
    })
  )
})

describe("An answer that has left", () => {
  const unreachable = new Transport.TransportError({
    kind: "Unreachable",
    operation: "test",
    detail: "",
    hint: "",
    sent: "no"
  })

  for (const [receivers, lonely] of [
    ["exact", true],
    ["hint", false]
  ] as const) {
    it(`is told of by its error, and by nobody having got it where receivers are ${receivers}: ${lonely}`, () => {
      const told: Array<string> = []
      const outbox = new Outbox(
        { ...Memory.make().capabilities, receivers },
        { note: (reason) => void told.push(reason), count: (reason) => void told.push(reason), total: () => 0 }
      )
      for (let i = 0; i < 3; i++) outbox.send()
      assert.isFalse(outbox.left(undefined, 1))
      assert.isFalse(outbox.left(unreachable, 0))
      assert.strictEqual(outbox.left(undefined, 0), lonely)
      assert.deepStrictEqual(told, ["ReplyNotSent:Unreachable", ...(lonely ? ["NobodyWaits"] : [])])
      assert.isTrue(Exit.isSuccess(Effect.runSyncExit(outbox.flushed)))
    })
  }
})

describe("Questions", () => {
  it.effect("are numbered, and the first answer to each counts", () =>
    Effect.gen(function* () {
      const questions = new Questions()
      const sent: Array<number> = []
      const ask = () => Effect.forkChild(questions.ask((id) => sent.push(id))!, { startImmediately: true })
      const [first, second] = [yield* ask(), yield* ask()]
      assert.deepStrictEqual(sent, [0, 1])
      questions.answer(7, { json: "unasked" })
      questions.answer(1, { json: "b" })
      questions.answer(1, { json: "again" })
      assert.deepStrictEqual(yield* Fiber.join(second), { json: "b" })
      assert.isUndefined(first.pollUnsafe())
      questions.answer(0, { declined: "no" })
      assert.deepStrictEqual(yield* Fiber.join(first), { declined: "no" })
    })
  )

  it.effect("may be open 64 at once; one that is interrupted or answered makes room", () =>
    Effect.gen(function* () {
      const questions = new Questions()
      const ask = () => Effect.forkChild(questions.ask(() => {})!, { startImmediately: true })
      const open = yield* Effect.forEach(Array.from({ length: maxOpen }), () => ask())
      assert.isUndefined(questions.ask(() => {}))
      yield* Fiber.interrupt(open[3]!)
      yield* ask()
      assert.isUndefined(questions.ask(() => {}))
      questions.answer(5, { json: 1 })
      assert.isDefined(questions.ask(() => {}))
    })
  )

  it.effect("have no answer when it is over", () =>
    Effect.gen(function* () {
      const questions = new Questions()
      const open = yield* Effect.forEach([1, 2], () =>
        Effect.forkChild(questions.ask(() => {})!, { startImmediately: true })
      )
      questions.close()
      assert.deepStrictEqual(yield* Effect.forEach(open, Fiber.join), [undefined, undefined])
    })
  )
})

describe("A value that is followed", () => {
  it.effect("is the present one first, then each change", () =>
    Effect.gen(function* () {
      const followed = yield* Followed.make(1)
      followed.set(2)
      assert.strictEqual(followed.current(), 2)
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(followed.changes, 3)), {
        startImmediately: true
      })
      yield* Effect.yieldNow
      followed.set(3)
      followed.set(4)
      assert.deepStrictEqual(yield* Fiber.join(seen), [2, 3, 4])
    })
  )
})

describe("Ticks", () => {
  it.effect("are those of the schedule, until it ends", () =>
    Effect.gen(function* () {
      const ticks = yield* Ticks.make(Schedule.spaced("2 seconds").pipe(Schedule.upTo({ times: 2 })))
      assert.deepStrictEqual(yield* ticks(1_000), { atMillis: 3_000, afterMillis: 2_000 })
      assert.deepStrictEqual(yield* ticks(3_500), { atMillis: 5_500, afterMillis: 2_000 })
      assert.isUndefined(yield* ticks(6_000))
    })
  )

  it("come at least a millisecond after each other", () => {
    const at = (atMillis: number) => ({ atMillis, afterMillis: 0 })
    assert.deepStrictEqual(Ticks.after(at(10), at(11)), at(11))
    assert.deepStrictEqual(Ticks.after(at(10), at(10)), at(11))
    assert.deepStrictEqual(Ticks.after(at(10), at(3)), at(11))
    assert.isUndefined(Ticks.after(at(10), undefined))
  })

  it.effect("are waited for by the clock on the wall, in naps of ten minutes", () =>
    Effect.gen(function* () {
      const start = yield* Clock.currentTimeMillis
      let naps = 0
      const real = yield* Clock.Clock
      const napping: Clock.Clock = {
        ...real,
        currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe(),
        sleep: (duration) => {
          naps++
          return real.sleep(duration)
        }
      }
      const until = (millis: number) =>
        Effect.forkChild(Ticks.until(start + millis).pipe(Effect.provideService(Clock.Clock, napping)), {
          startImmediately: true
        })
      const long = yield* until(2.5 * Ticks.napMillis)
      yield* TestClock.adjust(2.5 * Ticks.napMillis - 1)
      assert.isUndefined(long.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(long)))
      assert.strictEqual(naps, 3)
      // What is over takes no time.
      yield* Fiber.join(yield* until(0))
      const past = yield* until(0)
      yield* TestClock.adjust(0)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(past)))
    })
  )

  it.effect("come no later when the clock is set back, and are noticed when it is set forward", () =>
    Effect.gen(function* () {
      let ahead = 0
      const real = yield* Clock.Clock
      const start = real.currentTimeMillisUnsafe()
      const moved: Clock.Clock = { ...real, currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + ahead }
      for (const [change, wait] of [
        [-3_600_000, 2 * Ticks.napMillis],
        [3_600_000, Ticks.napMillis]
      ] as const) {
        ahead = 0
        const at = real.currentTimeMillisUnsafe() + 2 * Ticks.napMillis
        const fiber = yield* Effect.forkChild(Effect.provideService(Ticks.until(at), Clock.Clock, moved), {
          startImmediately: true
        })
        ahead = change
        yield* TestClock.adjust(wait - 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)), `${start} ${change}`)
      }
    })
  )
})
