/**
 * What a caller does about its calls besides making them: try again, hold back, refuse.
 *
 * A policy is a function around a call. Given to `Caller.make`, it is around every call and every streamed call of the
 * caller; the first of several is the outermost. It sees a call whose payload has been encoded, so that what can never be
 * sent is no matter of policy.
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Reason from "../wire/Reason.ts"

/**
 * Around one call.
 *
 * Shape: run `call` for an attempt, as often as is right, one after the other; the attempts of a call share its request id and its
 * deadline, and an answer to an earlier one that comes late ends the call. `A` and `E` belong to the action: a policy can neither make
 * up a result nor add an error of its own, only {@link Subject.refuse}. Interrupting an attempt ends the wait for it, not its handler.
 */
export type Policy = <A, E>(call: Effect.Effect<A, E>, subject: Subject<E>) => Effect.Effect<A, E>

/** The call a policy is around. */
export interface Subject<in out E> {
  readonly service: string
  readonly action: string
  /** A `stream` may have given steps to its consumer by the time it fails: another attempt would give them again. */
  readonly kind: "call" | "stream"
  /** Handling the request twice does no harm (`Action.Idempotent`, and no questions are asked). */
  readonly idempotent: boolean
  /** The action's, for a policy's own settings. */
  readonly annotations: Context.Context<never>
  /** Ends the call for a reason of the policy's own. Whether the handler ran is known to the call, not for a policy to say. */
  readonly refuse: (reason: Refusal) => Effect.Effect<never, E>
  /** How the call failed on its way; nothing for a declared error, which is an answer. */
  readonly failureOf: (error: E) => Failure | undefined
}

/** The reasons for which a policy ends a call. */
export type Refusal = Reason.CircuitOpen | Reason.RateLimited | Reason.DeadlineExceeded

/** A `CallError`, as a policy sees it. */
export interface Failure {
  /** Did a handler run, in this attempt or in one before it? */
  readonly started: Reason.Started
  readonly reason: { readonly _tag: string; readonly kind?: unknown; readonly retryAfterMillis?: unknown }
}

/** Puts policies around a call, the first outermost. */
export const around = <A, E>(
  policies: ReadonlyArray<Policy>,
  call: Effect.Effect<A, E>,
  subject: Subject<E>
): Effect.Effect<A, E> => policies.reduceRight((inner, policy) => policy(inner, subject), call)
