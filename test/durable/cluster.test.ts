import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Logger, Option, Queue, Schedule, Schema, type Scope } from "effect"
import { Action, Caller, DeadLetters, Durable, Handlers, Service, type Transport } from "fiberbus"
import { RedisClusterServer } from "fiberbus/testing"
import type * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import * as Account from "./account.ts"

// Real time: it is about real servers that change their roles. Everything waits for a signal; no duration is asserted.

const { until } = Account
type Cluster = RedisClusterServer.RedisClusterServer["Service"]

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite }, success: { n: Schema.Finite } }).pipe(
    Action.annotate(Action.Delivery, "durable"),
    Action.annotate(Action.Timeout, "20 seconds")
  )
)

const jobs = (run: (n: number) => Effect.Effect<unknown>, options?: Parameters<typeof Handlers.layer>[2]) =>
  Handlers.layer(
    Jobs,
    { run: ({ n }) => Effect.as(run(n), { n }) },
    { durable: { retry: Schedule.spaced("10 millis"), deliveries: 3, idle: "300 millis" }, ...options }
  )

let prefixes = 0

/** A bus whose names nobody else uses. */
const busOn = ({ nodes }: Cluster, options?: Partial<RedisCluster.Options>) =>
  RedisStreams.layerCluster({ nodes, prefix: `t${++prefixes}:`, ...options })

const quietly = Effect.provide(Logger.layer([]))

/** How often a command was executed, over all masters. */
const executed = (cluster: Cluster, name: string) =>
  Effect.map(
    Effect.forEach(cluster.members, ({ server }) => server.command("INFO", "commandstats")),
    (all) =>
      all.reduce(
        (sum: number, info) => sum + Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(info))?.[1] ?? 0),
        0
      )
  )

