/**
 * Carries frames over Redis' PUBLISH and SUBSCRIBE: at most once, in the order of each connection.
 *
 * Each Layer holds exactly two connections, one to publish and one to subscribe, however many services and callers use
 * it. A lost connection comes back by itself and subscribes again; frames of the gap are lost, and what was in flight
 * ends with kind `ConnectionLost`. Nothing is ever sent twice. The state of both is one `LinkState`: `Transport.states`.
 *
 * Once it has found a master it insists on one: the role is asked for on each connect and every 5 seconds, and a replica is
 * left for another attempt. With `sentinels` it asks them where the master is, each time.
 *
 * The user needs `+ping`, `+info` (without it the receivers count is only a hint, and a master that becomes a replica goes
 * unnoticed), `+publish`, `+subscribe`,
 * `+unsubscribe` (for patterns `+psubscribe`, `+punsubscribe`), and the channels; who serves actions of which one replica handles each
 * request also `+set` on `~<prefix>fiberbus:claim:<service>:*`.
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Pack from "../wire/Pack.ts"
import * as addresses from "./internal/addresses.ts"
import * as FirstConnection from "./internal/FirstConnection.ts"
import * as HeldSends from "./internal/heldSends.ts"
import { Packer } from "./internal/Packer.ts"
import * as RedisHealth from "./internal/RedisHealth.ts"
import * as RedisLink from "./internal/RedisLink.ts"
import * as RedisSubscriptions from "./internal/RedisSubscriptions.ts"
import { RedisDefences } from "./internal/redisDefences.ts"
import * as redisGreeting from "./internal/redisGreeting.ts"
import * as redisInfo from "./internal/redisInfo.ts"
import type { Settings } from "./internal/redisOptions.ts"
import * as redisOptions from "./internal/redisOptions.ts"
import * as Thrown from "./internal/thrown.ts"
import * as LinkMetrics from "./LinkMetrics.ts"
import { type Sent, Transport, TransportError } from "./Transport.ts"

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
  /**
   * Waits between attempts at the start, in real time, while nobody is there, or too busy to answer. By default there is one attempt,
   * and the Layer fails with what went wrong; a wrong password or certificate fails it at once in any case.
   */
  readonly connect?: Schedule.Schedule<unknown, TransportError> | undefined
  /**
   * Waits between attempts to reconnect, in real time whatever `Clock` says. Default `Backoff.reconnect`: 50 ms doubling to 5 s, full
   * jitter, endless. It begins again after a connection that lasted for 5 seconds. When it ends, so does the transport: `Closed`.
   */
  readonly reconnect?: Schedule.Schedule<unknown, TransportError> | undefined
  /**
   * What becomes of a call that begins while the link is down. `fail`: it ends at once. Otherwise it waits for the link, `for` at
   * most 1 second by default and never beyond its own timeout, with at most `buffer` others (1,000), and is sent once. Either way
   * it ends with a `TransportError` and `started: "no"` when it was not sent. The same holds for what else is sent while the
   * publisher is down: answers, broadcasts, one-way requests.
   */
  readonly whileDown?: "fail" | { readonly buffer?: number; readonly for?: Duration.Input } | undefined
  /** Asks these where the master is, instead of `url`, host and port; `tls` is for them and for the master. Default port 26379. */
  readonly sentinels?: ReadonlyArray<{ readonly host: string; readonly port?: number }> | undefined
  /** What the Sentinels call the master. */
  readonly name?: string | undefined
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: Redacted.Redacted<string> | string | undefined
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
  Effect.flatMap(RedisDefences, (defences) => {
    const settings = redisOptions.resolve(options, defences)
    return settings instanceof TransportError
      ? Effect.fail(settings)
      : FirstConnection.patiently(
          settings,
          Effect.suspend(() => connect(settings))
        )
  })

