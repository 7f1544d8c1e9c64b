import { spawnSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, Metric, Schedule, Stream } from "effect"
import { type CallError, Transport } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { Redis } from "ioredis"
import * as LinkMetrics from "../../src/transport/LinkMetrics.ts"
import * as Account from "./account.ts"

// Real time: it is about sockets and a real server. Everything waits for a signal; no duration is asserted.

const { isDown, isReady, untilState } = Account

/** What a fault of the link may bring to a call; NoResponders and DeadlineExceeded where the service's side was gone. */
const outcomes: ReadonlyArray<CallError.CallErrorReason["_tag"]> = [
  "ConnectionLost",
  "TransportError",
  "NoResponders",
  "DeadlineExceeded"
]

const short = { commandTimeout: "300 millis" } as const

/** A server, a caller and a service. Before and after the fault nothing may be lost. */
const faulted = Effect.fnUntraced(
  function* (
    redis: RedisServer.RedisServer["Service"],
    fault: Effect.Effect<unknown, RedisServer.RedisServerError>,
    options: RedisPubSub.Options = short
  ) {
    const here = yield* RedisPubSub.make({ url: redis.url, ...options })
    const there = yield* RedisPubSub.make({ url: redis.url, ...options })
    const account = yield* Account.make(here, there)
    yield* account.allSucceed(100)
    const both = Effect.all([untilState(here, isReady), untilState(there, isReady)])
    yield* account.during(
      Effect.gen(function* () {
        const gaps = here.state.gaps
        const lost = yield* Effect.forkChild(
          Effect.all([untilState(here, (state) => state.gaps > gaps), untilState(there, (state) => state.gaps > 0)]),
          { startImmediately: true }
        )
        yield* fault
        yield* Fiber.join(lost)
        yield* both
      })
    )
    yield* both
    yield* account.allSucceed(100)
    const { sent, failed } = account.balance(outcomes)
    assert.isAbove(sent, 200)
    return { failed, gaps: here.state.gaps }
  },
  Effect.provide(Logger.layer([]))
)

describe("a fault of Redis with calls in flight", () => {
  it.live("restart: each call ends once, none runs twice, all is well after it", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      yield* faulted(redis, redis.restart)
    })
  )

  it.live("crash and a new start: the same", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      yield* faulted(redis, Effect.andThen(redis.kill, redis.start))
    })
  )

  it.live("CLIENT KILL of all connections: the same", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      yield* faulted(
        redis,
        Effect.andThen(
          redis.command("CLIENT", "KILL", "TYPE", "pubsub"),
          redis.command("CLIENT", "KILL", "TYPE", "normal")
        )
      )
    })
  )

  it.live("frozen and thawed (SIGSTOP): the same", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      yield* faulted(
        redis,
        Effect.gen(function* () {
          yield* redis.pause
          // Until the links have been given up: the server itself says nothing.
          yield* Effect.sleep("2 seconds")
          yield* redis.resume
        })
      )
    })
  )

  it.live("CLIENT PAUSE of writes: calls end in time, and the link is kept or comes back", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      const here = yield* RedisPubSub.make({ url: redis.url, ...short })
      const there = yield* RedisPubSub.make({ url: redis.url, ...short })
      const account = yield* Account.make(here, there)
      yield* account.allSucceed(100)
      yield* redis.command("CLIENT", "PAUSE", 1000, "ALL")
      const paused = yield* account.calls(50, { timeout: 200 })
      assert.isTrue(paused.every((outcome) => "reason" in outcome))
      yield* redis.command("CLIENT", "UNPAUSE")
      yield* untilState(here, isReady)
      yield* untilState(there, isReady)
      // Sides learn of a loss one after the other.
      yield* account
        .call()
        .pipe(Effect.repeat(Schedule.while(Schedule.spaced("20 millis"), ({ input }) => "reason" in (input as object))))
      yield* account.allSucceed(100)
      account.balance(outcomes)
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("no connection left (maxclients): typed and backed off, and back when there is room", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make({ args: ["--maxclients", "20"] })
      const here = yield* RedisPubSub.make({ url: redis.url, ...short })
      const there = yield* RedisPubSub.make({ url: redis.url, ...short })
      const account = yield* Account.make(here, there)
      yield* account.allSucceed(10)
      // Held all the time, for there is no way in afterwards.
      const admin = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new Redis(redis.url)
          await client.ping()
          return client
        }),
        (client) => Effect.sync(() => client.disconnect())
      )
      const order = (name: string, ...args: ReadonlyArray<string>) => Effect.promise(() => admin.call(name, ...args))
      yield* order("CONFIG", "SET", "maxclients", "1")
      yield* account.during(
        Effect.gen(function* () {
          yield* order("CLIENT", "KILL", "TYPE", "pubsub")
          const state = yield* untilState(
            here,
            (state) => state._tag === "Degraded" && /max number of clients/.test(state.error.detail)
          )
          assert.strictEqual(state._tag === "Degraded" ? state.error.kind : "", "Unreachable")
          yield* order("CONFIG", "SET", "maxclients", "20")
          yield* untilState(here, isReady)
          yield* untilState(there, isReady)
        })
      )
      yield* account.allSucceed(100)
      account.balance(outcomes)
    }).pipe(Effect.provide(Logger.layer([])))
  )
})

