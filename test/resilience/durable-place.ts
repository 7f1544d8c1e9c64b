/** Where the account of durable work is kept, and what happens there. */
import { Effect, Schedule, type Scope } from "effect"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as Channels from "../../src/wire/Channels.ts"
import type { Where } from "./durable-worker.ts"

/** A number from 0 to 1, as a seed gives them. */
export type Random = () => number

/** One Redis, or several. */
export interface Place<Fault extends string> {
  readonly where: Where
  /** What can be done to it. Each is over when all is as it should be again. */
  readonly faults: Readonly<Record<Fault, Effect.Effect<void, unknown>>>
  /** Asks the one that keeps a queue. */
  readonly ask: (queue: string, ...words: readonly [string, ...Array<string>]) => Effect.Effect<unknown, unknown>
  /** Whose a queue is. */
  readonly masterOf: (queue: string) => Effect.Effect<string, unknown>
}

/** @see {@link overRedis} */
export type Open<Fault extends string> = (random: Random) => Effect.Effect<Place<Fault>, unknown, Scope.Scope>

/** All that is kept for the service. */
export const queuesOf = ({ partitions }: Where) => Channels.partitions("", "ledger", partitions)

const kept = ["--appendonly", "yes", "--appendfsync", "everysec"]

/** One Redis, which is killed and started again. */
export const overRedis =
  (partitions = 1): Open<"restart"> =>
  () =>
    Effect.map(RedisServer.make({ args: kept }), ({ command, kill, port, start, url }) => ({
      where: { url, partitions },
      faults: { restart: Effect.andThen(kill, start) },
      ask: (_, ...words) => command(...words),
      masterOf: () => Effect.succeed(String(port))
    }))

type Member = RedisClusterServer.Member

/** Waits until a replica has all that a master has now: what follows may end the master. */
const copied = ({ server }: Member) => {
  const info = Effect.map(server.command("INFO", "replication"), String)
  const offset = (text: string, of: RegExp) => Number(of.exec(text)?.[1] ?? -1)
  return Effect.flatMap(info, (before) =>
    Effect.repeat(info, {
      until: (now) => offset(now, /state=online,offset=(\d+)/) >= offset(before, /master_repl_offset:(\d+)/),
      schedule: Schedule.spaced("20 millis")
    })
  )
}

/**
 * Three masters with a replica each. Replicas take the place of masters: as they are told to (`failover`), and because one was killed, which comes back
 * behind its replica (`killMaster`). The slot of a partition goes to another master (`moveSlot`).
 */
export const overCluster =
  (partitions: number): Open<"failover" | "killMaster" | "moveSlot"> =>
  (random) =>
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({
        replicas: 1,
        args: [...kept, "--cluster-require-full-coverage", "no"]
      })
      const where = { nodes: cluster.nodes, partitions }
      const queues = queuesOf(where)
      const one = <A>(of: ReadonlyArray<A>) => of[Math.floor(random() * of.length)]!
      const whole = Effect.flatMap(cluster.masters, (masters) => Effect.forEach(masters, copied, { discard: true }))
      // Whoever has taken a place is not replaced before the others.
      const replaced = new Set<string>()
      const next = Effect.map(cluster.masters, (masters) => {
        const found = masters.find(({ id }) => !replaced.has(id))
        if (found === undefined) replaced.clear()
        return found ?? masters[0]!
      })
      const taken = (by: Member) => void replaced.add(by.id)
      return {
        where,
        faults: {
          failover: Effect.flatMap(next, cluster.failover).pipe(Effect.map(taken), Effect.andThen(whole)),
          killMaster: Effect.gen(function* () {
            const master = yield* cluster.ownerOf(one(queues))
            yield* master.server.kill
            taken(yield* cluster.promoted(master))
            yield* master.server.start
            yield* cluster.ready
            yield* whole
          }),
          moveSlot: Effect.gen(function* () {
            const queue = one(queues)
            const { id } = yield* cluster.ownerOf(queue)
            const to = one((yield* cluster.masters).filter((master) => master.id !== id))
            yield* cluster.moveSlot(cluster.slotOf(queue), to)
            yield* whole
          })
        },
        ask: (queue, ...words) => Effect.flatMap(cluster.ownerOf(queue), ({ server }) => server.command(...words)),
        masterOf: (queue) => Effect.map(cluster.ownerOf(queue), ({ server }) => String(server.port))
      }
    })
