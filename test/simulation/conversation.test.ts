import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

class NotAnswered extends Schema.TaggedError<NotAnswered>()("NotAnswered", { reason: Schema.String }) {}

const Sums = Service.make(
  "sums",
  Action.make("sum", {
    payload: { terms: Schema.Finite },
    success: Schema.Finite,
    error: NotAnswered,
    asks: { term: { ask: { i: Schema.Finite }, answer: Schema.Finite } }
  })
)

const SumsLive = Handlers.layer(Sums, {
  // Half of the questions at once, then the others one by one.
  sum: ({ terms }, { ask }) =>
    Effect.forEach(
      Array.from({ length: terms }, (_, i) => i),
      (i) => ask("term", { i }, { timeout: "1 second" }),
      { concurrency: Math.max(1, terms / 2) }
    ).pipe(
      Effect.map((answers) => answers.reduce((sum, answer) => sum + answer, 0)),
      Effect.mapError(({ reason }) => new NotAnswered({ reason }))
    )
})

const answering = Effect.gen(function* () {
  const sums = yield* Simulation.caller(Sums)
  const sum = (terms: number, n: number) =>
    sums
      .sum(
        { terms },
        {
          timeout: 3_000,
          answers: {
            term: ({ i }) => Effect.as(Effect.andThen(Simulation.note("asked", `${n}/${i}`), Effect.sleep(i * 60)), i)
          }
        }
      )
      .pipe(Effect.tap((sum) => Effect.sync(() => assert.strictEqual(sum, (terms * (terms - 1)) / 2))))
  yield* spread(12, 800, (n) => sum(n % 7, n))
  yield* Simulation.calm
  yield* Effect.exit(sum(5, 12))
})

const askedOnce = Simulation.invariant("a question is answered once", () => {
  const asked = new Set<string>()
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      const question = `${event.process} ${event.value}`
      if (asked.has(question)) return `${question} is answered twice`
      asked.add(question)
      return undefined
    }
  }
})

const simulation = { services: { sums: SumsLive }, clients: { ann: answering, bob: answering } }
const outcomes = ["Success", "Failure", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]

protocol(
  "conversations",
  {
    ...simulation,
    seeds: 120,
    faults: Simulation.rough,
    invariants: [...Simulation.Promises.all, askedOnce]
  },
  outcomes
)

// A request that comes twice is handled twice, and each of the two asks.
protocol(
  "conversations over a network that repeats and reorders",
  { ...simulation, seeds: 60, faults: Simulation.hostile },
  outcomes
)
