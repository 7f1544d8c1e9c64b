import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Metric, Queue, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  Broadcast,
  Caller,
  CallMetrics,
  Handlers,
  Listener,
  Memory,
  Response,
  Retry,
  Service,
  Topic,
  Transport
} from "fiberbus"
import * as Scripted from "../scripted.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const Work = Service.make(
  "work",
  Action.make("echo", { payload: { text: Schema.String }, success: Schema.String }),
  Action.make("refuse", { error: Refused }),
  Action.make("die"),
  Action.make("misfit", { success: Schema.Finite.check(Schema.isGreaterThan(0)) }),
  Action.make("wait", { progress: { step: Schema.Finite } }),
  Action.make("byHand")
)

const serving = Handlers.layer(
  Work,
  {
    echo: ({ text }) => Effect.succeed(text),
    refuse: () => Effect.fail(new Refused()),
    die: () => Effect.die("a bug"),
    misfit: () => Effect.succeed(-1),
    wait: (_, { progress }) => Effect.andThen(progress({ step: 1 }), Effect.never),
    byHand: () => Response.error("no")
  },
  { grace: 0, concurrency: 1, backlog: 0 }
)

/** The lines of a registry: each metric's series as `name{attribute,…} value`, histograms by their count, zeros left out. */
const lines = (registry: Metric.MetricRegistry) =>
  Array.from(registry.values(), ({ id, attributes, hooks }) => {
    const state = hooks.get(Context.empty()) as { count?: number; value?: number }
    return { line: `${id}{${Object.values(attributes ?? {}).join(",")}}`, value: state.count ?? state.value ?? 0 }
  })
    .filter(({ line, value }) => value !== 0 && line.startsWith("fiberbus_") && !line.includes("discarded"))
    .map(({ line, value }) => `${line} ${value}`)
    .sort()

/** Runs with a registry of its own, and tells what is in it then. */
const measured = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const registry: Metric.MetricRegistry = new Map()
    return Effect.as(Effect.provideService(effect, Metric.MetricRegistry, registry), registry)
  })

type Work = Caller.Caller<typeof Work>

interface Case {
  readonly outcome: string
  readonly action: Service.ActionName<typeof Work>
  readonly call: (work: Work) => Effect.Effect<unknown, unknown>
  /** What the service counts; nothing where the request does not reach a handler of it. */
  readonly handled: string | undefined
  readonly served?: Layer.Layer<never, any, Transport.Transport>
  readonly over?: Scripted.Script
}

const call = <Name extends Case["action"]>(action: Name) => ({
  action,
  call: (work: Work) => (work[action] as any)(action === "echo" ? { text: "x" } : undefined, { timeout: "1 second" })
})

const cases: ReadonlyArray<Case> = [
  { outcome: "success", ...call("echo"), handled: "success" },
  { outcome: "error", ...call("refuse"), handled: "error" },
  { outcome: "RemoteDefect", ...call("die"), handled: "defect" },
  { outcome: "RemoteDefect", ...call("misfit"), handled: "defect" },
  { outcome: "RemoteError", ...call("byHand"), handled: "success" },
  { outcome: "NoResponders", ...call("echo"), handled: undefined, served: Layer.empty },
  { outcome: "DeadlineExceeded", action: "wait", call: (work) => work.wait({ timeout: 500 }), handled: "interrupted" },
  {
    outcome: "ContractMismatch",
    ...call("echo"),
    handled: "success",
    served: Handlers.layer(Service.make("work", Action.make("echo", { success: Schema.Finite })), {
      echo: () => Effect.succeed(1)
    })
  },
  {
    outcome: "UnknownAction",
    ...call("refuse"),
    handled: undefined,
    served: Handlers.layer(Service.make("work", Action.make("echo")), { echo: () => Effect.void })
  },
  { outcome: "TransportError", ...call("echo"), handled: undefined, over: { request: () => "refused" } }
]

