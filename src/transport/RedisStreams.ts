/**
 * Keeps messages in Redis Streams, read by consumer groups: at least once, for as long as Redis keeps its data.
 *
 * A message is a stream entry until it is settled: its result, its acknowledgement, its removal and the publishing of its answer are one
 * step; those of one turn of the event loop share it. Deliveries whose consumer goes silent are taken over by another one. One connection
 * writes, one per consumer waits for messages; a lost one comes back by itself, every command ends in time, and nothing is sent twice by
 * the client.
 *
 * Needs Redis 7 or Valkey (functions), `appendonly yes` and `maxmemory-policy noeviction`: the latter are looked at where the user may.
 * The rights it needs are in docs/security.md.
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type DeadLetter, Durable } from "./Durable.ts"
import { full } from "./internal/durableMemory.ts"
import * as FirstConnection from "./internal/FirstConnection.ts"
import { Gathering } from "./internal/Gathering.ts"
import * as RedisClusterKeeper from "./internal/RedisClusterKeeper.ts"
import * as RedisConsumer from "./internal/RedisConsumer.ts"
import * as RedisKeeper from "./internal/RedisKeeper.ts"
import * as RedisLink from "./internal/RedisLink.ts"
import * as RedisNodes from "./internal/RedisNodes.ts"
import * as RedisSteps from "./internal/RedisSteps.ts"
import { reader } from "./internal/readOptions.ts"
import * as clusterOptions from "./internal/redisClusterOptions.ts"
import { RedisDefences } from "./internal/redisDefences.ts"
import * as library from "./internal/redisDurableLibrary.ts"
import * as redisGive from "./internal/redisGive.ts"
import * as redisGreeting from "./internal/redisGreeting.ts"
import * as redisOptions from "./internal/redisOptions.ts"
import * as redisReplies from "./internal/redisReplies.ts"
import * as Thrown from "./internal/thrown.ts"
import * as RedisCluster from "./RedisCluster.ts"
import * as RedisPubSub from "./RedisPubSub.ts"
import { type Transport, TransportError } from "./Transport.ts"

/** Where Redis is and who we are there, and what may be kept. */
export interface Options extends RedisPubSub.Options {
  /**
   * Messages of one queue that may wait or be worked on at once. Default none but Redis' memory. Beyond it nothing more is taken: an
   * append fails with kind `Overloaded`, and nothing that is there is dropped.
   */
  readonly maxLength?: number | undefined
  /**
   * Replicas of its Redis that must have a message before it counts as kept (`WAIT`), for what is enqueued, called and published. Default 0: a
   * failover may lose what was not copied yet. What they do not have in half of `commandTimeout` fails with kind `Unreachable`, sent: unknown.
   */
  readonly replicas?: number | undefined
  /** Fails the Layer where Redis does not keep what it should, in place of a warning. */
  readonly strict?: boolean | undefined
}

/** Where some nodes of a Redis Cluster are and who we are there, and what may be kept, as for one Redis. */
export interface ClusterOptions extends RedisCluster.Options, Pick<Options, "maxLength" | "replicas" | "strict"> {}

/** @see {@link make} */
interface Kept extends redisOptions.Settings {
  readonly maxLength: number
  readonly replicas: number
  readonly strict: boolean
}

/** A message that is to be appended. */
interface Appending {
  readonly id: string
  readonly frame: string
  readonly key: string
  readonly delayMillis: number
  readonly done: Parameters<Durable["Service"]["append"]>[2]
}

/**
 * Connects, and disconnects when the Scope closes.
 *
 * Errors: what keeps it from working at the start, as `RedisPubSub.make`; `ProtocolError` for a Redis without functions; with `strict`
 * `InvalidOptions` for one that may lose what it was given.
 */
export const make = (options: Options = {}): Effect.Effect<Durable["Service"], TransportError, Scope.Scope> =>
  Effect.flatMap(RedisDefences, (defences) => {
    const settings = redisOptions.resolve(options, defences)
    if (settings instanceof TransportError) return Effect.fail(settings)
    const kept = read.checked(() => keptOf(settings, options))
    if (kept instanceof TransportError) return Effect.fail(kept)
    return FirstConnection.patiently(
      settings,
      Effect.suspend(() => connect(kept))
    )
  })

const read = reader("RedisStreams")

const keptOf = (
  settings: redisOptions.Settings,
  { maxLength, replicas, strict = false }: Pick<Options, "maxLength" | "replicas" | "strict">
): Kept => ({
  ...settings,
  maxLength: maxLength ?? 0,
  replicas: read.integer("replicas", replicas, 0, 100) ?? 0,
  strict
})

