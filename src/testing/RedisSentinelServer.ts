/**
 * Gives tests a Redis that Sentinels watch: a master, its replicas, and one Sentinel that makes a replica the next master.
 *
 * The servers are as `RedisServer` makes them, with `appendonly yes`: a master that comes back must not come back empty, as its
 * replicas would then be emptied too. All start and end with a Scope. Time here is real time, also in `it.effect`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Machine from "./internal/Machine.ts"
import { RedisServerError } from "./internal/RedisServerError.ts"
import * as Sentinel from "./internal/Sentinel.ts"
import * as RedisServer from "./RedisServer.ts"

/** One server. It can be killed, frozen and restarted. */
type Server = RedisServer.RedisServer["Service"]

/** A Redis with a Sentinel, for tests. */
export class RedisSentinelServer extends Context.Service<
  RedisSentinelServer,
  {
    /** What the Sentinel calls the master: `name` of `RedisPubSub`'s options. */
    readonly name: string
    /** The address of the Sentinel: `sentinels` of `RedisPubSub`'s options. */
    readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
    /** The Sentinel's own. */
    readonly password: string | undefined
    /** All servers, the first master first. */
    readonly servers: ReadonlyArray<Server>
    /** Sends a SENTINEL command, e.g. `command("REPLICAS", name)`. */
    readonly command: (...args: ReadonlyArray<string>) => Effect.Effect<unknown, RedisServerError>
    /** Who is the master now, by the word of the Sentinel and its own. */
    readonly master: Effect.Effect<Server, RedisServerError>
    /** Makes a replica of the living master the master (`SENTINEL FAILOVER`), and waits until all others follow it. */
    readonly failover: Effect.Effect<Server, RedisServerError>
    /** Waits until another server is the master than one that was killed or frozen. */
    readonly promoted: (master: Server) => Effect.Effect<Server, RedisServerError>
  }
>()("fiberbus/testing/RedisSentinelServer") {}

/** How it differs from a master with one replica. */
export interface Options {
  /** What the Sentinel calls the master. Default `fiberbus`. */
  readonly name?: string
  /** 1 to 5. Default 1. */
  readonly replicas?: number
  /** The Sentinel's own. Default none. */
  readonly password?: string
  /** Of each server, as in `RedisServer`. */
  readonly args?: ReadonlyArray<string>
  readonly program?: string
}

const limit = "60 seconds"

/**
 * Starts the servers and the Sentinel, which is ready when it knows all replicas; they end with the Scope.
 *
 * Errors: those of `RedisServer.make`; `ClusterFailed` for what does not happen within a minute.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<RedisSentinelServer["Service"], RedisServerError, Scope.Scope> {
  const { name = "fiberbus", password, program, replicas = 1 } = options
  if (!(replicas >= 1 && replicas <= 5)) return yield* failed("start a Sentinel", "it takes 1 to 5 replicas")
  const start = (args: ReadonlyArray<string>) =>
    RedisServer.make({
      args: [...args, "--appendonly", "yes", ...(options.args ?? [])],
      ...(program === undefined ? {} : { program })
    })
  const first = yield* start(["--repl-diskless-sync-delay", "0"])
  const others = yield* Effect.forEach(
    Array.from({ length: replicas }),
    () => start(["--replicaof", "127.0.0.1", String(first.port)]),
    { concurrency: replicas }
  )
  const servers = [first, ...others]
  for (const { command, port } of others) {
    yield* until(
      `follow ${first.port}`,
      command("INFO", "replication"),
      (info) => String(info).includes("master_link_status:up"),
      `${port} has not caught up with its master`
    )
  }
  const sentinel = yield* Sentinel.make({ name, master: first, ...(password === undefined ? {} : { password }) })
  const knowsAll = (doing: string) =>
    until(
      doing,
      sentinel.command("REPLICAS", name),
      (known) => String(known).split("master-link-status,ok").length > replicas,
      "the Sentinel does not know all replicas"
    )
  yield* knowsAll("start a Sentinel")

  const master = Effect.gen(function* () {
    const address = yield* sentinel.command("GET-MASTER-ADDR-BY-NAME", name)
    const port = Array.isArray(address) ? Number(address[1]) : undefined
    const found = servers.find((server) => server.port === port)
    if (found === undefined) return yield* failed("ask for the master", `the Sentinel says ${String(address)}`)
    const info = String(yield* found.command("INFO", "replication"))
    if (!info.includes("role:master")) return yield* failed("ask for the master", `${port} says that it is none`)
    return found
  })
  const promoted = (old: Server) =>
    until("promote a replica", master, (now) => now !== old, `${old.port} is the master still`)
  return {
    name,
    password,
    servers,
    sentinels: [{ host: sentinel.host, port: sentinel.port }],
    command: sentinel.command,
    master,
    promoted,
    failover: Effect.gen(function* () {
      const old = yield* master
      yield* Effect.retry(sentinel.command("FAILOVER", name), everyMoment).pipe(Machine.onRealTime)
      const now = yield* promoted(old)
      // Until then it sees to this failover, and begins no other one.
      yield* until(
        "promote a replica",
        sentinel.command("MASTER", name),
        (about) => Array.isArray(about) && about[about.indexOf("flags") + 1] === "master",
        "the failover goes on"
      )
      yield* knowsAll("promote a replica")
      return now
    })
  }
})

const everyMoment = Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: limit }))

const until = <A>(
  doing: string,
  ask: Effect.Effect<A, RedisServerError>,
  is: (answer: A) => boolean,
  otherwise: string
): Effect.Effect<A, RedisServerError> =>
  ask.pipe(
    Effect.filterOrFail(is, () => failed(doing, otherwise)),
    Effect.retry(everyMoment),
    Machine.onRealTime
  )

const failed = (doing: string, detail: string) =>
  new RedisServerError({ kind: "ClusterFailed", operation: doing, detail, hint: "" })

/** One of them for all who are given this very Layer. @see {@link make} */
export const layer = (options: Options = {}): Layer.Layer<RedisSentinelServer, RedisServerError> =>
  Layer.effect(RedisSentinelServer, make(options))
