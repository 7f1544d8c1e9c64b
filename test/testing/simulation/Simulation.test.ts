import { spawnSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { Action, Handlers, Memory, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"

const Counter = Service.make("counter", Action.make("next", { success: Schema.Finite }))

class Store extends Context.Service<Store, { n: number }>()("Store") {}

/** Counts in memory of its own, and in a store that is outside of it; notes its life. */
const CounterLive = Handlers.layer(
  Counter,
  Effect.gen(function* () {
    let own = 0
    const store = yield* Store
    yield* Effect.acquireRelease(Simulation.note("opened"), () => Simulation.note("closed"))
    return { next: () => Effect.sync(() => ++own * 100 + ++store.n) }
  })
)

const counting = Effect.gen(function* () {
  const counter = yield* Simulation.caller(Counter)
  yield* counter.next()
  yield* Effect.sleep(1_000)
  yield* counter.next()
})

const built: Array<number> = []
const simulation = {
  seed: 1,
  services: { counter: CounterLive },
  clients: { ann: counting },
  outside: Layer.sync(Store, () => ({ n: 0 * built.push(1) }))
}

const summary = ({ events }: Simulation.Report) =>
  events.flatMap((event) => {
    if (event._tag === "Noted") return [event.name]
    return event._tag === "CallEnded" && event.outcome._tag === "Success" ? [event.outcome.value] : []
  })

describe("Simulation", () => {
  it.live("builds what is outside once in a run, and what is inside anew after each end", () =>
    Effect.gen(function* () {
      built.length = 0
      const calm = yield* Simulation.run({ ...simulation, faults: [] })
      assert.deepStrictEqual(summary(calm), ["opened", 101, 202])
      // Killed: nothing is closed. Stopped: all is.
      const crash = { _tag: "Crash", process: "counter", at: 500, millis: 100 } as const
      const crashed = yield* Simulation.run({ ...simulation, faults: [crash] })
      assert.deepStrictEqual(summary(crashed), ["opened", 101, "opened", 102])
      const stopped = yield* Simulation.run({ ...simulation, faults: [{ ...crash, _tag: "Stop" }] })
      assert.deepStrictEqual(summary(stopped), ["opened", 101, "closed", "opened", 102])
      assert.lengthOf(built, 3)
      for (const { violation } of [calm, crashed, stopped]) assert.isUndefined(violation)
      assert.deepStrictEqual(calm.outcomes, { Success: 2 })
    })
  )

  it.live("says what is outside and cannot be built, and which service does not start", () =>
    Effect.gen(function* () {
      const outside = Layer.effect(Store, Effect.fail("no disk"))
      const unbuilt = yield* Simulation.run({ ...simulation, outside })
      assert.deepInclude(unbuilt.violation, { invariant: "what stands outside is built", text: "no disk" })
      const services = { counter: Layer.effectDiscard(Effect.fail("no port")) }
      const unstarted = yield* Simulation.run({ seed: 1, services, clients: {} })
      assert.deepInclude(unstarted.violation, { text: "counter failed: no port" })
    })
  )

  it.live("leaves clients what they are outside of a simulation", () =>
    Effect.gen(function* () {
      const counter = yield* Simulation.caller(Counter)
      assert.strictEqual(yield* counter.next(), 101)
      yield* Simulation.calm
      yield* Simulation.note("nothing")
      assert.strictEqual(yield* counter.next().pipe(Simulation.call("next", { within: 0 })), 202)
    }).pipe(
      Effect.provide(
        CounterLive.pipe(Layer.provideMerge(Memory.layer), Layer.provide(Layer.sync(Store, () => ({ n: 0 }))))
      )
    )
  )

  it.live("goes the same way in every process of the machine", () =>
    Effect.sync(() => {
      const script = `
        import { Effect, Schema, Stream } from "effect"
        import { Action, Handlers, Service } from "fiberbus"
        import { Simulation } from "fiberbus/testing"
        const S = Service.make("s", Action.make("c", { payload: { to: Schema.Finite }, items: Schema.Finite }))
        const SLive = Handlers.layer(S, { c: ({ to }) => Stream.range(1, to) })
        const ann = Effect.gen(function* () {
          const s = yield* Simulation.caller(S)
          for (let n = 1; n < 20; n++) yield* Effect.exit(Stream.runDrain(s.c({ to: n * 3 }, { window: 5 })))
        })
        const { trace } = await Effect.runPromise(Simulation.run({ seed: 4, services: { s: SLive }, clients: { ann } }))
        console.log(trace)`
      const run = () =>
        spawnSync(process.execPath, ["--conditions=fiberbus-source", "--input-type=module", "-e", script], {
          encoding: "utf8"
        })
      const [one, two] = [run(), run()]
      assert.strictEqual(one.stderr, "")
      assert.isAbove(one.stdout.length, 10_000)
      assert.isTrue(one.stdout === two.stdout)
    })
  )
})
