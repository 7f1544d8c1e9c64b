import { Effect, Schema, Stream } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Twins = Service.make(
  "twins",
  Action.make("say", { payload: { n: Schema.Finite }, success: Schema.Finite }),
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite })
)

const TwinsLive = Handlers.layer(Twins, {
  say: ({ n }) => Effect.as(Effect.sleep((n * 71) % 200), n),
  count: ({ to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sleep(10)))
})

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

protocol(
  "replicas that all run a request",
  {
    services: { castor: TwinsLive, pollux: TwinsLive },
    clients: { ann: calling },
    seeds: 120,
    faults: Simulation.rough
  },
  ["Success", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]
)
