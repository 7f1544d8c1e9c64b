/**
 * Carries frames over a Redis Cluster: at most once, in order per channel. Needs Redis 7 or Valkey.
 *
 * `pubsub: "sharded"`, the default, uses SPUBLISH and SSUBSCRIBE: a channel lives at the master that has its slot, so that load and
 * faults are spread over the masters, and the receivers count is exact. `"classic"` uses PUBLISH and SUBSCRIBE, which every node
 * passes on to all others: for patterns, and for Python's Daebus, which knows no other. One system uses one of them.
 *
 * Of what `one` needs it has claims, at the master of their key; a `barrier` that asks each master with a subscription of this process; and packs.
 *
 * Each Layer holds two connections to each master, one for commands and one to subscribe. A lost one comes back by itself; a
 * subscription follows its slot, to a promoted replica or to another master. Frames of such a gap are lost. Nothing is ever sent twice.
 *
 * The user needs `+ping`, `+info` (without it the receivers count is only a hint), `+cluster|slots`, `+cluster|info`, `+spublish`, `+ssubscribe`,
 * `+sunsubscribe` (classic: as for `RedisPubSub`), and the channels; for claims `+set` as there.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Pack from "../wire/Pack.ts"
import * as addresses from "./internal/addresses.ts"
import * as FirstConnection from "./internal/FirstConnection.ts"
import { Packer } from "./internal/Packer.ts"
import * as ClusterHealth from "./internal/RedisClusterHealth.ts"
import * as ClusterSubscriptions from "./internal/RedisClusterSubscriptions.ts"
import * as RedisNodes from "./internal/RedisNodes.ts"
import * as clusterOptions from "./internal/redisClusterOptions.ts"
import * as ClusterStart from "./internal/redisClusterStart.ts"
import { RedisDefences } from "./internal/redisDefences.ts"
import * as Thrown from "./internal/thrown.ts"
import * as KeySlot from "./KeySlot.ts"
import * as LinkMetrics from "./LinkMetrics.ts"
import * as RedisPubSub from "./RedisPubSub.ts"
import { type Sent, Transport, TransportError } from "./Transport.ts"

/** Where some nodes are and who we are there: the options of `RedisPubSub` with `nodes` for the address. */
export interface Options
  extends Omit<
    RedisPubSub.Options,
    "url" | "host" | "port" | "socketPath" | "db" | "sentinels" | "name" | "sentinelUsername" | "sentinelPassword"
  > {
  /** Some of the nodes, masters or replicas: they are asked for the others. Default port 6379. */
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port?: number }>
  /** Default `sharded`. All who are to hear each other need the same; Daebus needs `classic`. */
  readonly pubsub?: "sharded" | "classic" | undefined
}

/**
 * Connects, and disconnects when the Scope closes.
 *
 * A master that is not there at the start is waited for in the state `Degraded`, as one that is lost later.
 * Errors: those of `RedisPubSub.make`, where no node that was given answers, or one refuses us; `InvalidOptions` where it is no cluster.
 */
export const make = (options: Options): Effect.Effect<Transport["Service"], TransportError, Scope.Scope> =>
  Effect.flatMap(RedisDefences, (defences) => {
    const resolved = clusterOptions.resolve(options, defences)
    return resolved instanceof TransportError
      ? Effect.fail(resolved)
      : FirstConnection.patiently(
          resolved.settings,
          Effect.suspend(() => connect(resolved))
        )
  })

