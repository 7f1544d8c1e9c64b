import { Effect, Fiber, Random, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Work = Service.make(
  "work",
  Action.make("wait", { payload: { millis: Schema.Finite } }),
  Action.make("tick", { items: Schema.Finite }),
  Action.make("refer", { payload: { millis: Schema.Finite } })
)
const Behind = Service.make("behind", Action.make("wait", { payload: { millis: Schema.Finite } }))

const WorkLive = Handlers.layer(
  Work,
  Effect.map(Caller.make(Behind), (behind) => ({
    wait: ({ millis }: { readonly millis: number }) => Effect.sleep(millis),
    tick: () => Stream.fromEffectRepeat(Effect.as(Effect.sleep(30), 1)),
    // Its own call must be taken back with it.
    refer: ({ millis }: { readonly millis: number }) => Effect.orDie(behind.wait({ millis }, { timeout: "1 minute" }))
  })),
  { concurrency: 4 }
)

const BehindLive = Handlers.layer(Behind, { wait: ({ millis }) => Effect.sleep(millis) })

const impatient = Effect.gen(function* () {
  const work = yield* Simulation.caller(Work)
  const givingUp = <A, E, R>(call: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(call)
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 400))
      yield* Fiber.interrupt(fiber)
    })
  const all = (count: number, apart: number) =>
    Effect.all(
      [
        spread(count, apart, () => givingUp(work.wait({ millis: 5_000 }, { timeout: "8 seconds" }))),
        spread(count, apart, () => givingUp(work.refer({ millis: 5_000 }, { timeout: "8 seconds" }))),
        spread(count, apart, () => givingUp(Stream.runDrain(work.tick({ timeout: "2 seconds" })))),
        spread(count, apart, () => work.wait({ millis: 200 }, { timeout: "1 second" }))
      ],
      { concurrency: "unbounded" }
    )
  yield* all(5, 1_500)
  yield* Simulation.calm
  yield* all(2, 100)
  yield* Effect.sleep(1_000)
})

/** At rest no word gets lost: whoever gives up has its handler stopped, and the handlers behind it. */
const stopsHandlers = Simulation.invariant("a handler stops when its caller gives up", ({ calm, history }) => {
  const running = new Map<number, { readonly at: number; readonly what: string; readonly call: string | undefined }>()
  const givenUp = new Map<string, number>()
  const roundTrip = 40
  return {
    along: (event) => {
      if (event._tag === "CallEnded" && event.outcome._tag === "Interrupted") givenUp.set(event.call, event.at)
      if (event._tag === "HandlerEnded") running.delete(event.execution)
      if (event._tag === "HandlerBegan") {
        running.set(event.execution, { ...event, call: history.callOf(event.request) })
      }
      for (const { at, call, what } of running.values()) {
        const since = givenUp.get(call ?? "")
        if (since !== undefined && at > calm() && event.at > since + roundTrip) {
          return { call, text: `${what} of ${call} goes on, ${event.at - since} ms after its caller gave up` }
        }
      }
      return undefined
    },
    // Calls behind have no label: what of them has not come to its end would sleep for seconds.
    end: () => {
      const [left] = running.values()
      return left === undefined ? undefined : `${left.what} runs for nobody`
    }
  }
})

protocol(
  "cancellations",
  {
    services: { work: WorkLive, behind: BehindLive },
    clients: { ann: impatient, bob: impatient },
    seeds: 120,
    faults: Simulation.rough,
    invariants: [...Simulation.Promises.all, stopsHandlers]
  },
  ["Success", "Interrupted", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]
)
