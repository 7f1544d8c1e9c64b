import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { Durable, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import * as Sentinel from "../../src/testing/internal/Sentinel.ts"
import { isDown, untilState } from "../resilience/account.ts"
import * as Account from "./account.ts"

// Real time: it is about real servers that change their roles. Everything waits for a signal; no duration is asserted.

type Server = RedisServer.RedisServer["Service"]

const test = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), 120_000)

/** Waits until a server says something of its replication. The connection may be cut as it changes its role. */
const says = (server: Server, ...texts: ReadonlyArray<string>) =>
  Effect.catch(server.command("INFO", "replication"), () => Effect.succeed("")).pipe(
    Effect.repeat({
      until: (info) => texts.every((text) => String(info).includes(text)),
      schedule: Schedule.spaced("20 millis")
    })
  )

const pair = Effect.gen(function* () {
  // One that came back empty, and was taken for the master once more, would empty its replica.
  const args = ["--repl-diskless-sync-delay", "0", "--appendonly", "yes"]
  const master = yield* RedisServer.make({ args })
  const replica = yield* RedisServer.make({ args: [...args, "--replicaof", "127.0.0.1", String(master.port)] })
  yield* says(replica, "master_link_status:up")
  return { master, replica }
})

for (const [how, fate] of [
  ["kill", "killed"],
  ["pause", "frozen"]
] as const) {
  test(
    `Durable work that a replica had confirmed is not lost while the master is ${fate} and Sentinel promotes the replica`,
    Effect.gen(function* () {
      const { master, replica } = yield* pair
      const sentinel = yield* Sentinel.make({ name: "shop", master })
      // On a busy machine Sentinel may take one for dead that is not: who is the master is asked each time.
      const current = Effect.map(sentinel.command("GET-MASTER-ADDR-BY-NAME", "shop"), (address) =>
        Number((address as ReadonlyArray<string>)[1]) === master.port ? master : replica
      )
      const isWhole = Effect.gen(function* () {
        const info = yield* Effect.orElseSucceed((yield* current).command("INFO", "replication"), () => "")
        return String(info).includes("role:master") && String(info).includes("state=online")
      })
      const account = yield* Account.make({
        bus: RedisStreams.layer({ sentinels: [sentinel], name: "shop", replicas: 1, ...Account.quick }),
        partitions: 1,
        names: ["ledger"],
        ask: (_, ...words) => Effect.flatMap(current, ({ command }) => command(...words)),
        idle: "1 second"
      })
      yield* account.some(20)
      yield* account.during(
        Effect.gen(function* () {
          const victim = yield* current
          yield* victim[how]
          yield* Account.until(Effect.map(current, (now) => now !== victim))
          // It comes back as a replica: without one, nothing is confirmed.
          yield* how === "kill" ? victim.start : victim.resume
          yield* Account.until(isWhole)
        })
      )
      yield* account.some(20)
      const { handlings, sent } = yield* account.balance
      assert.isAtLeast(handlings, sent)
    })
  )
}

test(
  "Durable work is handled once when Redis is frozen in its middle for longer than its connections live",
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    // Longer than it is frozen: nothing is taken over.
    const options: RedisStreams.Options = { url: server.url, ...Account.quick, commandTimeout: "300 millis" }
    const account = yield* Account.make({
      bus: RedisStreams.layer(options),
      partitions: 1,
      names: ["ledger"],
      ask: (_, ...words) => server.command(...words),
      idle: "10 minutes"
    })
    const watch = Context.get(yield* Layer.build(Layer.fresh(RedisStreams.layer(options))), Transport.Transport)
    yield* account.some(20)
    for (const _ of [1, 2]) {
      yield* account.during(
        Effect.gen(function* () {
          const lost = yield* Effect.forkChild(untilState(watch, isDown), { startImmediately: true })
          yield* server.pause
          yield* Fiber.join(lost)
          yield* server.resume
          yield* untilState(watch, ({ _tag }) => _tag === "Ready")
        })
      )
    }
    yield* account.some(20)
    const { handlings, sent } = yield* account.balance
    assert.strictEqual(handlings, sent)
  })
)

