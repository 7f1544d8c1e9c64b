/** Sends one command over a connection of its own. */
import * as Effect from "effect/Effect"
import { Redis } from "ioredis"
import { RedisServerError } from "./RedisServerError.ts"

/** Where to send it: a URL (or a socket's path), and what it does not say. */
export interface Address {
  readonly url: string
  /** The same for people, without its password. */
  readonly name: string
  readonly login?: { readonly username: string; readonly password: string }
}

const limitMillis = 10_000

/**
 * Shape: the reply as ioredis gives it: strings, numbers, null, arrays of these.
 * Errors: `Unreachable` when there is no connection or no reply within 10 seconds, `CommandFailed` when the reply is
 * an error.
 */
export const send = (
  address: Address,
  command: string,
  args: ReadonlyArray<string | number>
): Effect.Effect<unknown, RedisServerError> =>
  Effect.callback((resume) => {
    const redis = new Redis(address.url, {
      ...address.login,
      lazyConnect: true,
      enableReadyCheck: false,
      maxRetriesPerRequest: 0,
      connectTimeout: limitMillis,
      commandTimeout: limitMillis,
      retryStrategy: () => null
    })
    // `connect` rejects with "Connection is closed."; the reason comes as an event.
    let reason: Error | undefined
    redis.on("error", (error) => {
      reason = error
    })
    redis
      .connect()
      .then(() => redis.call(command, ...args))
      .then(
        (reply) => resume(Effect.succeed(reply)),
        (error: Error) => {
          const answered = error.name === "ReplyError"
          resume(
            Effect.fail(
              new RedisServerError({
                kind: answered ? "CommandFailed" : "Unreachable",
                operation: `${command} to ${address.name}`,
                detail: answered ? error.message : (reason ?? error).message,
                hint: answered ? "" : "Is that server running, and may this process connect to it?"
              })
            )
          )
        }
      )
      .finally(() => redis.disconnect())
    return Effect.sync(() => redis.disconnect())
  })
