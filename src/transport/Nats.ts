/**
 * Carries frames over NATS' core publish and subscribe: at most once, in the order of each connection.
 *
 * Each Layer holds one connection, however many services and callers use it. A lost connection comes back by itself and
 * subscribes again; frames of the gap are lost, and what was in flight ends with kind `ConnectionLost`. Nothing is ever sent twice,
 * and nothing is kept by the client to be sent late. `send` is confirmed when the server has read the frame (a PONG behind it).
 *
 * NATS does not say how many got a frame, so a call that nobody serves ends with its deadline instead of `NoResponders`.
 *
 * Needs `@nats-io/transport-node`, which is an optional peer of this package: `npm install @nats-io/transport-node`.
 * The user needs the rights to publish and to subscribe the subjects of its channels. A plain name is its own subject; see
 * `docs/nats.md` for the others, and for what a pattern subscribes.
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as FirstConnection from "./internal/FirstConnection.ts"
import * as HeldSends from "./internal/heldSends.ts"
import * as NatsLink from "./internal/NatsLink.ts"
import * as NatsSubscriptions from "./internal/NatsSubscriptions.ts"
import * as natsHealth from "./internal/natsHealth.ts"
import type { Settings } from "./internal/natsOptions.ts"
import * as natsOptions from "./internal/natsOptions.ts"
import * as natsSubject from "./internal/natsSubject.ts"
import * as Thrown from "./internal/thrown.ts"
import * as LinkMetrics from "./LinkMetrics.ts"
import { type Sent, Transport, TransportError } from "./Transport.ts"

/** Where NATS is and who we are there. All are optional: the default is `127.0.0.1:4222` without credentials. */
export interface Options {
  /**
   * One or more servers of one cluster: `nats://host:4222`, `tls://host:4222` or `host:4222`, in a list or behind commas. Each
   * attempt tries all of them once, the first beginning anywhere. Servers that these tell of are not used.
   */
  readonly servers?: string | ReadonlyArray<string> | Redacted.Redacted<string> | undefined
  readonly user?: string | undefined
  readonly password?: Redacted.Redacted<string> | string | undefined
  /** Instead of user and password. */
  readonly token?: Redacted.Redacted<string> | string | undefined
  /** The seed of a user's NKey (`SU…`), instead of user and password. It never leaves the process. */
  readonly nkeySeed?: Redacted.Redacted<string> | string | undefined
  /** `tls://` says the same as `true`. Without it no TLS is spoken, and a server that wants it is an error. */
  readonly tls?: boolean | Tls | undefined
  /** Put before every channel name, so that systems can share one NATS. Best with a dot at its end: see `docs/nats.md`. */
  readonly prefix?: string | undefined
  /** Time for the connection to one server and its handshake. Default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Time for one message or subscription to be confirmed. Default 2 seconds; without any sign of life for so long the link is rebuilt. */
  readonly commandTimeout?: Duration.Input | undefined
  /** Largest frame in bytes. Default what the server takes (`max_payload`), 1 MiB at most; more than it takes is an error. */
  readonly maxFrameBytes?: number | undefined
  /** Bytes sent that the server has not confirmed. Default 16 MiB; above it `send` fails with kind `Overloaded`. */
  readonly maxBytesInFlight?: number | undefined
  /**
   * Waits between attempts at the start, in real time, while nobody is there. By default there is one attempt, and the Layer
   * fails with what went wrong; wrong credentials or a bad certificate fail it at once in any case.
   */
  readonly connect?: Schedule.Schedule<unknown, TransportError> | undefined
  /**
   * Waits between attempts to reconnect, in real time whatever `Clock` says. Default `Backoff.reconnect`: 50 ms doubling to 5 s, full
   * jitter, endless. It begins again after a connection that lasted for 5 seconds. When it ends, so does the transport: `Closed`.
   */
  readonly reconnect?: Schedule.Schedule<unknown, TransportError> | undefined
  /**
   * What becomes of what is sent while the link is down: as in `RedisPubSub`. `fail`: it ends at once. Otherwise it waits for the
   * link, `for` at most 1 second by default, with at most `buffer` others (1,000), and is sent once.
   */
  readonly whileDown?: "fail" | { readonly buffer?: number; readonly for?: Duration.Input } | undefined
}

/** Whom to trust and how to prove who we are; certificates and keys as PEM. */
export interface Tls {
  readonly ca?: string | ReadonlyArray<string> | undefined
  readonly cert?: string | undefined
  readonly key?: string | Redacted.Redacted<string> | undefined
  /** The name that the server's certificate must bear. Default the host. */
  readonly servername?: string | undefined
  /** `false` accepts any certificate: for tests only. */
  readonly rejectUnauthorized?: boolean | undefined
}

/**
 * Connects, and disconnects when the Scope closes.
 *
 * Errors: what keeps it from working at the start, each with advice in `hint`: `Unreachable`, `AuthenticationFailed`,
 * `ProtocolError` (no NATS, TLS on one side only, a bad certificate), `Timeout`, `InvalidOptions`.
 * Later troubles do not end it: each change of state is one line in the log.
 */
export const make = (options: Options = {}): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.suspend(() => {
    const settings = natsOptions.resolve(options)
    return settings instanceof TransportError
      ? Effect.fail(settings)
      : FirstConnection.patiently(
          settings,
          Effect.suspend(() => connect(settings)),
          "NATS"
        )
  })

