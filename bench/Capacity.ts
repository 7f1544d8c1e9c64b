/** Writes docs/capacity.md: what one core carries, how it grows, and what a Redis Cluster would carry by a model on paper. */
import type { Results, Spread } from "./Results.ts"
import { median, spread, values } from "./Results.ts"
import * as Capacity from "./rows/capacity.ts"
import * as Tables from "./Tables.ts"

/** The share of a core that is planned with: the rest is for bursts, collections and what else the machine does. */
const planned = 0.7

const hundred = "100 in flight"

/** What is carried, and where it was measured. `live` and the rest are what the other page's row measured with 100 calls in flight. */
const kinds = [
  { name: "calls, `one`, packed (the default)", row: "calls", of: hundred, peer: "fiberbus" },
  { name: "calls, Daebus' frames", row: "calls", of: hundred, peer: "fiberbus-single" },
  { name: "calls, `live`, one replica", row: "calls", of: hundred, peer: "fiberbus-live" },
  { name: "calls, `durable`", row: "calls", of: hundred, peer: "fiberbus-durable" },
  { name: "one call at a time", row: "latency", of: "1 in flight", peer: "fiberbus" },
  { name: "deliveries of an event, 10 processes", row: "fanout", of: "in 10 processes", peer: "fiberbus" },
  { name: "the same, packed topic", row: "fanout", of: "in 10 processes", peer: "fiberbus-packed" },
  { name: "items of a stream", row: "streaming", of: "10,000 items", peer: "fiberbus" }
]

const whole = (value: number) => Tables.number(value, 0)

/** Per second of one core, from µs of CPU each; three digits, as no more are known. */
const perCore = (micros: number) => Number((1_000_000 / micros).toPrecision(3))

const of = (results: Results, row: string, of: string, peer: string, metric: string): Spread | undefined =>
  spread(values(results, { row, case: of, peer, metric }))

const cell = (found: Spread | undefined) =>
  found === undefined || found.median <= 0 ? "–" : whole(perCore(found.median))

const cores = (results: Results) =>
  Tables.markdown([
    ["of", "CPU µs each", "client", "server", "broker", "a core of callers", "a core of services", "a core of Redis"],
    ...kinds.map(({ name, of: where, peer, row }) => {
      const [all, client, server, broker] = ["cpu", "cpuClient", "cpuServer", "cpuBroker"].map((metric) =>
        of(results, row, where, peer, metric)
      )
      const micros = (found: Spread | undefined, digits: number) =>
        found === undefined ? "–" : Tables.number(found.median, digits)
      return [
        name,
        Tables.spread(all, 1),
        micros(client, 1),
        micros(server, 1),
        micros(broker, 2),
        cell(client),
        cell(server),
        cell(broker)
      ]
    })
  ])

interface Column {
  readonly title: string
  readonly metric: string
  readonly digits: number
}
const rate = (what: string): Column => ({ title: `${what}/s`, metric: "rate", digits: 0 })
const micros = (what: string): ReadonlyArray<Column> => [
  { title: `CPU µs per ${what}`, metric: "cpu", digits: 1 },
  { title: "of it client", metric: "cpuClient", digits: 1 },
  { title: "server", metric: "cpuServer", digits: 1 },
  { title: "broker", metric: "cpuBroker", digits: 2 }
]

const growth = (
  results: Results,
  name: keyof typeof Capacity.series,
  first: string,
  columns: ReadonlyArray<Column>,
  peers: ReadonlyArray<readonly [key: string, name: string]> = [["fiberbus", ""]]
) =>
  Tables.markdown([
    [first, ...columns.map(({ title }) => title)],
    ...peers.flatMap(([peer, shown]) =>
      Capacity.casesOf(name).map((step) => [
        `${shown}${step.step}`,
        ...columns.map(({ digits, metric }) => Tables.spread(of(results, "capacity", step.of, peer, metric), digits))
      ])
    )
  ])

/** What the model is fed with, all in µs of CPU. Undefined where it was not measured. */
export interface Inputs {
  /** Redis, for a call whose request and answer each come and go alone: a read and a write of the system for each. */
  readonly lone: number
  /** Redis, for a call whose request and answer are frames of their own, but come with others. */
  readonly single: number
  /** Redis, for a call of those that travel many in a frame. */
  readonly packed: number
  /** Callers and services together, for such a call. */
  readonly ends: number
  /** Redis, for an event that nobody hears, and for each process that hears it. */
  readonly publish: number
  readonly deliver: number
}

