/** Which Redis a command talks to. */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { Durable } from "../transport/Durable.ts"
import * as Flow from "../transport/Flow.ts"
import * as RedisCluster from "../transport/RedisCluster.ts"
import * as RedisPubSub from "../transport/RedisPubSub.ts"
import * as RedisStreams from "../transport/RedisStreams.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import { type Failed, fromTransportError, usage } from "./ExitStatus.ts"

/** The flags that every command has. */
export const flags = {
  redis: Flag.Redacted("redis").pipe(
    Flag.withMetavar("url"),
    Flag.withDescription(
      "Where Redis is, e.g. redis://127.0.0.1:6379 (the default), rediss://… for TLS, unix:///path. Default: REDIS_URL. " +
        "Keep passwords in REDIS_URL or REDIS_PASSWORD: other users can see a command's arguments"
    ),
    Flag.optional
  ),
  cluster: Flag.String("cluster").pipe(
    Flag.withMetavar("host:port,…"),
    Flag.withDescription(
      "Some nodes of a Redis Cluster, in the place of one Redis. Default: REDIS_CLUSTER_NODES; sharded, unless REDIS_CLUSTER_PUBSUB says classic"
    ),
    Flag.optional
  ),
  prefix: Flag.String("prefix").pipe(
    Flag.withMetavar("text"),
    Flag.withDescription("Put before every channel name. Default: FIBERBUS_PREFIX, or none"),
    Flag.optional
  )
}

/** What {@link flags} were given. */
export interface RedisOption {
  readonly redis: Option.Option<Redacted.Redacted<string>>
  readonly cluster: Option.Option<string>
  readonly prefix: Option.Option<string>
}

/** How a transport is made of the options; another one can be provided. */
export const Connect = Context.Reference<(options: RedisPubSub.Options) => Layer.Layer<Transport, TransportError>>(
  "fiberbus/cli/RedisOption/Connect",
  { defaultValue: () => RedisPubSub.layer }
)

/** The same for a Cluster. */
export const ConnectCluster = Context.Reference<
  (options: RedisCluster.Options) => Layer.Layer<Transport, TransportError>
>("fiberbus/cli/RedisOption/ConnectCluster", { defaultValue: () => RedisCluster.layer })

/** The same for what keeps messages. */
export const ConnectDurable = Context.Reference<(options: RedisPubSub.Options) => Layer.Layer<Durable, TransportError>>(
  "fiberbus/cli/RedisOption/ConnectDurable",
  { defaultValue: () => RedisStreams.layerDurable }
)

/** And in a Cluster. */
export const ConnectClusterDurable = Context.Reference<
  (options: RedisCluster.Options) => Layer.Layer<Durable, TransportError>
>("fiberbus/cli/RedisOption/ConnectClusterDurable", { defaultValue: () => RedisStreams.layerClusterDurable })

/** What keeps messages, connected as {@link layer}. */
export const layerDurable = (option: RedisOption): Layer.Layer<Durable, Failed> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const cluster = yield* clusterOf(option)
      const durable = Option.isSome(cluster)
        ? (yield* ConnectClusterDurable)(cluster.value)
        : (yield* ConnectDurable)(merge(yield* Effect.mapError(RedisPubSub.environment, unusable), option))
      return Layer.catch(durable, (error) => Layer.effectContext(Effect.fail(fromTransportError(error))))
    })
  )

/** The Cluster that is meant, by the flag, or by the environment where no flag names another place. */
const clusterOf = ({ cluster, prefix, redis }: RedisOption) =>
  Effect.gen(function* () {
    if (Option.isSome(cluster) && Option.isSome(redis)) return yield* usage("--redis and --cluster are two places")
    if (Option.isSome(redis)) return Option.none<RedisCluster.Options>()
    const provider = yield* ConfigProvider.ConfigProvider
    const given = Option.match(cluster, {
      onNone: () => provider,
      onSome: (nodes) =>
        ConfigProvider.orElse(ConfigProvider.fromEnv({ env: { REDIS_CLUSTER_NODES: nodes } }), provider)
    })
    const options = yield* Config.option(RedisCluster.environment).parse(given).pipe(Effect.mapError(unusable))
    return Option.map(options, (found) => (Option.isSome(prefix) ? { ...found, prefix: prefix.value } : found))
  })

/**
 * Connects with the flags, and with the environment (`RedisPubSub.environment`, `RedisCluster.environment`) where they say nothing.
 *
 * Errors: `Failed` with status 2 for options that cannot be used, 7 for a Redis that cannot.
 */
export const layer = (option: RedisOption): Layer.Layer<Transport, Failed> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const cluster = yield* clusterOf(option)
      const transport = Option.isSome(cluster)
        ? (yield* ConnectCluster)(cluster.value)
        : (yield* Connect)(merge(yield* Effect.mapError(RedisPubSub.environment, unusable), option))
      const connected = Layer.catch(transport, (error) => Layer.effectContext(Effect.fail(fromTransportError(error))))
      const flow = Layer.catch(Flow.layerConfig, (error) => Layer.effectContext(Effect.fail(unusable(error))))
      return flow.pipe(Layer.provide(connected))
    })
  )

const unusable = (error: Config.ConfigError) =>
  usage(`the environment's settings cannot be used: ${error.message.replaceAll(/\s+/g, " ")}`)

const merge = (environment: RedisPubSub.Options, { redis, prefix }: RedisOption): RedisPubSub.Options => {
  const prefixed = Option.isSome(prefix) ? { ...environment, prefix: prefix.value } : environment
  if (Option.isNone(redis)) return prefixed
  // A flag names another address than the environment, not a second one; what else it lacks still comes from there.
  const { host: _host, port: _port, socketPath: _socketPath, sentinels: _sentinels, name: _name, ...rest } = prefixed
  return { ...rest, url: redis.value }
}
