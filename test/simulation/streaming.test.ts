import { assert } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Numbers = Service.make(
  "numbers",
  Action.make("count", { payload: { to: Schema.Finite, every: Schema.Finite }, items: Schema.Finite }),
  Action.make("load", {
    payload: { to: Schema.Finite, every: Schema.Finite },
    progress: Schema.Finite,
    success: Schema.String
  })
)

const NumbersLive = Handlers.layer(Numbers, {
  count: ({ every, to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sleep(every))),
  load: ({ every, to }, { progress }) =>
    Effect.forEach(
      Array.from({ length: to }, (_, i) => i + 1),
      (i) => Effect.andThen(progress(i), Effect.sleep(every)),
      { discard: true }
    ).pipe(Effect.as("loaded"))
})

/** Takes numbers from 1 on, each when it has its turn, a while apart. */
const inOrder = (every: number) => {
  let last = 0
  return <E, R>(stream: Stream.Stream<number, E, R>) =>
    Stream.runForEach(stream, (n) =>
      Effect.andThen(
        Effect.sync(() => assert.strictEqual(n, ++last)),
        Effect.sleep(every)
      )
    )
}

const consuming = Effect.gen(function* () {
  const numbers = yield* Simulation.caller(Numbers)
  const count = (n: number) =>
    numbers.count({ to: 5 + n * 25, every: n % 3 === 0 ? 0 : 5 }, { timeout: 2_000, window: 2 + n * 8 })
  yield* Effect.all(
    [
      spread(5, 1_700, (n) => inOrder(n % 2 === 0 ? 0 : 7)(count(n))),
      spread(2, 4_000, () => inOrder(3)(Stream.take(count(4), 10))),
      // A silence of both sides that is longer than a third of the timeout.
      Effect.exit(inOrder(0)(numbers.count({ to: 3, every: 2_500 }, { timeout: 3_000 }))),
      Effect.exit(inOrder(900)(numbers.count({ to: 12, every: 0 }, { timeout: 1_000, window: 2 }))),
      spread(4, 2_000, (n) =>
        Stream.runDrain(numbers.load.stream({ to: n * 8, every: 50 }, { timeout: 2_000, window: 3 }))
      )
    ],
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* Effect.exit(inOrder(0)(numbers.count({ to: 40, every: 2 }, { window: 5 })))
})

const simulation = { services: { numbers: NumbersLive }, clients: { ann: consuming } }
const outcomes = ["Success", "Interrupted", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]

protocol("streams", { ...simulation, seeds: 120, faults: { ...Simulation.rough, lost: 0.004, late: 0.01 } }, outcomes)

protocol(
  "streams over a network that repeats and reorders",
  { ...simulation, seeds: 60, faults: { ...Simulation.hostile, twice: 0.005, overtaken: 0.005 } },
  outcomes
)
