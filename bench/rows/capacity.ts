/** How what a call costs grows: with services, replicas, listeners, payload, calls in flight, and over the masters of a Redis Cluster. */
import * as Effect from "effect/Effect"
import * as RedisClusterServer from "../../src/testing/RedisClusterServer.ts"
import * as Lab from "../Lab.ts"
import * as Process from "../Process.ts"
import { messages } from "./fanout.ts"

const inFlight = 100

/** Of each series, the steps; a case is called `<series>: <step>`. */
export const series = {
  services: [1, 10, 100],
  replicas: [1, 2, 4, 8],
  listeners: [1, 4, 16],
  payload: [
    { name: "100 B", bytes: 100 },
    { name: "1 KiB", bytes: 1_024 },
    { name: "10 KiB", bytes: 10_240 },
    { name: "100 KiB", bytes: 102_400 },
    { name: "1 MiB", bytes: 1_048_576 }
  ],
  inFlight: [1, 10, 100, 1_000, 10_000],
  cluster: [
    { name: "1 service, 1 caller", services: 1, callers: 1 },
    { name: "16 services, 4 callers", services: 16, callers: 4 }
  ]
}

const caseOf = (name: keyof typeof series, step: number | string) =>
  `${name}: ${typeof step === "number" ? step.toLocaleString("en-US") : step}`

/** The cases of a series with what their step is called. */
export const casesOf = (name: keyof typeof series): ReadonlyArray<{ readonly of: string; readonly step: string }> =>
  series[name].map((step) => {
    const of = caseOf(name, typeof step === "number" ? step : step.name)
    return { of, step: of.slice(name.length + 2) }
  })

/** Only these of the row's peers. */
const only = (lab: Lab.Lab, ...peers: ReadonlyArray<string>): Lab.Lab => ({
  ...lab,
  peersOf: (row) => lab.peersOf({ ...row, peers })
})

interface Started {
  readonly clients: ReadonlyArray<Process.Process>
  readonly servers: ReadonlyArray<Process.Process>
}

type Plan = { readonly op: "echo" | "blob"; readonly inFlight: number; readonly bytes?: number }

/** All clients at once, and what a call cost whom. The broker is counted by what is given, else it is the peer's own. */
const cost = (
  lab: Lab.Lab,
  entry: Parameters<typeof Lab.brokerCpu>[1],
  { clients, servers }: Started,
  plan: Plan,
  broker: () => ReadonlyArray<number> = () => [Lab.brokerCpu(lab, entry)]
) =>
  Effect.gen(function* () {
    const each = Math.max(1, Math.round(plan.inFlight / clients.length))
    const run = (millis: number) =>
      Effect.all(
        clients.map((client) => client.order("run", { ...plan, inFlight: each, millis })),
        { concurrency: "unbounded" }
      )
    const cpu = (processes: ReadonlyArray<Process.Process>) =>
      Effect.map(
        Effect.forEach(processes, (process) => process.order("usage", undefined)),
        (all) => all.reduce((sum, { cpu }) => sum + cpu, 0)
      )
    yield* run(150)
    const before = { client: yield* cpu(clients), server: yield* cpu(servers), brokers: broker() }
    const runs = yield* run(lab.millis)
    const brokers = broker().map((after, index) => after - before.brokers[index]!)
    const [client, server] = [(yield* cpu(clients)) - before.client, (yield* cpu(servers)) - before.server]
    const ofBrokers = brokers.reduce((sum, each) => sum + each, 0)
    const calls = runs.reduce((sum, { calls }) => sum + calls, 0)
    return {
      rate: runs.reduce((sum, { calls, millis }) => sum + (calls / millis) * 1_000, 0),
      p50: Math.max(...runs.map(({ p50 }) => p50)),
      p99: Math.max(...runs.map(({ p99 }) => p99)),
      cpu: (client + server + ofBrokers) / calls,
      cpuClient: client / calls,
      cpuServer: server / calls,
      cpuBroker: ofBrokers / calls,
      ...(brokers.length < 2 || ofBrokers === 0 ? {} : { busiest: Math.max(...brokers) / ofBrokers })
    }
  })

const warm = (lab: Lab.Lab, { clients }: Started, plan: Plan) =>
  Effect.all(
    clients.map((client) =>
      client.order("run", {
        ...Lab.warmUp(lab, plan),
        ...plan,
        inFlight: Math.ceil(plan.inFlight / clients.length),
        millis: lab.warmUpMillis / 2
      })
    ),
    { concurrency: "unbounded" }
  )

/** Services in one process, called in turn. What the process does without calls is what its announcements cost. */
const services = (lab: Lab.Lab, count: number) =>
  Lab.turns(only(lab, "fiberbus"), row, caseOf("services", count), {
    start: (entry) =>
      Effect.gen(function* () {
        const shared = yield* lab.together(entry)
        const server = yield* lab.start(entry, "idle", { ...shared, count })
        const client = yield* lab.start(entry, "connect", { ...shared, services: count })
        return { clients: [client], servers: [server] }
      }),
    warmUp: (started) => warm(lab, started, { op: "echo", inFlight }),
    turn: (started, entry) =>
      Effect.gen(function* () {
        const busy = yield* cost(lab, entry, started, { op: "echo", inFlight })
        const idleMillis = lab.quick ? 200 : 4_000
        const idle = yield* Lab.costOf(
          lab,
          entry,
          { client: started.clients[0]!, servers: started.servers },
          Effect.sleep(idleMillis)
        )
        return { ...busy, idle: (idle.client + idle.server + idle.broker) / idleMillis }
      })
  })

