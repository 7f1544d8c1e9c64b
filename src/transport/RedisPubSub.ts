/**
 * Carries frames over Redis' PUBLISH and SUBSCRIBE: at most once, in the order of each connection.
 *
 * Each Layer holds exactly two connections, one to publish and one to subscribe, however many services and callers use
 * it. A lost connection comes back by itself and subscribes again; frames of the gap are lost, and what was in flight
 * ends with kind `ConnectionLost`. Nothing is ever sent twice.
 *
 * The user needs `+ping`, `+info` (without it the receivers count is only a hint), `+publish`, `+subscribe`,
 * `+unsubscribe` (for patterns `+psubscribe`, `+punsubscribe`), and the channels.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as RedisLink from "./internal/RedisLink.ts"
import * as RedisSubscriptions from "./internal/RedisSubscriptions.ts"
import * as redisGreeting from "./internal/redisGreeting.ts"
import * as redisOptions from "./internal/redisOptions.ts"
import { Transport, TransportError } from "./Transport.ts"

/** Where Redis is and who we are there. All are optional: the default is `127.0.0.1:6379` without a password. */
export interface Options {
  /** `redis://`, `rediss://` (TLS), `unix:///path` or a path. What it lacks can be given besides it. */
  readonly url?: string | Redacted.Redacted<string> | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  /** A Unix socket, instead of host and port. */
  readonly socketPath?: string | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted<string> | string | undefined
  /** Pub/sub is the same in all; only for users who may select no other. */
  readonly db?: number | undefined
  readonly tls?: boolean | Tls | undefined
  /** Put before every channel name, so that systems can share one Redis. */
  readonly prefix?: string | undefined
  /** Time for a connection and its handshake. Default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Time for one PUBLISH or SUBSCRIBE. Default 2 seconds; without any sign of life for so long the link is rebuilt. */
  readonly commandTimeout?: Duration.Input | undefined
  /** Largest frame in bytes. Default 1 MiB. */
  readonly maxFrameBytes?: number | undefined
  /** Bytes sent that Redis has not answered. Default 16 MiB; above it `send` fails with kind `Overloaded`. */
  readonly maxBytesInFlight?: number | undefined
}

/** Whom to trust and how to prove who we are; certificates and keys as PEM. */
export interface Tls {
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  readonly cert?: string | Uint8Array | undefined
  readonly key?: string | Uint8Array | Redacted.Redacted<string> | undefined
  /** The name that the server's certificate must bear. Default the host. */
  readonly servername?: string | undefined
  /** `false` accepts any certificate: for tests only. */
  readonly rejectUnauthorized?: boolean | undefined
}

/**
 * Connects, and disconnects when the Scope closes.
 *
 * Errors: what keeps it from working at the start, each with advice in `hint`: `Unreachable`, `AuthenticationFailed`,
 * `PermissionDenied`, `ProtocolError` (no Redis, TLS on one side only, a bad certificate), `Timeout`, `InvalidOptions`.
 * Later troubles do not end it: each change of state is one line in the log.
 */
export const make = (options: Options = {}): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const settings = redisOptions.resolve(options)
    if (settings instanceof TransportError) return yield* settings
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const log = (line: Effect.Effect<void>) => {
      runFork(Effect.annotateLogs(line, "transport", settings.name))
    }

    let receivers: "exact" | "hint" = "hint"
    let down = 0
    let closing = false
    const told = new Set<TransportError["kind"]>()

    const watched = {
      up: () => {
        if (down > 0 && --down === 0) log(Effect.logInfo(`Redis: connected again to ${settings.name}`))
      },
      down: (error: TransportError, wasUp: boolean) => {
        if (closing) return
        if (wasUp && down++ === 0) {
          told.clear()
          return log(Effect.logWarning(`Redis: lost ${settings.name}, reconnecting. ${error.message}`))
        }
        // Why it does not come back may be another matter, and is told once.
        if (wasUp || down === 0 || error.kind === "ConnectionLost" || told.has(error.kind)) return
        told.add(error.kind)
        log(Effect.logWarning(`Redis: ${settings.name} does not come back yet. ${error.message}`))
      }
    }

    const publisher = RedisLink.make(settings, "publisher", {
      prepare: () => {
        receivers = "hint"
        publisher.command("info", [], 0, (_error, reply) => {
          receivers = typeof reply === "string" && countsAll(reply) ? "exact" : "hint"
        })
      },
      ...watched
    })
    const subscriber = RedisLink.make(settings, "subscriber", {
      prepare: (client) => subscriptions.prepare(client),
      up: watched.up,
      down: (error, wasUp) => {
        subscriptions.lost()
        watched.down(error, wasUp)
      }
    })
    let lastThrown = Number.NEGATIVE_INFINITY
    const threw = (channel: string, defect: unknown) => {
      // It is a bug, and may come with every frame.
      if (performance.now() - lastThrown < 1000) return
      lastThrown = performance.now()
      log(Effect.logError(`A callback for ${channel} threw`, Cause.die(defect)))
    }
    const subscriptions = RedisSubscriptions.make(settings, subscriber, {
      refused: (error) => log(Effect.logWarning(`Redis: ${error.message}. Tried again until it is allowed`)),
      threw
    })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closing = true
        subscriptions.close()
        return Effect.all([publisher.close, subscriber.close], { concurrency: 2, discard: true })
      })
    )
    // Asks at once, while the other connection still counts.
    const start = (link: RedisLink.RedisLink) =>
      Effect.catchIf(
        link.start,
        ({ kind }) => kind === "ConnectionLost",
        (error) => Effect.flip(redisGreeting.explain(settings, error))
      )
    yield* Effect.all([start(publisher), start(subscriber)], { concurrency: 2, discard: true })

    const overloaded = new TransportError({
      kind: "Overloaded",
      operation: `PUBLISH over ${settings.name}`,
      detail: `${settings.maxBytesInFlight} bytes are waiting for Redis`,
      hint: "Send slower, or raise maxBytesInFlight",
      sent: "no"
    })
    return {
      name: settings.name,
      prefix: settings.prefix,
      capabilities: {
        delivery: "at-most-once",
        // Another server may answer after a failover.
        get receivers() {
          return receivers
        },
        ordered: true,
        patterns: true,
        maxFrameBytes: settings.maxFrameBytes
      },
      send: (channel, frame, sent) => {
        const bytes = Buffer.byteLength(frame)
        if (publisher.bytesInFlight() + bytes > settings.maxBytesInFlight) return sent(overloaded, 0)
        publisher.command("publish", [channel, frame], bytes, (error, reply) => {
          try {
            sent(error, typeof reply === "number" ? reply : 0)
          } catch (defect) {
            threw(channel, defect)
          }
        })
      },
      subscribe: subscriptions.subscribe
    }
  })

