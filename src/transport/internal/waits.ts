/**
 * Asks a Schedule how long to wait, and leaves the waiting to the caller's own timer.
 *
 * A link waits in real time, as its sockets do: the schedule is stepped with the time of day and never sleeps on `Clock`, so that
 * TestClock can neither hold nor hurry a reconnect.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type { TransportError } from "../Transport.ts"

/** @see {@link make} */
export interface Waits {
  /** Calls back, maybe at once, with the milliseconds before the next attempt; with nothing when the schedule has ended. */
  readonly next: (error: TransportError, wait: (millis: number | undefined) => void) => void
  /** Begins again with the first wait. */
  readonly reset: () => void
}

/** The longest time that a timer of Node takes. */
const longestMillis = 2_147_483_647

/** Stands at the beginning of a schedule. One that dies counts as ended. */
export const make = (schedule: Schedule.Schedule<unknown, TransportError>): Waits => {
  const start = () => Effect.runSync(Effect.cached(Schedule.toStep(schedule)))
  let step: ReturnType<typeof start> | undefined
  return {
    next: (error, wait) => {
      step ??= start()
      const asked = Effect.flatMap(step, (step) => step(Date.now(), error))
      Effect.runFork(asked).addObserver((exit) => {
        if (!Exit.isSuccess(exit)) return wait(undefined)
        wait(Math.min(longestMillis, Math.max(0, Duration.toMillis(exit.value[1]))))
      })
    },
    reset: () => {
      step = undefined
    }
  }
}
