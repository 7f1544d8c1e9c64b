/** Reads and checks the options of `RedisCluster` once, before anything connects. */
import type { Options } from "../RedisCluster.ts"
import { TransportError } from "../Transport.ts"
import { reader } from "./readOptions.ts"
import * as ClusterMap from "./redisClusterMap.ts"
import type { Defences } from "./redisDefences.ts"
import * as redisOptions from "./redisOptions.ts"

/** What the connections to a cluster need to know. */
export interface Cluster {
  /** Of the whole; its address is that of the first node. */
  readonly settings: redisOptions.Settings
  readonly seeds: ReadonlyArray<ClusterMap.Address>
  /** The settings for one node; an error where its address cannot be used. */
  readonly at: (address: ClusterMap.Address) => redisOptions.Settings | TransportError
  readonly sharded: boolean
}

/** Checks the options. Returns what they say, or the error with kind `InvalidOptions`. */
export const resolve = (options: Options, defences: Defences): Cluster | TransportError => {
  const { nodes, pubsub, ...common } = options
  if (!Array.isArray(nodes) || nodes.length === 0) return invalid("nodes is not a list of addresses")
  if (pubsub !== undefined && pubsub !== "sharded" && pubsub !== "classic") {
    return invalid('pubsub is neither "sharded" nor "classic"')
  }
  // Options may come from plain JavaScript: what is for a single Redis must not be passed over in silence.
  const foreign = [
    "url",
    "host",
    "port",
    "socketPath",
    "db",
    "sentinels",
    "name",
    "sentinelUsername",
    "sentinelPassword"
  ]
  const given = foreign.find((name) => (common as Record<string, unknown>)[name] !== undefined)
  if (given !== undefined) return invalid(`${given} is not for a cluster`, "Give the addresses of some nodes as nodes")
  const at: Cluster["at"] = ({ host, port }) => {
    const settings = redisOptions.resolve({ ...common, host, port }, defences)
    return settings instanceof TransportError ? invalid(settings.detail, settings.hint) : settings
  }
  const seeds: Array<ClusterMap.Address> = []
  for (const node of nodes as ReadonlyArray<{ readonly host?: unknown; readonly port?: unknown } | null>) {
    if (typeof node?.host !== "string" || node.host === "") return invalid("a node has no host")
    const seed = { host: node.host, port: (node.port ?? 6379) as number }
    const checked = at(seed)
    if (checked instanceof TransportError) return checked
    seeds.push(seed)
  }
  const first = at(seeds[0]!)
  if (first instanceof TransportError) return first
  const scheme = first.tls ? "rediss+cluster" : "redis+cluster"
  return {
    settings: { ...first, name: `${scheme}://${seeds.map(ClusterMap.textOf).join(",")}` },
    seeds,
    at,
    sharded: pubsub !== "classic"
  }
}

const { invalid } = reader("RedisCluster")
