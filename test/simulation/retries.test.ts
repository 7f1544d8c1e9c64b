import { Effect, Schema } from "effect"
import { Action, Handlers, Request, Retry, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Shop = Service.make(
  "shop",
  Action.make("price", { payload: { n: Schema.Finite }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Idempotent, true)
  ),
  Action.make("pay", { payload: { n: Schema.Finite }, success: Schema.Finite })
)

const ShopLive = Handlers.layer(
  Shop,
  {
    price: ({ n }) => Effect.as(Effect.sleep((n * 41) % 300), n),
    pay: ({ n }) =>
      Effect.flatMap(Request.current, ({ id }) => Simulation.note("paid", id)).pipe(
        Effect.andThen(Effect.sleep((n * 41) % 300)),
        Effect.as(n)
      )
  },
  { concurrency: 3, backlog: 1 }
)

const budget = { ratio: 0.2, reserve: 5 }
const calls = 24

const retrying = Effect.gen(function* () {
  const shop = yield* Simulation.caller(Shop, { policies: [Retry.policy({ budget, attemptTimeout: "700 millis" })] })
  yield* Effect.all(
    [
      spread(calls / 2, 800, (n) => shop.price({ n }, { timeout: 4_000 })),
      spread(calls / 2, 750, (n) => shop.pay({ n }, { timeout: 4_000 }))
    ],
    { concurrency: "unbounded" }
  )
  yield* Simulation.calm
  yield* spread(2, 10, (n) => shop.pay({ n }))
})

const paidOnce = Simulation.invariant("nobody pays twice", () => {
  const paid = new Set<unknown>()
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      if (paid.has(event.value)) return { call: event.call, text: `${event.call} has paid twice` }
      paid.add(event.value)
      return undefined
    }
  }
})

/** Retries never multiply an outage: a process' further attempts are counted against its calls. */
const withinBudget = Simulation.invariant("retries stay within their budget", () => {
  const made = new Map<string, { calls: number; retries: number }>()
  return {
    along: (event) => {
      if (event._tag !== "FrameSent" || event.frame.json["action"] === undefined) return undefined
      const count = made.get(event.frame.process) ?? { calls: 0, retries: 0 }
      made.set(event.frame.process, count)
      if (event.frame.json["fiberbus"].attempt === undefined) count.calls++
      else count.retries++
      return count.retries > budget.reserve + calls * budget.ratio + 1
        ? `${event.frame.process} has made ${count.retries} further attempts for ${count.calls} calls`
        : undefined
    }
  }
})

const simulation = {
  services: { shop: ShopLive },
  clients: { ann: retrying, bob: retrying },
  invariants: [...Simulation.Promises.all, withinBudget]
}
const outcomes = ["Success", "DeadlineExceeded", "ConnectionLost", "TransportError"]

protocol(
  "retries",
  { ...simulation, seeds: 150, faults: Simulation.rough, invariants: [...simulation.invariants, paidOnce] },
  outcomes
)

protocol(
  "retries over a network that repeats and reorders",
  { ...simulation, seeds: 60, faults: Simulation.hostile },
  outcomes
)
