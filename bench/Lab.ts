/** Where rows are measured: brokers, processes of peers, turns, and a list of what came out. */

import * as Net from "node:net"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Brokers from "./Brokers.ts"
import type { Start } from "./child.ts"
import type { Plan } from "./Meter.ts"
import type { Setting } from "./Peer.ts"
import * as Peers from "./Peers.ts"
import * as Process from "./Process.ts"
import type { Failure, Sample } from "./Results.ts"

export interface Settings {
  readonly rounds: number
  /** Length of a turn. */
  readonly millis: number
  /** Before a peer's first turn, not counted. @see {@link warmUp} */
  readonly warmUpMillis: number
  readonly quick: boolean
  readonly profiles: string | undefined
  readonly peers: ReadonlyArray<Peers.Entry>
  readonly brokers: Brokers.Brokers
  /** Folder of this repository's build. */
  readonly build: string
  /** Calls of the row about memory over time, in millions. */
  readonly millions: number
}

/** One row of the measurements: what is done, by whom, and what the figures are. */
export interface Row {
  /** What `--only` calls it. */
  readonly key: string
  readonly title: string
  /** What is measured, in whole sentences. */
  readonly about: string
  /** Keys of its peers, in the order of its tables. */
  readonly peers: ReadonlyArray<string>
  readonly metrics: ReadonlyArray<Metric>
  /** Keys of the metrics that are drawn, each in a figure of its own. */
  readonly figures: ReadonlyArray<string>
  /** Its figures say something by themselves, not beside another peer's. */
  readonly alone?: true
  /** Told on a page of its own instead of docs/performance.md. */
  readonly page?: "capacity"
  readonly run: (lab: Lab) => Effect.Effect<void>
}

export interface Metric {
  readonly key: string
  readonly title: string
  readonly digits: number
  /** Which is better. Tables show ratios of a row's first such metric. */
  readonly chief?: "more" | "less"
}

/** @see {@link make} */
export interface Lab extends Settings {
  readonly samples: Array<Sample>
  readonly failures: Array<Failure>
  /** Of a row, those that were asked for. */
  readonly peersOf: (row: Row) => ReadonlyArray<Peers.Entry>
  /** Starts a role of a peer, for as long as the Scope. */
  readonly start: (
    entry: Peers.Entry,
    role: Start["role"],
    setting: Partial<Setting> & { readonly count?: number; readonly collect?: boolean }
  ) => Effect.Effect<Process.Process, Error, Scope.Scope>
  /** The setting's part that client and server of one peer have in common. */
  readonly together: (entry: Peers.Entry) => Effect.Effect<Pick<Setting, "name" | "port">>
}

let names = 0

export const make = (settings: Settings): Lab => ({
  ...settings,
  samples: [],
  failures: [],
  peersOf: (row) => settings.peers.filter((entry) => row.peers.includes(Peers.keyOf(entry))),
  together: (entry) =>
    Effect.map(freePort, (port) => ({ name: `${entry.key.replaceAll(/[^A-Za-z0-9]/g, "_")}_${++names}`, port })),
  start: (entry, role, { count = 1, collect = false, ...setting }) =>
    Process.start(
      {
        file: entry.file,
        role,
        count,
        setting: {
          variant: entry.variant,
          name: entry.key,
          redis: settings.brokers.redis.url,
          nats: settings.brokers.nats?.url,
          port: 0,
          build: entry.build ?? settings.build,
          limits: "default",
          pool: undefined,
          services: undefined,
          ...setting
        }
      },
      { profiles: settings.profiles, collect }
    )
})

