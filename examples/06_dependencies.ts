// Dependencies: handlers take what they need from Layers, and a missing one is a compile error.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Prices extends Service.make(
  "prices",
  Action.make("price_of", { payload: { article: Schema.String }, success: Schema.Finite })
) {}

class Carts extends Service.make(
  "carts",
  Action.make("total", { payload: { articles: Schema.Array(Schema.String) }, success: Schema.Finite }),
  Action.make("rate", { success: Schema.Finite })
) {}

class Catalogue extends Context.Service<Catalogue, { readonly cents: (article: string) => number }>()("Catalogue") {
  static readonly layer = Layer.succeed(this, { cents: (article) => article.length * 100 })
}

// A handler that uses a service: the Layer then requires it.
const PricesLive = Handlers.layer(Prices, {
  price_of: ({ article }) => Catalogue.use((catalogue) => Effect.succeed(catalogue.cents(article)))
}).pipe(Layer.provide(Catalogue.layer))

// A handler by its own Layer, made by an Effect: the caller it makes lives as long as the Layer.
const TotalLive = Handlers.handler(
  Carts,
  "total",
  Effect.gen(function* () {
    const prices = yield* Caller.make(Prices)
    return ({ articles }) =>
      Effect.forEach(articles, (article) => prices.price_of({ article }), { concurrency: 3 }).pipe(
        Effect.map((cents) => cents.reduce((sum, price) => sum + price, 0)),
        // `total` declares no error: prices out of reach is a bug of the system.
        Effect.orDie
      )
  })
)

const RateLive = Handlers.handler(Carts, "rate", () => Effect.succeed(19))

// Serves when it has them all; without one of the two, `Live` below would not compile.
const CartsLive = Handlers.serve(Carts).pipe(Layer.provide([TotalLive, RateLive]))

const Live = Layer.mergeAll(PricesLive, CartsLive).pipe(Layer.provideMerge(Memory.layer))

const program = Effect.gen(function* () {
  const carts = yield* Caller.make(Carts)
  const total = yield* carts.total({ articles: ["mug", "lamp", "table"] })
  yield* Console.log(`total  ${total} cents`)
  yield* Console.log(`rate   ${yield* carts.rate()} percent`)
})

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