const connect = (settings: Kept): Effect.Effect<Durable["Service"], TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const log = yield* logging(settings)
    const { keeper, link } = yield* one(settings, "durable", log)
    yield* inspect(settings, link)
    if (settings.replicas === 0) return yield* keeping(settings, keeper, keeper, true)
    // It is lost and found with the first one: one line for both is enough.
    const confirming = yield* one(settings, "durable-confirmed", () => {}, confirmed(settings))
    return yield* keeping(settings, keeper, confirming.keeper, true)
  })

type Log = (line: Effect.Effect<void>) => void

const logging = ({ name }: Kept): Effect.Effect<Log> =>
  Effect.map(Effect.context<never>(), (context) => {
    const runFork = Effect.runForkWith(context)
    return (line) => void runFork(Effect.annotateLogs(line, "transport", name))
  })

const confirmed = ({ commandTimeoutMillis, replicas }: Kept) =>
  redisGive.confirmed(replicas, Math.ceil(commandTimeoutMillis / 2))

const one = (settings: Kept, name: string, log: Log, give?: redisGive.Give) =>
  Effect.gen(function* () {
    let refusedLibrary: TransportError | undefined
    const load = (done: () => void) =>
      loadLibrary(link, (error) => {
        refusedLibrary = refusal(error)
        done()
      })
    let wasUp = false
    const link: RedisLink.RedisLink = RedisLink.make(settings, name, {
      prepare: () => load(() => {}),
      up: () => {
        if (wasUp) log(Effect.logInfo(`fiberbus: messages are kept again at ${settings.name}`))
        wasUp = true
      },
      down: (error, lost) => {
        if (lost) log(Effect.logWarning(`fiberbus: messages cannot be kept: ${error.message}`))
      },
      mayReconnect: () => true,
      gaveUp: (error) => log(Effect.logError(`fiberbus: the keeping of messages is given up: ${error.message}`))
    })
    yield* Effect.addFinalizer(() => link.close)
    yield* Effect.catchIf(
      link.start,
      // Sentinels know several addresses, and none of them is ours to ask.
      ({ kind }) => kind === "ConnectionLost" && !settings.sentinels,
      (error) => Effect.flip(redisGreeting.explain(settings, error))
    )
    if (refusedLibrary !== undefined) return yield* withoutFunctions(refusedLibrary)
    return { keeper: RedisKeeper.one(settings, link, load, give), link }
  })

/**
 * Connects to a Redis Cluster, and disconnects when the Scope closes. Each queue is kept by the master of its slot: those of a service, or
 * of a topic with all its groups, share one. They follow it, to a promoted replica or to another master.
 *
 * A master that is not there at the start is waited for, as one that is lost later. Where pub/sub is classic, answers are published in the step
 * that settles their requests; sharded ones have other slots, so that they are sent behind it.
 * Errors: those of {@link make}; `InvalidOptions` where it is no cluster.
 */
export const makeCluster = (options: ClusterOptions): Effect.Effect<Durable["Service"], TransportError, Scope.Scope> =>
  Effect.flatMap(RedisDefences, (defences) => {
    const resolved = clusterOptions.resolve(options, defences)
    if (resolved instanceof TransportError) return Effect.fail(resolved)
    const kept = read.checked(() => keptOf(resolved.settings, options))
    if (kept instanceof TransportError) return Effect.fail(kept)
    return FirstConnection.patiently(
      resolved.settings,
      Effect.suspend(() => connectCluster(resolved, kept))
    )
  })

const connectCluster = (cluster: clusterOptions.Cluster, settings: Kept) =>
  Effect.gen(function* () {
    const log = yield* logging(settings)
    const keeper = yield* many(cluster, log)
    yield* Effect.forEach(keeper.masters(), ({ link, settings: { name } }) => inspect({ ...settings, name }, link), {
      discard: true
    })
    const publishes = !cluster.sharded
    if (settings.replicas === 0) return yield* keeping(settings, keeper, keeper, publishes)
    return yield* keeping(settings, keeper, yield* many(cluster, () => {}, confirmed(settings)), publishes)
  })

const many = (cluster: clusterOptions.Cluster, log: Log, give?: redisGive.Give) =>
  Effect.gen(function* () {
    let refusedLibrary: TransportError | undefined
    const lost = new Set<string>()
    const owner: RedisClusterKeeper.Owner = {
      load: (link, done) =>
        loadLibrary(link, (error) => {
          refusedLibrary ??= refusal(error)
          done()
        }),
      up: ({ address }) => {
        if (lost.delete(address)) log(Effect.logInfo(`fiberbus: messages are kept again at ${address}`))
      },
      down: ({ address }, error, wasUp) => {
        if (!wasUp || lost.has(address)) return
        lost.add(address)
        log(Effect.logWarning(`fiberbus: messages cannot be kept at ${address}: ${error.message}`))
      },
      removed: ({ address }) => lost.delete(address),
      gaveUp: (error) => log(Effect.logError(`fiberbus: the keeping of messages is given up: ${error.message}`))
    }
    const keeper = yield* RedisClusterKeeper.make(cluster, owner, give)
    if (refusedLibrary !== undefined) return yield* withoutFunctions(refusedLibrary)
    return keeper
  })

