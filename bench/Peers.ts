/** Who is measured, in the order of the tables. A new peer is a file in peers/ and a line here. */
import * as Fs from "node:fs"
import * as Path from "node:path"

export interface Entry {
  /** What `--peers` calls it. */
  readonly key: string
  readonly name: string
  /** Of peers/, without `.ts`. */
  readonly file: string
  readonly variant: string
  /** What carries its messages, besides its own two processes. */
  readonly broker: "redis" | "nats" | "none"
  /** Client and server are one process. */
  readonly inOneProcess: boolean
  /** Another build of fiberbus than this repository's: its folder. */
  readonly build: string | undefined
}

const entry = (
  key: string,
  name: string,
  file: string,
  variant = "",
  broker: Entry["broker"] = "redis",
  inOneProcess = false
): Entry => ({ key, name, file, variant, broker, inOneProcess, build: undefined })

const ours: ReadonlyArray<Entry> = [
  entry("fiberbus", "fiberbus", "fiberbus", "redis"),
  entry("fiberbus-single", "fiberbus, Daebus' frames", "fiberbus", "single"),
  entry("fiberbus-packed", "fiberbus, packed topic", "fiberbus", "packed"),
  entry("fiberbus-live", "fiberbus, live", "fiberbus", "live"),
  entry("fiberbus-nats", "fiberbus, NATS", "fiberbus", "nats", "nats"),
  entry("fiberbus-cluster", "fiberbus, Redis Cluster", "fiberbus", "cluster"),
  entry("fiberbus-durable", "fiberbus, durable", "fiberbus-durable"),
  entry("fiberbus-daebus", "fiberbus, Daebus caller", "daebus"),
  entry("fiberbus-memory", "fiberbus, memory", "fiberbus", "memory", "none", true),
  entry("fiberbus-traced", "fiberbus, memory, traced", "fiberbus", "traced", "none", true)
]

const others: ReadonlyArray<Entry> = [
  entry("floor", "ioredis by hand", "floor", "plain"),
  entry("floor-auto", "ioredis, auto-pipelining", "floor", "auto"),
  entry("floor-corked", "ioredis, corked", "floor", "corked"),
  entry("floor-packed", "ioredis, packed", "floor", "packed"),
  entry("floor-msgpack", "ioredis, MessagePack", "floor", "msgpack"),
  entry("floor-streams", "Redis Streams by hand", "streams"),
  entry("moleculer", "Moleculer", "moleculer", "checked"),
  entry("moleculer-unchecked", "Moleculer, unchecked", "moleculer", "unchecked"),
  entry("moleculer-fake", "Moleculer, fake transporter", "moleculer", "fake", "none", true),
  entry("moleculer-fake-unchecked", "Moleculer, fake, unchecked", "moleculer", "fakeUnchecked", "none", true),
  entry("nest", "NestJS", "nest", "checked"),
  entry("nest-unchecked", "NestJS, unchecked", "nest", "unchecked"),
  entry("effect-rpc", "effect/rpc, TCP", "effect-rpc", "plain", "none"),
  entry("effect-rpc-jit", "effect/rpc, TCP, JIT", "effect-rpc", "jit", "none"),
  entry("nats", "nats.js", "nats", "", "nats"),
  entry("bullmq", "BullMQ, add and wait", "bullmq"),
  entry("codec", "Effect and codec alone", "codec", "", "none", true),
  entry("timers", "timers alone", "timers", "", "none", true)
]

/** All peers; with other builds of fiberbus, those beside ours, marked by the names of their folders. */
export const all = (otherBuilds: ReadonlyArray<string>): ReadonlyArray<Entry> => [
  ...others,
  ...ours,
  ...otherBuilds.flatMap((build) => {
    const mark = Path.basename(build)
    // Builds before them have no NATS, or nothing durable.
    const has = (file: string) => Fs.existsSync(Path.join(build, file))
    const known = ours.filter(
      ({ broker, file, variant }) =>
        (broker !== "nats" || has("transport/Nats.js")) &&
        (variant !== "cluster" || has("transport/RedisCluster.js")) &&
        (file !== "fiberbus-durable" || has("transport/RedisStreams.js"))
    )
    return known.map((entry) => ({ ...entry, key: `${entry.key}@${mark}`, name: `${entry.name} (${mark})`, build }))
  })
]

/** The same peer of this repository's build: a row that names one measures its other builds as well. */
export const keyOf = (entry: Entry): string => entry.key.split("@")[0]!
