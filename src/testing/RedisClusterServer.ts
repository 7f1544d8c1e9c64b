/**
 * Gives tests a Redis Cluster of their own: three masters or more, each with its replicas, that start and end with a Scope.
 *
 * The nodes are servers as `RedisServer` makes them: private ports of 127.0.0.1 (those of the cluster's bus too), nothing kept, gone
 * with the process that started them. It is ready when every node says so and all agree on who has which slot. Time here is
 * real time, also in `it.effect`. Needs Redis 7, or Valkey.
 */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as KeySlot from "../transport/KeySlot.ts"
import * as Certificates from "./internal/Certificates.ts"
import * as FreePort from "./internal/FreePort.ts"
import * as Machine from "./internal/Machine.ts"
import { RedisServerError } from "./internal/RedisServerError.ts"
import * as RedisServer from "./RedisServer.ts"

/** One server of the cluster. Its `server` can be killed, frozen and restarted: it comes back as the same member. */
export interface Member {
  /** As `CLUSTER MYID` says it. */
  readonly id: string
  readonly server: RedisServer.RedisServer["Service"]
}

/** A slot that is on its way: the old owner sends those who ask for a key that has left on to the new one, by ASK. */
export interface Moving {
  /** Moves the keys that are left, gives the slot to its new owner, and waits until all living members know. */
  readonly finish: Effect.Effect<void, RedisServerError>
}

/** A Redis Cluster for tests. */
export class RedisClusterServer extends Context.Service<
  RedisClusterServer,
  {
    /** The addresses of all members, the first masters first. */
    readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
    /** All members, the first masters first. */
    readonly members: ReadonlyArray<Member>
    readonly password: string | undefined
    /** Set for the variant with TLS. The `server` of a member still says its port for plain text. */
    readonly tls: RedisServer.Tls | undefined
    /** E.g. `7.0.15`. */
    readonly version: string
    /** The slot of a key or a sharded channel, 0 to 16,383. */
    readonly slotOf: (key: string) => number
    /** Who has slots now, as the living members agree on. */
    readonly masters: Effect.Effect<ReadonlyArray<Member>, RedisServerError>
    /** The master of a key or a sharded channel. */
    readonly ownerOf: (key: string) => Effect.Effect<Member, RedisServerError>
    /** The replicas of a master. */
    readonly replicasOf: (master: Member) => Effect.Effect<ReadonlyArray<Member>, RedisServerError>
    /** Waits until all living members say `cluster_state:ok` and agree on all slots. */
    readonly ready: Effect.Effect<void, RedisServerError>
    /** Makes a replica of a living master the master (`CLUSTER FAILOVER`), and waits until all living members know. */
    readonly failover: (master: Member) => Effect.Effect<Member, RedisServerError>
    /** Waits until another member has the slots of a master that was killed or frozen, and all living members know. */
    readonly promoted: (master: Member) => Effect.Effect<Member, RedisServerError>
    /** Begins to move a slot: `SETSLOT … IMPORTING` and `MIGRATING`. */
    readonly beginMove: (slot: number, to: Member) => Effect.Effect<Moving, RedisServerError>
    /** Moves a slot with its keys, and waits until all living members know. */
    readonly moveSlot: (slot: number, to: Member) => Effect.Effect<void, RedisServerError>
  }
>()("fiberbus/testing/RedisClusterServer") {}

/** How the cluster differs from three masters without replicas. */
export interface Options {
  /** At least 3, the default. */
  readonly masters?: number
  /** Of each master. Default 0. */
  readonly replicas?: number
  /** `cluster-node-timeout` in milliseconds: how long a member must be silent to count as dead. Default 2,000. */
  readonly nodeTimeout?: number
  /** Of each server, as in `RedisServer`. */
  readonly args?: ReadonlyArray<string>
  readonly password?: string
  readonly acl?: ReadonlyArray<string>
  readonly program?: string
  /** The ports in `nodes` speak TLS, and so do the nodes among themselves, with certificates made by `openssl`. */
  readonly tls?: boolean
}