describe("the metrics of calls", () => {
  for (const { outcome, action, call, handled, over, served } of cases) {
    it.effect(`count ${action} as ${outcome}`, () =>
      Effect.gen(function* () {
        const registry = yield* measured(
          Effect.gen(function* () {
            const work = yield* Caller.make(Work)
            const fiber = yield* Effect.forkChild(Effect.exit(call(work)))
            yield* Scripted.turns()
            yield* TestClock.adjust(1_000)
            yield* Fiber.join(fiber)
          }).pipe(
            Effect.scoped,
            Effect.provide(Layer.fresh(served ?? serving)),
            Effect.provide(Scripted.make(over ?? {}).layer)
          )
        )
        assert.deepStrictEqual(
          lines(registry),
          [
            `fiberbus_call_duration_milliseconds{work,${action}} 1`,
            `fiberbus_calls_total{work,${action},${outcome}} 1`,
            ...(handled === undefined
              ? []
              : [
                  `fiberbus_handled_total{work,${action},${handled}} 1`,
                  `fiberbus_handler_duration_milliseconds{work,${action}} 1`
                ])
          ].sort()
        )
      })
    )
  }

  it.effect("count what cannot be sent, and what is interrupted, and time neither that never began", () =>
    Effect.gen(function* () {
      const registry = yield* measured(
        Effect.gen(function* () {
          const work = yield* Caller.make(Work)
          yield* Effect.exit(work.echo({ text: 1 as never }))
          yield* Stream.runDrain(Stream.take(work.wait.stream(), 1))
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(serving)), Effect.provide(Layer.fresh(Memory.layer)))
      )
      assert.deepStrictEqual(
        lines(registry).filter((line) => line.startsWith("fiberbus_call")),
        [
          "fiberbus_call_duration_milliseconds{work,wait} 1",
          "fiberbus_calls_total{work,echo,InvalidPayload} 1",
          "fiberbus_calls_total{work,wait,interrupted} 1"
        ]
      )
    })
  )

  for (const policies of [[], [Retry.policy()]]) {
    it.effect(`count a stream whose steps do not fit, ${policies.length === 0 ? "without" : "under"} policies`, () =>
      Effect.gen(function* () {
        const wait = Action.make("wait", { progress: Schema.String })
        const list = Action.make("list", { items: Schema.Finite })
        const Theirs = Service.make("work", wait, Action.make("list", { items: Schema.Json }))
        const layer = Handlers.layer(Theirs, {
          wait: (_, { progress }) => Effect.andThen(progress("one"), Effect.never),
          list: () => Stream.make(1, 2, "three", 4)
        })
        const registry = yield* measured(
          Effect.gen(function* () {
            const Ours = Service.make("work", Action.make("wait", { progress: Schema.Finite }), list)
            const work = yield* Caller.make(Ours, { policies })
            const wrong = yield* Effect.flip(Stream.runDrain(work.wait.stream()))
            assert.strictEqual((wrong as any).reason._tag, "ContractMismatch")
            const seen: Array<number> = []
            const misfit = yield* Effect.flip(Stream.runForEach(work.list(), (n) => Effect.sync(() => seen.push(n))))
            assert.deepInclude(misfit, { started: "yes" })
            assert.strictEqual((misfit as any).reason._tag, "ContractMismatch")
            assert.deepStrictEqual(seen, [1, 2])
          }).pipe(Effect.scoped, Effect.provide(Layer.fresh(layer)), Effect.provide(Layer.fresh(Memory.layer)))
        )
        assert.deepStrictEqual(
          lines(registry).filter((line) => line.startsWith("fiberbus_calls")),
          ["fiberbus_calls_total{work,list,ContractMismatch} 1", "fiberbus_calls_total{work,wait,ContractMismatch} 1"]
        )
      })
    )
  }

  it.effect("know how many are in flight, how long they took, and who was refused for them", () =>
    Effect.gen(function* () {
      const registry = yield* measured(
        Effect.gen(function* () {
          const work = yield* Caller.make(Work)
          const gauge = Metric.withAttributes(CallMetrics.inFlight, { service: "work", action: "wait" })
          const latency = Metric.withAttributes(CallMetrics.duration, { service: "work", action: "wait" })
          const first = yield* Effect.forkChild(Effect.exit(work.wait({ timeout: 700 })))
          yield* Scripted.turns()
          // The slot is taken and nobody may wait.
          const busy = yield* Effect.flip(work.echo({ text: "x" }))
          assert.strictEqual((busy as any).reason._tag, "Busy")
          assert.strictEqual((yield* Metric.value(gauge)).value, 1)
          yield* TestClock.adjust(700)
          yield* Fiber.join(first)
          assert.strictEqual((yield* Metric.value(gauge)).value, 0)
          const { count, max, min } = yield* Metric.value(latency)
          assert.deepStrictEqual([count, min, max], [1, 700, 700])
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(serving)), Effect.provide(Layer.fresh(Memory.layer)))
      )
      assert.include(lines(registry), "fiberbus_requests_refused_total{work,Busy} 1")
      assert.include(lines(registry), "fiberbus_calls_total{work,echo,Busy} 1")
    })
  )

  it.effect("count a call under policies once, with the time of all its attempts", () =>
    Effect.gen(function* () {
      const scripted = Scripted.make({ request: (index) => (index < 2 ? "refused" : "arrives") })
      const registry = yield* measured(
        Effect.gen(function* () {
          const work = yield* Caller.make(Work, { policies: [Retry.policy({ schedule: Schedule.spaced(100) })] })
          const fiber = yield* Effect.forkChild(work.echo({ text: "x" }))
          yield* TestClock.adjust(200)
          yield* Fiber.join(fiber)
          const latency = Metric.withAttributes(CallMetrics.duration, { service: "work", action: "echo" })
          assert.strictEqual((yield* Metric.value(latency)).max, 200)
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(serving)), Effect.provide(scripted.layer))
      )
      assert.deepStrictEqual(
        lines(registry).filter((line) => line.includes("calls") || line.includes("retries")),
        ["fiberbus_calls_total{work,echo,success} 1", "fiberbus_retries_total{work,TransportError} 2"]
      )
    })
  )

  it.effect("hold one series for all that has no contract", () =>
    Effect.gen(function* () {
      const registry = yield* measured(
        Effect.gen(function* () {
          for (let n = 0; n < 20; n++) {
            const anything = yield* Caller.dynamic(`service-${n}`)
            yield* Effect.exit(anything.call(`action-${n}`))
          }
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Memory.layer)))
      )
      assert.deepStrictEqual(lines(registry), [
        "fiberbus_call_duration_milliseconds{*,*} 20",
        "fiberbus_calls_total{*,*,NoResponders} 20"
      ])
    })
  )

  it.effect("are the same for two callers of a service, and apart for two registries", () =>
    Effect.gen(function* () {
      const both = measured(
        Effect.gen(function* () {
          for (const work of [yield* Caller.make(Work), yield* Caller.make(Work)]) yield* work.echo({ text: "x" })
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(serving)), Effect.provide(Layer.fresh(Memory.layer)))
      )
      for (const registry of [yield* both, yield* both]) {
        assert.include(lines(registry), "fiberbus_calls_total{work,echo,success} 2")
      }
    })
  )
})

