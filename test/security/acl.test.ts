import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Logger, Option, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  Broadcast,
  Caller,
  Discovery,
  Durable,
  Handlers,
  Lease,
  Listener,
  Service,
  Topic,
  Transport
} from "fiberbus"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisLease from "fiberbus/transport/RedisLease"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

/** The lines that the documentation gives: tested as they stand there. */
const docs = readFileSync(resolve(import.meta.dirname, "../../docs/security.md"), "utf8")
const acl = Array.from(docs.matchAll(/^user .*$/gm), ([line]) => line)

/** A service that nobody allowed to hear of `fiberbus.who`. */
const old = acl
  .find((line) => line.startsWith("user live "))!
  .replaceAll("live", "old")
  .replace(" &fiberbus.who", "")

const Users = Service.make(
  "user_service",
  Action.make("count", { progress: { n: Schema.Finite }, success: Schema.Finite })
)
const Events = Topic.make("user_events", { type: Schema.String })

const serving = (options?: Parameters<typeof Handlers.layer>[2]) =>
  Handlers.layer(Users, { count: (_, { progress }) => Effect.as(progress({ n: 1 }), 2) }, options)
const UsersLive = serving()

/** A connection as one of the roles. */
const as = (
  role: "service" | "live" | "caller" | "listener" | "publisher" | "member" | "auditor" | "teller" | "operator" | "old"
) =>
  Layer.unwrap(
    Effect.map(RedisServer.RedisServer, ({ host, port }) =>
      RedisPubSub.layer({ host, port, username: role, password: `${role}-password` })
    )
  )

const Payments = Service.make(
  "payments",
  Action.make("charge", { payload: { cents: Schema.Finite }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Delivery, "durable")
  ),
  Action.make("fail").pipe(Action.annotate(Action.Delivery, "durable"))
)
const Others = Service.make("others", Action.make("work").pipe(Action.annotate(Action.Delivery, "durable")))
const Orders = Topic.durable(Topic.make("orders", { n: Schema.Finite }))

const durably = (role: "producer" | "worker") =>
  Layer.unwrap(
    Effect.map(RedisServer.RedisServer, ({ host, port }) =>
      RedisStreams.layer({ host, port, username: role, password: `${role}-password` })
    )
  )

const denied = <A, R>(effect: Effect.Effect<A, unknown, R>, channel: string) =>
  Effect.map(Effect.flip(effect), (error) => {
    const { reason = error } = error as { readonly reason?: unknown }
    assert.instanceOf(reason, Transport.TransportError)
    assert.strictEqual(reason.kind, "PermissionDenied")
    assert.include(reason.message, channel)
    assert.notInclude(reason.message, "password")
    assert.strictEqual(reason.sent, "no")
  })

const subscribing = (channel: string) =>
  Effect.scoped(
    Effect.flatMap(Transport.Transport, ({ subscribe }) => subscribe({ _tag: "Channel", channel }, () => {}))
  )

it("has a line for each role", () => {
  assert.deepStrictEqual(
    acl.map((line) => line.split(" ")[1]),
    [
      ...[
        "service",
        "caller",
        "live",
        "listener",
        "publisher",
        "member",
        "auditor",
        "teller",
        "operator",
        "leases",
        "producer",
        "worker"
      ],
      ...["shard-service", "shard-caller", "shard-listener", "shard-publisher", "shard-producer", "shard-worker"]
    ]
  )
})

