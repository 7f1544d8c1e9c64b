import * as Schema from "effect/Schema"

/** The kinds a `RedisServerError` comes in. */
export const RedisServerErrorKind = Schema.Literals([
  "NotFound",
  "InstallFailed",
  "InvalidUrl",
  "Unreachable",
  "StartFailed",
  "StopFailed",
  "NotOwned",
  "CommandFailed",
  "ClusterFailed"
])
/** @see {@link RedisServerErrorKind} */
export type RedisServerErrorKind = typeof RedisServerErrorKind.Type

/**
 * There is no Redis for the tests, or it did not do what it was told.
 *
 * Shape: `message` is one line, `hint` included. `NotFound` and `InstallFailed`: no server to start. `InvalidUrl` and
 * `Unreachable`: the one in REDIS_URL. `NotOwned`: only servers started here are stopped and started. `CommandFailed`:
 * Redis answered with an error. `ClusterFailed`: a cluster did not come to what was asked within a minute. Holds no password.
 */
export class RedisServerError extends Schema.TaggedError<RedisServerError>()("RedisServerError", {
  kind: RedisServerErrorKind,
  /** What was tried, e.g. `start /usr/bin/redis-server`. */
  operation: Schema.String,
  /** What went wrong, in the words of the system or of Redis. */
  detail: Schema.String,
  /** What to do about it. Empty when there is no advice. */
  hint: Schema.String
}) {
  override get message() {
    const text = `${this.operation}: ${this.detail}${this.hint === "" ? "" : `. ${this.hint}`}`
    return text.replace(/\s+/g, " ")
  }
}
