// Bounded fan-out: many calls at the same time, but never more than a given number of them.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Prices extends Service.make(
  "prices",
  Action.make("price_of", { payload: { article: Schema.Int }, success: Schema.Int })
) {}

let asked = 0
let most = 0

const PricesLive = Handlers.layer(Prices, {
  price_of: ({ article }) =>
    Effect.gen(function* () {
      most = Math.max(most, ++asked)
      yield* Effect.sleep("2 millis")
      return article * 10
    }).pipe(Effect.ensuring(Effect.sync(() => asked--)))
})

const program = Effect.gen(function* () {
  const prices = yield* Caller.make(Prices)
  const articles = Array.from({ length: 30 }, (_, article) => article)

  // Effect's own: the results come in the order of the articles, and the first failure interrupts the other calls.
  const found = yield* Effect.forEach(articles, (article) => prices.price_of({ article }), { concurrency: 4 })

  yield* Console.log(`prices  ${found.slice(0, 5).join(", ")}, … ${found.length} of them`)
  yield* Console.log(`most    ${most} asked at once`)
})

program.pipe(Effect.scoped, Effect.provide(PricesLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