const connect = ({ at, seeds, settings, sharded }: clusterOptions.Cluster) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const runFork = Effect.runForkWith(context)
    const log = (line: Effect.Effect<void>) => {
      runFork(Effect.annotateLogs(line, "transport", settings.name))
    }
    const traffic = LinkMetrics.traffic(settings.name, context)
    const threw = Thrown.make(log)
    const health: ClusterHealth.ClusterHealth = ClusterHealth.make(
      settings.name,
      context,
      (node) => sharded || nodes.ownerOf(home)?.address === node,
      () => trouble()
    )
    const starting = ClusterStart.make()

    // In classic mode every node does: all channels are said to be in one slot, whose master is used.
    let home = Math.floor(Math.random() * KeySlot.slots)
    const slotOf = sharded ? KeySlot.of : () => home
    const moveHome = () => {
      for (let i = 1; i < KeySlot.slots; i++) {
        const slot = (home + i) % KeySlot.slots
        if (nodes.ownerOf(slot)?.link.isUp() !== true || nodes.ownerOf(slot) === nodes.ownerOf(home)) continue
        home = slot
        subscriptions.changed()
        return health.settle()
      }
    }

    const trouble = () => {
      const slot = nodes.uncovered()
      return slot === undefined
        ? subscriptions.trouble()
        : { error: ClusterStart.uncovered(settings.name, slot), lost: true }
    }
    const gaveUp = (error: TransportError) => {
      health.gaveUp(error)
      runFork(close(error))
    }
    const close = (error: TransportError | undefined) =>
      Effect.suspend(() => {
        packer.flush()
        return Effect.all([nodes.close(error), subscriptions.close(error)], { concurrency: 2, discard: true })
      })
    const nodes: RedisNodes.RedisNodes = RedisNodes.make(settings, seeds, at, {
      added: (node) => {
        starting.expect(node.address)
        health.added(node.address)
        subscriptions.added(node)
      },
      removed: (node) => {
        starting.settled(node.address, undefined)
        subscriptions.removed(node)
        health.forget(node.address)
      },
      changed: () => {
        subscriptions.changed()
        health.settle()
      },
      up: (node) => {
        health.up(node.address, "publisher")
        subscriptions.proceed(node)
        if (!sharded && nodes.ownerOf(home)?.link.isUp() !== true) moveHome()
      },
      down: (node, error, wasUp) => {
        health.down(node.address, "publisher", error, wasUp)
        starting.settled(node.address, error)
        if (!sharded && nodes.ownerOf(home) === node) moveHome()
      },
      gaveUp,
      isLooking: () => health.isMissing() || trouble() !== undefined
    })
    const subscriptions: ClusterSubscriptions.ClusterSubscriptions = ClusterSubscriptions.make(
      settings,
      nodes,
      { sharded, slotOf },
      {
        received: traffic.received,
        threw,
        refused: (error) => log(Effect.logWarning(`Redis: ${error.message}. Tried again until it is allowed`)),
        changed: (gap) => (gap ? health.gap() : health.settle()),
        up: (node) => {
          health.up(node.address, "subscriber")
          starting.settled(node.address, undefined)
        },
        down: (node, error, wasUp) => {
          health.down(node.address, "subscriber", error, wasUp)
          starting.settled(node.address, error)
          if (!sharded && nodes.ownerOf(home) === node) moveHome()
        },
        gaveUp
      }
    )

    const command = sharded ? "spublish" : "publish"
    const slotIn = (channel: string) => slotOf(channel.toWellFormed())
    const publish = (channel: string, frame: string, bytes: number, sent: Sent) => {
      const done: Sent = (error, receivers) => {
        try {
          sent(error, receivers)
        } catch (defect) {
          threw(channel, defect)
        }
      }
      nodes.send(slotIn(channel), command, [channel, frame], bytes, (error, reply, node) => {
        if (error !== undefined) return done(told(error), 0)
        traffic.sent(bytes)
        const receivers = typeof reply === "number" ? reply : 0
        if (receivers > 0 || !sharded || node === undefined) return done(undefined, receivers)
        // Of a node that has become a replica 0 says nothing: its master's subscribers hear the frame all the same.
        nodes.prove(node, (error) => done(error === undefined ? undefined : unsure(error), 0))
      })
    }
    const packer = new Packer(publish, threw)
    const takesPacks = settings.maxFrameBytes >= Pack.maxBytes

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        health.closed()
        return close(undefined)
      })
    )
    yield* nodes.start
    yield* starting.done
    health.started()

    const exact = () => sharded && nodes.masters().every((node) => node.mayAsk())
    return Transport.of({
      name: settings.name,
      prefix: settings.prefix,
      capabilities: {
        delivery: "at-most-once",
        get receivers() {
          return exact() ? "exact" : "hint"
        },
        ordered: true,
        patterns: !sharded,
        maxFrameBytes: settings.maxFrameBytes,
        packs: takesPacks
      },
      send: (channel, frame, sent, pack = false) => {
        // What waits for a connection waits alone, so that each is counted.
        const mayPack = pack && takesPacks && frame.length <= Pack.maxFrameLength
        if (mayPack && nodes.ownerOf(slotIn(channel))?.link.isUp() === true) return packer.add(channel, frame, sent)
        packer.before(channel)
        publish(channel, frame, Buffer.byteLength(frame), sent)
      },
      subscribe: (target, receive) =>
        sharded && target._tag === "Pattern"
          ? Effect.fail(noPatterns(target.pattern))
          : Effect.mapError(subscriptions.subscribe(target, receive), told),
      barrier: subscriptions.barrier,
      claim: (key, ttlMillis, done) => {
        const words = [key, "1", "PX", String(Math.max(1, Math.round(ttlMillis))), "NX"]
        const answered = (error: TransportError | undefined, reply: unknown) => {
          try {
            done(error === undefined ? undefined : unclaimed(error), error === undefined && reply !== null)
          } catch (defect) {
            threw(key, defect)
          }
        }
        // Who is promoted, or comes back empty, may not know of a claim that the lost master had granted.
        nodes.send(KeySlot.of(key), "set", words, Buffer.byteLength(key), answered, false)
      },
      get state() {
        return health.state()
      },
      watch: health.watch,
      linkOf: (channel) => {
        const link = subscriptions.linkOf(channel)
        return link === undefined ? undefined : { current: link.current, watch: link.watch }
      },
      whileDown: settings.whileDown
    })
  })

