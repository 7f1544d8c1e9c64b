/** How long what still runs may go on when its Layer closes. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"

/** What the finalizers of an interrupted fiber get: one that cannot be interrupted must not keep the process. */
export const finalizersMillis = 1_000

/** Ends an effect after a time. Nothing then waits for it: a timeout of Effect would, and it may not be interruptible. */
export const within =
  (duration: Duration.Input) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, E, R> =>
    Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), (fiber) =>
      Effect.onExit(Effect.timeoutOption(Fiber.join(fiber), duration), () => Effect.sync(() => fiber.interruptUnsafe()))
    )

/** The same on the real clock: nobody moves a test's clock any more when its layers close. */
export const withinReal =
  (duration: Duration.Input) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, E, R> =>
    Effect.flatMap(Clock.Clock, (clock) => {
      const limit = clock === real ? duration : Duration.min(Duration.fromInputUnsafe(duration), Duration.seconds(1))
      return effect.pipe(
        Effect.provideService(Clock.Clock, clock),
        within(limit),
        Effect.provideService(Clock.Clock, real)
      )
    })

const real = Context.get(Context.empty(), Clock.Clock)

/** Lets fibers go on for the grace period, then interrupts them and gives their finalizers a second. */
export const fibers = (running: Iterable<Fiber.Fiber<unknown, unknown>>, grace: Duration.Input): Effect.Effect<void> =>
  Effect.gen(function* () {
    const all = [...running]
    if (Duration.toMillis(Duration.fromInputUnsafe(grace)) > 0) yield* withinReal(grace)(Fiber.awaitAll(all))
    for (const fiber of all) fiber.interruptUnsafe()
    yield* withinReal(finalizersMillis)(Fiber.awaitAll(all))
  })
