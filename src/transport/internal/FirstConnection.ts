/** Tries to connect for the first time, again and again where it is told to. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { TransportError, TransportErrorKind } from "../Transport.ts"
import * as Waits from "./waits.ts"

/** What may be over without anybody's doing. */
const passing: ReadonlySet<TransportErrorKind> = new Set(["Unreachable", "Timeout", "ConnectionLost"])

/** Each attempt closes what it opened before the next begins, so that no number of them adds up. */
export const patiently = <A>(
  settings: { readonly name: string; readonly connect: Schedule.Schedule<unknown, TransportError> | undefined },
  attempt: Effect.Effect<A, TransportError, Scope.Scope>,
  broker = "Redis"
): Effect.Effect<A, TransportError, Scope.Scope> => {
  const { connect, name } = settings
  if (connect === undefined) return attempt
  return Effect.suspend(() => {
    const waits = Waits.make(connect)
    let told: TransportErrorKind | undefined
    const tell = (error: TransportError) => {
      if (told === error.kind) return Effect.void
      told = error.kind
      return Effect.logWarning(`${broker}: ${name} is not there yet, waiting. ${error.message}`)
    }
    const again: Effect.Effect<A, TransportError, Scope.Scope> = Effect.catchIf(
      inScopeOfItsOwn(attempt),
      ({ kind }) => passing.has(kind),
      (error) =>
        Effect.flatMap(next(waits, error), (millis) => Effect.andThen(tell(error), Effect.andThen(wait(millis), again)))
    )
    return Effect.tap(again, () =>
      told === undefined ? Effect.void : Effect.logInfo(`${broker}: connected to ${name}`)
    )
  }).pipe(Effect.annotateLogs("transport", name))
}

/** How long to wait, or the end of the schedule. */
const next = (waits: Waits.Waits, error: TransportError) =>
  Effect.callback<number, TransportError>((resume) =>
    waits.next(error, (millis) => resume(millis === undefined ? Effect.fail(error) : Effect.succeed(millis)))
  )

// In real time, as the attempts themselves.
const wait = (millis: number) =>
  Effect.callback<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

const inScopeOfItsOwn = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const exit = yield* Effect.exit(restore(Scope.provide(effect, scope)))
      if (Exit.isFailure(exit)) yield* Scope.close(scope, exit)
      return yield* exit
    })
  )
