/** How much time is left: travels with every call and shrinks hop by hop, without comparing clocks of machines. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * When the work of the current fiber is no longer wanted, in milliseconds of the process's monotonic clock; nothing where nobody
 * waits for it, or did not say for how long.
 *
 * Set for a handler from its request's `timeout_ms`, and read by the calls that the handler makes: they get what is left at most.
 * Fiber-local, inherited by forked fibers. Provide `undefined` to let work outlive the request it began in.
 */
export const Deadline = Context.Reference<number | undefined>("fiberbus/policy/Deadline", {
  defaultValue: () => undefined
})

/**
 * How long one attempt of a call under policies waits for its answer, in milliseconds: for a policy that makes attempts, around
 * the policies that judge them. It then ends with `DeadlineExceeded`, while its late answer would still end the call.
 */
export const AttemptTimeout = Context.Reference<number | undefined>("fiberbus/policy/Deadline/AttemptTimeout", {
  defaultValue: () => undefined
})

/** Milliseconds that are left to the current fiber; `Infinity` where it has no deadline. */
export const remainingMillis: Effect.Effect<number> = Effect.withFiber((fiber) => {
  const deadline = fiber.getRef(Deadline)
  if (deadline === undefined) return Effect.succeed(Number.POSITIVE_INFINITY)
  return Effect.succeed(deadline - Number(fiber.getRef(Clock.Clock).monotonicTimeNanosUnsafe()) / 1_000_000)
})
