/**
 * Deadlines of many calls at the cost of one timer.
 *
 * A timer per call costs 10 µs and more; an entry in a slot of this wheel costs a tenth of one. One fiber sleeps on `Clock`
 * (so that `TestClock` drives it) until the next slot that holds anything, and there is no fiber while it is empty.
 */
import { performance } from "node:perf_hooks"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** Length of a slot in milliseconds: how late an entry may expire, never early. */
export const resolutionMillis = 10

const slotCount = 512

const systemClock = Context.get(Context.empty(), Clock.Clock)
const sinceBoot = Number(systemClock.monotonicTimeNanosUnsafe()) / 1_000_000 - performance.now()

const isOut = -1
const isExpiring = -2

/** Something with a deadline. Extend it; it is its own place in the wheel, and may be in one wheel once. */
export abstract class Entry {
  /** @internal */
  next: Entry | undefined = undefined
  /** @internal */
  previous: Entry | undefined = undefined
  /** Number of the slot since the start of the clock; negative while it is in no slot. @internal */
  tick = isOut
  /** When it is due, on the wheel's clock: set when it is put in. */
  expiresAt = 0
  /** Called once when the deadline has passed; the entry is out of the wheel by then. Must not throw. */
  abstract expire(): void
}

/** @see {@link make} */
export interface TimerWheel {
  /** Time on the wheel's clock in milliseconds: monotonic, only differences mean something. */
  readonly now: () => number
  /** Puts an entry in, to expire after so many milliseconds. */
  readonly add: (entry: Entry, millis: number) => void
  /** Takes an entry out; does nothing if it is not in. */
  readonly remove: (entry: Entry) => void
  /** Entries that are in. */
  readonly size: () => number
}

/** Makes an empty wheel. When the Scope closes, nothing expires any more. */
export const make: Effect.Effect<TimerWheel, never, Scope.Scope> = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const slots = new Array<Entry | undefined>(slotCount).fill(undefined)
  let size = 0
  let sleeper: Fiber.Fiber<void> | undefined
  let wakeTick = 0
  let sweptTick = 0
  let closed = false

  // The clock of every program but tests, at a third of the price and on the same scale.
  const now =
    clock === systemClock
      ? () => performance.now() + sinceBoot
      : () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

  const unlink = (entry: Entry) => {
    if (entry.previous === undefined) slots[entry.tick % slotCount] = entry.next
    else entry.previous.next = entry.next
    if (entry.next !== undefined) entry.next.previous = entry.previous
    entry.next = undefined
    entry.previous = undefined
    entry.tick = isOut
    size--
  }

  const sweep = () => {
    const last = Math.floor(now() / resolutionMillis)
    const expired: Array<Entry> = []
    // After a long stall every slot is due once; more rounds would find the same entries.
    for (let tick = Math.max(sweptTick + 1, last - slotCount + 1); tick <= last; tick++) {
      let entry = slots[tick % slotCount]
      while (entry !== undefined) {
        const following: Entry | undefined = entry.next
        if (entry.tick <= last) {
          unlink(entry)
          entry.tick = isExpiring
          expired.push(entry)
        }
        entry = following
      }
    }
    sweptTick = Math.max(sweptTick, last)
    for (const entry of expired) {
      // One that expired before it may have taken it out, or put it in again.
      if (entry.tick !== isExpiring) continue
      entry.tick = isOut
      try {
        entry.expire()
      } catch (defect) {
        // It is a bug, but the others of this turn have nothing to do with it.
        runFork(Effect.logError("A deadline's end threw", Cause.die(defect)))
      }
    }
  }

  /** The first tick after the last sweep whose slot holds anything; entries of later rounds make it look early. */
  const nextTick = () => {
    for (let tick = sweptTick + 1; tick < sweptTick + slotCount; tick++) {
      if (slots[tick % slotCount] !== undefined) return tick
    }
    return sweptTick + slotCount
  }

  const sleepUntilNext: Effect.Effect<void> = Effect.suspend(() => {
    wakeTick = nextTick()
    return Effect.sleep(Math.max(0, Math.ceil(wakeTick * resolutionMillis - now())))
  })

  const run = Effect.whileLoop({ while: () => size > 0, body: () => sleepUntilNext, step: sweep })

  const wakeBy = (tick: number) => {
    if (sleeper !== undefined && sleeper.pollUnsafe() === undefined && wakeTick <= tick) return
    sleeper?.interruptUnsafe()
    if (size === 1) sweptTick = Math.max(sweptTick, Math.floor(now() / resolutionMillis))
    wakeTick = tick
    sleeper = runFork(run)
  }

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      sleeper?.interruptUnsafe()
    })
  )

  return {
    now,
    size: () => size,
    add: (entry, millis) => {
      if (closed) return
      entry.expiresAt = now() + millis
      const tick = Math.max(Math.ceil(entry.expiresAt / resolutionMillis), sweptTick + 1)
      const slot = tick % slotCount
      entry.tick = tick
      entry.next = slots[slot]
      if (entry.next !== undefined) entry.next.previous = entry
      slots[slot] = entry
      size++
      wakeBy(tick)
    },
    remove: (entry) => {
      if (entry.tick === isExpiring) entry.tick = isOut
      else if (entry.tick !== isOut) unlink(entry)
    }
  }
})
