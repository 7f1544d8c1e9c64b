import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Schedule, type Scope } from "effect"
import type { Transport } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { type Defences, RedisDefences } from "../../src/transport/internal/redisDefences.ts"
import * as Account from "./account.ts"
import * as Naive from "./naive.ts"

// Each fault twice: with the defence, and without it. A test of faults that passes without the defence shows nothing.

const { isDown, isReady, untilState } = Account

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope>) =>
  it.live(name, () => Effect.provide(effect, Logger.layer([])), 60_000)

const all: Defences = { heartbeat: true, resubscribe: true, roleMillis: 100 }

const guarded = (url: string, defences: Partial<Defences>, options?: RedisPubSub.Options) =>
  RedisPubSub.make({ url, reconnect: Schedule.spaced("20 millis"), ...options }).pipe(
    Effect.provideService(RedisDefences, { ...all, ...defences })
  )

const receivers = (transport: Transport.Transport["Service"], channel: string) =>
  Effect.callback<number>((resume) => transport.send(channel, "x", (_, count) => resume(Effect.succeed(count))))

/** What a defence brings about is waited for; without it, it does not come in a time that is many times what it takes. */
const happens = <A, E>(effect: Effect.Effect<A, E>, guarded: boolean) =>
  guarded
    ? Effect.as(effect, true)
    : Effect.timeoutOrElse(Effect.as(effect, true), { duration: "1500 millis", orElse: () => Effect.succeed(false) })

const proxied = Effect.gen(function* () {
  const redis = yield* RedisServer.make()
  const proxy = yield* Faults.proxy(redis)
  return { redis, proxy, url: proxy.through(redis.url) }
})

describe("no resending", () => {
  for (const naive of [false, true]) {
    test(
      naive
        ? "without it (ioredis as it comes) a request whose reply was lost runs twice, and the account sees it"
        : "with it a request whose reply was lost runs once",
      Effect.gen(function* () {
        const { redis, proxy, url } = yield* proxied
        // With frames this small nothing is packed: each request is a PUBLISH of its own.
        const here = naive ? yield* Naive.make(url) : yield* guarded(url, {}, { maxFrameBytes: 32_767 })
        const there = yield* RedisPubSub.make({ url: redis.url })
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(10)
        const cut = yield* proxy.cutAt({ command: "PUBLISH", count: 3, when: "forwarded" })
        const calls = yield* Effect.forkChild(account.calls(5, { millis: 100, timeout: 2000 }), {
          startImmediately: true
        })
        yield* cut
        yield* Fiber.join(calls)
        yield* account
          .call()
          .pipe(
            Effect.repeat(Schedule.while(Schedule.spaced("20 millis"), ({ input }) => "reason" in (input as object)))
          )
        const { problems } = account.ledger.balance()
        assert.deepStrictEqual(problems, naive ? ["call 12 was run 2 times", "call 12 was answered after 2 runs"] : [])
      })
    )
  }
})

describe("the heartbeat", () => {
  for (const heartbeat of [true, false]) {
    test(
      heartbeat
        ? "with it a half-open link that is quiet is found"
        : "without it a half-open link that is quiet is never found, and what is sent to it is lost",
      Effect.gen(function* () {
        const { redis, proxy, url } = yield* proxied
        // The question after the role would find a dead publisher as well.
        const here = yield* guarded(url, { heartbeat, roleMillis: undefined }, { commandTimeout: "50 millis" })
        let heard = 0
        yield* here.subscribe({ _tag: "Channel", channel: "quiet" }, () => {
          heard++
        })
        yield* proxy.blackhole
        assert.strictEqual(yield* happens(untilState(here, isDown), heartbeat), heartbeat)
        if (heartbeat) return
        assert.strictEqual(here.state._tag, "Ready")
        assert.strictEqual(yield* redis.command("PUBLISH", "quiet", "x"), 1)
        assert.strictEqual(heard, 0)
      })
    )
  }
})

