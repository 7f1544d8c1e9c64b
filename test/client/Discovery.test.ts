/** What callers learn of services by asking them, in memory: several processes are several transports on one broker. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Queue, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Discovery, Durable, Handlers, Health, Memory, Service, Transport } from "fiberbus"
import { version } from "../../src/wire/Version.ts"
import { Users, UsersLive } from "../users.ts"

class Orders extends Service.make(
  "orders",
  Action.make("place", {
    payload: { count: Schema.Int },
    success: { at: Schema.Date },
    error: Schema.String
  }).pipe(
    Action.annotate(Action.Timeout, "2 seconds"),
    Action.annotate(Action.Idempotent, true),
    Action.annotate(Action.Concurrency, 3)
  ),
  Action.make("slow")
) {}

/** A broker, and processes on it; each has metrics of its own. */
const makeBroker = () => {
  const broker = Memory.makeBroker()
  const transport = () => Layer.fresh(Memory.layerOptions({ broker }))
  return {
    caller: transport(),
    start: <A, E>(layer: Layer.Layer<A, E, Transport.Transport>) =>
      Layer.build(Layer.provide(layer, transport())).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  }
}

const orders = (options?: Parameters<typeof Handlers.layer>[2], slow: Effect.Effect<void> = Effect.void) =>
  Handlers.layer(
    Orders,
    {
      place: ({ count }) => (count > 0 ? Effect.succeed({ at: new Date(0) }) : Effect.fail("none")),
      slow: () => slow
    },
    options
  )

/** Runs with a broker of its own. */
const on = <A, E>(
  test: (broker: ReturnType<typeof makeBroker>) => Effect.Effect<A, E, Transport.Transport | Scope.Scope>
) =>
  Effect.suspend(() => {
    const broker = makeBroker()
    return Effect.scoped(test(broker)).pipe(Effect.provide(broker.caller))
  })

/** A subscriber that says nothing, as a Daebus service or `fiberbus tap`. */
const tap = (channel: string) =>
  Effect.flatMap(Transport.Transport, ({ subscribe }) => subscribe({ _tag: "Channel", channel }, () => {}))