describe("the subscriber alone", () => {
  it.live("is lost: pending calls end at once with ConnectionLost, and the state tells of the gap", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      const here = yield* RedisPubSub.make({ url: redis.url })
      const there = yield* RedisPubSub.make({ url: redis.url })
      const account = yield* Account.make(here, there)
      const states: Array<string> = []
      yield* Transport.states.pipe(
        Stream.runForEach((state) => Effect.sync(() => states.push(`${state._tag} ${state.gaps}`))),
        Effect.provideService(Transport.Transport, here),
        Effect.forkScoped
      )
      const calls = yield* Effect.forkChild(account.calls(100, { millis: 60_000, timeout: 60_000 }))
      // The service has them all.
      yield* Effect.sync(() => account.pending() === 100).pipe(
        Effect.repeat({ until: (all) => all, schedule: Schedule.spaced("10 millis") })
      )
      yield* account.allSucceed(1)
      const ids = String(yield* redis.command("CLIENT", "LIST", "TYPE", "pubsub"))
        .split("\n")
        .flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? [])
        .map(Number)
      // The older one is the caller's.
      yield* redis.command("CLIENT", "KILL", "ID", Math.min(...ids))
      for (const outcome of yield* Fiber.join(calls)) {
        assert.isTrue("reason" in outcome && outcome.reason._tag === "ConnectionLost" && outcome.started === "unknown")
      }
      yield* untilState(here, isReady)
      assert.strictEqual(there.state.gaps, 0)
      yield* account.allSucceed(100)
      account.balance(["ConnectionLost"])
      assert.deepStrictEqual(states, ["Ready 0", "Degraded 1", "Ready 1"])
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("is cut by Redis because it reads too slowly, and that is what is told", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const told = yield* Deferred.make<string>()
      const logger = Logger.make(({ message }) => {
        const line = String(message)
        lines.push(line)
        if (line.includes("client-output-buffer-limit")) Deferred.doneUnsafe(told, Effect.succeed(line))
      })
      yield* Effect.gen(function* () {
        const redis = yield* RedisServer.make({ args: ["--client-output-buffer-limit", "pubsub 1mb 0 0"] })
        const here = yield* RedisPubSub.make({ url: redis.url })
        const there = yield* RedisPubSub.make({ url: redis.url })
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(10)
        let frames = 0
        yield* here.subscribe({ _tag: "Channel", channel: "flood" }, () => {
          frames++
        })
        const lost = yield* Effect.forkChild(untilState(here, isDown), { startImmediately: true })
        // This process stands still while another one publishes more than the sockets and the limit can hold.
        const program = `
          import { Redis } from "ioredis"
          const redis = new Redis(${JSON.stringify(redis.url)})
          for (let i = 0; i < 64; i++) await redis.publish("flood", "x".repeat(1_000_000))
          setTimeout(() => redis.disconnect(), 1500)`
        const { status } = spawnSync(process.execPath, ["--input-type=module", "--eval", program])
        assert.strictEqual(status, 0)
        const state = yield* Fiber.join(lost)
        assert.strictEqual(state.gaps, 1)
        const line = yield* Deferred.await(told)
        assert.match(line, /cut the subscriber/)
        yield* untilState(here, isReady)
        yield* untilState(there, isReady)
        assert.isBelow(frames, 64)
        yield* account.allSucceed(100)
        account.balance([])
        const cuts = yield* Metric.value(
          Metric.withAttributes(LinkMetrics.slowSubscriberCuts, { transport: here.name })
        )
        assert.strictEqual(cuts.count, 1)
      }).pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(Metric.MetricRegistry, new Map()))
    })
  )

  it.live("is killed while idle: that is told as no more than a lost link", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function* () {
        const redis = yield* RedisServer.make()
        const here = yield* RedisPubSub.make({ url: redis.url })
        yield* here.subscribe({ _tag: "Channel", channel: "idle" }, () => {})
        const lost = yield* Effect.forkChild(untilState(here, isDown), { startImmediately: true })
        yield* redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        yield* Fiber.join(lost)
        yield* untilState(here, isReady)
        // The question after the reason has been answered by then, for this follows it on the same connection.
        yield* Transport.publish("x", "x").pipe(Effect.provideService(Transport.Transport, here))
        assert.isFalse(lines.some((line) => line.includes("client-output-buffer-limit")))
      }).pipe(Effect.provide(Logger.layer([logger])))
    })
  )
})

