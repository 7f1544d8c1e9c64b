/** Asks a Schedule for the times of its ticks, and waits for them by the clock on the wall. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/** When a schedule wants a run, and how long it has waited for it. Both in milliseconds. */
export interface Tick {
  readonly atMillis: number
  readonly afterMillis: number
}

/** Asks for the tick after a time; nothing when the schedule has ended. */
export type Ticks<E> = (nowMillis: number) => Effect.Effect<Tick | undefined, E>

/** Stands at the beginning of a schedule. */
export const make = <E, R>(schedule: Schedule.Schedule<unknown, unknown, E, R>): Effect.Effect<Ticks<E>, never, R> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const step = yield* Schedule.toStep(schedule)
    return (nowMillis) =>
      step(nowMillis, undefined).pipe(
        Effect.map(([, wait]): Tick => {
          const afterMillis = Duration.toMillis(wait)
          return { atMillis: nowMillis + afterMillis, afterMillis }
        }),
        Pull.catchDone(() => Effect.undefined),
        Effect.provideContext(context)
      )
  })

/** A tick at least a millisecond after the last one: a schedule without waits must not take the whole process. */
export const after = (last: Tick, tick: Tick | undefined): Tick | undefined =>
  tick === undefined || tick.atMillis > last.atMillis ? tick : { ...tick, atMillis: last.atMillis + 1 }

/** How long to sleep at most before another look at the clock, which may have been set, or gone on while the machine slept. */
export const napMillis = 600_000

/** Waits until a time has come. A clock that is set back does not make it wait longer; one that is set forward is noticed. */
export const until = (atMillis: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    let left = atMillis - clock.currentTimeMillisUnsafe()
    const nap = Effect.suspend(() => {
      const millis = Math.max(0, Math.min(left, napMillis))
      left -= millis
      return Effect.sleep(millis)
    })
    return Effect.andThen(
      nap,
      Effect.whileLoop({
        while: () => {
          left = Math.min(left, atMillis - clock.currentTimeMillisUnsafe())
          return left > 0
        },
        body: () => nap,
        step: () => {}
      })
    )
  })