describe("under the least privileges", () => {
  it.layer(
    RedisServer.layerOptions({ acl: ["user default off", ...acl.filter((line) => !line.includes(" shard-")), old] })
  )((it) => {
    it.effect("a service answers and a caller calls, progress and all", () =>
      Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        assert.strictEqual(yield* users.count(), 2)
        const steps: Array<number> = []
        const count = users.count.stream().pipe(Caller.onProgress(({ n }) => Effect.sync(() => steps.push(n))))
        assert.strictEqual(yield* count, 2)
        assert.deepStrictEqual(steps, [1])
        assert.strictEqual(yield* users.count.send(), 1)
      }).pipe(Effect.provide(as("caller")), Effect.provide(Layer.provide(UsersLive, as("service"))))
    )

    it.effect("a service that may not claim requests is told so when it begins, and may serve live", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(Layer.provide(UsersLive, as("live")))))
        assert.deepInclude(error, { _tag: "TransportError", kind: "PermissionDenied" })
        assert.include(String(error), 'delivery: "live"')
        const users = yield* Caller.make(Users)
        assert.strictEqual(yield* users.count(), 2)
      }).pipe(Effect.provide(as("caller")), Effect.provide(Layer.provide(serving({ delivery: "live" }), as("live"))))
    )

    it.effect("an operator finds services and asks how they are, and hears no request", () =>
      Effect.gen(function* () {
        const found = yield* Discovery.services()
        assert.deepStrictEqual(
          found.map(({ instances, service }) => [service, instances.length]),
          [["user_service", 2]]
        )
        assert.lengthOf(yield* Discovery.info(Users), 2)
        const [first, second] = yield* Discovery.health(Users)
        assert.isTrue(first?.ready && second?.ready)
        for (const { instance } of [first!, second!]) {
          assert.lengthOf(yield* Discovery.stats(Users, { instance }), 1)
        }
        yield* denied(Transport.publish("caller:somebody", "{}"), "caller:somebody")
        yield* denied(subscribing("user_service"), "user_service")
      }).pipe(
        Effect.provide(as("operator")),
        Effect.provide(Layer.provide(UsersLive, as("service"))),
        Effect.provide(Layer.provide(serving({ delivery: "live" }), as("live")))
      )
    )

    it.effect("a service that may not hear who asks for all serves all the same, and is asked by its name", () => {
      const logged: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
      return Effect.gen(function* () {
        assert.deepStrictEqual(yield* Effect.provide(Discovery.services({ timeout: 50 }), as("operator")), [])
        const users = yield* Caller.make(Users)
        assert.strictEqual(yield* users.count(), 2)
        assert.lengthOf(yield* Discovery.instances(Users), 1)
        yield* denied(Discovery.services(), "fiberbus.who")
        assert.lengthOf(
          logged.filter((line) => line.includes("fiberbus.who")),
          1
        )
      }).pipe(
        Effect.provide(as("caller")),
        Effect.provide(Layer.provide(serving({ delivery: "live" }), as("old"))),
        Effect.provide(logger)
      )
    })

    it.effect("a listener hears and a publisher publishes", () =>
      Effect.gen(function* () {
        const heard = yield* Deferred.make<string>()
        const Live = Listener.layer(Events, ({ type }) => Deferred.succeed(heard, type)).pipe(
          Layer.provide(as("listener"))
        )
        yield* Effect.gen(function* () {
          assert.strictEqual(yield* Broadcast.publish(Events, { type: "created" }), 1)
          assert.strictEqual(yield* Deferred.await(heard), "created")
        }).pipe(Effect.provide(Live), Effect.provide(as("publisher")))
      })
    )

    it.effect("a producer has durable work done by a worker, who is given all it needs", () =>
      Effect.gen(function* () {
        const Live = Handlers.layer(
          Payments,
          {
            charge: ({ cents }) => Effect.succeed(cents),
            fail: () => Effect.die("for the test")
          },
          { durable: { retry: Schedule.spaced("5 millis"), deliveries: 2, idle: "200 millis" } }
        )
        yield* Layer.build(Live.pipe(Layer.provide(durably("worker"))))
        yield* Effect.gen(function* () {
          const payments = yield* Caller.make(Payments)
          assert.strictEqual(yield* payments.charge({ cents: 5 }), 5)
          const later = yield* payments.charge.enqueue({ cents: 6 }, { id: "late", delay: "50 millis", key: "k" })
          yield* payments.charge.enqueue({ cents: 7 }, { id: "behind", key: "k" })
          assert.strictEqual(yield* later.await(), 6)
          assert.strictEqual(yield* payments.charge.receipt("behind").await(), 7)
          const error = yield* Effect.flip(payments.fail())
          assert.strictEqual(error.reason._tag, "RemoteDefect")
          yield* Broadcast.publish(Orders, { n: 1 })
          const other = yield* Caller.make(Others)
          yield* denied(other.work(), "append in {others}")
        }).pipe(Effect.scoped, Effect.provide(durably("producer")))
        // Every part of its keeping has been used; a right that is missing would have been told.
        const { dead } = Context.get(yield* Layer.build(durably("worker")), Durable.Durable)
        const [letter] = yield* dead.list("{payments}", { limit: 1 })
        assert.strictEqual(letter?.reason, "Defect")
        assert.isTrue(yield* dead.replay("{payments}", letter!.letter))
      }).pipe(Effect.scoped, TestClock.withLive)
    )

    it.effect("a member of a group claims messages of that group, and of no other", () =>
      Effect.gen(function* () {
        const heard = yield* Queue.unbounded<string>()
        const member = (group: string) =>
          Listener.layer(Events, ({ type }) => Queue.offer(heard, type), { group }).pipe(Layer.provide(as("member")))
        yield* Effect.gen(function* () {
          yield* Broadcast.publish(Events, { type: "created" })
          assert.strictEqual(yield* Queue.take(heard), "created")
        }).pipe(Effect.provide(member("billing")), Effect.provide(as("publisher")))
        const error = yield* Effect.flip(Effect.scoped(Layer.build(member("shipping"))))
        assert.deepInclude(error, { _tag: "TransportError", kind: "PermissionDenied" })
        assert.include(error.hint, "without a group")
      })
    )

    it.effect("who listens to numbers asks for what it missed, and their publisher answers", () =>
      Effect.gen(function* () {
        const Kept = Events.pipe(Topic.annotate(Topic.History, { messages: 10, for: "1 minute" }))
        const heard = yield* Queue.unbounded<unknown>()
        // Loses the second message on the way.
        const lossy = Layer.effect(
          Transport.Transport,
          Effect.map(Transport.Transport, (transport) => ({
            ...transport,
            get state() {
              return transport.state
            },
            subscribe: (target: Transport.Target, receive: Transport.Receive) =>
              transport.subscribe(target, (frame, channel) => {
                if (channel !== "user_events" || !frame.toString().includes('"b"')) receive(frame, channel)
              })
          }))
        ).pipe(Layer.provide(as("auditor")))
        const Audit = Listener.layer(
          Kept,
          ({ type }, { backfilled }) => Queue.offer(heard, backfilled ? `${type} again` : type),
          { concurrency: 1, onGap: (gap) => Queue.offer(heard, gap) }
        ).pipe(Layer.provide(lossy))
        yield* Effect.gen(function* () {
          for (const type of ["a", "b", "c"]) yield* Broadcast.publish(Kept, { type })
          assert.deepStrictEqual(yield* Queue.takeBetween(heard, 3, 3), ["a", "b again", "c"])
        }).pipe(Effect.provide(Audit), Effect.provide(as("teller")))
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(Listener.layer(Kept, () => Effect.void).pipe(Layer.provide(as("listener")))))
        )
        assert.deepInclude(error, { _tag: "TransportError", kind: "PermissionDenied" })
      })
    )

    it.effect("a caller hears no requests, serves nothing and publishes nothing else", () =>
      Effect.gen(function* () {
        yield* denied(subscribing("user_service"), "user_service")
        yield* denied(Layer.build(UsersLive).pipe(Effect.scoped), "user_service")
        yield* denied(Broadcast.publish(Events, { type: "forged" }), "user_events")
        yield* denied(Transport.publish("caller:somebody", "{}"), "caller:somebody")
        const other = yield* Caller.dynamic("other_service")
        yield* denied(other.call("x"), "other_service")
      }).pipe(Effect.scoped, Effect.provide(as("caller")))
    )

    it.effect("a service reads no inbox and calls nobody", () =>
      Effect.gen(function* () {
        yield* denied(subscribing("caller:somebody"), "caller:")
        yield* denied(Effect.scoped(Caller.make(Users)), "caller:")
        yield* denied(Transport.publish("user_service", "{}"), "user_service")
      }).pipe(Effect.provide(as("service")))
    )

    it.effect("a listener publishes nothing, a publisher hears nothing", () =>
      Effect.gen(function* () {
        yield* denied(Broadcast.publish(Events, { type: "forged" }), "user_events").pipe(Effect.provide(as("listener")))
        yield* denied(subscribing("user_events"), "user_events").pipe(Effect.provide(as("publisher")))
      })
    )

    it.effect("leases are kept, for a user who may do nothing else", () =>
      Effect.gen(function* () {
        const { host, port, command } = yield* RedisServer.RedisServer
        const leases = (username: string) =>
          RedisLease.layer({ host, port, username, password: `${username}-password` })
        const token = Lease.token.pipe(Lease.hold("nightly"))
        assert.isAbove((yield* token.pipe(Effect.provide(leases("leases"))))!, 0)
        const error = yield* Effect.flip(token.pipe(Effect.provide(leases("caller"))))
        assert.deepInclude(error, { _tag: "TransportError", kind: "PermissionDenied" })
        for (const words of [
          ["GET", "fiberbus:lease:nightly"],
          ["HSET", "other", "a", "b"],
          ["PUBLISH", "user_service", "{}"]
        ]) {
          const answer = yield* Effect.option(command("ACL", "DRYRUN", "leases", ...words))
          assert.notStrictEqual(Option.getOrUndefined(answer), "OK", words.join(" "))
        }
      })
    )

    it.effect("nobody touches keys, scripts or the server", () =>
      Effect.gen(function* () {
        const { command } = yield* RedisServer.RedisServer
        for (const role of ["service", "caller", "live", "listener", "publisher", "member", "auditor", "teller"]) {
          for (const words of [
            ["GET", "key"],
            ["SET", "key", "1"],
            ["EVAL", "return 1", "0"],
            ["CONFIG", "GET", "*"],
            ["PSUBSCRIBE", "*"],
            ["FLUSHALL"]
          ]) {
            const answer = yield* Effect.option(command("ACL", "DRYRUN", role, ...words))
            assert.notStrictEqual(Option.getOrUndefined(answer), "OK", `${role} ${words.join(" ")}`)
          }
          assert.strictEqual(yield* command("ACL", "DRYRUN", role, "PING"), "OK")
        }
      })
    )
  })
})