const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = Net.createServer()
  server.listen({ host: "127.0.0.1", port: 0 }, () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/**
 * What comes before a peer's first turn: two seconds of calls, and on a busy machine up to ten until there were so many that the optimising compiler
 * has done its work.
 */
export const warmUp = (lab: Lab, plan: Pick<Plan, "op" | "inFlight">): Plan => ({
  ...plan,
  millis: lab.warmUpMillis,
  atLeast: lab.quick ? 0 : plan.inFlight === 1 ? 10_000 : 50_000
})

/** CPU time of the broker of a peer so far, in microseconds. */
export const brokerCpu = (lab: Lab, { broker }: Peers.Entry): number => {
  if (broker === "none") return 0
  const pid = broker === "redis" ? lab.brokers.redis.pid : lab.brokers.nats?.pid
  return pid === undefined ? 0 : Process.cpuOf(pid)
}

/** A peer of a row, with what was started for it. */
export interface Runner<A> {
  readonly entry: Peers.Entry
  readonly started: A
}

/**
 * Measures one case of a row: starts every peer, then gives each its turn, round after round, every other round in reverse. A peer that fails is
 * noted, and has no more turns; the others go on.
 */
export const turns = <A>(
  lab: Lab,
  row: Row,
  of: string,
  options: {
    readonly start: (entry: Peers.Entry) => Effect.Effect<A, Error, Scope.Scope>
    /** Not counted. */
    readonly warmUp?: (started: A, entry: Peers.Entry) => Effect.Effect<unknown, Error>
    readonly turn: (started: A, entry: Peers.Entry) => Effect.Effect<Readonly<Record<string, number>>, Error>
    readonly rounds?: number
    /** Starts before each turn and ends after it, where peers that stand by would disturb, or a turn uses its process up. */
    readonly afresh?: boolean
  }
): Effect.Effect<void> =>
  Effect.scoped(
    Effect.gen(function* () {
      const rounds = options.rounds ?? lab.rounds
      const failed = new Set<string>()
      const attempt = <B, R>(entry: Peers.Entry, effect: Effect.Effect<B, Error, R>) =>
        effect.pipe(
          Effect.catchCause((cause) =>
            Effect.sync(() => {
              failed.add(entry.key)
              const why = String(Cause.squash(cause))
              lab.failures.push({ row: row.key, case: of, peer: entry.key, why, skipped: false })
              console.error(`${row.key}, ${of}: ${entry.name} failed: ${why.slice(0, 1_000)}`)
              return undefined
            })
          )
        )
      const present = lab.peersOf(row).filter((entry) => {
        if (entry.broker !== "nats" || lab.brokers.nats !== undefined) return true
        const why = "nats-server is not installed"
        lab.failures.push({ row: row.key, case: of, peer: entry.key, why, skipped: true })
        return false
      })
      const begin = (entry: Peers.Entry) =>
        Effect.tap(options.start(entry), (started) => options.warmUp?.(started, entry) ?? Effect.void)
      const record = (entry: Peers.Entry, started: A, round: number) =>
        Effect.map(options.turn(started, entry), (values) => {
          lab.samples.push({ row: row.key, case: of, peer: entry.key, round, values })
        })

      const running = new Map<string, A>()
      if (options.afresh !== true) {
        for (const entry of present) {
          const started = yield* attempt(entry, begin(entry))
          if (started !== undefined) running.set(entry.key, started)
        }
      }
      for (let round = 0; round < rounds; round++) {
        for (const entry of round % 2 === 0 ? present : present.toReversed()) {
          if (failed.has(entry.key)) continue
          const started = running.get(entry.key)
          yield* attempt(
            entry,
            options.afresh === true
              ? Effect.scoped(Effect.flatMap(begin(entry), (started) => record(entry, started, round)))
              : record(entry, started!, round)
          )
        }
      }
    })
  )

/** Client and server of a peer, in processes of their own unless it has but one. */
export interface Pair {
  readonly client: Process.Process
  readonly server: Process.Process | undefined
}

/** @see {@link Pair} */
export const pair = (
  lab: Lab,
  entry: Peers.Entry,
  setting: Partial<Setting> & { readonly collect?: boolean } = {}
): Effect.Effect<Pair, Error, Scope.Scope> =>
  Effect.gen(function* () {
    const shared = { ...(yield* lab.together(entry)), ...setting }
    const server = entry.inOneProcess ? undefined : yield* lab.start(entry, "serve", shared)
    const client = yield* lab.start(entry, "connect", shared)
    return { client, server }
  })

/** CPU time of all processes that some work concerned, in microseconds, and the share of each. */
export const costOf = <A>(
  lab: Lab,
  entry: Peers.Entry,
  processes: { readonly client: Process.Process; readonly servers: ReadonlyArray<Process.Process> },
  work: Effect.Effect<A, Error>
): Effect.Effect<
  { readonly result: A; readonly client: number; readonly server: number; readonly broker: number },
  Error
> =>
  Effect.gen(function* () {
    const cpu = (process: Process.Process) => Effect.map(process.order("usage", undefined), ({ cpu }) => cpu)
    const look = Effect.gen(function* () {
      const client = yield* cpu(processes.client)
      let server = 0
      for (const process of processes.servers) server += yield* cpu(process)
      return { client, server, broker: brokerCpu(lab, entry) }
    })
    const before = yield* look
    const result = yield* work
    const after = yield* look
    return {
      result,
      client: after.client - before.client,
      server: after.server - before.server,
      broker: after.broker - before.broker
    }
  })