const replicas = (lab: Lab.Lab, count: number) =>
  Lab.turns(only(lab, "fiberbus", "fiberbus-live"), row, caseOf("replicas", count), {
    start: (entry) =>
      Effect.gen(function* () {
        const shared = yield* lab.together(entry)
        const servers = yield* Effect.forEach(Array.from({ length: count }), () => lab.start(entry, "serve", shared))
        return { clients: [yield* lab.start(entry, "connect", shared)], servers }
      }),
    warmUp: (started) => warm(lab, started, { op: "echo", inFlight }),
    turn: (started, entry) => cost(lab, entry, started, { op: "echo", inFlight })
  })

const listeners = (lab: Lab.Lab, count: number) =>
  Lab.turns(only(lab, "fiberbus", "fiberbus-packed"), row, caseOf("listeners", count), {
    start: (entry) =>
      Effect.gen(function* () {
        const shared = { ...(yield* lab.together(entry)), limits: "raised" as const }
        const ears = yield* Effect.forEach(Array.from({ length: count }), () => lab.start(entry, "listen", shared))
        return { publisher: yield* lab.start(entry, "connect", shared), ears }
      }),
    warmUp: (started) => messages(started, lab.quick ? 500 : 5_000),
    turn: ({ ears, publisher }, entry) =>
      Effect.gen(function* () {
        const events = lab.quick ? 1_000 : Math.round(40_000 / Math.sqrt(count))
        const { broker, client, result, server } = yield* Lab.costOf(
          lab,
          entry,
          { client: publisher, servers: ears },
          messages({ ears, publisher }, events)
        )
        return {
          rate: (events / result) * 1_000,
          cpu: (client + server + broker) / events,
          cpuClient: client / events,
          cpuServer: server / events,
          cpuBroker: broker / events
        }
      })
  })

const paired = (lab: Lab.Lab, of: string, plan: Plan) =>
  Lab.turns(only(lab, "fiberbus"), row, of, {
    start: (entry) =>
      Effect.map(Lab.pair(lab, entry, { limits: "raised" }), ({ client, server }) => ({
        clients: [client],
        servers: server === undefined ? [] : [server]
      })),
    warmUp: (started) => warm(lab, started, plan),
    turn: (started, entry) => cost(lab, entry, started, plan)
  })

/** The same services and callers over one Redis, and over three masters. */
const cluster = (lab: Lab.Lab, { callers, name, services }: (typeof series.cluster)[number]) =>
  Effect.scoped(
    Effect.gen(function* () {
      const server = yield* RedisClusterServer.make()
      const pids = yield* Effect.forEach(server.members, ({ server }) =>
        Effect.map(server.command("INFO", "server"), (info) => Number(/process_id:(\d+)/.exec(String(info))?.[1]))
      )
      const nodes = server.nodes.map(({ host, port }) => `${host}:${port}`).join(",")
      const isCluster = (entry: { readonly key: string }) => entry.key.startsWith("fiberbus-cluster")
      yield* Lab.turns(only(lab, "fiberbus", "fiberbus-cluster"), row, caseOf("cluster", name), {
        start: (entry) =>
          Effect.gen(function* () {
            const shared = { ...(yield* lab.together(entry)), ...(isCluster(entry) ? { redis: nodes } : {}) }
            const serving = yield* lab.start(entry, "idle", { ...shared, count: services })
            const clients = yield* Effect.forEach(Array.from({ length: callers }), () =>
              lab.start(entry, "connect", { ...shared, services })
            )
            return { clients, servers: [serving] }
          }),
        warmUp: (started) => warm(lab, started, { op: "echo", inFlight }),
        turn: (started, entry) =>
          cost(
            lab,
            entry,
            started,
            { op: "echo", inFlight },
            isCluster(entry) ? () => pids.map(Process.cpuOf) : undefined
          )
      })
    })
  )

export const row: Lab.Row = {
  key: "capacity",
  title: "Capacity",
  about:
    "What a call costs whom, and how that grows: with the services of a process, replicas, processes that listen to an event, payload, calls in flight, and over three masters of a Redis Cluster. 100 calls in flight where nothing else is said.",
  peers: ["fiberbus-live", "fiberbus-packed", "fiberbus-cluster", "fiberbus"],
  page: "capacity",
  alone: true,
  metrics: [
    { key: "rate", title: "per second", digits: 0 },
    { key: "cpu", title: "CPU µs each", digits: 1, chief: "less" },
    { key: "cpuClient", title: "of it client", digits: 1 },
    { key: "cpuServer", title: "server", digits: 1 },
    { key: "cpuBroker", title: "broker", digits: 2 },
    { key: "p99", title: "p99 µs", digits: 0 },
    { key: "idle", title: "idle, CPU ms per s", digits: 2 },
    { key: "busiest", title: "busiest master's share", digits: 2 }
  ],
  figures: [],
  run: (lab) =>
    Effect.gen(function* () {
      for (const count of series.services) yield* services(lab, count)
      for (const count of series.replicas) yield* replicas(lab, count)
      yield* Effect.orDie(lab.brokers.subscriberBuffers("none"))
      for (const count of series.listeners) yield* listeners(lab, count)
      for (const { bytes, name } of series.payload) {
        yield* paired(lab, caseOf("payload", name), { op: "blob", inFlight: 8, bytes })
      }
      yield* Effect.orDie(lab.brokers.subscriberBuffers("default"))
      for (const count of series.inFlight) {
        yield* paired(lab, caseOf("inFlight", count), { op: "echo", inFlight: count })
      }
      for (const step of series.cluster) yield* Effect.orDie(cluster(lab, step))
    })
}
