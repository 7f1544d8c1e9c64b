import { Effect, Schedule, Schema } from "effect"
import { Action, type Caller, Handlers, Retry, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const work = { payload: { millis: Schema.Finite }, success: Schema.Finite } as const
const Once = Service.make("once", Action.make("do", work))
const Again = Service.make("again", Action.make("do", work).pipe(Action.annotate(Action.Idempotent, true)))

const handlers = { do: ({ millis }: { readonly millis: number }) => Effect.as(Effect.sleep(millis), millis) }
const onceLive = (grace: number) => Handlers.layer(Once, handlers, { grace, concurrency: 3 })
const AgainLive = Handlers.layer(Again, handlers, { grace: 4_000, concurrency: 3 })

const working = (service: typeof Once | typeof Again, options: () => Caller.Options) =>
  Effect.gen(function* () {
    const { do: work } = yield* Simulation.caller(service, options())
    yield* spread(60, 160, (n) => work({ millis: (n * 97) % 400 }, { timeout: "30 seconds" }))
    yield* Simulation.calm
    yield* Effect.exit(work({ millis: 1 }))
  })

/** A stop takes nothing without a word: a caller hears `Draining`, or that nobody is there, or its answer. */
const saysSo = Simulation.invariant("a stop loses nothing without a word", () => {
  const allowed = new Set(["Draining", "NoResponders"])
  return {
    along: (event) => {
      if (event._tag !== "CallEnded") return undefined
      const { call, outcome } = event
      if (outcome._tag === "Success" || (outcome._tag === "CallError" && allowed.has(outcome.reason))) return undefined
      return { call, text: `${call} ended with ${outcome._tag === "CallError" ? outcome.text : outcome._tag}` }
    }
  }
})

const alone = working(Once, () => ({}))

protocol(
  "services that are stopped while they work",
  {
    services: { once: onceLive(300) },
    clients: { ann: alone, bob: alone },
    seeds: 80,
    faults: { stops: 4, late: 0.02 },
    invariants: [...Simulation.Promises.all, saysSo]
  },
  ["Success", "Draining", "NoResponders"]
)

const allWell = Simulation.invariant("every call is answered", () => ({
  along: (event) =>
    event._tag === "CallEnded" && event.outcome._tag !== "Success"
      ? { call: event.call, text: `${event.call} ended with ${JSON.stringify(event.outcome)}` }
      : undefined
}))

const retrying = () => ({
  policies: [Retry.policy({ schedule: Schedule.spaced("200 millis"), budget: { ratio: 20, reserve: 1_000 } })]
})

// The grace is longer than any work, so that nothing is interrupted; what had not begun is tried again.
protocol(
  "services that are stopped while callers retry",
  {
    services: { once: onceLive(4_000) },
    clients: { ann: working(Once, retrying), bob: working(Once, retrying) },
    seeds: 60,
    faults: { stops: 4, late: 0.02 },
    invariants: [...Simulation.Promises.all, allWell]
  },
  ["Success"]
)

// Where all replicas get a request, what one of them refuses another may run: trying again is for what is idempotent.
protocol(
  "replicas that are stopped while callers retry",
  {
    services: { one: AgainLive, two: AgainLive },
    clients: { ann: working(Again, retrying), bob: working(Again, retrying) },
    seeds: 60,
    faults: { stops: 4, late: 0.02 },
    invariants: [...Simulation.Promises.all, allWell]
  },
  ["Success"]
)
