/** Calls the functions of the library at the Redis that keeps a queue, whichever that is. */
import * as Effect from "effect/Effect"
import { TransportError } from "../Transport.ts"
import type * as RedisKeeper from "./RedisKeeper.ts"
import type * as RedisLink from "./RedisLink.ts"
import * as library from "./redisDurableLibrary.ts"
import * as redisError from "./redisError.ts"
import type { Settings } from "./redisOptions.ts"

/** @see {@link make} */
export interface RedisSteps {
  /** Calls a function, and once more where somebody has emptied Redis of it. */
  readonly run: (
    operation: string,
    queue: string,
    words: ReadonlyArray<string>,
    bytes: number,
    done: RedisLink.Done,
    asBytes?: boolean,
    by?: RedisKeeper.RedisKeeper
  ) => void
  /** The same with what was gathered. The reply is 0 where all went as it mostly does, else what became of each. */
  readonly runAll: <A>(
    operation: string,
    queue: string,
    words: ReadonlyArray<string>,
    asked: ReadonlyArray<A>,
    bytes: number,
    tell: (asked: A, error: TransportError | undefined, outcome: string | undefined) => void,
    by?: RedisKeeper.RedisKeeper
  ) => void
  /** Ends with what the function replies. */
  readonly running: (
    operation: string,
    queue: string,
    words: ReadonlyArray<string>,
    asBytes?: boolean
  ) => Effect.Effect<unknown, TransportError>
  /** Sends a command that is no function. */
  readonly asking: (queue: string, name: string, args: ReadonlyArray<string>) => Effect.Effect<unknown, TransportError>
}

/** By way of a keeper, unless another one is named. `threw` hears of those who throw when they are told. */
export const make = (
  { scrub, tls, user }: Settings,
  keeper: RedisKeeper.RedisKeeper,
  threw: (queue: string, defect: unknown) => void
): RedisSteps => {
  const run: RedisSteps["run"] = (operation, queue, words, bytes, done, asBytes = false, by = keeper) => {
    const args = [library.named(operation), ...by.keysOf(queue), ...words]
    const send = (done: RedisLink.Done) => by.send(queue, "fcall", args, bytes, done, asBytes)
    send((error, reply) => {
      if (error === undefined) return done(undefined, reply)
      // The master has become a replica: elsewhere there is another one.
      if (error.detail.startsWith("READONLY")) by.demoted(queue, error)
      const named = renamed(error, `${operation} in ${queue}`)
      if (!error.detail.includes("Function not found")) return done(named, undefined)
      by.load(queue, () =>
        send((error, reply) =>
          done(error === undefined ? undefined : renamed(error, `${operation} in ${queue}`), reply)
        )
      )
    })
  }

  const runAll: RedisSteps["runAll"] = (operation, queue, words, asked, bytes, tell, by) => {
    const done: RedisLink.Done = (error, reply) => {
      for (let i = 0; i < asked.length; i++) {
        const outcome = Array.isArray(reply) ? String(reply[i]) : undefined
        try {
          if (!outcome?.startsWith("e")) tell(asked[i]!, error, outcome)
          else tell(asked[i]!, refusedOne(outcome.slice(1), `${operation} in ${queue}`), undefined)
        } catch (defect) {
          threw(queue, defect)
        }
      }
    }
    run(operation, queue, words, bytes, done, false, by)
  }
  const refusedOne = (text: string, operation: string) =>
    renamed(redisError.fromReply(text, { operation, user, tls, scrub }), operation)

  const running: RedisSteps["running"] = (operation, queue, words, asBytes) =>
    Effect.callback<unknown, TransportError>((resume) =>
      run(
        operation,
        queue,
        words,
        0,
        (error, reply) => resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error)),
        asBytes
      )
    )
  const asking: RedisSteps["asking"] = (queue, name, args) =>
    Effect.callback<unknown, TransportError>((resume) =>
      keeper.send(
        queue,
        name,
        args,
        0,
        (error, reply) => resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error)),
        true
      )
    )

  return { run, runAll, running, asking }
}

/** Says what was to be done: of the words of FCALL the function would come first, which tells nobody anything. */
export const renamed = ({ detail, hint, kind, sent }: TransportError, operation: string) =>
  new TransportError({
    kind,
    operation,
    detail,
    hint:
      kind === "PermissionDenied" ? "Give the user the rights that docs/security.md lists for durable actions" : hint,
    sent
  })
