import { assert, describe, it } from "@effect/vitest"
import {
  type Cause,
  Effect,
  Fiber,
  Layer,
  Metric,
  Option,
  Queue,
  Schema,
  type Scope,
  Stream,
  type Terminal
} from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Health, Service, Transport } from "fiberbus"
import { clear, Screen } from "../../src/cli/Screen.ts"
import { Users, UsersLive } from "../users.ts"
import * as CommandLine from "./commandLine.ts"

class Orders extends Service.make(
  "orders",
  Action.make("place", {
    payload: { count: Schema.Int.check(Schema.isGreaterThan(0)), note: Schema.optionalKey(Schema.String) },
    success: Schema.Array(Schema.Struct({ kind: Schema.Literals(["a", "b"]) })),
    error: Schema.Union([Schema.String, Schema.Null])
  }).pipe(Action.annotate(Action.Idempotent, true)),
  Action.make("watch", { items: Schema.Finite })
) {}

const handlers = { place: () => Effect.succeed([]), watch: () => Stream.empty }
const OrdersLive = Handlers.layer(Orders, handlers, { version: "1.0.0" })

/** A command line with services on its broker. */
const beside = <A, E, R>(
  services: Layer.Layer<never, Transport.TransportError, Transport.Transport>,
  test: (commandLine: ReturnType<typeof CommandLine.make>) => Effect.Effect<A, E, R>
) =>
  Effect.suspend(() => {
    const commandLine = CommandLine.make()
    return test(commandLine).pipe(Effect.provide(Layer.provideMerge(services, commandLine.layer)))
  }) as Effect.Effect<A, E | Transport.TransportError, Exclude<R, Transport.Transport> | Scope.Scope>

const lines = (text: string) => text.trimEnd().split("\n")

describe("fiberbus ls", () => {
  it.effect("prints a line per process of each service", () =>
    beside(
      Layer.merge(UsersLive, OrdersLive),
      Effect.fnUntraced(function* (commandLine) {
        const { status, stderr, stdout } = yield* commandLine.run(["ls"])
        assert.deepStrictEqual([status, stderr], [0, ""])
        const [head, orders, users] = lines(stdout)
        assert.match(head!, /^SERVICE {7}INSTANCE {7}VERSION {2}ACTIONS$/)
        assert.match(orders!, /^orders {8}[\w-]{13} {2}1\.0\.0 {4}place, watch$/)
        assert.match(users!, /^user_service {2}[\w-]{13} {2}- {8}get_user, import_users, ping, wait$/)
        const json = JSON.parse((yield* commandLine.run(["ls", "--json"])).stdout)
        assert.deepInclude(json[0].instances[0], { service: "orders", version: "1.0.0", draining: false })
      })
    )
  )

  it.effect("says so where there is nobody", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* CommandLine.make().run(["ls"]), {
        status: 0,
        stdout: "",
        stderr: "fiberbus: no process answered\n"
      })
      assert.strictEqual((yield* CommandLine.make().run(["ls", "--json"])).stdout, "[]\n")
    })
  )
})

describe("fiberbus describe", () => {
  it.effect("prints the actions with their schemas in few words", () =>
    beside(
      OrdersLive,
      Effect.fnUntraced(function* (commandLine) {
        const { status, stdout } = yield* commandLine.run(["describe", "orders"])
        assert.strictEqual(status, 0)
        const [head, ...rest] = lines(stdout)
        assert.match(head!, /^orders 1\.0\.0: 1 process \([\w-]{13}\), fiberbus \d+\.\d+\.\d+$/)
        assert.deepStrictEqual(rest, [
          "  place  one, 5000 ms, idempotent",
          "    payload   { count: integer (> 0), note?: string }",
          '    success   { kind: "a" | "b" }[]',
          "    error     string | null",
          "  watch  one, 5000 ms",
          "    items     number"
        ])
        const [info] = JSON.parse((yield* commandLine.run(["describe", "orders", "--json"])).stdout)
        assert.deepStrictEqual(info.actions[0].payload.required, ["count"])
      })
    )
  )

  it.effect("shows processes that differ apart, and those that are alike together", () =>
    Effect.gen(function* () {
      const commandLine = CommandLine.make()
      const start = (layer: typeof OrdersLive) => Layer.build(Layer.provide(layer, Layer.fresh(commandLine.layer)))
      yield* start(OrdersLive)
      yield* start(Handlers.layer(Orders, handlers, { version: "1.0.0" }))
      yield* start(Handlers.layer(Orders, handlers, { version: "2.0.0" }))
      const { stdout } = yield* commandLine.run(["describe", "orders"])
      assert.deepStrictEqual(stdout.match(/^orders \S+ \d+/gm)?.sort(), ["orders 1.0.0: 2", "orders 2.0.0: 1"])
    })
  )

  it.effect("tells nobody from those who do not answer", () =>
    Effect.gen(function* () {
      const commandLine = CommandLine.make()
      assert.deepStrictEqual(yield* commandLine.run(["describe", "daebus"]), {
        status: 3,
        stdout: "",
        stderr: "fiberbus: nobody listens on the channel of daebus\n"
      })
      yield* Effect.gen(function* () {
        const { subscribe } = yield* Transport.Transport
        yield* subscribe({ _tag: "Channel", channel: "daebus" }, () => {})
        const asked = yield* Effect.forkChild(commandLine.run(["describe", "daebus"]), { startImmediately: true })
        yield* Effect.repeat(TestClock.adjust(100), { until: () => asked.pollUnsafe() !== undefined })
        const { status, stderr } = yield* Fiber.join(asked)
        assert.strictEqual(status, 4)
        assert.include(stderr, "no process of daebus answered within 300 ms: Daebus services")
      }).pipe(Effect.provide(commandLine.layer))
      assert.strictEqual((yield* commandLine.run(["describe", "no name"])).status, 2)
      assert.strictEqual((yield* commandLine.run(["describe", "daebus", "--instance", "a*"])).status, 2)
    })
  )
})