describe("Discovery", () => {
  it.effect("finds all services of all processes", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(Layer.merge(UsersLive, orders({ version: "1.0.0" })))
        yield* start(orders({ version: "1.1.0" }))
        const found = yield* Discovery.services()
        assert.deepStrictEqual(
          found.map(({ instances, service }) => [service, instances.length]),
          [
            ["orders", 2],
            ["user_service", 1]
          ]
        )
        const [{ instances }] = found as [Discovery.Served]
        assert.deepStrictEqual(instances.map(({ version }) => version).sort(), ["1.0.0", "1.1.0"])
        assert.deepStrictEqual(instances[0]?.actions, ["place", "slow"])
        assert.notStrictEqual(instances[0]?.instance, instances[1]?.instance)
        assert.isFalse(instances[0]?.draining)
      })
    )
  )

  it.effect("finds nothing where there is nothing, without any wait", () =>
    on(() => Effect.map(Discovery.services(), (found) => assert.deepStrictEqual(found, [])))
  )

  it.effect("keeps to the prefix of its transport", () =>
    on(
      Effect.fnUntraced(function* () {
        const broker = Memory.makeBroker()
        const at = (prefix: string) => Layer.fresh(Memory.layerOptions({ broker, prefix }))
        yield* Layer.build(Layer.provide(orders(), at("staging:")))
        const seen = (prefix: string) => Effect.provide(Discovery.services(), at(prefix))
        assert.lengthOf(yield* seen("staging:"), 1)
        assert.lengthOf(yield* seen(""), 0)
      })
    )
  )

  it.effect("tells what the actions are, with their schemas", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(orders({ version: "1.0.0", delivery: "live" }))
        const [info] = yield* Discovery.info(Orders)
        assert.strictEqual(info?.version, "1.0.0")
        assert.strictEqual(info?.fiberbus, version)
        assert.instanceOf(info?.startedAt, Date)
        const { error, payload, success, ...place } = info!.actions[0]!
        assert.deepStrictEqual(place, {
          name: "place",
          delivery: "live",
          timeoutMillis: 2000,
          idempotent: true,
          concurrency: 3,
          keyed: false
        })
        assert.deepStrictEqual(payload?.["required"], ["count"])
        assert.deepStrictEqual(success?.["properties"], { at: { type: "string" } })
        assert.strictEqual(error?.["type"], "string")
        assert.deepStrictEqual(info!.actions[1], {
          name: "slow",
          delivery: "live",
          timeoutMillis: 5000,
          idempotent: false,
          keyed: false
        })
      })
    )
  )

  it.effect("leaves the schemas out of an answer that would be larger than a frame", () =>
    Effect.gen(function* () {
      const broker = Memory.makeBroker()
      const small = () => Layer.fresh(Memory.layerOptions({ broker, maxFrameBytes: 2_048 }))
      const wide = Schema.Struct(
        Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`field_${n}`, Schema.String]))
      )
      const Wide = Service.make("wide", Action.make("take", { payload: wide }))
      yield* Layer.build(Layer.provide(Handlers.layer(Wide, { take: () => Effect.void }), small()))
      const [info] = yield* Effect.provide(Discovery.info(Wide), small())
      assert.isTrue(info?.withoutSchemas)
      assert.deepStrictEqual(info?.actions[0]?.name, "take")
      assert.isUndefined(info?.actions[0]?.payload)
    })
  )

  it.effect("counts what a process has done", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(orders({ concurrency: 1, backlog: 1 }, Effect.never))
        const { place, slow } = yield* Caller.make(Orders)
        yield* place({ count: 1 })
        yield* place({ count: 2 })
        assert.strictEqual(yield* Effect.flip(place({ count: 0 })), "none")
        yield* Effect.exit(Caller.dynamic("orders").pipe(Effect.flatMap(({ call }) => call("place", { count: "x" }))))
        yield* Effect.forkChild(slow(), { startImmediately: true })
        yield* Effect.forkChild(slow(), { startImmediately: true })
        yield* Effect.exit(slow())
        const [stats] = yield* Discovery.stats(Orders)
        assert.deepInclude(stats, {
          running: 1,
          waiting: 1,
          link: "Ready",
          draining: false,
          refused: { InvalidPayload: 1, Busy: 1 }
        })
        const [placed, slowly] = stats!.actions
        assert.deepStrictEqual(placed?.outcomes, { success: 2, error: 1 })
        assert.strictEqual(placed?.latency.count, 3)
        assert.isAtMost(placed!.latency.p50Millis!, placed!.latency.maxMillis!)
        assert.deepStrictEqual(slowly, {
          name: "slow",
          outcomes: {},
          latency: { count: 0, buckets: slowly!.latency.buckets }
        })
        assert.isAbove(stats!.memory.rssBytes, 1_000_000)
      })
    )
  )

  it.effect("is told the same by a service whose work is durable", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(Layer.provide(orders({ delivery: "durable" }), Durable.layerMemory))
        const [info] = yield* Discovery.info(Orders)
        assert.deepStrictEqual(
          info?.actions.map(({ delivery }) => delivery),
          ["durable", "durable"]
        )
        const [health] = yield* Discovery.health(Orders, { instance: info!.instance })
        assert.isTrue(health?.ready)
      })
    )
  )

  it.effect("asks one process alone", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(orders())
        yield* start(orders({ delivery: "live" }))
        const found = yield* Discovery.instances(Orders)
        assert.lengthOf(found, 2)
        for (const { instance } of found) {
          // One hears a channel of its own, the other does not.
          assert.deepStrictEqual(
            (yield* Discovery.info(Orders, { instance })).map((info) => info.instance),
            [instance]
          )
        }
      })
    )
  )

  it.effect("says so where nobody is there, and where nobody answers", () =>
    on(
      Effect.fnUntraced(function* () {
        const nobody = yield* Effect.flip(Discovery.info("nobody"))
        assert.instanceOf(nobody, Discovery.NotDiscoverable)
        assert.strictEqual(nobody.listeners, 0)
        assert.strictEqual(nobody.message, "nobody listens on the channel of nobody")
        yield* tap("old")
        const asked = yield* Effect.forkChild(Effect.flip(Discovery.info("old")), { startImmediately: true })
        yield* TestClock.adjust("299 millis")
        assert.isUndefined(asked.pollUnsafe())
        yield* TestClock.adjust("100 millis")
        const silent = yield* Fiber.join(asked)
        assert.instanceOf(silent, Discovery.NotDiscoverable)
        assert.strictEqual(silent.listeners, 1)
        assert.include(silent.message, "no process of old answered within 300 ms: Daebus services")
      })
    )
  )

  it.effect("waits no longer than it was told for those who say nothing", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* tap("fiberbus.who")
        yield* start(orders())
        const asked = yield* Effect.forkChild(Discovery.services({ timeout: 50 }), { startImmediately: true })
        yield* TestClock.adjust(100)
        assert.lengthOf(yield* Fiber.join(asked), 1)
      })
    )
  )

  it.effect("is told nothing where discovery is off, service by service", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(Layer.merge(UsersLive, orders({ discovery: "none" })))
        assert.deepStrictEqual(
          (yield* Discovery.services()).map(({ service }) => service),
          ["user_service"]
        )
        const error = yield* Effect.flip(Discovery.stats(Orders))
        assert.instanceOf(error, Discovery.NotDiscoverable)
        assert.strictEqual(error.listeners, 1)
        const refused = yield* Effect.flip((yield* Caller.dynamic("orders")).call("$info"))
        assert.strictEqual(refused.reason._tag, "UnknownAction")
      })
    )
  )

  it.effect("answers a plain call too, as any other request", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(orders())
        const { call } = yield* Caller.dynamic("orders")
        const ping = yield* call("$ping")
        assert.deepInclude(ping as Record<string, unknown>, { service: "orders", draining: false })
        const unknown = yield* Effect.flip(call("$other"))
        assert.strictEqual(unknown.reason._tag, "UnknownAction")
      })
    )
  )

  it.effect("answers while the pool is full, and while it drains", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        const begun = yield* Deferred.make<void>()
        const end = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        const slow = Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
        yield* Scope.provide(start(orders({ concurrency: 1, backlog: 0 }, slow)), scope)
        const caller = yield* Caller.make(Orders)
        const call = yield* Effect.forkChild(caller.slow(), { startImmediately: true })
        yield* Deferred.await(begun)
        assert.strictEqual((yield* Effect.flip(caller.slow())).reason._tag, "Busy")
        const [full] = yield* Discovery.health(Orders)
        assert.isTrue(full?.ready)

        const { instance } = full!
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        const [draining] = yield* Discovery.health(Orders, { instance })
        assert.deepInclude(draining, { live: true, ready: false })
        assert.deepInclude(draining?.checks[0], {
          name: "serving",
          status: "fail",
          detail: "it takes no more requests"
        })
        const [served] = yield* Discovery.services()
        assert.deepStrictEqual(
          served?.instances.map(({ draining }) => draining),
          [true]
        )
        yield* Deferred.succeed(end, undefined)
        yield* Fiber.join(call)
        yield* Fiber.join(closing)
        assert.deepStrictEqual(yield* Discovery.services(), [])
      })
    )
  )
})