describe("the metrics of messages", () => {
  const Events = Topic.make("events", { n: Schema.Finite })

  it.effect("count what listeners make of them, and what is sent without an answer", () =>
    Effect.gen(function* () {
      const registry = yield* measured(
        Effect.gen(function* () {
          const heard = yield* Queue.unbounded<number>()
          yield* Layer.build(
            Listener.layer(Events, ({ n }) =>
              Effect.andThen(
                Queue.offer(heard, n),
                n === 1 ? Effect.fail("no") : n === 2 ? Effect.die("a bug") : Effect.void
              )
            )
          )
          for (const n of [0, 1, 2, 3]) yield* Broadcast.publish(Events, { n })
          yield* Transport.publish("events", '{"n":"x"}')
          for (let n = 0; n < 4; n++) yield* Queue.take(heard)
          const work = yield* Caller.make(Work)
          yield* work.byHand.send()
          yield* Effect.exit(work.echo.send({ text: 1 as never }))
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Memory.layer)))
      )
      assert.deepStrictEqual(lines(registry), [
        "fiberbus_heard_total{events,defect} 1",
        "fiberbus_heard_total{events,error} 1",
        "fiberbus_heard_total{events,success} 2",
        "fiberbus_requests_refused_total{events,InvalidPayload} 1",
        "fiberbus_sends_total{work,byHand,success} 1",
        "fiberbus_sends_total{work,echo,InvalidPayload} 1"
      ])
    })
  )

  it.effect("count each request that a shutdown refuses or interrupts", () =>
    Effect.gen(function* () {
      const registry = yield* measured(
        Effect.gen(function* () {
          const work = yield* Caller.make(Work)
          const begun = yield* Deferred.make<void>()
          const service = yield* Effect.forkChild(
            Effect.scoped(
              Effect.andThen(
                Layer.build(
                  Handlers.layer(
                    Service.make("work", Action.make("wait")),
                    { wait: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never) },
                    { grace: 0, concurrency: 1 }
                  )
                ),
                Effect.never
              )
            )
          )
          yield* Scripted.turns()
          const calls = yield* Effect.forkChild(
            Effect.exit(Effect.all([work.wait(), work.wait()].map(Effect.exit), { concurrency: 2 }))
          )
          yield* Deferred.await(begun)
          yield* Scripted.turns()
          yield* Fiber.interrupt(service)
          yield* Fiber.join(calls)
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Memory.layer)))
      )
      assert.deepStrictEqual(
        lines(registry).filter((line) => line.includes("_total")),
        [
          "fiberbus_calls_total{work,wait,Draining} 2",
          "fiberbus_handled_total{work,wait,interrupted} 1",
          "fiberbus_requests_refused_total{work,Draining} 1"
        ]
      )
    })
  )
})