const append = (store: Durable.Durable["Service"], id: string) =>
  Effect.callback<Durable.Appended, Transport.TransportError>((resume) =>
    store.append("{q}", { id, frame: "{}", key: "", delayMillis: 0 }, (error, appended) =>
      resume(error === undefined ? Effect.succeed(appended!) : Effect.fail(error))
    )
  )

const tagOf = (store: Durable.Durable["Service"], id: string) =>
  Effect.callback<string, Transport.TransportError>((resume) =>
    store.state("{q}", id, (error, state) =>
      resume(error === undefined ? Effect.succeed(state!._tag) : Effect.fail(error))
    )
  )

const storeAt = ({ url }: Server, options?: RedisStreams.Options) =>
  Effect.map(
    Layer.build(Layer.fresh(RedisStreams.layerDurable({ url, ...Account.quick, ...options }))),
    Context.get(Durable.Durable)
  )

test(
  "A failover loses what was kept and not copied, and with replicas that is not confirmed",
  Effect.gen(function* () {
    const { master, replica } = yield* pair
    const plain = yield* storeAt(master)
    const careful = yield* storeAt(master, { replicas: 1 })
    // The replica may be busy with its first copy for longer than it may take.
    const copied = yield* Effect.retry(append(careful, "copied"), {
      while: ({ sent }) => sent === "unknown",
      times: 20
    })
    assert.include(["Added", "Waiting"], copied._tag)
    // It stands still, and its connection is cut: what comes now does not reach it.
    yield* replica.pause
    yield* master.command("CLIENT", "KILL", "TYPE", "replica")
    assert.strictEqual((yield* append(plain, "plain"))._tag, "Added")
    const error = yield* Effect.flip(append(careful, "careful"))
    assert.deepStrictEqual([error.kind, error.sent], ["Unreachable", "unknown"])
    assert.include(error.detail, "0 had it within 500 ms")
    // Asked for again by its id it is there, and is confirmed no more than before.
    assert.strictEqual((yield* Effect.flip(append(careful, "careful"))).sent, "unknown")
    yield* master.kill
    yield* replica.resume
    yield* replica.command("REPLICAOF", "NO", "ONE")
    const next = yield* storeAt(replica)
    assert.deepStrictEqual(yield* Effect.forEach(["copied", "plain", "careful"], (id) => tagOf(next, id)), [
      "Waiting",
      "Unknown",
      "Unknown"
    ])
  })
)

test(
  "Nothing is kept where Redis wants more replicas than it has, and it is when they are there",
  Effect.gen(function* () {
    const server = yield* RedisServer.make()
    yield* storeAt(server)
    yield* server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    const store = yield* storeAt(server)
    const error = yield* Effect.flip(append(store, "1"))
    assert.deepStrictEqual([error.kind, error.sent], ["Unreachable", "no"])
    assert.include(error.detail, "NOREPLICAS")
    yield* server.command("CONFIG", "SET", "min-replicas-to-write", "0")
    assert.strictEqual((yield* append(store, "1"))._tag, "Added")
  })
)

test(
  "A connection that only waits for messages leaves a Redis that has become a replica",
  Effect.gen(function* () {
    const { master, replica } = yield* pair
    const store = yield* storeAt(master)
    const consumer = yield* store.consume({
      queue: "{q}",
      group: "g",
      consumer: "c",
      idleMillis: 60_000,
      windowMillis: 60_000,
      maxDeadLetters: 1
    })
    const connection = Effect.map(
      master.command("CLIENT", "LIST"),
      (clients) => /^id=(\d+) .* name=fiberbus:consumer /m.exec(String(clients))?.[1]
    )
    const first = yield* connection
    assert.isString(first)
    // By hand, while nobody waits: its connections stay.
    yield* master.command("REPLICAOF", "127.0.0.1", replica.port)
    const error = yield* Effect.flip(consumer.read(1))
    assert.include(error.detail, "READONLY")
    yield* Account.until(Effect.map(connection, (now) => now !== undefined && now !== first))
  })
)