const connect = (settings: Settings): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const runFork = Effect.runForkWith(context)
    const log = (line: Effect.Effect<void>) => {
      runFork(Effect.annotateLogs(line, "transport", settings.name))
    }

    const health = natsHealth.make(settings.name, context)
    const traffic = LinkMetrics.traffic(settings.name, context)
    const threw = Thrown.make(log)
    const link: NatsLink.NatsLink = NatsLink.make(settings, {
      prepare: () => subscriptions.prepare(),
      up: () => {
        health.up()
        held.release(give)
      },
      down: (error, wasUp) => {
        if (wasUp) subscriptions.lost()
        health.down(error, wasUp)
      },
      gaveUp: (error) => {
        health.gaveUp(error)
        runFork(close)
      }
    })
    const subscriptions = NatsSubscriptions.make(settings, () => link, {
      refused: (error) => log(Effect.logWarning(`NATS: ${error.message}. Tried again until it is allowed`)),
      changed: () => health.refused(subscriptions.refusal()),
      received: traffic.received,
      threw
    })
    const held = HeldSends.make(settings.whileDown, settings.maxBytesInFlight, () => link.refusal())
    const close = Effect.suspend(() => {
      held.end(NatsLink.closed(settings.name, "no"))
      subscriptions.close()
      return link.close
    })
    const overloaded = new TransportError({
      kind: "Overloaded",
      operation: `PUB over ${settings.name}`,
      detail: `${settings.maxBytesInFlight} bytes are waiting for NATS`,
      hint: "Send slower, or raise maxBytesInFlight",
      sent: "no"
    })
    const give = (channel: string, frame: string, sent: Sent) => {
      const subject = natsSubject.fromChannel(channel)
      if (subject.length > natsSubject.maxBytes) return sent(NatsSubscriptions.nameTooLong("PUB"), 0)
      const data = Buffer.from(frame)
      if (link.bytesInFlight() + data.length > settings.maxBytesInFlight) return sent(overloaded, 0)
      traffic.sent(data.length)
      // Nobody counts; 0 would look like nobody.
      link.publish(subject, data, (error) => sent(error, error === undefined ? 1 : 0))
    }

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        health.closed()
        return close
      })
    )
    yield* link.start
    const { maxFrameBytes = Math.min(natsOptions.defaultMaxFrameBytes, link.maxPayload()) } = settings
    if (maxFrameBytes > link.maxPayload()) {
      return yield* natsOptions.invalid(
        `maxFrameBytes is ${maxFrameBytes}, and the server takes ${link.maxPayload()}`,
        "Raise max_payload there"
      )
    }

    return {
      name: settings.name,
      prefix: settings.prefix,
      capabilities: { delivery: "at-most-once", receivers: "hint", ordered: true, patterns: true, maxFrameBytes },
      send: (channel, frame, sent) => {
        const done: Sent = (error, receivers) => {
          try {
            sent(error, receivers)
          } catch (defect) {
            threw(channel, defect)
          }
        }
        if (!link.isUp() && held.hold(channel, frame, Buffer.byteLength(frame), done)) return
        give(channel, frame, done)
      },
      subscribe: subscriptions.subscribe,
      get state() {
        return health.state()
      },
      watch: health.watch,
      whileDown: settings.whileDown
    }
  })

/** A transport on one NATS. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<Transport, TransportError> =>
  Layer.effect(Transport, make(options))

/**
 * Options from the environment: `NATS_SERVERS` (addresses behind commas); `NATS_USER`, `NATS_PASSWORD`, `NATS_TOKEN`,
 * `NATS_NKEY_SEED`; `NATS_TLS` (true, false), `NATS_TLS_CA`, `NATS_TLS_CERT`, `NATS_TLS_KEY` (PEM texts),
 * `NATS_TLS_SERVERNAME`; `FIBERBUS_PREFIX`.
 */
export const environment: Config.Config<Options> = Config.map(
  Config.all({
    nats: Config.nested(
      Config.all({
        servers: Config.option(Config.NonEmptyString("SERVERS")),
        user: Config.option(Config.NonEmptyString("USER")),
        password: Config.option(Config.Redacted("PASSWORD")),
        token: Config.option(Config.Redacted("TOKEN")),
        nkeySeed: Config.option(Config.Redacted("NKEY_SEED")),
        tls: Config.option(Config.Boolean("TLS")),
        ca: Config.option(Config.NonEmptyString("TLS_CA")),
        cert: Config.option(Config.NonEmptyString("TLS_CERT")),
        key: Config.option(Config.Redacted("TLS_KEY")),
        servername: Config.option(Config.NonEmptyString("TLS_SERVERNAME"))
      }),
      "NATS"
    ),
    prefix: Config.option(Config.String("PREFIX").pipe(Config.nested("FIBERBUS")))
  }),
  ({ prefix, nats: { tls, ca, cert, key, servername, ...nats } }) => {
    const given = { ca, cert, key, servername }
    const secured = Object.values(given).some((value) => Option.isSome<unknown>(value))
    return {
      servers: Option.getOrUndefined(nats.servers),
      user: Option.getOrUndefined(nats.user),
      password: Option.getOrUndefined(nats.password),
      token: Option.getOrUndefined(nats.token),
      nkeySeed: Option.getOrUndefined(nats.nkeySeed),
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