const noPatterns = (pattern: string) =>
  new TransportError({
    kind: "InvalidOptions",
    operation: `SSUBSCRIBE ${pattern}`,
    detail: "sharded pub/sub has no patterns",
    hint: 'Listen to channels by their names, or use pubsub: "classic" in the whole system',
    sent: "no"
  })

/** These say nothing against the master's memory. */
const refusals: ReadonlySet<TransportError["kind"]> = new Set(["Overloaded", "PermissionDenied", "Closed"])

/** Of a claim that found no master: whether another has won it is not known, and the next master may not know it either. */
const unclaimed = (error: TransportError) => (error.sent === "no" && !refusals.has(error.kind) ? unsure(error) : error)

/** Whatever became of the question that failed: what went before it may have been heard. */
const unsure = ({ detail, hint, kind, operation }: TransportError) =>
  new TransportError({ kind, operation, detail, hint, sent: "unknown" })

const told = (error: TransportError) =>
  /unknown command/i.test(error.detail)
    ? new TransportError({
        kind: "ProtocolError",
        operation: error.operation,
        detail: error.detail,
        hint: 'Sharded pub/sub needs Redis 7 or Valkey; for an older one use pubsub: "classic"',
        sent: error.sent
      })
    : error

/** A transport on one cluster. @see {@link make} */
export const layer = (options: Options): Layer.Layer<Transport, TransportError> =>
  Layer.effect(Transport, make(options))

/**
 * Options from the environment: `REDIS_CLUSTER_NODES` (`host:port,host:port`; default port 6379), `REDIS_CLUSTER_PUBSUB` (`sharded` or
 * `classic`), and as for `RedisPubSub`: `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_TLS`, `REDIS_TLS_CA`, `REDIS_TLS_CERT`,
 * `REDIS_TLS_KEY`, `REDIS_TLS_SERVERNAME`, `FIBERBUS_PREFIX`. Other addresses, such as `REDIS_URL`, are not looked at.
 */
export const environment: Config.Config<Options> = Config.map(
  Config.all({
    cluster: Config.nested(
      Config.all({
        nodes: addresses.config("NODES"),
        pubsub: Config.option(Config.Literals(["sharded", "classic"], "PUBSUB"))
      }),
      "REDIS_CLUSTER"
    ),
    common: RedisPubSub.environment
  }),
  ({ cluster, common: { password, prefix, tls, username } }) => ({
    nodes: cluster.nodes,
    pubsub: Option.getOrUndefined(cluster.pubsub),
    username,
    password,
    tls,
    prefix
  })
)

/** The same with options that are read when the Layer is built, by default from the {@link environment}. */
export const layerConfig = (
  options: Config.Config<Options> = environment
): Layer.Layer<Transport, TransportError | Config.ConfigError> => Layer.effect(Transport, Effect.flatMap(options, make))