it.layer(RedisClusterServer.layer(), { excludeTestServices: true, timeout: "60 seconds" })(
  "Over a Redis Cluster a durable action",
  (it) => {
    const test = <E>(name: string, effect: (cluster: Cluster) => Effect.Effect<void, E, Scope.Scope>) =>
      it.effect(name, () =>
        RedisClusterServer.RedisClusterServer.use((cluster) => quietly(Effect.scoped(effect(cluster))))
      )

    for (const pubsub of ["sharded", "classic"] as const) {
      test(`answers its callers at once where pub/sub is ${pubsub}, and leaves nothing behind`, (cluster) =>
        Effect.gen(function* () {
          const prefix = `answers-${pubsub}:`
          yield* Layer.build(
            Layer.provide(
              jobs(() => Effect.void),
              busOn(cluster, { pubsub, prefix })
            )
          )
          const bus = yield* Layer.build(busOn(cluster, { pubsub, prefix }))
          const store = Context.get(bus, Durable.Durable)
          let looks = 0
          const counting = Context.add(bus, Durable.Durable, {
            ...store,
            state: (...of) => {
              looks++
              store.state(...of)
            }
          })
          const caller = yield* Caller.make(Jobs).pipe(Effect.provideContext(counting))
          const results = yield* Effect.forEach(
            Array.from({ length: 200 }, (_, n) => n),
            (n) => caller.run({ n }),
            {
              concurrency: 50
            }
          )
          assert.deepStrictEqual(
            results.map(({ n }) => n),
            Array.from({ length: 200 }, (_, n) => n)
          )
          // The answers have come by themselves: nobody had to look for them.
          assert.strictEqual(looks, 0)
          assert.strictEqual(store.capabilities.publishes, pubsub === "classic")
          const { server } = yield* cluster.ownerOf(`${prefix}{jobs}`)
          assert.strictEqual(yield* server.command("XLEN", `${prefix}{jobs}.requests`), 0)
        }))

      test(`has receipts, delays, keys and dead letters where pub/sub is ${pubsub}`, (cluster) =>
        Effect.gen(function* () {
          const order: Array<number> = []
          const open = yield* Deferred.make<void>()
          const begun = yield* Queue.unbounded<number>()
          let fails = true
          const run = (n: number) =>
            Effect.gen(function* () {
              order.push(n)
              yield* Queue.offer(begun, n)
              if (n === 1) yield* Deferred.await(open)
              if (n === 9 && fails) yield* Effect.die(new Error("no disk"))
            })
          yield* Effect.gen(function* () {
            yield* Layer.build(jobs(run))
            const caller = yield* Caller.make(Jobs)
            const one = yield* caller.run.enqueue({ n: 1 }, { id: "one", key: "ann" })
            const two = yield* caller.run.enqueue({ n: 2 }, { key: "ann" })
            const late = yield* caller.run.enqueue({ n: 3 }, { delay: "50 millis" })
            const other = yield* caller.run.enqueue({ n: 4 }, { key: "bob" })
            assert.deepStrictEqual(yield* other.await(), { n: 4 })
            assert.deepStrictEqual(yield* late.await(), { n: 3 })
            assert.deepStrictEqual(yield* one.poll, Option.none())
            assert.notInclude(order, 2)
            yield* Deferred.succeed(open, undefined)
            assert.deepStrictEqual(yield* two.await(), { n: 2 })
            assert.deepStrictEqual(yield* caller.run.receipt("one").poll, Option.some({ n: 1 }))
            yield* caller.run.enqueue({ n: 5 }, { id: "one" })
            assert.deepStrictEqual(yield* caller.run.receipt("one").await(), { n: 1 })

            const failed = yield* Effect.flip(caller.run({ n: 9 }))
            assert.deepStrictEqual([failed._tag, failed.reason._tag], ["CallError", "RemoteDefect"])
            const [letter] = yield* DeadLetters.list(Jobs)
            assert.deepStrictEqual([letter!.reason, letter!.deliveries], ["Defect", 3])
            fails = false
            assert.strictEqual(yield* DeadLetters.replayAll(Jobs), 1)
            assert.deepStrictEqual(yield* caller.run.receipt(letter!.id).await(), { n: 9 })
            assert.strictEqual(yield* DeadLetters.size(Jobs), 0)
          }).pipe(Effect.provide(busOn(cluster, { pubsub })))
        }))
    }

    test("goes on when all masters have lost the functions", (cluster) =>
      Effect.gen(function* () {
        yield* Layer.build(jobs(() => Effect.void))
        const caller = yield* Caller.make(Jobs)
        yield* caller.run({ n: 1 })
        for (const { server } of cluster.members) yield* server.command("FUNCTION", "FLUSH")
        assert.deepStrictEqual(yield* caller.run({ n: 2 }), { n: 2 })
      }).pipe(Effect.provide(busOn(cluster))))

    test("waits while the keys of its slot are on their way, and is handled once at their new master", (cluster) =>
      Effect.gen(function* () {
        const prefix = "moves:"
        const bus = () => Layer.fresh(busOn(cluster, { prefix }))
        const queue = `${prefix}{jobs}`
        const runs = new Map<number, number>()
        const open = yield* Deferred.make<void>()
        const begun = yield* Queue.unbounded<number>()
        const run = (n: number) =>
          Effect.gen(function* () {
            runs.set(n, (runs.get(n) ?? 0) + 1)
            yield* Queue.offer(begun, n)
            if (n === 1) yield* Deferred.await(open)
          })
        // Longer than the move takes: nothing is taken over.
        const durable = { idle: "1 minute" } as const
        yield* Layer.build(Layer.provide(jobs(run, { durable, concurrency: 2 }), bus()))
        const caller = yield* Caller.make(Jobs).pipe(Effect.provideContext(yield* Layer.build(bus())))
        // One in hand, one behind it by its key, one that is due later; and the reads of the worker wait.
        const receipts = [
          yield* caller.run.enqueue({ n: 1 }, { key: "ann" }),
          yield* caller.run.enqueue({ n: 2 }, { key: "ann" }),
          yield* caller.run.enqueue({ n: 3 }, { delay: "10 millis" })
        ]
        yield* until(Effect.sync(() => runs.size === 2))
        const slot = cluster.slotOf(queue)
        const from = yield* cluster.ownerOf(queue)
        const to = cluster.members.find(({ id }) => id !== from.id)!
        const keysAt = (member: RedisClusterServer.Member) => member.server.command("CLUSTER", "COUNTKEYSINSLOT", slot)
        const before = yield* keysAt(from)
        const moving = yield* cluster.beginMove(slot, to)
        const during = yield* Effect.forkChild(
          Effect.forEach([4, 5, 6], (n) => caller.run({ n }, { timeout: "20 seconds" }), { concurrency: 3 }),
          { startImmediately: true }
        )
        yield* Deferred.succeed(open, undefined)
        // They are asked for again and again, and nothing is done at either master: half of it would be lost there.
        const asked = yield* executed(cluster, "fcall")
        yield* until(Effect.map(refused(cluster), (count) => count > 10))
        assert.strictEqual(yield* executed(cluster, "fcall"), asked)
        assert.deepStrictEqual([yield* keysAt(from), yield* keysAt(to)], [before, 0])
        yield* moving.finish
        assert.deepStrictEqual(
          (yield* Fiber.join(during)).map(({ n }) => n),
          [4, 5, 6]
        )
        for (const [index, receipt] of receipts.entries()) {
          assert.deepStrictEqual(yield* receipt.await(), { n: index + 1 })
        }
        assert.deepStrictEqual([...runs.values()], [1, 1, 1, 1, 1, 1])
        yield* until(Effect.map(to.server.command("XLEN", `${queue}.requests`), (length) => length === 0))
        assert.strictEqual(yield* keysAt(from), 0)
        // And back, with a read that waits.
        yield* cluster.moveSlot(slot, from)
        assert.deepStrictEqual(yield* caller.run({ n: 7 }), { n: 7 })
      }))

    test("fails where it may not be kept, and says why", (cluster) =>
      Effect.gen(function* () {
        const { nodes } = cluster
        const failure = (options: Partial<RedisStreams.ClusterOptions>) =>
          Effect.flip(Effect.scoped(RedisStreams.makeCluster({ nodes, ...options })))
        const strict = yield* failure({ strict: true })
        assert.strictEqual(strict.kind, "InvalidOptions")
        assert.include(strict.detail, "appendonly is off")
        assert.strictEqual((yield* failure({ nodes: [] })).kind, "InvalidOptions")
        const half = yield* failure({ replicas: 0.5 })
        assert.deepStrictEqual(
          [half.kind, half.detail],
          ["InvalidOptions", "replicas is no whole number between 0 and 100"]
        )
      }))
  }
)

