import { assert } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Finite }) {}

const steps = { payload: { n: Schema.Finite }, success: { n: Schema.Finite }, error: Odd } as const
const Echo = Service.make("echo", Action.make("say", steps), Action.make("die", steps))
const Relay = Service.make("relay", Action.make("say", steps))

const EchoLive = Handlers.layer(
  Echo,
  {
    say: ({ n }) =>
      Effect.andThen(Effect.sleep((n * 37) % 400), n % 7 === 6 ? Effect.fail(new Odd({ n })) : Effect.succeed({ n })),
    die: () => Effect.die(new Error("planted"))
  },
  { concurrency: 2, backlog: 2 }
)

/** A second hop: what goes wrong behind it is its own defect, unless the deadline is over first. */
const RelayLive = Handlers.layer(
  Relay,
  Effect.map(Caller.make(Echo), (echo) => ({
    say: ({ n }: { readonly n: number }) => Effect.catchTag(echo.say({ n }), "CallError", Effect.die)
  }))
)

const calling = Effect.gen(function* () {
  const echo = yield* Simulation.caller(Echo)
  const relay = yield* Simulation.caller(Relay)
  const ask = (say: typeof echo.say, n: number, timeout: number) =>
    Effect.tap(say({ n }, { timeout }), (answer) => Effect.sync(() => assert.strictEqual(answer.n, n)))
  yield* Effect.all(
    [
      spread(16, 600, (n) => ask(echo.say, n, 300 + n * 100)),
      spread(8, 1_200, (n) => ask(relay.say, n, 500 + n * 100)),
      spread(3, 3_000, (n) => echo.die({ n })),
      // More than there is room for.
      Effect.andThen(
        Effect.sleep(4_000),
        spread(8, 0, (n) => ask(echo.say, n, 2_000))
      )
    ],
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* Effect.exit(ask(echo.say, 1, 5_000))
  yield* Effect.exit(ask(relay.say, 2, 5_000))
})

const simulation = {
  services: { echo: EchoLive, relay: RelayLive },
  clients: { ann: calling, bob: calling }
}

const outcomes = [
  "Success",
  "Failure",
  "Busy",
  "NoResponders",
  "RemoteDefect",
  "DeadlineExceeded",
  "ConnectionLost",
  "TransportError"
]

protocol("calls", { ...simulation, seeds: 250, faults: Simulation.rough }, outcomes)

protocol(
  "calls over a network that repeats and reorders",
  { ...simulation, seeds: 100, faults: Simulation.hostile },
  outcomes
)

// What serves and what asks may be one process.
protocol(
  "calls within a service's own process",
  {
    services: { both: Layer.mergeAll(EchoLive, RelayLive) },
    clients: { ann: calling },
    seeds: 50,
    faults: Simulation.rough
  },
  outcomes
)
