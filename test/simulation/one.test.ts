import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { Action, Handlers, Retry, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Once = Service.make(
  "once",
  Action.make("say", { payload: { n: Schema.Finite }, success: Schema.Finite }),
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite })
)

const serving = (delivery?: Action.Delivery) =>
  Handlers.layer(
    Once,
    {
      say: ({ n }) => Effect.as(Effect.sleep((n * 71) % 200), n),
      count: ({ to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sleep(10)))
    },
    { concurrency: 3, grace: 500, ...(delivery === undefined ? undefined : { delivery }) }
  )

const calling = Effect.gen(function* () {
  const once = yield* Simulation.caller(Once, { policies: [Retry.policy()] })
  yield* Effect.all(
    [
      spread(20, 400, (n) => once.say({ n }, { timeout: 2_000 })),
      spread(4, 2_000, (n) => Stream.runDrain(once.count({ to: n * 10 }, { timeout: 1_000, window: 4 })))
    ],
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* once.say({ n: 1 })
  yield* Stream.runDrain(once.count({ to: 20 }))
})

/** A caller that knows no processes: its requests are claimed. */
const claiming = Effect.gen(function* () {
  const once = yield* Simulation.caller(AllHear)
  yield* spread(20, 400, (n) => once.say({ n }, { timeout: 2_000 }))
  yield* Simulation.calm
  yield* once.say({ n: 1 })
})

const AllHear = Service.make(
  "once",
  Once.actions.say.pipe(Action.annotate(Action.Delivery, "live")),
  Once.actions.count.pipe(Action.annotate(Action.Delivery, "live"))
)

const invariants = [...Simulation.Promises.all, Simulation.Promises.handledByOne]
const outcomes = ["Success", "DeadlineExceeded", "ConnectionLost", "TransportError"]

protocol(
  "three replicas of which one handles each request",
  {
    services: { one: serving(), two: serving(), three: serving() },
    clients: { ann: calling, daebus: claiming },
    seeds: 60,
    faults: { ...Simulation.rough, crashes: 4, stops: 3, partitions: 2 },
    invariants
  },
  outcomes
)

protocol(
  "three replicas over a network that repeats and reorders",
  {
    services: { one: serving(), two: serving(), three: serving() },
    clients: { ann: calling, daebus: claiming },
    seeds: 40,
    faults: Simulation.hostile,
    invariants
  },
  ["Success"]
)

describe("replicas that are all to handle each request", () => {
  it.live("break what holds where one is", () =>
    Effect.gen(function* () {
      const found = yield* Effect.flip(
        Simulation.check({
          services: { one: serving("live"), two: serving("live") },
          clients: { daebus: claiming },
          seeds: 1,
          faults: {},
          invariants
        })
      )
      assert.include(found.message, "a request is begun by one process at most")
    })
  )
})
