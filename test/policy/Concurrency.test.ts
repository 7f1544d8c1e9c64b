import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import * as Concurrency from "../../src/policy/Concurrency.ts"

/** A backlog that waits for slots, and a journal of who began. */
class Backlog implements Concurrency.Waiting {
  readonly name: string
  readonly journal: Array<string>
  readonly onServed: () => void
  left: number
  asked = 0
  constructor(name: string, left: number, journal: Array<string> = [], onServed: () => void = () => {}) {
    this.name = name
    this.left = left
    this.journal = journal
    this.onServed = onServed
  }
  serveUnsafe() {
    this.asked++
    if (this.left === 0) return false
    this.left--
    this.journal.push(this.name)
    this.onServed()
    return true
  }
}

const numbers = (limit: Concurrency.Concurrency) =>
  Effect.runSync(Effect.all([limit.running, limit.limit, Effect.sync(limit.limitUnsafe)]))

/** A limit whose slots are all taken. */
const full = (most: number) => {
  const limit = Concurrency.makeUnsafe(most)
  for (let i = 0; i < most; i++) assert.isTrue(limit.takeUnsafe())
  return limit
}

describe("Concurrency", () => {
  it("gives as many slots as it has, and those that come back", () => {
    const limit = Concurrency.makeUnsafe(2)
    assert.deepStrictEqual(numbers(limit), [0, 2, 2])
    assert.deepStrictEqual([limit.takeUnsafe(), limit.takeUnsafe(), limit.takeUnsafe()], [true, true, false])
    assert.deepStrictEqual(numbers(limit), [2, 2, 2])
    limit.releaseUnsafe()
    assert.deepStrictEqual(numbers(limit), [1, 2, 2])
    assert.deepStrictEqual([limit.takeUnsafe(), limit.takeUnsafe()], [true, false])
  })

  it.effect("is a whole number of at least 1, or without end", () =>
    Effect.gen(function* () {
      for (const most of [1, 2, Number.MAX_SAFE_INTEGER, Number.POSITIVE_INFINITY]) {
        assert.strictEqual(yield* (yield* Concurrency.make(most)).limit, most)
      }
      for (const most of [0, -1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** 53, "2" as never]) {
        const message = `A limit of concurrency is a whole number of at least 1, not ${most}`
        assert.throws(() => Concurrency.makeUnsafe(most), RangeError, message)
        assert.deepStrictEqual(yield* Effect.exit(Concurrency.make(most)), Exit.die(new RangeError(message)))
        const limit = full(3)
        assert.deepStrictEqual(yield* Effect.exit(limit.resize(most)), Exit.die(new RangeError(message)))
        assert.deepStrictEqual(numbers(limit), [3, 3, 3])
      }
    })
  )

  it("is told from anything else", () => {
    assert.isTrue(Concurrency.isConcurrency(Concurrency.makeUnsafe(1)))
    for (const other of [undefined, null, 5, "x", {}, [], () => 1, { limit: 1 }]) {
      assert.isFalse(Concurrency.isConcurrency(other))
    }
  })

  it("gives a slot that comes back to who waits, until it has nothing more", () => {
    const limit = full(1)
    const backlog = new Backlog("a", 2)
    limit.awaitUnsafe(backlog)
    // Once in is in.
    limit.awaitUnsafe(backlog)
    assert.strictEqual(backlog.asked, 0)
    for (const left of [1, 0]) {
      limit.releaseUnsafe()
      assert.deepStrictEqual([backlog.left, ...numbers(limit)], [left, 1, 1, 1])
    }
    limit.releaseUnsafe()
    assert.deepStrictEqual([backlog.asked, ...numbers(limit)], [3, 0, 1, 1])
    // It has left.
    assert.isTrue(limit.takeUnsafe())
    limit.releaseUnsafe()
    assert.strictEqual(backlog.asked, 3)
  })

  it("serves those who wait in turn, one each, however long their backlogs", () => {
    const limit = full(1)
    const journal: Array<string> = []
    const lengths = { a: 4, b: 1, c: 2 }
    for (const [name, length] of Object.entries(lengths)) limit.awaitUnsafe(new Backlog(name, length, journal))
    for (let i = 0; i < 8; i++) limit.releaseUnsafe()
    assert.deepStrictEqual(journal, ["a", "b", "c", "a", "c", "a", "a"])
  })

  it.effect("lets who waits begin at once when it grows, as many as it has room for", () =>
    Effect.gen(function* () {
      const limit = full(1)
      const backlog = new Backlog("a", 5)
      limit.awaitUnsafe(backlog)
      yield* limit.resize(3)
      assert.deepStrictEqual([backlog.left, ...numbers(limit)], [3, 3, 3, 3])
      yield* limit.resize(Number.POSITIVE_INFINITY)
      assert.deepStrictEqual(numbers(limit), [6, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
      assert.strictEqual(backlog.left, 0)
    })
  )

  it.effect("begins nothing when it has shrunk, until fewer run than it allows", () =>
    Effect.gen(function* () {
      const limit = full(3)
      const backlog = new Backlog("a", 1)
      limit.awaitUnsafe(backlog)
      yield* limit.resize(1)
      assert.deepStrictEqual(numbers(limit), [3, 1, 1])
      for (const running of [2, 1]) {
        limit.releaseUnsafe()
        assert.deepStrictEqual([backlog.left, ...numbers(limit)], [1, running, 1, 1])
        assert.isFalse(limit.takeUnsafe())
      }
      limit.releaseUnsafe()
      assert.deepStrictEqual([backlog.left, ...numbers(limit)], [0, 1, 1, 1])
    })
  )

  it("goes on without those who were taken out", () => {
    for (const out of ["a", "b", "c"]) {
      const limit = full(1)
      const journal: Array<string> = []
      const waiting = ["a", "b", "c"].map((name) => new Backlog(name, 1, journal))
      for (const backlog of waiting) limit.awaitUnsafe(backlog)
      limit.forgetUnsafe(new Backlog("never in", 1))
      limit.forgetUnsafe(waiting.find(({ name }) => name === out)!)
      for (let i = 0; i < 4; i++) limit.releaseUnsafe()
      assert.strictEqual(journal.join(""), "abc".replace(out, ""))
    }
  })

  it("is not deeper on the stack for requests that end at once, however many", () => {
    const limit = full(1)
    let depth = 0
    let deepest = 0
    const backlog = new Backlog("a", 50_000, [], () => {
      deepest = Math.max(deepest, ++depth)
      limit.releaseUnsafe()
      depth--
    })
    limit.awaitUnsafe(backlog)
    limit.releaseUnsafe()
    assert.deepStrictEqual([backlog.left, deepest, ...numbers(limit)], [0, 1, 0, 1, 1])
  })

  it("takes one out that leaves while it is served, and keeps the turn of the next", () => {
    const limit = full(1)
    const journal: Array<string> = []
    const first: Backlog = new Backlog("a", 1, journal, () => limit.forgetUnsafe(first))
    limit.awaitUnsafe(first)
    limit.awaitUnsafe(new Backlog("b", 2, journal))
    limit.awaitUnsafe(new Backlog("c", 1, journal))
    for (let i = 0; i < 5; i++) limit.releaseUnsafe()
    assert.deepStrictEqual(journal, ["a", "b", "c", "b"])
  })

  it("gives one turn to who enters twice", () => {
    const limit = full(1)
    const journal: Array<string> = []
    const first = new Backlog("a", 2, journal)
    for (const backlog of [first, first, new Backlog("b", 1, journal)]) limit.awaitUnsafe(backlog)
    for (let i = 0; i < 3; i++) limit.releaseUnsafe()
    assert.deepStrictEqual(journal, ["a", "b", "a"])
  })

  it("serves the others after one that threw", () => {
    const limit = full(2)
    const journal: Array<string> = []
    const broken = new Backlog("a", 1, journal, () => {
      throw new Error("broken")
    })
    limit.awaitUnsafe(broken)
    assert.throws(() => limit.releaseUnsafe(), "broken")
    limit.forgetUnsafe(broken)
    limit.awaitUnsafe(new Backlog("b", 1, journal))
    limit.releaseUnsafe()
    assert.deepStrictEqual(journal, ["a", "b"])
  })

  const Step = Schema.Literals(["take", "release", "a waits", "b waits", "shrink", "grow"])

  it.effect.prop(
    "never has more running than it allows, nor a free slot while somebody waits",
    [Schema.Array(Step)],
    ([steps]) =>
      Effect.gen(function* () {
        let most = 2
        const limit = Concurrency.makeUnsafe(most)
        const backlogs = { "a waits": new Backlog("a", 0), "b waits": new Backlog("b", 0) }
        let running = 0
        for (const step of steps) {
          if (step === "take") running += limit.takeUnsafe() ? 1 : 0
          else if (step === "release") {
            if (running > 0) {
              running--
              limit.releaseUnsafe()
            }
          } else if (step === "shrink" || step === "grow") {
            most = step === "grow" ? most + 1 : Math.max(1, most - 1)
            yield* limit.resize(most)
          }
          // As a service does: it waits only when there is no slot.
          else if (limit.takeUnsafe()) running++
          else {
            backlogs[step].left++
            limit.awaitUnsafe(backlogs[step])
          }
          const begun = (yield* limit.running) - running
          assert.isAtLeast(begun, 0)
          running += begun
          const waiting = backlogs["a waits"].left + backlogs["b waits"].left
          assert.isTrue(begun === 0 || running <= most)
          assert.isFalse(waiting > 0 && running < most, `${step}: ${running} of ${most} run, ${waiting} wait`)
        }
      })
  )
})