/** Only a master that is no part of a cluster knows all subscribers. */
const countsAll = (info: string) => /^role:master\r?$/m.test(info) && /^cluster_enabled:0\r?$/m.test(info)

/** A transport on one Redis. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<Transport, TransportError> =>
  Layer.effect(Transport, make(options))

/**
 * Options from the environment: `REDIS_URL`, or `REDIS_HOST`, `REDIS_PORT`, `REDIS_SOCKET_PATH`; `REDIS_USERNAME`,
 * `REDIS_PASSWORD`, `REDIS_DB`; `REDIS_TLS` (true, false), `REDIS_TLS_CA`, `REDIS_TLS_CERT`, `REDIS_TLS_KEY` (PEM
 * texts), `REDIS_TLS_SERVERNAME`; `FIBERBUS_PREFIX`.
 */
export const environment: Config.Config<Options> = Config.map(
  Config.all({
    redis: Config.nested(
      Config.all({
        url: Config.option(Config.Redacted("URL")),
        host: Config.option(Config.NonEmptyString("HOST")),
        port: Config.option(Config.Port("PORT")),
        socketPath: Config.option(Config.NonEmptyString("SOCKET_PATH")),
        username: Config.option(Config.NonEmptyString("USERNAME")),
        password: Config.option(Config.Redacted("PASSWORD")),
        db: Config.option(Config.Int("DB")),
        tls: Config.option(Config.Boolean("TLS")),
        ca: Config.option(Config.NonEmptyString("TLS_CA")),
        cert: Config.option(Config.NonEmptyString("TLS_CERT")),
        key: Config.option(Config.Redacted("TLS_KEY")),
        servername: Config.option(Config.NonEmptyString("TLS_SERVERNAME"))
      }),
      "REDIS"
    ),
    prefix: Config.option(Config.String("PREFIX").pipe(Config.nested("FIBERBUS")))
  }),
  ({ prefix, redis: { tls, ca, cert, key, servername, ...redis } }) => {
    const secured = [ca, cert, key, servername].some((given) => Option.isSome<unknown>(given))
    return {
      url: Option.getOrUndefined(redis.url),
      host: Option.getOrUndefined(redis.host),
      port: Option.getOrUndefined(redis.port),
      socketPath: Option.getOrUndefined(redis.socketPath),
      username: Option.getOrUndefined(redis.username),
      password: Option.getOrUndefined(redis.password),
      db: Option.getOrUndefined(redis.db),
      tls:
        secured && Option.getOrElse(tls, () => true)
          ? {
              ca: Option.getOrUndefined(ca),
              cert: Option.getOrUndefined(cert),
              key: Option.getOrUndefined(key),
              servername: Option.getOrUndefined(servername)
            }
          : Option.getOrUndefined(tls),
      prefix: Option.getOrUndefined(prefix)
    }
  }
)

/** The same with options that are read when the Layer is built, by default from the {@link environment}. */
export const layerConfig = (
  options: Config.Config<Options> = environment
): Layer.Layer<Transport, TransportError | Config.ConfigError> => Layer.effect(Transport, Effect.flatMap(options, make))
