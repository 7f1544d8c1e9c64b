/**
 * Lets only so many calls through in a time; the others wait for their turn, or end at once.
 *
 * Source: the limiter is that of `effect/persistence`, which is not stable yet. Hence this file is no part of the package's root.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Limiter from "effect/persistence/RateLimiter"
import type * as Scope from "effect/Scope"
import * as Reason from "../wire/Reason.ts"
import * as Deadline from "./Deadline.ts"
import type { Policy } from "./Policy.ts"

/** @see {@link make} */
export interface Options {
  /** Attempts per window: as many at once, then evenly spread. */
  readonly limit: number
  /** Default 1 second. */
  readonly window?: Duration.Input
  /** Default `wait`: until there is room, if the call's deadline comes later; `fail`: the call ends at once. */
  readonly whenReached?: "wait" | "fail"
  /** Each action has a limit of its own, or all of a service share one. Default `service`. */
  readonly per?: "action" | "service"
}

/**
 * Makes a policy that counts in this process' memory, by a token bucket.
 *
 * A call that may not or cannot wait ends with `RateLimited`, started: no. Behind `Retry` (later in the list of policies) each
 * attempt counts.
 */
export const make = (options: Options): Effect.Effect<Policy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* Layer.build(Limiter.layerStoreMemory)
    return fromLimiter(yield* Effect.provideContext(Limiter.make, store), options)
  })

/** Makes a policy of a limiter, for one that counts in Redis. While its store fails, calls are let through and a warning is logged. */
export const fromLimiter = (limiter: Limiter.RateLimiter, options: Options): Policy => {
  const { limit, per, whenReached, window } = { window: "1 second" as const, ...options }
  const take = (key: string) =>
    // Not its own way to wait, which takes from the future for calls that give up as well.
    limiter.consume({ key, limit, window, algorithm: "token-bucket", onExceeded: "fail" }).pipe(
      Effect.as(0),
      Effect.catchTag("RateLimiterError", ({ reason }) =>
        reason._tag === "RateLimitExceeded"
          ? Effect.succeed(Math.max(1, Math.ceil(Duration.toMillis(reason.retryAfter))))
          : Effect.as(Effect.logWarning("fiberbus: the rate limiter's store failed, a call was let through", reason), 0)
      )
    )
  return Effect.fnUntraced(function* (call, subject) {
    const key = per === "action" ? `${subject.service}.${subject.action}` : subject.service
    for (let millis = yield* take(key); millis > 0; millis = yield* take(key)) {
      if (whenReached === "fail" || millis >= (yield* Deadline.remainingMillis)) {
        return yield* subject.refuse(new Reason.RateLimited({ retryAfterMillis: millis }))
      }
      yield* Effect.sleep(millis)
    }
    return yield* call
  })
}