/** Commands that were answered with TRYAGAIN, over all masters. */
const refused = (cluster: Cluster) =>
  Effect.map(
    Effect.forEach(cluster.members, ({ server }) => server.command("INFO", "errorstats")),
    (all) =>
      all.reduce((sum: number, info) => sum + Number(/errorstat_TRYAGAIN:count=(\d+)/.exec(String(info))?.[1] ?? 0), 0)
  )

const suspend = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => quietly(Effect.scoped(effect as Effect.Effect<A, E>)), 180_000)

describe("durable work over a cluster under load", () => {
  suspend(
    "loses nothing while each master is relieved by CLUSTER FAILOVER in turn, and while a slot moves",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({ replicas: 1 })
      const place = yield* Account.overCluster(cluster)
      const account = yield* Account.make(place)
      yield* account.some(20)
      for (const master of yield* cluster.masters) yield* account.during(Effect.asVoid(cluster.failover(master)))
      yield* account.some(20)
      const slot = cluster.slotOf(`{${place.names[0]}}`)
      const [first, second] = yield* cluster.masters
      for (const to of [first!, second!, first!]) yield* account.during(cluster.moveSlot(slot, to))
      yield* account.some(20)
      const { handlings, sent } = yield* account.balance
      assert.isAtLeast(handlings, sent)
    })
  )

  for (const [how, fate] of [
    ["kill", "killed"],
    ["pause", "frozen"]
  ] as const) {
    suspend(
      `loses nothing that a replica had confirmed while a master is ${fate}, and another is promoted`,
      Effect.gen(function* () {
        // What is killed comes back with what it had, as it should.
        const cluster = yield* RedisClusterServer.make({ replicas: 1, args: ["--appendonly", "yes"] })
        const account = yield* Account.make(yield* Account.overCluster(cluster, { replicas: 1 }))
        yield* account.some(20)
        const [master] = yield* cluster.masters
        yield* account.during(
          Effect.gen(function* () {
            yield* master!.server[how]
            yield* cluster.promoted(master!)
            // It comes back as a replica: without one, nothing is confirmed at its successor.
            yield* how === "kill" ? master!.server.start : master!.server.resume
            yield* cluster.ready
          })
        )
        yield* account.some(20)
        const { handlings, sent } = yield* account.balance
        assert.isAtLeast(handlings, sent)
      })
    )
  }
})