/** @see {@link Inputs} */
export const inputs = (results: Results): Inputs | undefined => {
  const at = (row: string, where: string, peer: string, metric: string) => of(results, row, where, peer, metric)?.median
  const lone = at("latency", "1 in flight", "fiberbus", "cpuBroker")
  const single = at("calls", hundred, "fiberbus-single", "cpuBroker")
  const packed = at("calls", hundred, "fiberbus", "cpuBroker")
  const client = at("calls", hundred, "fiberbus-single", "cpuClient")
  const server = at("calls", hundred, "fiberbus-single", "cpuServer")
  const steps = Capacity.casesOf("listeners").flatMap(({ of: where, step }) => {
    const broker = at("capacity", where, "fiberbus", "cpuBroker")
    return broker === undefined ? [] : [{ listeners: Number(step), broker }]
  })
  if (lone === undefined || single === undefined || packed === undefined) return undefined
  if (client === undefined || server === undefined || steps.length < 2) return undefined
  const [fewest, most] = [steps[0]!, steps.at(-1)!]
  const deliver = Math.max(0, (most.broker - fewest.broker) / (most.listeners - fewest.listeners))
  const publish = Math.max(0, fewest.broker - fewest.listeners * deliver)
  return { lone, single, packed, ends: client + server, publish, deliver }
}

/** Calls/s that so many shards carry where channels are spread evenly, each master planned with {@link planned} of a core. */
export const carried = (shards: number, microsPerCall: number): number => (shards * planned * 1_000_000) / microsPerCall

/** Events/s of one topic, which is in one slot, and so at one master. */
export const events = ({ deliver, publish }: Inputs, listeners: number): number =>
  (planned * 1_000_000) / (publish + listeners * deliver)

const shards = [1, 3, 6, 12, 24]
const audiences = [1, 10, 100, 1_000]
const three = (value: number) => whole(Number(value.toPrecision(2)))

const model = (results: Results): ReadonlyArray<string> => {
  const found = inputs(results)
  if (found === undefined) return ["The run that this page is of did not measure what the model needs."]
  return [
    Tables.markdown([
      ["input, µs of CPU", "value"],
      ["Redis, a call alone, 1 in flight", Tables.number(found.lone, 2)],
      ["Redis, a call of 100 in flight between two processes, each message a frame", Tables.number(found.single, 2)],
      ["Redis, the same, packed", Tables.number(found.packed, 2)],
      ["caller and service together, a call of those in frames", Tables.number(found.ends, 1)],
      ["Redis, an event, without its deliveries", Tables.number(found.publish, 2)],
      ["Redis, an event, for each process that hears it", Tables.number(found.deliver, 2)]
    ]),
    Tables.markdown([
      [
        "masters",
        "calls/s, each alone",
        "in frames, with others",
        "packed",
        "cores of callers and services for the second"
      ],
      ...shards.map((count) => [
        count === 1 ? "1 (no cluster)" : String(count),
        three(carried(count, found.lone)),
        three(carried(count, found.single)),
        three(carried(count, found.packed)),
        whole(Math.ceil((carried(count, found.single) * found.ends) / planned / 1_000_000))
      ])
    ]),
    Tables.markdown([
      ["processes that hear a topic", "events/s of that topic at most"],
      ...audiences.map((count) => [whole(count), three(events(found, count))])
    ])
  ]
}

/** What the cluster's run says about the model's first assumption: that a message costs the masters together what it costs one Redis. */
const check = (results: Results) =>
  Tables.markdown([
    ["", "broker µs per call, one Redis", "three masters together", "to it", "busiest master's share"],
    ...Capacity.casesOf("cluster").map(({ of: where, step }) => {
      const [alone, together] = ["fiberbus", "fiberbus-cluster"].map((peer) =>
        values(results, { row: "capacity", case: where, peer, metric: "cpuBroker" })
      )
      const both = alone!.length === 0 || together!.length === 0 ? undefined : median(together!) / median(alone!)
      return [
        step,
        Tables.spread(spread(alone!), 2),
        Tables.spread(spread(together!), 2),
        both === undefined ? "–" : Tables.number(both, 2),
        Tables.spread(of(results, "capacity", where, "fiberbus-cluster", "busiest"), 2)
      ]
    })
  ])