const connect = (settings: Settings): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const log = (line: Effect.Effect<void>) => {
      runFork(Effect.annotateLogs(line, "transport", settings.name))
    }

    const threw = Thrown.make(log)
    const health = RedisHealth.make(settings, yield* Effect.context<never>())
    const traffic = LinkMetrics.traffic(settings.name, yield* Effect.context<never>())
    const master = redisInfo.makeWatch(settings)
    const publisher = RedisLink.make(settings, "publisher", {
      prepare: () => master.prepared("publisher"),
      up: () => {
        health.up("publisher")
        subscriber.proceed()
        held.release(give)
      },
      mayReconnect: () => true,
      down: (error, wasUp) => {
        master.lost("publisher")
        health.down("publisher", error, wasUp)
        if (!wasUp) explain(error)
      },
      gaveUp: (error) => gaveUp(error),
      threw
    })
    const subscriber = RedisLink.make(settings, "subscriber", {
      prepare: (client) => {
        // Before the first SUBSCRIBE: after that the connection is for nothing else.
        master.prepared("subscriber")
        subscriptions.prepare(client)
      },
      up: () => health.up("subscriber"),
      message: (channel, frame, bytes) => subscriptions.message(channel, frame, bytes),
      // A service that hears a request and cannot answer yet would leave its caller waiting.
      mayReconnect: () => publisher.isUp(),
      down: (error, wasUp, strain) => {
        subscriptions.lost()
        master.lost("subscriber")
        health.down("subscriber", error, wasUp)
        if (!wasUp) explain(error)
        else if (error.kind === "ConnectionLost") master.explainCut(strain, health.wasCut)
      },
      gaveUp: (error) => gaveUp(error),
      threw
    })
    master.start({ publisher, subscriber })
    // A server that hangs up may have said why, and lost the word as it does at the start.
    let explaining = false
    const explain = (error: TransportError) => {
      if (explaining || error.kind !== "ConnectionLost" || settings.sentinels || health.state()._tag !== "Degraded")
        return
      explaining = true
      runFork(
        redisGreeting.explain(settings, error).pipe(
          Effect.tap((explained) =>
            Effect.sync(() => {
              explaining = false
              if (explained.kind !== "ProtocolError") health.explained(explained)
            })
          )
        )
      )
    }
    // Half a link is none: the other connection would go on without an end.
    const gaveUp = (error: TransportError) => {
      health.gaveUp(error)
      runFork(close)
    }
    const close = Effect.suspend(() => {
      held.end(RedisLink.closed(settings.name, "no"))
      master.stop()
      subscriptions.close()
      packer.flush()
      return Effect.all([publisher.close, subscriber.close], { concurrency: 2, discard: true })
    })
    const held = HeldSends.make(settings.whileDown, settings.maxBytesInFlight, () => publisher.refusal())
    const overloaded = new TransportError({
      kind: "Overloaded",
      operation: `PUBLISH over ${settings.name}`,
      detail: `${settings.maxBytesInFlight} bytes are waiting for Redis`,
      hint: "Send slower, or raise maxBytesInFlight",
      sent: "no"
    })
    const packer = new Packer(
      (channel, frame, bytes, sent) => {
        traffic.sent(bytes)
        publisher.publish(channel, frame, bytes, sent)
      },
      (channel, defect) => threw(channel, defect)
    )
    const takesPacks = settings.maxFrameBytes >= Pack.maxBytes
    const give = (channel: string, frame: string, sent: Sent, pack = false) => {
      if (pack && takesPacks && frame.length <= Pack.maxFrameLength) {
        if (isFull(frame.length)) return guarded(channel, sent)(overloaded, 0)
        return packer.add(channel, frame, sent)
      }
      const bytes = Buffer.byteLength(frame)
      if (isFull(bytes)) return guarded(channel, sent)(overloaded, 0)
      packer.before(channel)
      traffic.sent(bytes)
      publisher.publish(channel, frame, bytes, sent)
    }
    const isFull = (more: number) => publisher.bytesInFlight() + packer.length + more > settings.maxBytesInFlight
    // The link does the same for what it was given.
    const guarded =
      (channel: string, sent: Sent): Sent =>
      (error, receivers) => {
        try {
          sent(error, receivers)
        } catch (defect) {
          threw(channel, defect)
        }
      }
    const subscriptions = RedisSubscriptions.make(settings, subscriber, {
      refused: (error) => log(Effect.logWarning(`Redis: ${error.message}. Tried again until it is allowed`)),
      changed: () => health.refused(subscriptions.refusal()),
      received: traffic.received,
      threw
    })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        health.closed()
        return close
      })
    )
    // Asks at once, while the other connection still counts.
    const start = (link: RedisLink.RedisLink) =>
      Effect.catchIf(
        link.start,
        // Sentinels know several addresses, and none of them is ours to ask.
        ({ kind }) => kind === "ConnectionLost" && !settings.sentinels,
        (error) => Effect.flip(redisGreeting.explain(settings, error))
      )
    yield* Effect.all([start(publisher), start(subscriber)], { concurrency: 2, discard: true })

    return {
      name: settings.name,
      prefix: settings.prefix,
      capabilities: {
        delivery: "at-most-once",
        // Another server may answer after a failover.
        get receivers() {
          return master.countsAll() ? "exact" : "hint"
        },
        ordered: true,
        patterns: true,
        maxFrameBytes: settings.maxFrameBytes,
        packs: takesPacks
      },
      send: (channel, frame, sent, pack) => {
        if (publisher.isUp()) return give(channel, frame, sent, pack)
        const done = guarded(channel, sent)
        if (!held.hold(channel, frame, Buffer.byteLength(frame), done)) give(channel, frame, done)
      },
      subscribe: subscriptions.subscribe,
      claim: (key, ttlMillis, done) =>
        publisher.commandWhenUp(
          "set",
          [key, "1", "PX", String(Math.max(1, Math.round(ttlMillis))), "NX"],
          0,
          (error, reply) => {
            try {
              done(error, error === undefined && reply !== null)
            } catch (defect) {
              threw(key, defect)
            }
          }
        ),
      // A connection is served in order: what it was given before stands before the answer.
      barrier: (done) => subscriber.commandWhenUp("ping", ["fiberbus"], 0, (error) => done(error === undefined)),
      get state() {
        return health.state()
      },
      watch: health.watch,
      whileDown: settings.whileDown
    }
  })

