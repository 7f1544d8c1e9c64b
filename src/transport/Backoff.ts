/** Paces attempts to reconnect. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"

/**
 * Doubles the waits and takes any part of each, so that not everybody comes back at once ("full jitter").
 *
 * Shape: an endless schedule; end it with `Schedule.upTo`.
 * Units: the wait before attempt n is between 0 and `first` · 2^(n - 1), at most `longest`.
 */
export const make = (options: {
  readonly first: Duration.Input
  readonly longest: Duration.Input
}): Schedule.Schedule<Duration.Duration> =>
  Schedule.min([Schedule.exponential(options.first), Schedule.spaced(options.longest)]).pipe(
    Schedule.modifyDelay(({ duration }) => Effect.map(Random.next, (part) => Duration.times(duration, part)))
  )

/** 50 milliseconds doubling to 5 seconds, endless: how a lost link comes back where nothing else is said. */
export const reconnect: Schedule.Schedule<Duration.Duration> = make({ first: "50 millis", longest: "5 seconds" })
