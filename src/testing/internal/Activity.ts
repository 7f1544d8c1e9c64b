/** What goes on in a system under test: frames on their way, fibers that can go on, handlers that run, sleepers on its clock. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Scheduler from "effect/Scheduler"
import type * as TestClock from "effect/testing/TestClock"
import * as Request from "../../server/Request.ts"

/** A handler of which fibers live. */
export interface Running {
  readonly request: Request.Request
  /** True until the handler itself has ended; what it forked may live longer. */
  readonly handling: boolean
  /** Fibers that live in the context of the request: the handler's, and those it forked. */
  readonly fibers: number
}

/** @see {@link make} */
export interface Activity {
  readonly clock: TestClock.TestClock
  /** What the services under test and their callers run in: the observed clock, scheduler and fibers. */
  readonly context: Context.Context<never>
  /** Counts a frame that leaves; the result is to be called when it has been delivered. */
  readonly frameLeaves: () => () => void
  /** True when no frame travels and no fiber can go on. */
  readonly isQuiet: () => boolean
  /** Goes up with everything that happens. */
  readonly moves: () => number
  readonly running: () => ReadonlyArray<Running>
  /** When the next sleeper wakes, in milliseconds of the clock; nothing when nobody sleeps. */
  readonly nextWake: () => number | undefined
}

type Slot = NonNullable<(typeof Request.Slot)["Service"]>

/** Observes what runs in {@link Activity.context}. */
export const make = (clock: TestClock.TestClock): Effect.Effect<Activity> =>
  Effect.withFiber((fiber) => {
    const scheduler = fiber.getRef(Scheduler.Scheduler)
    const metrics = fiber.getRef(Metric.FiberRuntimeMetrics)
    const sleepers = new Set<{ readonly wakes: number }>()
    const handlers = new Map<Slot, number>()
    let inFlight = 0
    let runnable = 0
    let moves = 0

    const count = (context: Context.Context<never>, by: 1 | -1) => {
      moves++
      const slot = Context.get(context, Request.Slot)
      if (slot === undefined) return
      const fibers = (handlers.get(slot) ?? 0) + by
      if (fibers === 0) handlers.delete(slot)
      else handlers.set(slot, fibers)
    }

    const observedScheduler: Scheduler.Scheduler = {
      executionMode: scheduler.executionMode,
      shouldYield: (fiber) => scheduler.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = scheduler.makeDispatcher()
        return {
          scheduleTask: (task, priority) => {
            runnable++
            moves++
            dispatcher.scheduleTask(() => {
              runnable--
              task()
            }, priority)
          },
          flush: () => dispatcher.flush()
        }
      }
    }

    const observedClock: TestClock.TestClock = {
      ...clock,
      sleep: (duration) =>
        Effect.suspend(() => {
          const sleeper = { wakes: clock.currentTimeMillisUnsafe() + Duration.toMillis(duration) }
          sleepers.add(sleeper)
          return Effect.ensuring(
            clock.sleep(duration),
            Effect.sync(() => sleepers.delete(sleeper))
          )
        })
    }

    return Effect.succeed({
      clock: observedClock,
      context: Context.make(Clock.Clock, observedClock).pipe(
        Context.add(Scheduler.Scheduler, observedScheduler),
        Context.add(Metric.FiberRuntimeMetrics, {
          recordFiberStart: (context) => {
            metrics?.recordFiberStart(context)
            count(context, 1)
          },
          recordFiberEnd: (context, exit) => {
            metrics?.recordFiberEnd(context, exit)
            count(context, -1)
          }
        })
      ) as Context.Context<never>,
      frameLeaves: () => {
        inFlight++
        moves++
        return () => {
          inFlight--
          moves++
        }
      },
      isQuiet: () => inFlight === 0 && runnable === 0,
      moves: () => moves,
      running: () =>
        Array.from(handlers, ([request, fibers]) => ({ request, fibers, handling: request.fiber !== undefined })),
      nextWake: () => {
        const now = clock.currentTimeMillisUnsafe()
        let next: number | undefined
        // Those whose time has come are about to leave.
        for (const { wakes } of sleepers) if (wakes > now && (next === undefined || wakes < next)) next = wakes
        return next
      }
    })
  })