/** The page as text; `preface` says when and where it was measured, and warns where that is needed. */
export const page = (results: Results, preface: ReadonlyArray<string>): string =>
  `${[
    "# Capacity",
    ...preface,
    "CPU time per call is the figure to plan with: what else the machine does changes it less than calls/s. What other libraries take for the same is in [performance.md](performance.md). This page is written by `npm run bench:report`; `bench/rows/capacity.ts` is what was done.",
    "## What one core carries",
    "An echo of about 150 bytes with schemas checked on both sides, 100 in flight where it says nothing else; an event of the same size; items of one stream. Each column is for a core that does nothing else: a caller and a service that do their own work have less. Node uses one core per process, and so does Redis for its commands: more processes, or [threads](threads.md) for what computes, use more. `one` sends each call to one replica, `live` to all of them.",
    cores(results),
    "`durable` also writes each message to Redis' streams, reads it, and settles it with its result, so that Redis does more of its work than of any other. One call at a time pays for each message what many share: system calls, a wake-up, a frame.",
    "## How it grows",
    "**Services in a process.** Each is called in turn. A service has channels of its own, and announces itself every two seconds; idle is what client, service and Redis spend on that together.",
    growth(results, "services", "services", [
      rate("calls"),
      ...micros("call"),
      { title: "idle, CPU ms per s", metric: "idle", digits: 2 }
    ]),
    "What is for one service of one caller in one turn of the event loop shares a frame, so calls that are spread over many services pack less.",
    "**Replicas**, each a process. With `one` a call goes to one of them: what it costs stays, but for packs that are smaller. With `live` each does the work, and each answers.",
    growth(
      results,
      "replicas",
      "replicas",
      [rate("calls"), ...micros("call")],
      [
        ["fiberbus", "`one`: "],
        ["fiberbus-live", "`live`: "]
      ]
    ),
    "**Listeners of a topic**, each a process. Redis writes the event to each connection, and each reads, checks and handles it; the publisher pays once. Several listeners in one process share the reading. *Packed* is a topic that says so ([topics.md](topics.md#packed)): what one turn publishes shares a frame.",
    growth(
      results,
      "listeners",
      "processes",
      [rate("events"), ...micros("event")],
      [
        ["fiberbus", ""],
        ["fiberbus-packed", "packed: "]
      ]
    ),
    "**Payload.** A text that goes to the service and comes back, 8 in flight. From some 10 KiB on, JSON and copying are what it costs: it grows with the bytes.",
    growth(results, "payload", "text", [rate("calls"), ...micros("call")]),
    "**Calls in flight**, of one caller to one service. More share a frame and a system call until a turn of the event loop is full; beyond that they only wait longer.",
    growth(results, "inFlight", "in flight", [
      rate("calls"),
      ...micros("call"),
      { title: "p99 µs", metric: "p99", digits: 0 }
    ]),
    "A call that waits keeps about as much memory as [performance.md](performance.md) says under Memory, where that was measured; `Caller.MaxPending` limits them.",
    "## A Redis Cluster of N masters",
    `On paper: nobody measured N masters on N machines. The model plans with ${Math.round(planned * 100)} % of a core for each process, and says
- of calls: a call is two messages, a request to the channel of one replica and an answer to the caller's inbox. With sharded pub/sub each is handled by the master of its channel's slot and no other, so N masters carry N times what one does, **if channels are spread**: names of many replicas and callers are, by their hash. What a message costs Redis depends on how many come with it: one that comes alone is a read and a write of the system by itself, those of one process in one moment share them, and packs are one message. Many processes that each call seldom are near the first figure, few that call much near the last.
- of events: a topic is one channel, in one slot, at one master. More masters carry more topics, but not more of one. The figures are of events in frames of their own; a packed topic carries more.`,
    ...model(results),
    `What limits it:
- **Callers and services come first.** A call takes several times the CPU at its ends that it takes in Redis, so for one replica or one caller its own process is full long before the master of its channel is. A *hot slot* is therefore mostly a topic with many listeners: see the second table. Divide such a topic by name (\`orders.eu\`, \`orders.us\`), or listen with fewer processes.
- **Hash tags put channels together.** With a prefix like \`{shop}.\` the whole system is at one master, and N is 1.
- **Replicas of masters** get each sharded message too: about one delivery more per replica, at the master.
- **The cluster's bus.** Sharded pub/sub does not use it for messages beyond a shard. Its gossip grows with the number of nodes, and is small at these sizes. In classic mode (\`pubsub: "classic"\`) every message goes to every node: N masters then carry no more than one.
- **Connections**: each process holds two to each master, with durable work [more](durable.md#in-a-redis-cluster). 1,000 processes are 2,000 connections for each; \`maxclients\` is 10,000 by default.
- **Queues of durable actions** are each in one slot, with all their keys: a durable service is at as many masters as it has [partitions](durable.md#partitions) at most, so at one by default, and a durable topic at one.
- **Packs and shared reads** are per connection and per turn of the event loop: the more processes share the traffic, the nearer is the first column. Load helps: what waits is read together.
- Network, TLS, and more than one thread for I/O (\`io-threads\`) are left out; so are failovers, in which a shard's channels are silent for some seconds.`,
    "Checked as far as two cores allow: the same services and callers over one Redis and over three masters on one machine. The model takes the ratio for 1, and the share for a third where channels are spread. A ratio above 1 is what three masters pay who each have a third of the traffic, and so fewer messages per read, on two cores that all of them share with the callers: as far as that goes, more masters begin nearer to the first column. With one service and one caller there are only two busy channels, at one master or at two, and with few channels the shares are of chance.",
    check(results)
  ].join("\n\n")}\n`
