/** What guards a link against faults that nobody tells it of. A test takes one away, to show that something depends on it. */
import * as Context from "effect/Context"

/** @see {@link RedisDefences} */
export interface Defences {
  /** Asks a quiet connection for a sign of life. */
  readonly heartbeat: boolean
  /** Subscribes everything on each new connection. */
  readonly resubscribe: boolean
  /** How often the server is asked whether it is still a master; never when undefined. */
  readonly roleMillis: number | undefined
}

/** All of them, by default. Not for users: there is no reason to be without. */
export const RedisDefences = Context.Reference<Defences>("fiberbus/transport/internal/redisDefences", {
  defaultValue: () => ({ heartbeat: true, resubscribe: true, roleMillis: 5000 })
})
