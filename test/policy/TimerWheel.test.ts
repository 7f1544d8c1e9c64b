import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as TimerWheel from "../../src/policy/TimerWheel.ts"
import * as Random from "../hostile/random.ts"

const { resolutionMillis } = TimerWheel
const revolutionMillis = 512 * resolutionMillis

class Recorded extends TimerWheel.Entry {
  readonly wheel: TimerWheel.TimerWheel
  readonly onExpire: () => void
  due = 0
  expired: Array<number> = []
  constructor(wheel: TimerWheel.TimerWheel, onExpire: () => void = () => {}) {
    super()
    this.wheel = wheel
    this.onExpire = onExpire
  }
  add(millis: number) {
    this.due = this.wheel.now() + millis
    this.wheel.add(this, millis)
    return this
  }
  override expire() {
    this.expired.push(this.wheel.now())
    this.onExpire()
  }
}

/** Late by at most one slot, and never early. */
const assertOnTime = (entry: Recorded, note = "") => {
  assert.strictEqual(entry.expired.length, 1, `${note} due ${entry.due}`)
  const late = entry.expired[0]! - entry.due
  assert.isAtLeast(late, 0, `${note} due ${entry.due}`)
  assert.isAtMost(late, resolutionMillis, `${note} due ${entry.due}`)
}

/** A clock whose time moves without waking anybody: the process was stopped, or its event loop blocked. */
const makeClock = () => {
  let now = 0
  const sleeps = new Set<{ readonly at: number; readonly resume: () => void }>()
  const nanos = () => BigInt(Math.round(now * 1_000_000))
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) =>
      Effect.callback<void>((resume) => {
        const sleep = { at: now + Duration.toMillis(duration), resume: () => resume(Effect.void) }
        sleeps.add(sleep)
        return Effect.sync(() => void sleeps.delete(sleep))
      })
  }
  return {
    clock,
    sleeping: () => sleeps.size,
    pass: (millis: number) => {
      now += millis
    },
    /** Wakes who is due. A woken fiber runs before the one that yields after it. */
    wake: Effect.suspend(() => {
      for (const sleep of [...sleeps]) {
        if (sleep.at > now) continue
        sleeps.delete(sleep)
        sleep.resume()
      }
      return Effect.andThen(Effect.yieldNow, Effect.yieldNow)
    })
  }
}