/** A transport on one Redis. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<Transport, TransportError> =>
  Layer.effect(Transport, make(options))

/**
 * Options from the environment: `REDIS_URL`, or `REDIS_HOST`, `REDIS_PORT`, `REDIS_SOCKET_PATH`; `REDIS_USERNAME`,
 * `REDIS_PASSWORD`, `REDIS_DB`; `REDIS_TLS` (true, false), `REDIS_TLS_CA`, `REDIS_TLS_CERT`, `REDIS_TLS_KEY` (PEM
 * texts), `REDIS_TLS_SERVERNAME`; `FIBERBUS_PREFIX`. Instead of an address: `REDIS_SENTINELS` (`host:port,host:port`; default port
 * 26379), `REDIS_SENTINEL_NAME` (what they call the master), `REDIS_SENTINEL_USERNAME`, `REDIS_SENTINEL_PASSWORD`.
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
        servername: Config.option(Config.NonEmptyString("TLS_SERVERNAME")),
        sentinels: Config.option(addresses.config("SENTINELS")),
        name: Config.option(Config.NonEmptyString("SENTINEL_NAME")),
        sentinelUsername: Config.option(Config.NonEmptyString("SENTINEL_USERNAME")),
        sentinelPassword: Config.option(Config.Redacted("SENTINEL_PASSWORD"))
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
      sentinels: Option.getOrUndefined(redis.sentinels),
      name: Option.getOrUndefined(redis.name),
      sentinelUsername: Option.getOrUndefined(redis.sentinelUsername),
      sentinelPassword: Option.getOrUndefined(redis.sentinelPassword),
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