describe("while the link is down", () => {
  const cutOff = Effect.fnUntraced(function* (options?: RedisPubSub.Options) {
    const redis = yield* RedisServer.make()
    const proxy = yield* Faults.proxy({ host: "127.0.0.1", port: redis.port })
    const here = yield* RedisPubSub.make({ url: proxy.through(redis.url), ...options })
    const there = yield* RedisPubSub.make({ url: redis.url })
    const account = yield* Account.make(here, there)
    yield* account.allSucceed(10)
    yield* proxy.refuse
    yield* proxy.cut
    yield* untilState(here, isDown)
    return { proxy, here, account }
  })

  it.live("calls wait for it, and are sent once", () =>
    Effect.gen(function* () {
      const { proxy, account, here } = yield* cutOff({ whileDown: { buffer: 100, for: "20 seconds" } })
      const waiting = yield* Effect.forkChild(account.calls(100, { timeout: 20_000 }), { startImmediately: true })
      assert.strictEqual(account.pending(), 100)
      const refused = yield* account.call()
      assert.isTrue("reason" in refused && refused.reason._tag === "TransportError" && refused.started === "no")
      yield* proxy.accept
      for (const outcome of yield* Fiber.join(waiting)) assert.isFalse("reason" in outcome)
      assert.strictEqual(here.state._tag, "Ready")
      assert.strictEqual(account.balance(["TransportError"]).failed["TransportError ConnectionLost no"], 1)
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("an answer waits for the publisher it finds lost", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      const here = yield* RedisPubSub.make({ url: redis.url })
      const there = yield* RedisPubSub.make({
        url: redis.url,
        reconnect: Schedule.spaced("200 millis"),
        whileDown: { for: "20 seconds" }
      })
      const account = yield* Account.make(here, there)
      yield* account.allSucceed(1)
      const publishers = String(yield* redis.command("CLIENT", "LIST"))
        .split("\n")
        .filter((line) => line.includes("name=fiberbus:publisher"))
        .map((line) => Number(/^id=(\d+)/.exec(line)?.[1]))
      // The handlers end while the publisher, the younger one, is away.
      const calls = yield* Effect.forkChild(account.calls(50, { millis: 150, timeout: 20_000 }), {
        startImmediately: true
      })
      const lost = yield* Effect.forkChild(untilState(there, isDown), { startImmediately: true })
      yield* redis.command("CLIENT", "KILL", "ID", Math.max(...publishers))
      yield* Fiber.join(lost)
      for (const outcome of yield* Fiber.join(calls)) assert.isFalse("reason" in outcome)
      account.balance([])
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("calls fail at once where they may not wait", () =>
    Effect.gen(function* () {
      const { account } = yield* cutOff({ whileDown: "fail" })
      const all = yield* account.calls(100, { timeout: 20_000 })
      for (const outcome of all) {
        assert.isTrue("reason" in outcome && outcome.reason._tag === "TransportError" && outcome.started === "no")
      }
      account.balance(["TransportError"])
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("a schedule that ends closes the transport loudly, and ends the calls", () =>
    Effect.gen(function* () {
      const errors: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel === "Error") errors.push(String(message))
      })
      yield* Effect.gen(function* () {
        const { account, here } = yield* cutOff({
          reconnect: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 4 })),
          whileDown: { for: "20 seconds" }
        })
        const held = yield* account.call({ timeout: 20_000 })
        assert.isTrue("reason" in held && held.started === "no" && held.reason._tag === "TransportError")
        const { state } = here
        assert.isTrue(state._tag === "Closed" && state.error?.kind === "Closed" && /given up/.test(state.error.detail))
        assert.lengthOf(errors, 1)
        const late = yield* account.call()
        assert.isTrue("reason" in late && late.started === "no")
        account.balance(["TransportError"])
      }).pipe(Effect.provide(Logger.layer([logger])))
    })
  )

  it.live("metrics count reconnects and gaps, and show the state", () =>
    Effect.gen(function* () {
      const redis = yield* RedisServer.make()
      const here = yield* RedisPubSub.make({ url: redis.url })
      const value = <I, S>(metric: Metric.Metric<I, S>, more?: Record<string, string>) =>
        Metric.value(Metric.withAttributes(metric, { transport: here.name, ...more }))
      assert.strictEqual((yield* value(LinkMetrics.state)).value, 1)
      const lost = yield* Effect.forkChild(untilState(here, isDown), { startImmediately: true })
      yield* redis.stop
      yield* Fiber.join(lost)
      assert.strictEqual((yield* value(LinkMetrics.state)).value, 0)
      yield* redis.start
      yield* untilState(here, isReady)
      assert.strictEqual((yield* value(LinkMetrics.state)).value, 1)
      assert.strictEqual((yield* value(LinkMetrics.gaps)).count, 1)
      for (const connection of ["publisher", "subscriber"]) {
        assert.strictEqual((yield* value(LinkMetrics.reconnects, { connection })).count, 1)
      }
    }).pipe(Effect.provide(Logger.layer([])), Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