describe("TimerWheel", () => {
  it.effect("expires at its deadline, never early, at most one slot late", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const entries = [0, 0.5, 1, 9, 9.999, 10, 11, 19, 20, 99, 100, 5_000].map((ms) => new Recorded(wheel).add(ms))
      for (let millis = 0; millis < 5_011; millis++) {
        yield* TestClock.adjust(1)
        for (const entry of entries) if (wheel.now() < entry.due) assert.strictEqual(entry.expired.length, 0)
      }
      for (const entry of entries) assertOnTime(entry)
      assert.strictEqual(wheel.size(), 0)
    })
  )

  it.effect("keeps 300 random deadlines up to 24 revolutions ahead, with random removals, in 20 runs", () =>
    Effect.gen(function* () {
      for (let seed = 0; seed < 20; seed++) {
        const random = Random.make(seed)
        const wheel = yield* TimerWheel.make
        const kept: Array<Recorded> = []
        const removed: Array<Recorded> = []
        for (let i = 0; i < 300; i++) {
          const millis = random.pick([
            () => random.below(100),
            () => random.below(1_000) / 7,
            () => random.below(revolutionMillis),
            () => random.below(24) * revolutionMillis + random.below(20),
            () => random.below(24 * revolutionMillis)
          ])()
          kept.push(new Recorded(wheel).add(millis))
          if (random.chance(0.3)) {
            const [entry] = kept.splice(random.below(kept.length), 1)
            const wasIn = entry!.expired.length === 0
            wheel.remove(entry!)
            if (wasIn) removed.push(entry!)
            else kept.push(entry!)
          }
          if (random.chance(0.2)) yield* TestClock.adjust(random.below(random.pick([10, 300, 7_000])))
        }
        assert.isAbove(wheel.size(), 0)
        yield* TestClock.adjust(25 * revolutionMillis)
        for (const entry of kept) assertOnTime(entry, `seed ${seed}`)
        for (const entry of removed) assert.deepStrictEqual(entry.expired, [], `seed ${seed}`)
        assert.strictEqual(wheel.size(), 0)
      }
    })
  )

  it.effect("wakes for a deadline that is earlier than the one it sleeps for", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const far = new Recorded(wheel).add(3 * revolutionMillis + 70)
      const entries = [4_000, 3_000, 200, 199, 50].map((millis) => new Recorded(wheel).add(millis))
      yield* TestClock.adjust(20)
      entries.push(new Recorded(wheel).add(5))
      yield* TestClock.adjust(15)
      assertOnTime(entries.at(-1)!)
      yield* TestClock.adjust(4 * revolutionMillis)
      for (const entry of [...entries, far]) assertOnTime(entry)
    })
  )

  const logged: Array<string> = []

  it.effect("expires the others when the end of one throws, and logs what was thrown", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const entries = [1, 2, 3, 4].map((n) =>
        new Recorded(wheel, () => {
          if (n % 2 === 0) throw new Error("an end that throws")
        }).add(n <= 3 ? 20 : 40)
      )
      const last = new Recorded(wheel).add(60)
      yield* TestClock.adjust(100)
      for (const entry of [...entries, last]) assert.lengthOf(entry.expired, 1)
      assert.strictEqual(wheel.size(), 0)
      assert.strictEqual(logged.length, 2)
      for (const text of logged) assert.include(text, "an end that throws")
    }).pipe(Effect.provide(Logger.layer([Logger.make(({ cause }) => void logged.push(Cause.pretty(cause)))])))
  )

  it.effect("takes an entry again that has expired or was removed", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const entry = new Recorded(wheel)
      for (let round = 0; round < 5; round++) {
        entry.add(100)
        yield* TestClock.adjust(50)
        wheel.remove(entry)
        wheel.remove(entry)
        assert.strictEqual(wheel.size(), 0)
        entry.add(70)
        yield* TestClock.adjust(80)
        assertOnTime(entry)
        entry.expired = []
        wheel.remove(entry)
      }
    })
  )

  it.effect("removes from the start, middle and end of one slot", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      for (let index = 0; index < 4; index++) {
        const entries = Array.from({ length: 4 }, () => new Recorded(wheel).add(100))
        const [out] = entries.splice(index, 1)
        wheel.remove(out!)
        assert.strictEqual(wheel.size(), 3)
        yield* TestClock.adjust(110)
        for (const entry of entries) assertOnTime(entry)
        assert.deepStrictEqual(out!.expired, [])
      }
    })
  )

  it.effect("tells entries of one slot in different revolutions apart", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const entries = [3, 1, 0, 2].map((round) => new Recorded(wheel).add(100 + round * revolutionMillis))
      for (let round = 0; round < 4; round++) {
        yield* TestClock.adjust(round === 0 ? 110 : revolutionMillis)
        assert.strictEqual(wheel.size(), 3 - round)
      }
      for (const entry of entries) assertOnTime(entry)
    })
  )

  it.effect("lets an entry that expires put in others, and itself", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const other: Recorded = new Recorded(wheel)
      let rounds = 0
      const entry: Recorded = new Recorded(wheel, () => {
        if (++rounds < 3) entry.add(30)
        else other.add(0)
      }).add(30)
      yield* TestClock.adjust(200)
      assert.strictEqual(entry.expired.length, 3)
      assertOnTime(other)
      assert.strictEqual(wheel.size(), 0)
    })
  )

  it.effect("lets an entry that expires take out another that is due in the same moment", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      const pair: Array<Recorded> = []
      for (let i = 0; i < 2; i++) pair.push(new Recorded(wheel, () => wheel.remove(pair[1 - i]!)).add(100))
      assert.strictEqual(wheel.size(), 2)
      yield* TestClock.adjust(110)
      assert.strictEqual(pair[0]!.expired.length + pair[1]!.expired.length, 1)
      assert.strictEqual(wheel.size(), 0)
      for (const entry of pair) entry.expired = []
      pair[0]!.add(50)
      yield* TestClock.adjust(60)
      assertOnTime(pair[0]!)
    })
  )

  it.effect("takes any number: past deadlines expire next, one without end never", () =>
    Effect.gen(function* () {
      const wheel = yield* TimerWheel.make
      yield* TestClock.adjust(12_345)
      const past = [-1, -100_000, Number.NEGATIVE_INFINITY].map((millis) => new Recorded(wheel).add(millis))
      const never = [Number.POSITIVE_INFINITY, Number.MAX_VALUE].map((millis) => new Recorded(wheel).add(millis))
      const usual = new Recorded(wheel).add(100)
      yield* TestClock.adjust(resolutionMillis)
      for (const entry of past) assert.strictEqual(entry.expired.length, 1)
      yield* TestClock.adjust(3 * revolutionMillis)
      assertOnTime(usual)
      for (const entry of never) assert.strictEqual(entry.expired.length, 0)
      for (const entry of never) wheel.remove(entry)
      assert.strictEqual(wheel.size(), 0)
      const next = new Recorded(wheel).add(0)
      yield* TestClock.adjust(resolutionMillis)
      assertOnTime(next)
    })
  )

  describe("on a clock that stalls", () => {
    const stalling = Effect.gen(function* () {
      const clock = makeClock()
      const wheel = yield* Effect.provideService(TimerWheel.make, Clock.Clock, clock.clock)
      return { ...clock, wheel }
    })

    for (const stall of [revolutionMillis - 1, revolutionMillis, 2.5 * revolutionMillis, 1_000 * revolutionMillis]) {
      it.effect(`expires all that became due in ${stall} ms at once, and nothing else`, () =>
        Effect.gen(function* () {
          const { pass, sleeping, wake, wheel } = yield* stalling
          const random = Random.make(stall)
          const entries = Array.from({ length: 500 }, () => new Recorded(wheel).add(random.below(2 * stall)))
          pass(stall)
          yield* wake
          for (const { due, expired } of entries) {
            if (due <= stall - resolutionMillis) assert.strictEqual(expired.length, 1, `due ${due}`)
            if (due > stall) assert.strictEqual(expired.length, 0, `due ${due}`)
          }
          assert.strictEqual(sleeping(), wheel.size() === 0 ? 0 : 1)
          pass(stall + resolutionMillis)
          yield* wake
          for (const { expired } of entries) assert.strictEqual(expired.length, 1)
          assert.deepStrictEqual([wheel.size(), sleeping()], [0, 0])
        })
      )
    }

    it.effect("puts in after a stall what is due after it", () =>
      Effect.gen(function* () {
        const { pass, wake, wheel } = yield* stalling
        const before = new Recorded(wheel).add(100)
        pass(10 * revolutionMillis)
        // Not swept yet: the new one must neither expire with the old one nor wait for a revolution.
        const after = new Recorded(wheel).add(300)
        yield* wake
        assert.deepStrictEqual([before.expired.length, after.expired.length], [1, 0])
        pass(310)
        yield* wake
        assertOnTime(after)
      })
    )

    it.effect("removes one that another takes out in the same sweep", () =>
      Effect.gen(function* () {
        const { pass, wake, wheel } = yield* stalling
        const second = new Recorded(wheel)
        const first = new Recorded(wheel, () => wheel.remove(second)).add(100)
        second.add(1_000)
        pass(2_000)
        yield* wake
        assert.deepStrictEqual([first.expired.length, second.expired.length, wheel.size()], [1, 0, 0])
      })
    )

    it.effect("sleeps as long as something is in, in one fiber, and not otherwise", () =>
      Effect.gen(function* () {
        const { pass, sleeping, wake, wheel } = yield* stalling
        assert.strictEqual(sleeping(), 0)
        const entries = [900, 500, 100, 300, 700].map((millis) => new Recorded(wheel).add(millis))
        yield* Effect.yieldNow
        assert.strictEqual(sleeping(), 1)
        for (let i = 0; i < 100; i++) {
          pass(resolutionMillis)
          yield* wake
          assert.strictEqual(sleeping(), wheel.size() > 0 ? 1 : 0)
        }
        for (const entry of entries) assertOnTime(entry)
      })
    )

    it.effect("has no fiber left once the slot has passed of what was taken out", () =>
      Effect.gen(function* () {
        const { pass, sleeping, wake, wheel } = yield* stalling
        for (let i = 0; i < 1_000; i++) wheel.remove(new Recorded(wheel).add(5_000 - i))
        yield* Effect.yieldNow
        assert.strictEqual(wheel.size(), 0)
        assert.isAtMost(sleeping(), 1)
        pass(5_000)
        yield* wake
        assert.strictEqual(sleeping(), 0)
        const entry = new Recorded(wheel).add(100)
        pass(100)
        yield* wake
        assertOnTime(entry)
      })
    )

    it.effect("expires nothing after its Scope has closed, and takes nothing in", () =>
      Effect.gen(function* () {
        const { clock, pass, sleeping, wake } = makeClock()
        const scope = yield* Scope.make()
        const wheel = yield* TimerWheel.make.pipe(Scope.provide(scope), Effect.provideService(Clock.Clock, clock))
        const before = new Recorded(wheel).add(100)
        yield* Scope.close(scope, Exit.void)
        const after = new Recorded(wheel).add(100)
        yield* Effect.yieldNow
        assert.strictEqual(sleeping(), 0)
        pass(1_000)
        yield* wake
        assert.deepStrictEqual([before.expired.length, after.expired.length], [0, 0])
        wheel.remove(before)
        wheel.remove(after)
        assert.strictEqual(wheel.size(), 0)
      })
    )
  })
})