describe("a master that is away", () => {
  suspend(
    "is missed by its own queues only, at the start and later",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({ args: ["--cluster-require-full-coverage", "no"] })
      const place = yield* Account.overCluster(cluster, { commandTimeout: "300 millis" })
      const [away, ...others] = yield* cluster.masters
      yield* away!.server.kill
      // Those who are there know.
      yield* until(
        Effect.map(
          Effect.forEach(others, ({ server }) => server.command("CLUSTER", "NODES")),
          (views) => views.every((view) => / master,fail /.test(String(view)))
        )
      )
      const bus = yield* Layer.build(Layer.fresh(place.bus))
      const store = Context.get(bus, Durable.Durable)
      const append = (name: string, id: string) =>
        Effect.callback<Durable.Appended, Transport.TransportError>((resume) =>
          store.append(`{${name}}`, { id, frame: "{}", key: "", delayMillis: 0 }, (error, appended) =>
            resume(error === undefined ? Effect.succeed(appended!) : Effect.fail(error))
          )
        )
      const [gone, ...there] = place.names
      const consuming = (name: string) =>
        store.consume({
          queue: `{${name}}`,
          group: "g",
          consumer: "c",
          idleMillis: 60_000,
          windowMillis: 60_000,
          maxDeadLetters: 1
        })
      for (const name of there) {
        assert.strictEqual((yield* append(name, "1"))._tag, "Added")
        const consumer = yield* consuming(name)
        assert.lengthOf(yield* consumer.read(1), 1)
      }
      const error = yield* Effect.flip(append(gone!, "1"))
      assert.strictEqual(error.sent, "no")
      assert.include(["Unreachable", "ConnectionLost"], error.kind)
      const unread = yield* Effect.flip(consuming(gone!))
      assert.include(["Unreachable", "ConnectionLost"], unread.kind)
      yield* away!.server.start
      yield* cluster.ready
      yield* Effect.retry(append(gone!, "1"), Schedule.spaced("20 millis"))
      const consumer = yield* consuming(gone!)
      yield* until(
        Effect.map(
          Effect.orElseSucceed(consumer.read(1), () => []),
          ({ length }) => length > 0
        )
      )
    })
  )
})

describe("a message that replicas must have", () => {
  suspend(
    "is not confirmed where there is none, and kept all the same",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make()
      const { nodes } = cluster
      const store = Context.get(
        yield* Layer.build(RedisStreams.layerClusterDurable({ nodes, replicas: 1, commandTimeout: "400 millis" })),
        Durable.Durable
      )
      const append = Effect.callback<Durable.Appended, Transport.TransportError>((resume) =>
        store.append("{q}", { id: "1", frame: "{}", key: "", delayMillis: 0 }, (error, appended) =>
          resume(error === undefined ? Effect.succeed(appended!) : Effect.fail(error))
        )
      )
      for (const _ of [1, 2]) {
        const error = yield* Effect.flip(append)
        assert.deepStrictEqual([error.kind, error.sent], ["Unreachable", "unknown"])
        assert.include(error.detail, "0 had it within 200 ms")
      }
      const owner = yield* cluster.ownerOf("{q}")
      assert.strictEqual(yield* owner.server.command("XLEN", "{q}.requests"), 1)
    })
  )
})
