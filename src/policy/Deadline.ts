/** How much time is left: travels with every call and shrinks hop by hop, without comparing clocks of machines. */
import * as Context from "effect/Context"

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