describe("our own subscribing on each new connection", () => {
  for (const resubscribe of [true, false]) {
    test(
      resubscribe
        ? "with it a service hears again after a cut"
        : "without it a service is deaf after a cut, although its link is ready",
      Effect.gen(function* () {
        const { redis, proxy, url } = yield* proxied
        const here = yield* RedisPubSub.make({ url: redis.url })
        const there = yield* guarded(url, { resubscribe })
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(10)
        yield* proxy.cut
        yield* untilState(there, ({ gaps }) => gaps > 0)
        yield* untilState(there, isReady)
        const outcome = yield* account.call()
        if (resubscribe) assert.isFalse("reason" in outcome)
        else assert.isTrue("reason" in outcome && outcome.reason._tag === "NoResponders")
      })
    )
  }

  test(
    "ioredis' own forgets what was cut before its confirmation, and is ready all the same",
    Effect.gen(function* () {
      const { redis, proxy, url } = yield* proxied
      const client = yield* Naive.client(url, { autoResendUnfulfilledCommands: false })
      yield* Effect.promise(() => client.subscribe("a"))
      assert.strictEqual(yield* redis.command("PUBLISH", "a", "x"), 1)
      const cut = yield* proxy.cutAt({ command: "SUBSCRIBE", when: "forwarded" })
      const lost = Effect.callback<void>((resume) => void client.once("close", () => resume(Effect.void)))
      const ready = Effect.callback<void>((resume) => void client.once("ready", () => resume(Effect.void)))
      const twice = yield* Effect.forkChild(Effect.andThen(lost, lost), { startImmediately: true })
      yield* proxy.cut
      yield* cut
      yield* Fiber.join(twice)
      yield* ready
      // Whatever it asked for first on this connection has been answered.
      yield* Effect.promise(() => client.ping())
      assert.strictEqual(client.status, "ready")
      assert.strictEqual(yield* redis.command("PUBLISH", "a", "x"), 0)
    })
  )
})

describe("one channel per SUBSCRIBE", () => {
  test(
    "without it (ioredis, two channels, a cut between their confirmations) replies slip",
    Effect.gen(function* () {
      const { proxy, url } = yield* proxied
      const client = yield* Naive.client(url)
      const cut = yield* proxy.cutAt({ command: "SUBSCRIBE", when: "answered" })
      const subscribing = client.subscribe("a", "b")
      const questions = ["1", "2", "3"].map((question) => client.call("PING", question))
      yield* cut
      yield* Effect.promise(() => subscribing)
      // The last one waits for ever.
      const answers = yield* Effect.promise(() => Promise.all(questions.slice(0, 2)))
      assert.notDeepEqual(answers.map(String), ["1", "2"])
    })
  )

  test(
    "without it one refused channel costs the others theirs",
    Effect.gen(function* () {
      const { redis, url } = yield* proxied
      const client = yield* Naive.client(url)
      yield* redis.command("ACL", "SETUSER", "default", "resetchannels", "&a")
      const refused = yield* Effect.promise(() => client.subscribe("a", "b").then(String, String))
      assert.include(refused, "NOPERM")
      assert.strictEqual(yield* redis.command("PUBLISH", "a", "x"), 0)
    })
  )
})

describe("the question after the role", () => {
  for (const asked of [true, false]) {
    test(
      asked
        ? "with it a demoted master is left"
        : "without it a demoted master is kept, and what is sent there reaches nobody on the new one",
      Effect.gen(function* () {
        const old = yield* RedisServer.make()
        const master = yield* RedisServer.make({ args: ["--repl-diskless-sync-delay", "0"] })
        const here = yield* guarded(old.url, asked ? {} : { roleMillis: undefined })
        const there = yield* RedisPubSub.make({ url: master.url })
        yield* there.subscribe({ _tag: "Channel", channel: "news" }, () => {})
        yield* old.command("REPLICAOF", "127.0.0.1", master.port)
        assert.strictEqual(yield* happens(untilState(here, isDown), asked), asked)
        if (asked) return
        assert.strictEqual(here.state._tag, "Ready")
        assert.strictEqual(here.capabilities.receivers, "exact")
        assert.strictEqual(yield* receivers(here, "news"), 0)
        assert.strictEqual(yield* receivers(there, "news"), 1)
      })
    )
  }
})