describe("Health.check", () => {
  it.effect("tells liveness and readiness apart", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        yield* start(
          Layer.mergeAll(
            orders(),
            UsersLive,
            Health.check("database", Effect.fail(new Error("connection refused"))),
            Health.check("loop", Effect.succeed("fine"), { kind: "liveness" }),
            Health.check("stock", Effect.void, { service: Orders }),
            Health.check("bug", Effect.die("a secret"), { kind: "liveness", service: Users })
          )
        )
        const [health] = yield* Discovery.health(Orders)
        assert.deepInclude(health, { service: "orders", live: true, ready: false })
        assert.deepStrictEqual(
          health?.checks.map(({ detail, kind, name, status }) => [name, kind, status, detail]),
          [
            ["serving", "readiness", "pass", undefined],
            ["transport", "readiness", "pass", "Ready"],
            ["database", "readiness", "fail", "connection refused"],
            ["loop", "liveness", "pass", "fine"],
            ["stock", "readiness", "pass", undefined]
          ]
        )
        const [users] = yield* Discovery.health(Users)
        assert.deepInclude(users, { live: false, ready: false })
        assert.deepInclude(users?.checks.at(-1), { name: "bug", detail: "the check died" })
        assert.lengthOf(yield* Discovery.health(Discovery.everything), 2)
      })
    )
  )

  it.effect("runs only when asked, once for many, and again after a second", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        let runs = 0
        const gate = yield* Queue.unbounded<void>()
        const check = Effect.andThen(
          Effect.sync(() => runs++),
          Queue.take(gate)
        )
        yield* start(Layer.mergeAll(orders(), Health.check("database", check, { timeout: "10 seconds" })))
        assert.strictEqual(runs, 0)
        const asked = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 20 }, () => Discovery.health(Orders)),
            { concurrency: "unbounded" }
          ),
          { startImmediately: true }
        )
        yield* Effect.repeat(Effect.yieldNow, { until: () => runs > 0 })
        yield* Queue.offer(gate, undefined)
        const all = yield* Fiber.join(asked)
        assert.isTrue(all.every(([health]) => health?.ready))
        assert.strictEqual(runs, 1)
        yield* TestClock.adjust(999)
        yield* Discovery.health(Orders)
        assert.strictEqual(runs, 1)
        yield* TestClock.adjust(1)
        yield* Queue.offer(gate, undefined)
        yield* Discovery.health(Orders)
        assert.strictEqual(runs, 2)
      })
    )
  )

  it.effect("fails what takes too long, and does not start it again beside one that still runs", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        let runs = 0
        const gate = yield* Deferred.make<void>()
        const check = Effect.uninterruptible(
          Effect.andThen(
            Effect.sync(() => runs++),
            Deferred.await(gate)
          )
        )
        yield* start(Layer.mergeAll(orders(), Health.check("database", check, { timeout: 100 })))
        const database = Effect.map(Discovery.health(Orders), ([health]) => {
          const { detail, status } = health!.checks.at(-1)!
          return [status, detail]
        })
        const asked = yield* Effect.forkChild(database, { startImmediately: true })
        yield* Effect.repeat(Effect.yieldNow, { until: () => runs > 0 })
        yield* TestClock.adjust(100)
        assert.deepStrictEqual(yield* Fiber.join(asked), ["fail", "it took longer than 100 ms"])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* database, ["fail", "the check before this one still runs"])
        assert.strictEqual(runs, 1)
        yield* Deferred.succeed(gate, undefined)
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(yield* database, ["pass", undefined])
        assert.strictEqual(runs, 2)
      })
    )
  )

  it.effect("answers for who is there and says nothing more", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        const begun = yield* Deferred.make<void>()
        const check = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
        yield* start(Layer.mergeAll(orders(), Health.check("database", check, { timeout: "10 seconds" })))
        const asked = yield* Effect.forkChild(Discovery.health(Orders, { timeout: "1 second" }), {
          startImmediately: true
        })
        yield* Deferred.await(begun)
        yield* TestClock.adjust("2 seconds")
        const [health] = yield* Fiber.join(asked)
        assert.deepInclude(health, { live: false, ready: false })
        assert.deepInclude(health?.checks[0], { name: "answer", detail: "no answer within 1000 ms" })
      })
    )
  )

  it.effect("refuses more questions than may wait", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        const begun = yield* Deferred.make<void>()
        const check = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
        yield* start(Layer.mergeAll(orders(), Health.check("database", check, { timeout: "10 seconds" })))
        const { call } = yield* Caller.dynamic("orders")
        const first = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 64 }), () => Effect.exit(call("$health")), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        yield* Deferred.await(begun)
        const refused = yield* Effect.flip(call("$health"))
        assert.strictEqual(refused.reason._tag, "Busy")
        // What takes no time is answered all the same.
        yield* call("$ping")
        yield* Fiber.interrupt(first)
      })
    )
  )

  it.effect("has one check of each name", () =>
    on(
      Effect.fnUntraced(function* ({ start }) {
        const two = Layer.mergeAll(
          Health.check("database", Effect.void),
          Layer.fresh(Health.check("database", Effect.void))
        )
        const exit = yield* Effect.exit(start(two))
        assert.isTrue(Exit.isFailure(exit))
        assert.include(String(Exit.isFailure(exit) && exit.cause), "two health checks named database")
        yield* start(
          Layer.mergeAll(
            Health.check("database", Effect.void),
            Health.check("database", Effect.void, { service: Orders })
          )
        )
      })
    )
  )
})

describe("names with $", () => {
  it("are nobody's own", () => {
    assert.throws(() => Action.make("$health"), /names that begin with \$ are fiberbus' own/)
  })
})
