import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Redacted, Schedule } from "effect"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Sentinel from "../../src/testing/internal/Sentinel.ts"
import * as Account from "./account.ts"

// Real time: it is about real servers that change their roles. Everything waits for a signal; no duration is asserted.

const { isReady, untilState } = Account

const outcomes = ["ConnectionLost", "TransportError", "NoResponders", "DeadlineExceeded"] as const
const short = { commandTimeout: "300 millis", connectTimeout: "1 second" } as const

const pair = Effect.gen(function* () {
  const master = yield* RedisServer.make({ args: ["--repl-diskless-sync-delay", "0"] })
  const replica = yield* RedisServer.make({ args: ["--replicaof", "127.0.0.1", String(master.port)] })
  yield* replica.command("INFO", "replication").pipe(
    Effect.repeat({
      until: (info) => String(info).includes("master_link_status:up"),
      schedule: Schedule.spaced("20 millis")
    })
  )
  return { master, replica }
})

// Sentinel judges by its own clock: on a machine that stands still it takes a living master for dead, and then the roles are others than a test says.
const suspend = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), {
    timeout: 60_000,
    retry: 2
  })

describe("a failover by Sentinel", () => {
  for (const how of ["kill", "pause"] as const) {
    suspend(
      `after the master's ${how === "kill" ? "crash" : "freeze"}: typed outcomes during it, back without help`,
      Effect.gen(function* () {
        const { master, replica } = yield* pair
        const sentinel = yield* Sentinel.make({ name: "shop", master, password: "watch-word" })
        const options: RedisPubSub.Options = {
          // One that is not there comes first.
          sentinels: [{ host: "127.0.0.1", port: 1 }, sentinel],
          name: "shop",
          sentinelPassword: Redacted.make("watch-word"),
          ...short
        }
        const here = yield* RedisPubSub.make(options)
        const there = yield* RedisPubSub.make(options)
        assert.strictEqual(here.capabilities.receivers, "exact")
        assert.include(here.name, "/shop")
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(100)
        yield* account.during(
          Effect.gen(function* () {
            const gap = Effect.all([
              untilState(here, (state) => state.gaps > 0),
              untilState(there, (state) => state.gaps > 0)
            ])
            const lost = yield* Effect.forkChild(gap, { startImmediately: true })
            yield* master[how]
            yield* Fiber.join(lost)
            yield* untilState(here, isReady)
            yield* untilState(there, isReady)
          })
        )
        yield* account.allSucceed(100)
        account.balance(outcomes)
        assert.include(String(yield* replica.command("INFO", "replication")), "role:master")
        // Our clients hang on the new master.
        const clients = String(yield* replica.command("CLIENT", "LIST"))
        assert.lengthOf(clients.match(/name=fiberbus:/g) ?? [], 4)
        // The old one comes back as a replica and disturbs nobody.
        const { gaps } = here.state
        yield* how === "kill" ? master.start : master.resume
        // Sentinel closes all connections to it when it demotes it, this one too.
        yield* Effect.catch(master.command("INFO", "replication"), () => Effect.succeed("")).pipe(
          Effect.repeat({
            until: (info) => String(info).includes("role:slave"),
            schedule: Schedule.spaced("50 millis")
          })
        )
        yield* account.allSucceed(100)
        assert.strictEqual(here.state.gaps, gaps)
        account.balance(outcomes)
      })
    )
  }

  suspend(
    "names the Sentinels' trouble at the start, without the password",
    Effect.gen(function* () {
      const { master } = yield* pair
      const sentinel = yield* Sentinel.make({ name: "shop", master, password: "watch-word" })
      const failure = (options: RedisPubSub.Options) => Effect.flip(RedisPubSub.make({ ...short, ...options }))
      const away = yield* failure({ sentinels: [{ host: "127.0.0.1", port: 1 }], name: "shop" })
      assert.strictEqual(away.kind, "Unreachable")
      assert.include(away.detail, "sentinel 127.0.0.1:1")
      const unnamed = yield* failure({ sentinels: [sentinel], name: "other", sentinelPassword: "watch-word" })
      assert.strictEqual(unnamed.kind, "Unreachable")
      assert.include(unnamed.detail, "invalid reply: null")
      const wrong = yield* failure({ sentinels: [sentinel], name: "shop", sentinelPassword: "not-the-word" })
      assert.strictEqual(wrong.kind, "AuthenticationFailed")
      assert.notInclude(JSON.stringify(wrong), "not-the-word")
    })
  )
})

describe("TLS", () => {
  suspend(
    "is for the Sentinels and for the master alike",
    Effect.gen(function* () {
      const master = yield* RedisServer.make({ tls: {} })
      const tls = master.tls!
      const sentinel = yield* Sentinel.make({ name: "shop", master, tls })
      const here = yield* RedisPubSub.make({ sentinels: [sentinel], name: "shop", tls: { ca: tls.ca } })
      assert.match(here.name, /^rediss\+sentinel:/)
      assert.strictEqual(here.state._tag, "Ready")
      const plain = yield* Effect.flip(RedisPubSub.make({ sentinels: [sentinel], name: "shop", ...short }))
      assert.oneOf(plain.kind, ["Unreachable", "ProtocolError", "Timeout"])
      const strange = yield* Effect.flip(RedisPubSub.make({ sentinels: [sentinel], name: "shop", tls: true, ...short }))
      assert.oneOf(strange.kind, ["Unreachable", "ProtocolError"])
    })
  )
})

describe("a master that becomes a replica", () => {
  suspend(
    "is left within the interval of the checks, and taken again when it is a master",
    Effect.gen(function* () {
      const { master, replica } = yield* pair
      const here = yield* RedisPubSub.make({ url: master.url, ...short })
      assert.strictEqual(here.capabilities.receivers, "exact")
      yield* here.subscribe({ _tag: "Channel", channel: "role" }, () => {})
      // By hand: nobody cuts the connections.
      yield* master.command("REPLICAOF", "127.0.0.1", replica.port)
      const state = yield* untilState(here, (state) => state._tag === "Degraded" && state.down)
      assert.isTrue(state._tag === "Degraded" && /replica now/.test(state.error.detail))
      assert.strictEqual(state.gaps, 1)
      yield* master.command("REPLICAOF", "NO", "ONE")
      yield* untilState(here, isReady)
      assert.strictEqual(here.capabilities.receivers, "exact")
    })
  )
})
