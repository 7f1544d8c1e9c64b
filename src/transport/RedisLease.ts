/**
 * Keeps leases in a Redis, for all processes that share it.
 *
 * One connection per Layer, besides those of the transport: a lost one comes back by itself, and every command ends in time. A lease
 * is a hash named `<prefix>fiberbus:lease:<name>` that changes by one script only, on the clock of Redis.
 *
 * Redis copies its data to replicas a moment later, so a failover may forget a lease that has just been given, and give it again: the
 * token is then still higher. The user needs `+ping`, `+evalsha`, `+script|load`, `+time`, `+hmget`, `+hset`, `+pexpire` and
 * `~<prefix>fiberbus:lease:*`.
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as FirstConnection from "./internal/FirstConnection.ts"
import * as RedisLink from "./internal/RedisLink.ts"
import { RedisDefences } from "./internal/redisDefences.ts"
import * as redisGreeting from "./internal/redisGreeting.ts"
import * as redisLeaseScript from "./internal/redisLeaseScript.ts"
import * as redisOptions from "./internal/redisOptions.ts"
import { type Answer, type Ask, Lease } from "./Lease.ts"
import * as RedisPubSub from "./RedisPubSub.ts"
import { TransportError } from "./Transport.ts"

/** Where Redis is and who we are there: the options of `RedisPubSub`, as far as they are not about messages. */
export type Options = Omit<RedisPubSub.Options, "maxFrameBytes" | "maxBytesInFlight" | "whileDown">

/**
 * Connects, and disconnects when the Scope closes.
 *
 * Errors: what keeps it from working at the start, as `RedisPubSub.make`, and `PermissionDenied` for a user who may
 * not run the script. Later troubles do not end it.
 */
export const make = (options: Options = {}): Effect.Effect<Lease["Service"], TransportError, Scope.Scope> =>
  Effect.flatMap(RedisDefences, (defences) => {
    const settings = redisOptions.resolve(options, defences)
    return settings instanceof TransportError
      ? Effect.fail(renamed(settings, "read the options of RedisLease"))
      : FirstConnection.patiently(
          settings,
          Effect.suspend(() => connect(settings))
        )
  })

const connect = (settings: redisOptions.Settings): Effect.Effect<Lease["Service"], TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const log = (line: Effect.Effect<void>) => void runFork(Effect.annotateLogs(line, "lease", settings.name))

    let sha = ""
    let wasUp = false
    const link: RedisLink.RedisLink = RedisLink.make(settings, "lease", {
      prepare: () => {
        // An error ends the attempt or shows with the first command.
        link.command("script", ["LOAD", redisLeaseScript.text], 0, (_, reply) => {
          if (typeof reply === "string") sha = reply
        })
      },
      up: () => {
        if (wasUp) log(Effect.logInfo(`fiberbus: leases are kept again at ${settings.name}`))
        wasUp = true
      },
      down: (error, lost) => {
        if (lost) log(Effect.logWarning(`fiberbus: leases cannot be kept: ${error.message}`))
      },
      mayReconnect: () => true,
      gaveUp: (error) => log(Effect.logError(`fiberbus: leases are given up: ${error.message}`))
    })
    yield* Effect.addFinalizer(() => link.close)
    yield* Effect.catchIf(
      link.start,
      // Sentinels know several addresses, and none of them is ours to ask.
      ({ kind }) => kind === "ConnectionLost" && !settings.sentinels,
      (error) => Effect.flip(redisGreeting.explain(settings, error))
    )

    const command = (words: ReadonlyArray<string>, again: boolean): Effect.Effect<unknown, TransportError> =>
      Effect.callback<unknown, TransportError>((resume) => {
        link.commandWhenUp("evalsha", [sha, ...words], 0, (error, reply) =>
          resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error))
        )
      }).pipe(
        Effect.catchIf(
          // Somebody has emptied the table of scripts.
          (error) => again && error.detail.startsWith("NOSCRIPT"),
          () =>
            Effect.andThen(
              Effect.callback<void>((resume) =>
                link.commandWhenUp("script", ["LOAD", redisLeaseScript.text], 0, () => resume(Effect.void))
              ),
              command(words, false)
            )
        )
      )

    const run = (what: "acquire" | "renew" | "release", ask: Ask, ...rest: ReadonlyArray<number>) =>
      Effect.suspend(() => {
        const key = `${settings.prefix}fiberbus:lease:${ask.name}`
        const words = [
          "1",
          key,
          what,
          ask.owner,
          ...[ask.ttlMillis, ...rest].map((millis) => String(Math.round(millis)))
        ]
        return command(words, true)
      }).pipe(
        Effect.mapError((error) => {
          // The master has become a replica: elsewhere there is another one.
          if (error.detail.includes("READONLY")) link.rebuild(error)
          return renamed(error, `${what} the lease ${ask.name}`)
        }),
        Effect.map((reply): ReadonlyArray<unknown> => (Array.isArray(reply) ? reply : []))
      )

    // Writes nothing; a right that is missing shows here rather than at night.
    yield* run("renew", { name: "", owner: "nobody", ttlMillis: 1, occurrence: undefined })

    return {
      acquire: (ask) =>
        Effect.map(
          run("acquire", ask, ...(ask.occurrence ? [ask.occurrence.atMillis, ask.occurrence.afterMillis] : [])),
          ([tag, token]): Answer =>
            tag === "Held" ? { _tag: "Held", token: Number(token) } : { _tag: tag as "Taken" | "Over" | "Early" }
        ),
      renew: (ask) => Effect.map(run("renew", ask), ([tag]) => tag === "Held"),
      release: (ask) => Effect.asVoid(run("release", ask))
    }
  })

// Of the words of EVALSHA the digest would come first, which tells nobody anything.
const renamed = ({ detail, hint, kind, sent }: TransportError, operation: string) =>
  new TransportError({
    kind,
    operation,
    detail,
    hint: kind === "PermissionDenied" ? "Give the user the rights that docs/security.md lists for leases" : hint,
    sent
  })

/** Leases in one Redis. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<Lease, TransportError> => Layer.effect(Lease, make(options))

/** The same with options that are read when the Layer is built, by default from the environment as `RedisPubSub` does. */
export const layerConfig = (
  options: Config.Config<Options> = RedisPubSub.environment
): Layer.Layer<Lease, TransportError | Config.ConfigError> => Layer.effect(Lease, Effect.flatMap(options, make))