describe("fiberbus health", () => {
  it.effect("ends with 0 where all is well, and tells the checks", () =>
    beside(
      Layer.merge(OrdersLive, Health.check("stock", Effect.succeed("42 left"))),
      Effect.fnUntraced(function* (commandLine) {
        const { status, stdout } = yield* commandLine.run(["health", "orders"])
        assert.strictEqual(status, 0)
        const [head, ...checks] = lines(stdout)
        assert.match(head!, /^INSTANCE {7}CHECK {6}KIND {7}STATUS {2}DETAIL$/)
        assert.deepStrictEqual(
          checks.map((line) => line.slice(15)),
          ["serving    readiness  pass", "transport  readiness  pass    Ready", "stock      readiness  pass    42 left"]
        )
      })
    )
  )

  it.effect("ends with 10 where a process is not ready, or not live", () =>
    beside(
      Layer.merge(OrdersLive, Health.check("stock", Effect.fail("none left"))),
      Effect.fnUntraced(function* (commandLine) {
        const { status, stderr, stdout } = yield* commandLine.run(["health", "orders"])
        assert.strictEqual(status, 10)
        assert.include(stdout, "stock      readiness  fail    none left")
        assert.strictEqual(stderr, "fiberbus: orders: 1 of 1 processes are not ready\n")
        assert.strictEqual((yield* commandLine.run(["health", "orders", "--live"])).status, 0)
        const [{ instance, ready }] = JSON.parse((yield* commandLine.run(["health", "orders", "--json"])).stdout)
        assert.isFalse(ready)
        assert.strictEqual((yield* commandLine.run(["health", "orders", "--instance", instance])).status, 10)
        assert.strictEqual((yield* commandLine.run(["health", "nobody"])).status, 3)
      })
    )
  )

  it.effect("is content with one good process where it is told so", () =>
    Effect.gen(function* () {
      const commandLine = CommandLine.make()
      const start = (layer: Layer.Layer<never, Transport.TransportError, Transport.Transport>) =>
        Layer.build(Layer.provide(layer, Layer.fresh(commandLine.layer)))
      yield* start(OrdersLive)
      yield* start(Layer.merge(Layer.fresh(OrdersLive), Health.check("stock", Effect.fail("none left"))))
      assert.strictEqual((yield* commandLine.run(["health", "orders"])).status, 10)
      assert.strictEqual((yield* commandLine.run(["health", "orders", "--any"])).status, 0)
    })
  )
})

describe("fiberbus top", () => {
  const ended = <A, E>(fiber: Fiber.Fiber<A, E>) =>
    Effect.andThen(
      Effect.repeat(TestClock.adjust(100), { until: () => fiber.pollUnsafe() !== undefined }),
      Fiber.join(fiber)
    )
  const calls = Effect.gen(function* () {
    const { get_user } = yield* Caller.make(Users)
    for (const id of ["1", "1", "9"]) yield* Effect.exit(get_user({ id }))
  }).pipe(Effect.scoped)

  it.effect("prints one table of the last second for scripts", () =>
    beside(
      UsersLive,
      Effect.fnUntraced(function* (commandLine) {
        yield* calls
        const asked = yield* Effect.forkChild(commandLine.run(["top", "--once"]), { startImmediately: true })
        const { status, stdout } = yield* ended(asked)
        assert.strictEqual(status, 0)
        const [summary, head, ...rows] = lines(stdout)
        assert.strictEqual(summary, "1 services, 1 processes, 0.00 calls/s")
        assert.match(head!, /^SERVICE +INSTANCE +CALLS\/S +ERRORS\/S +RUNNING +WAITING +P50 MS +P99 MS +LINK$/)
        assert.match(rows[0]!, /^user_service +[\w-]{13} +0\.00 +0\.00 +0 +0 +- +- +Ready$/)
      })
    ).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("prints a table each second until q", () =>
    beside(
      UsersLive,
      Effect.fnUntraced(function* (commandLine) {
        const keys = yield* Queue.unbounded<Terminal.UserInput, Cause.Done>()
        const press = (name: string) =>
          Queue.offer(keys, { input: Option.some(name), key: { name, ctrl: false, meta: false, shift: false } })
        const screen = () => ({ clears: true, keys: true, rows: 24 })
        const started = commandLine.start(["top"], { keys })
        const running = yield* Effect.forkChild(Effect.provideService(started.status, Screen, screen), {
          startImmediately: true
        })
        const until = (text: RegExp) =>
          Effect.repeat(TestClock.adjust(100), { until: () => text.test(started.stdout()) })
        yield* until(/0\.00 calls\/s/)
        yield* calls
        yield* until(/[1-9]\.\d\d calls\/s/)
        assert.include(started.stdout(), clear)
        assert.match(started.stdout(), /user_service +[\w-]{13} +[1-9]\.\d\d +[1-9]?\d?\d\.\d\d +0 +0 +\d/)
        assert.strictEqual(started.whenInterrupted.status, 0)
        yield* press("x")
        yield* press("q")
        assert.strictEqual(yield* ended(running), 0)
      })
    ).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
