/**
 * Ends calls at once while a service fails, and lets one through from time to time to see whether it is back.
 *
 * Source: the breaker is that of `effect/persistence`, which is not stable yet. Hence this file is no part of the package's root.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Breaker from "effect/persistence/CircuitBreaker"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Reason from "../wire/Reason.ts"
import type { Failure, Policy, Subject } from "./Policy.ts"

/** What a circuit is for. */
export type Per = "action" | "service"

/** @see {@link make} */
export interface Options {
  /** Failures in a row that open a circuit. Default 5. */
  readonly failures?: number
  /** How long it stays open before one call may try, or a schedule of growing times. Default 5 seconds. */
  readonly openDuration?: Duration.Input | Schedule.Schedule<unknown, number>
  /** Each action has a circuit of its own, or all of a service share one. Default `action`. */
  readonly per?: Per
}

/**
 * Makes a policy with circuits in this process' memory.
 *
 * While a circuit is open its calls end with `CircuitOpen`, started: no. A failure is what speaks of the service's health:
 * `NoResponders`, `Busy`, `Draining`, `DeadlineExceeded`, `RemoteDefect`. An answer is a success, a declared error too. Anything else
 * (`InvalidPayload`, the link's `TransportError`, an interrupted call, …) does not count. `Busy` keeps it open for as
 * long as it asks, up to 30 seconds.
 */
export const make = (options: Options = {}): Effect.Effect<Policy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* Layer.build(Breaker.layerStoreMemory())
    const breaker = yield* Effect.provideContext(
      Breaker.make({
        tripPolicy: Breaker.consecutive(options.failures ?? 5),
        openDuration: options.openDuration ?? "5 seconds",
        // What a service asks for is its word, and may be any number.
        maxOpenDuration: "30 seconds"
      }),
      store
    )
    return fromBreaker(breaker, options)
  })

/** Makes a policy of a breaker, for one whose circuits are in Redis, or that opens by a rate of failures. */
export const fromBreaker = (breaker: Breaker.CircuitBreaker, options?: { readonly per?: Per }): Policy => {
  const perService = options?.per === "service"
  return (call, subject) =>
    // The call's own exit goes through the breaker as a value, so that what fails is the breaker.
    Effect.exit(call).pipe(
      breaker.execute({
        key: perService ? subject.service : `${subject.service}.${subject.action}`,
        classify: (exit) => (exit._tag === "Success" ? classify(exit.value, subject) : Breaker.ignored)
      }),
      Effect.catchTag("CircuitBreakerError", ({ reason }) =>
        subject.refuse(
          new Reason.CircuitOpen({
            retryAfterMillis: reason._tag === "CircuitOpen" ? Math.ceil(Duration.toMillis(reason.retryAfter)) : 0
          })
        )
      ),
      Effect.flatten
    )
}

const classify = <A, E>(exit: Exit.Exit<A, E>, { failureOf }: Subject<E>): Breaker.Outcome => {
  if (exit._tag === "Success") return Breaker.success
  const failed = exit.cause.reasons.find((reason) => reason._tag === "Fail")
  if (failed === undefined) return Breaker.ignored
  const failure = failureOf(failed.error)
  return failure === undefined ? Breaker.success : outcomeOf(failure)
}

/** What a failed call says about its service. */
export const outcomeOf = ({ reason }: Failure): Breaker.Outcome => {
  switch (reason._tag) {
    case "Busy":
      return Breaker.failure(
        typeof reason.retryAfterMillis === "number" ? { retryAfter: Math.max(0, reason.retryAfterMillis) } : undefined
      )
    case "NoResponders":
    case "Draining":
    case "DeadlineExceeded":
    case "RemoteDefect":
      return Breaker.failure()
    case "RemoteError":
      return Breaker.success
    default:
      return Breaker.ignored
  }
}
