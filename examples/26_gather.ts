// Gather: ask many, keep the answers and the failures apart, and do without those who take too long.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Result, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class NotSold extends Schema.TaggedError<NotSold>()("NotSold", { article: Schema.String }) {}

const PriceOf = Action.make("price_of", {
  payload: { article: Schema.String },
  success: Schema.Int,
  error: NotSold
})

// Shops that answer the same question, each under a name of its own.
class North extends Service.make("shop.north", PriceOf) {}
class South extends Service.make("shop.south", PriceOf) {}
class Island extends Service.make("shop.island", PriceOf) {}

// A Map, as the article is text from outside: an object would have a price for "toString".
const shop = (prices: ReadonlyMap<string, number>) => ({
  price_of: ({ article }: { readonly article: string }) => {
    const price = prices.get(article)
    return price === undefined ? Effect.fail(new NotSold({ article })) : Effect.succeed(price)
  }
})

const Shops = Layer.mergeAll(
  Handlers.layer(North, shop(new Map(Object.entries({ mug: 12, lamp: 40 })))),
  Handlers.layer(South, shop(new Map([["mug", 9]]))),
  Handlers.layer(Island, { price_of: () => Effect.never })
)

const program = Effect.gen(function* () {
  const north = yield* Caller.make(North)
  const south = yield* Caller.make(South)
  const island = yield* Caller.make(Island)

  // Of a list: all are asked, and what came of it is sorted.
  const [prices, failures] = yield* Effect.partition(
    ["mug", "moon", "lamp", "sun"],
    (article) => north.price_of({ article }),
    { concurrency: 4 }
  )
  yield* Console.log(`list    ${prices.join(", ")}; failed: ${failures.map((error) => error._tag).join(", ")}`)

  // By name: each becomes a Result, none ends the others.
  const lamps = yield* Effect.all(
    { north: north.price_of({ article: "lamp" }), south: south.price_of({ article: "lamp" }) },
    { concurrency: "unbounded", mode: "result" }
  )
  for (const [name, result] of Object.entries(lamps))
    yield* Console.log(`${name}   ${Result.isSuccess(result) ? result.success : result.failure._tag}`)

  // What is there within a time: the slow one is interrupted, in its service too.
  const offers = yield* Effect.forEach(
    [north, south, island],
    (shop) => Effect.timeoutOption(shop.price_of({ article: "mug" }), "200 millis"),
    { concurrency: "unbounded" }
  )
  const inTime = offers.flatMap((offer) => (Option.isSome(offer) ? [offer.value] : []))
  yield* Console.log(`best    ${Math.min(...inTime)}, by ${inTime.length} of ${offers.length} shops`)
})

program.pipe(Effect.scoped, Effect.provide(Shops.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