/** Gives one Redis the functions. */
const loadLibrary = (link: Pick<RedisLink.RedisLink, "command">, done: (error: TransportError | undefined) => void) =>
  link.command("function", ["LOAD", "REPLACE", library.text], library.text.length, done)

/** Redis may have the functions all the same, where it takes no writes at the moment: at maxmemory, without its replicas, as a replica. */
const refusal = (error: TransportError | undefined) =>
  error === undefined || error.kind === "Overloaded" || RedisNodes.passing.has(error.kind) ? undefined : error

/** What is the same wherever a queue is kept. What is new goes to the keeper `entry`, which is `keeper` or has connections of its own. */
const keeping = (
  settings: Kept,
  keeper: RedisKeeper.RedisKeeper,
  entry: RedisKeeper.RedisKeeper,
  publishes: boolean
): Effect.Effect<Durable["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const steps = RedisSteps.make(settings, keeper, Thrown.make(yield* logging(settings)))
    const { asking, run, runAll, running } = steps
    const delayed = new RedisConsumer.Wakes()

    const overloaded = new TransportError({
      kind: "Overloaded",
      operation: `append over ${settings.name}`,
      detail: `${settings.maxBytesInFlight} bytes are waiting for Redis`,
      hint: "Append slower, or raise maxBytesInFlight",
      sent: "no"
    })

    const appends = new Gathering<Appending>((queue, asked, bytes) => {
      const isPlain = asked.every(({ delayMillis, key }) => key === "" && delayMillis <= 0)
      const words = [String(settings.maxLength), isPlain ? "1" : ""]
      for (const { delayMillis, frame, id, key } of asked) {
        words.push(id, frame)
        if (!isPlain) words.push(key, delayMillis > 0 ? String(Math.ceil(delayMillis)) : "0")
      }
      const tell = (
        { delayMillis, done }: Appending,
        error: TransportError | undefined,
        outcome: string | undefined
      ) => {
        if (error !== undefined) return done(error, undefined)
        if (delayMillis > 0) delayed.wake(queue)
        switch (outcome?.[0]) {
          case "f":
            return done(full(queue, settings.maxLength), undefined)
          case "w":
            return done(undefined, { _tag: "Waiting" })
          case "r":
            return done(undefined, { _tag: "Done", frame: outcome!.slice(1) })
          default:
            done(undefined, { _tag: "Added" })
        }
      }
      runAll("append", queue, words, asked, bytes, tell, entry)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => appends.flush()))

    const letters = (
      queue: string,
      from: string,
      limit: number
    ): Effect.Effect<ReadonlyArray<DeadLetter>, TransportError> =>
      Effect.map(
        asking(queue, "xrange", [
          `${queue}.dead`,
          from,
          from.startsWith("(") || from === "-" ? "+" : from,
          "COUNT",
          String(limit)
        ]),
        redisReplies.letters
      )

    return {
      name: settings.name,
      capabilities: { kept: "broker", publishes, maxFrameBytes: settings.maxFrameBytes },
      append: (queue, { delayMillis, frame, id, key }, done) => {
        const bytes = Buffer.byteLength(frame)
        if (entry.bytesInFlight(queue) + appends.bytes + bytes > settings.maxBytesInFlight)
          return done(overloaded, undefined)
        appends.add(queue, { id, frame, key, delayMillis, done }, bytes)
      },
      state: (queue, id, done) =>
        keeper.send(queue, "get", [`${queue}.id:${id}`], 0, (error, reply) => {
          if (error !== undefined) return done(RedisSteps.renamed(error, `look for a result in ${queue}`), undefined)
          if (typeof reply !== "string") return done(undefined, { _tag: "Unknown" })
          done(undefined, reply === "w" ? { _tag: "Waiting" } : { _tag: "Done", frame: reply })
        }),
      publish: (topic, { channel, frame, id, keepMillis }, done) => {
        const bytes = Buffer.byteLength(frame)
        if (entry.bytesInFlight(topic) + bytes > settings.maxBytesInFlight) return done(overloaded, 0)
        const words = [id, frame, String(Math.ceil(keepMillis)), String(settings.maxLength), channel]
        const published: RedisLink.Done = (error, reply) => {
          if (error !== undefined) return done(error, 0)
          const [tag, value] = reply as [string, unknown]
          if (tag === "Full") done(full(String(value), settings.maxLength), 0)
          else done(undefined, Number(value))
        }
        run("publish", topic, words, bytes, published, false, entry)
      },
      subscribe: (topic, queue, from) =>
        Effect.asVoid(running("subscribe", topic, [queue, from === "beginning" ? "1" : "0"])),
      unsubscribe: (topic, queue) => Effect.asVoid(running("unsubscribe", topic, [queue])),
      consume: (consumption) => RedisConsumer.consume(keeper, steps, delayed, consumption),
      dead: {
        list: (queue, { after, limit }) =>
          after !== undefined && !isLetter(after)
            ? Effect.succeed([])
            : letters(queue, after === undefined ? "-" : `(${after}`, limit),
        find: (queue, letter) =>
          isLetter(letter) ? Effect.map(letters(queue, letter, 1), ([found]) => found) : Effect.succeed(undefined),
        size: (queue) => Effect.map(asking(queue, "xlen", [`${queue}.dead`]), Number),
        replay: (queue, letter) =>
          isLetter(letter)
            ? Effect.map(running("replay", queue, [letter]), (reply) => reply === 1)
            : Effect.succeed(false),
        discard: (queue, letter) =>
          isLetter(letter)
            ? Effect.map(asking(queue, "xdel", [`${queue}.dead`, letter]), (reply) => reply === 1)
            : Effect.succeed(false)
      }
    }
  })

