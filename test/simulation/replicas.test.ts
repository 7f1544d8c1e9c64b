import { Effect, Schema, Stream } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Twins = Service.make(
  "twins",
  Action.make("say", { payload: { n: Schema.Finite }, success: Schema.Finite }),
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite })
)

const twins = (delivery: Action.Delivery) =>
  Handlers.layer(
    Twins,
    {
      say: ({ n }) => Effect.as(Effect.sleep((n * 71) % 200), n),
      count: ({ to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sleep(10)))
    },
    { delivery }
  )

const calling = Effect.gen(function* () {
  const twins = yield* Simulation.caller(Twins)
  yield* Effect.all(
    [
      spread(20, 500, (n) => twins.say({ n }, { timeout: 2_000 })),
      spread(5, 2_000, (n) => Stream.runDrain(twins.count({ to: n * 10 }, { timeout: 1_000, window: 4 })))
    ],
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* Effect.exit(twins.say({ n: 1 }))
  yield* Effect.exit(Stream.runDrain(twins.count({ to: 20 })))
})

const outcomes = ["Success", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]

protocol(
  "replicas that all run a request",
  {
    services: { castor: twins("live"), pollux: twins("live") },
    clients: { ann: calling },
    seeds: 120,
    faults: Simulation.rough
  },
  outcomes
)

// Where all run a request, a refusal may end a call that another one has begun: with one of them it cannot, seed 245 among the others.
protocol(
  "replicas of which one runs a request",
  {
    services: { castor: twins("one"), pollux: twins("one") },
    clients: { ann: calling },
    seeds: 250,
    faults: Simulation.rough,
    invariants: [...Simulation.Promises.all, Simulation.Promises.handledByOne]
  },
  outcomes
)