describe("under the least privileges of a cluster", () => {
  const sharded = acl.filter((line) => line.includes(" shard-"))
  // As the text says of a service that has partitions.
  const partitioned = sharded.map((line) => line.replace("~{payments}.*", "~{payments}.* ~{payments/*}#.*"))
  const shard = (role: "service" | "caller" | "listener" | "publisher") =>
    Layer.unwrap(
      RedisClusterServer.RedisClusterServer.use(({ nodes }) =>
        Effect.succeed(
          RedisCluster.layer({ nodes, username: `shard-${role}`, password: `shard-${role}-password`, prefix: "" })
        )
      )
    )

  const shardDurably = (role: "producer" | "worker") =>
    Layer.unwrap(
      RedisClusterServer.RedisClusterServer.use(({ nodes }) =>
        Effect.succeed(
          RedisStreams.layerCluster({ nodes, username: `shard-${role}`, password: `shard-${role}-password` })
        )
      )
    )

  it.layer(RedisClusterServer.layer({ acl: ["user default off", ...partitioned] }))((it) => {
    it.effect("a producer has work done by a worker in all partitions", () =>
      Effect.gen(function* () {
        const Parted = Payments.pipe(Service.partitioned(12))
        const Live = Handlers.layer(Parted, {
          charge: ({ cents }) => Effect.succeed(cents),
          fail: () => Effect.die("for the test")
        })
        yield* Layer.build(Live.pipe(Layer.provide(shardDurably("worker"))))
        yield* Effect.gen(function* () {
          const payments = yield* Caller.make(Parted)
          const many = Array.from({ length: 60 }, (_, cents) => cents)
          const receipts = yield* Effect.forEach(many, (cents) =>
            payments.charge.enqueue({ cents }, { id: `p${cents}`, key: `${cents % 24}` })
          )
          for (const [cents, receipt] of receipts.entries()) assert.strictEqual(yield* receipt.await(), cents)
          assert.strictEqual(yield* payments.charge.receipt("p7").await(), 7)
        }).pipe(Effect.scoped, Effect.provide(shardDurably("producer")))
      })
    )
  })

  it.layer(RedisClusterServer.layer({ acl: ["user default off", ...sharded] }))((it) => {
    it.effect("a service answers and a caller calls, a listener hears and a publisher publishes", () =>
      Effect.gen(function* () {
        const heard = yield* Deferred.make<string>()
        const Live = Listener.layer(Events, ({ type }) => Deferred.succeed(heard, type)).pipe(
          Layer.provide(shard("listener"))
        )
        yield* Effect.gen(function* () {
          const users = yield* Caller.make(Users)
          const steps: Array<number> = []
          const count = users.count.stream().pipe(Caller.onProgress(({ n }) => Effect.sync(() => steps.push(n))))
          assert.strictEqual(yield* count, 2)
          assert.deepStrictEqual(steps, [1])
          assert.strictEqual(yield* users.count.send(), 1)
          assert.strictEqual((yield* Transport.Transport).capabilities.receivers, "exact")
        }).pipe(Effect.provide(shard("caller")), Effect.provide(Layer.provide(UsersLive, shard("service"))))
        yield* Effect.gen(function* () {
          assert.strictEqual(yield* Broadcast.publish(Events, { type: "created" }), 1)
          assert.strictEqual(yield* Deferred.await(heard), "created")
        }).pipe(Effect.provide(Live), Effect.provide(shard("publisher")))
      })
    )

    it.effect("a producer has durable work done by a worker, also while a slot moves", () =>
      Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.RedisClusterServer
        const Live = Handlers.layer(
          Payments,
          { charge: ({ cents }) => Effect.succeed(cents), fail: () => Effect.die("for the test") },
          { durable: { retry: Schedule.spaced("5 millis"), deliveries: 2, idle: "200 millis" } }
        )
        yield* Layer.build(Live.pipe(Layer.provide(shardDurably("worker"))))
        yield* Effect.gen(function* () {
          const payments = yield* Caller.make(Payments)
          assert.strictEqual(yield* payments.charge({ cents: 5 }), 5)
          const later = yield* payments.charge.enqueue({ cents: 6 }, { id: "late", delay: "50 millis", key: "k" })
          yield* payments.charge.enqueue({ cents: 7 }, { id: "behind", key: "k" })
          assert.strictEqual(yield* later.await(), 6)
          assert.strictEqual(yield* payments.charge.receipt("behind").await(), 7)
          const error = yield* Effect.flip(payments.fail())
          assert.strictEqual(error.reason._tag, "RemoteDefect")
          const other = yield* Caller.make(Others)
          yield* denied(other.work(), "append in {others}")
          // Of a topic that nobody has used yet no key is at the old master, which sends on.
          const from = yield* cluster.ownerOf("{orders}")
          const to = cluster.members.find(({ id }) => id !== from.id)!
          const moving = yield* cluster.beginMove(cluster.slotOf("{orders}"), to)
          const publishing = yield* Effect.forkChild(Broadcast.publish(Orders, { n: 1 }), { startImmediately: true })
          yield* to.server.command("INFO", "errorstats").pipe(
            Effect.repeat({
              until: (errors) => String(errors).includes("errorstat_TRYAGAIN"),
              schedule: Schedule.spaced("10 millis")
            })
          )
          yield* moving.finish
          yield* Fiber.join(publishing)
        }).pipe(Effect.scoped, Effect.provide(shardDurably("producer")))
        const { dead } = Context.get(yield* Layer.build(shardDurably("worker")), Durable.Durable)
        const [letter] = yield* dead.list("{payments}", { limit: 1 })
        assert.strictEqual(letter?.reason, "Defect")
        assert.isTrue(yield* dead.replay("{payments}", letter!.letter))
      }).pipe(Effect.scoped, TestClock.withLive)
    )

    it.effect("none does what is another's", () =>
      Effect.gen(function* () {
        yield* Effect.gen(function* () {
          yield* denied(subscribing("user_service"), "user_service")
          yield* denied(Broadcast.publish(Events, { type: "forged" }), "user_events")
          yield* denied(Transport.publish("caller:somebody", "{}"), "caller:somebody")
        }).pipe(Effect.provide(shard("caller")))
        yield* Effect.gen(function* () {
          yield* denied(subscribing("caller:somebody"), "caller:")
          yield* denied(Transport.publish("user_service", "{}"), "user_service")
        }).pipe(Effect.provide(shard("service")))
        yield* denied(subscribing("user_events"), "user_events").pipe(Effect.provide(shard("publisher")))
        yield* denied(Broadcast.publish(Events, { type: "forged" }), "user_events").pipe(
          Effect.provide(shard("listener"))
        )
      })
    )
  })
})