const isLetter = (letter: string) => /^\d{1,20}(-\d{1,20})?$/.test(letter)

/** Looks whether Redis keeps what it is given; who may not ask does without. */
const inspect = (settings: Kept, link: RedisLink.RedisLink): Effect.Effect<void, TransportError> =>
  Effect.flatMap(
    Effect.callback<string>((resume) =>
      link.command("info", [], 0, (_, reply) => resume(Effect.succeed(typeof reply === "string" ? reply : "")))
    ),
    (info) => {
      const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]
      const policy = field("maxmemory_policy")
      const troubles = [
        field("aof_enabled") === "0"
          ? "appendonly is off: a crash of Redis loses what came after its last snapshot"
          : "",
        policy !== undefined && policy !== "noeviction" && field("maxmemory") !== "0"
          ? `maxmemory-policy is ${policy}: Redis may drop messages that wait`
          : ""
      ].filter((trouble) => trouble !== "")
      if (troubles.length === 0) return Effect.void
      const detail = troubles.join("; ")
      if (!settings.strict) return Effect.logWarning(`fiberbus: ${settings.name} may lose messages: ${detail}`)
      return Effect.fail(
        new TransportError({
          kind: "InvalidOptions",
          operation: `keep messages at ${settings.name}`,
          detail,
          hint: "Set appendonly yes and maxmemory-policy noeviction, or leave strict out",
          sent: "no"
        })
      )
    }
  )

const withoutFunctions = ({ detail, hint, kind, sent }: TransportError) =>
  new TransportError({
    kind: kind === "PermissionDenied" ? kind : "ProtocolError",
    operation: "load the functions for messages that are kept",
    detail,
    hint:
      kind === "PermissionDenied"
        ? "Give the user the rights that docs/security.md lists for durable actions"
        : hint === ""
          ? "Redis 7 or later is needed, or Valkey"
          : hint,
    sent
  })

/** Messages that are kept in one Redis, and nothing else: beside another transport. @see {@link make} */
export const layerDurable = (options: Options = {}): Layer.Layer<Durable, TransportError> =>
  Layer.effect(Durable, make(options))

/** Messages that are kept, and all other traffic, over one Redis: `RedisPubSub` besides. */
export const layer = (options: Options = {}): Layer.Layer<Durable | Transport, TransportError> =>
  Layer.merge(RedisPubSub.layer(options), layerDurable(options))

/** The same with options that are read when the Layer is built, by default from the environment as `RedisPubSub` does. */
export const layerConfig = (
  options: Config.Config<Options> = RedisPubSub.environment
): Layer.Layer<Durable | Transport, TransportError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(options, (options) => layer(options)))

/** Messages that are kept in a Redis Cluster, and nothing else: beside another transport. @see {@link makeCluster} */
export const layerClusterDurable = (options: ClusterOptions): Layer.Layer<Durable, TransportError> =>
  Layer.effect(Durable, makeCluster(options))

/** Messages that are kept, and all other traffic, over one Redis Cluster: `RedisCluster` besides. */
export const layerCluster = (options: ClusterOptions): Layer.Layer<Durable | Transport, TransportError> =>
  Layer.merge(RedisCluster.layer(options), layerClusterDurable(options))

/** The same with options that are read when the Layer is built, by default from the environment as `RedisCluster` does. */
export const layerClusterConfig = (
  options: Config.Config<ClusterOptions> = RedisCluster.environment
): Layer.Layer<Durable | Transport, TransportError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(options, (options) => layerCluster(options)))