const limit = "60 seconds"
const peer = "fiberbus-cluster"

/**
 * Starts and forms a cluster; it ends with the Scope.
 *
 * Errors: those of `RedisServer.make`; `ClusterFailed` when it does not come together within a minute.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<RedisClusterServer["Service"], RedisServerError, Scope.Scope> {
  const masterCount = options.masters ?? 3
  const replicaCount = options.replicas ?? 0
  if (!(masterCount >= 3 && masterCount <= 100 && replicaCount >= 0 && replicaCount <= 5)) {
    return yield* failed("form a cluster", "it takes 3 to 100 masters, each with 0 to 5 replicas")
  }
  const secret = randomBytes(16).toString("hex")
  const settings = [
    ...["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"],
    ...["--cluster-node-timeout", String(options.nodeTimeout ?? 2000)],
    // A replica of a test is to be promoted however old its link is, and stays with its master.
    ...["--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"],
    ...["--repl-diskless-sync-delay", "0", "--masteruser", peer, "--masterauth", secret]
  ]
  const secured = options.tls === true ? yield* certificates : undefined
  const started = Effect.flatMap(Effect.all([FreePort.find, FreePort.find]), ([busPort, tlsPort]) =>
    Effect.map(
      RedisServer.make({
        args: [
          ...settings,
          ...["--cluster-port", String(busPort)],
          ...(secured === undefined ? [] : ["--tls-port", String(tlsPort), ...secured.args]),
          ...(options.args ?? [])
        ],
        acl: [`user ${peer} on >${secret} ~* &* +@all`, ...(options.acl ?? [])],
        ...(options.password === undefined ? {} : { password: options.password }),
        ...(options.program === undefined ? {} : { program: options.program })
      }),
      (server) => ({ server, busPort, port: secured === undefined ? server.port : tlsPort })
    )
  ).pipe(Effect.retry({ times: 4, while: (error) => /address already in use/i.test(error.detail) }))
  const count = masterCount * (1 + replicaCount)
  const servers = yield* Effect.all(
    Array.from({ length: count }, () => started),
    { concurrency: 4 }
  )
  const members = yield* Effect.forEach(servers, ({ server }) =>
    Effect.map(server.command("CLUSTER", "MYID"), (id): Member => ({ id: String(id), server }))
  )
  const first = members.slice(0, masterCount)
  const addressOf = ({ id, server }: Member) => ({
    host: server.host,
    port: servers[members.findIndex((member) => member.id === id)]!.port
  })

  /** Who can be asked: the others are killed or frozen, and may come back. */
  const living = Effect.map(
    Effect.forEach(
      members,
      (member) =>
        member.server.command("CLUSTER", "INFO").pipe(
          Effect.timeoutOption("1 second"),
          Effect.map((info) => (info._tag === "Some" ? [{ member, info: String(info.value) }] : [])),
          Effect.catch(() => Effect.succeed([]))
        ),
      { concurrency: count }
    ),
    (found) => found.flat()
  )
  /** What a member thinks of who owns what, as a text that can be compared. */
  const viewOf = ({ server }: Member) =>
    Effect.map(server.command("CLUSTER", "SLOTS"), (reply) => {
      const owners = new Map<number, string>()
      for (const [from, to, master] of reply as ReadonlyArray<[number, number, [string, number, string]]>) {
        for (let slot = from; slot <= to; slot++) owners.set(slot, master[2])
      }
      return owners
    })
  const agreed = (
    what: (owners: ReadonlyMap<number, string>) => boolean,
    doing: string,
    duration: Duration.Input = limit
  ) =>
    Effect.gen(function* () {
      const alive = yield* living
      if (alive.length === 0) return yield* failed(doing, "no member answers")
      for (const { info, member } of alive) {
        if (!info.includes("cluster_state:ok") || !info.includes(`cluster_slots_assigned:${KeySlot.slots}`))
          return yield* failed(doing, `${member.server.port} says ${/cluster_state:\w+/.exec(info)?.[0]}`)
        if (!info.includes(`cluster_known_nodes:${count}`))
          return yield* failed(doing, `${member.server.port} does not know all members`)
      }
      const views = yield* Effect.forEach(alive, ({ member }) => viewOf(member), { concurrency: count })
      const [view] = views
      for (const other of views) {
        for (let slot = 0; slot < KeySlot.slots; slot++) {
          if (other.get(slot) !== view!.get(slot)) return yield* failed(doing, `members disagree about slot ${slot}`)
        }
      }
      if (!what(view!)) return yield* failed(doing, "it has not happened yet")
      return view!
    }).pipe(Effect.retry(Schedule.spaced("25 millis").pipe(Schedule.upTo({ duration }))), Machine.onRealTime)
  const byId = (id: string | undefined, doing: string) => {
    const found = members.find((member) => member.id === id)
    return found === undefined ? failed(doing, "the owner is none of the members") : Effect.succeed(found)
  }
  const owners = agreed(() => true, "ask who has which slots")
  const replicasOf: RedisClusterServer["Service"]["replicasOf"] = (master) =>
    Effect.gen(function* () {
      const found: Array<Member> = []
      for (const { member } of yield* living) {
        const info = String(yield* member.server.command("INFO", "replication"))
        if (info.includes("role:slave") && info.includes(`master_port:${addressOf(master).port}\r`)) found.push(member)
      }
      return found
    }).pipe(Machine.onRealTime)

  // Each has its own epoch from the beginning: else they would have to sort that out first.
  yield* Effect.forEach(
    first,
    ({ server }, i) => {
      const from = Math.floor((i * KeySlot.slots) / masterCount)
      const to = Math.floor(((i + 1) * KeySlot.slots) / masterCount) - 1
      return Effect.andThen(
        server.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1),
        server.command("CLUSTER", "ADDSLOTSRANGE", from, to)
      )
    },
    { concurrency: count }
  )
  const [seed, ...others] = servers
  yield* Effect.forEach(others, ({ busPort, port, server }) =>
    seed!.server.command("CLUSTER", "MEET", server.host, port, busPort)
  )
  yield* agreed(() => true, "form a cluster")
  for (const [i, { server }] of members.slice(masterCount).entries()) {
    yield* server.command("CLUSTER", "REPLICATE", first[i % masterCount]!.id)
  }
  yield* Effect.forEach(
    members.slice(masterCount),
    ({ server }) =>
      server.command("INFO", "replication").pipe(
        Effect.filterOrFail(
          (info) => String(info).includes("master_link_status:up"),
          () => failed("form a cluster", `${server.port} has not caught up with its master`)
        ),
        Effect.retry(Schedule.spaced("25 millis").pipe(Schedule.upTo({ duration: limit })))
      ),
    { concurrency: count }
  ).pipe(Machine.onRealTime)
  // A failover needs the others to know who is whose replica.
  const known = Effect.gen(function* () {
    for (const { server } of members) {
      const text = String(yield* server.command("CLUSTER", "NODES"))
      if ((text.match(/ (myself,)?slave /g)?.length ?? 0) !== count - masterCount)
        return yield* failed("form a cluster", `${server.port} does not know all replicas`)
    }
  })
  yield* Effect.retry(known, Schedule.spaced("25 millis").pipe(Schedule.upTo({ duration: limit }))).pipe(
    Machine.onRealTime
  )

  const beginMove: RedisClusterServer["Service"]["beginMove"] = (slot, to) =>
    Effect.gen(function* () {
      const doing = `move slot ${slot}`
      const from = yield* byId((yield* owners).get(slot), doing)
      if (from.id === to.id) return { finish: Effect.void }
      yield* to.server.command("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id)
      yield* from.server.command("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
      const { host, port } = addressOf(to)
      const moveKeys = Effect.gen(function* () {
        for (;;) {
          const keys = (yield* from.server.command("CLUSTER", "GETKEYSINSLOT", slot, 100)) as ReadonlyArray<string>
          if (keys.length === 0) return
          yield* from.server.command("MIGRATE", host, port, "", 0, 5000, "AUTH2", peer, secret, "KEYS", ...keys)
        }
      })
      const finish = Effect.gen(function* () {
        yield* moveKeys
        // First the new owner: as long as one of them has it, nobody finds it without one.
        yield* to.server.command("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        yield* from.server.command("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        yield* agreed((view) => view.get(slot) === to.id, doing)
      })
      return { finish }
    })

  return {
    nodes: members.map(addressOf),
    members,
    password: options.password,
    tls: secured?.tls,
    version: members[0]!.server.version,
    slotOf: KeySlot.of,
    masters: Effect.map(owners, (view) => {
      const ids = new Set(view.values())
      return members.filter(({ id }) => ids.has(id))
    }),
    ownerOf: (key) => Effect.flatMap(owners, (view) => byId(view.get(KeySlot.of(key)), `find the owner of ${key}`)),
    replicasOf,
    ready: Effect.asVoid(owners),
    failover: (master) =>
      Effect.gen(function* () {
        const doing = `fail over from ${master.server.port}`
        // On a busy machine one may not answer in time, once.
        const find = Effect.flatMap(replicasOf(master), ([found]) =>
          found === undefined ? Effect.fail(failed(doing, "it has no replica that answers")) : Effect.succeed(found)
        )
        const replica = yield* Machine.onRealTime(
          Effect.retry(find, { times: 10, schedule: Schedule.spaced("100 millis") })
        )
        const had = [...(yield* owners)].find(([, id]) => id === master.id)?.[0]
        if (had === undefined) return yield* failed(doing, "it has no slots")
        // On a busy machine a failover may time out on its own side, which nobody is told.
        const ask = Effect.ignore(replica.server.command("CLUSTER", "FAILOVER"))
        const done = agreed((view) => view.get(had) === replica.id, doing, "10 seconds")
        yield* Effect.retry(Effect.andThen(ask, done), { times: 5 })
        return replica
      }),
    promoted: (master) =>
      Effect.gen(function* () {
        const doing = `wait for another master than ${master.server.port}`
        const view = yield* agreed((view) => ![...view.values()].includes(master.id), doing)
        // Whoever was a master at first: it may have become a replica, and a master again.
        const family = members.indexOf(master) % masterCount
        const others = members.filter((member, i) => i % masterCount === family && member.id !== master.id)
        const now = [...new Set(view.values())]
        return yield* byId(
          now.find((id) => others.some((other) => other.id === id)),
          doing
        )
      }),
    beginMove,
    moveSlot: (slot, to) => Effect.flatMap(beginMove(slot, to), ({ finish }) => finish)
  }
})

// One authority for all: they check each other's certificates.
const certificates = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-cluster-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const made = yield* Effect.mapError(Certificates.make(Machine.current(), folder), ({ detail }) =>
    failed("form a cluster", `no certificates for TLS: ${detail}`)
  )
  const tls: RedisServer.Tls = { ca: made.ca, caFile: made.caFile, cert: made.clientCert, key: made.clientKey }
  const args = [
    ...["--tls-ca-cert-file", made.caFile, "--tls-cert-file", made.serverCertFile],
    ...["--tls-key-file", made.serverKeyFile, "--tls-client-cert-file", Path.join(folder, "client.crt")],
    ...["--tls-client-key-file", Path.join(folder, "client.key"), "--tls-auth-clients", "no"],
    ...["--tls-cluster", "yes", "--tls-replication", "yes"]
  ]
  return { tls, args }
})

const failed = (doing: string, detail: string) =>
  new RedisServerError({ kind: "ClusterFailed", operation: doing, detail, hint: "" })

/** One cluster for all who are given this very Layer. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<RedisClusterServer, RedisServerError> =>
  Layer.effect(RedisClusterServer, make(options))
