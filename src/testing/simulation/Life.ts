/** A simulated process' life: everything that happens within it goes through here, so that a process that is dead does nothing. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Scheduler from "effect/Scheduler"
import * as Dice from "./Dice.ts"
import type { World } from "./World.ts"

/** @see {@link make} */
export interface Life {
  /** Does something within the process: now, after it is thawed, or never if it is dead. */
  readonly within: (act: () => void) => void
  /** Stops everything, as SIGSTOP does; {@link thaw} goes on with what was due meanwhile. */
  readonly freeze: () => void
  readonly thaw: () => void
  /** Ends it at once, as SIGKILL does: no fiber of it goes on, no finalizer runs. */
  readonly end: () => void
  readonly isDead: () => boolean
}

/** Begins a life. */
export const make = (): Life => {
  let dead = false
  let frozen = 0
  let due: Array<() => void> = []
  return {
    isDead: () => dead,
    within: (act) => {
      if (dead) return
      if (frozen > 0) due.push(act)
      else act()
    },
    freeze: () => {
      frozen++
    },
    thaw: () => {
      frozen--
      if (frozen > 0) return
      const acts = due
      due = []
      for (const act of acts) if (!dead) act()
    },
    end: () => {
      dead = true
      due = []
    }
  }
}

/** What the fibers of a process run on: virtual time, its turns, and chance from the seed. `seen` is given each fiber that goes on. */
export const context = (options: {
  readonly world: World
  readonly life: Life
  readonly seed: number
  readonly name: string
  readonly registry: Map<any, any>
  readonly seen: (fiber: Fiber.Fiber<unknown, unknown>) => void
}): Context.Context<never> => {
  const { life, name, registry, seed, seen, world } = options
  let rolls = 0
  const nextDoubleUnsafe = () => Dice.roll(seed, "random", name, rolls++)
  return Context.empty().pipe(
    Context.add(Clock.Clock, clock(world, life)),
    Context.add(Scheduler.Scheduler, new SimulatedScheduler(world, life, seen)),
    Context.add(Random.Random, {
      nextDoubleUnsafe,
      nextIntUnsafe: () => Math.floor((nextDoubleUnsafe() * 2 - 1) * Number.MAX_SAFE_INTEGER)
    }),
    Context.add(Metric.MetricRegistry, registry),
    Context.add(Logger.CurrentLoggers, new Set())
  )
}

const clock = (world: World, life: Life): Clock.Clock => {
  const nanos = () => BigInt(Math.round(world.now() * 1_000_000))
  return {
    currentTimeMillisUnsafe: world.now,
    currentTimeMillis: Effect.sync(world.now),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) => {
      const millis = Duration.toMillis(duration)
      if (millis <= 0) return Effect.yieldNow
      if (!Number.isFinite(millis)) return Effect.never
      return Effect.callback((resume) => {
        // In whole microseconds, and one at least: what is too little to be added to a number would never pass.
        const until = Math.max(world.now() + 0.001, Math.ceil((world.now() + millis) * 1_000) / 1_000)
        const cancel = world.at(until, () => life.within(() => resume(Effect.void)))
        return Effect.sync(cancel)
      })
    }
  }
}

class SimulatedScheduler extends Scheduler.MixedScheduler {
  private readonly seen: (fiber: Fiber.Fiber<unknown, unknown>) => void
  constructor(world: World, life: Life, seen: (fiber: Fiber.Fiber<unknown, unknown>) => void) {
    super("async", (act) => {
      let wanted = true
      world.soon(() =>
        life.within(() => {
          if (wanted) act()
        })
      )
      return () => {
        wanted = false
      }
    })
    this.seen = seen
  }
  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>) {
    // The first step after each time that it waited.
    if (fiber.currentOpCount === 1) this.seen(fiber)
    return super.shouldYield(fiber)
  }
}
