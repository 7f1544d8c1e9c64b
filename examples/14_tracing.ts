// Tracing: a call over three services is one trace, sent to an OpenTelemetry collector by Effect's own exporter.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"
import * as Collector from "./tracing/collector.ts"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

const item = { item: Schema.String }
class Shop extends Service.make("shop", Action.make("buy", { payload: item, success: Schema.String })) {}
class Stock extends Service.make("stock", Action.make("take", { payload: item, error: OutOfStock })) {}
class Mail extends Service.make("mail", Action.make("write", { payload: { text: Schema.String } })) {}

// Nothing in the services speaks of tracing: spans are opened where a tracer is installed, and go on behind every hop.
const ShopLive = Handlers.layer(
  Shop,
  Effect.gen(function* () {
    const stock = yield* Caller.make(Stock)
    const mail = yield* Caller.make(Mail)
    return {
      buy: ({ item }: { readonly item: string }) =>
        Effect.gen(function* () {
          yield* stock.take({ item })
          yield* Effect.withSpan(mail.write({ text: `A ${item} is on its way` }), "tell the customer")
          return "thank you"
        }).pipe(
          Effect.catchTag("OutOfStock", ({ item }) => Effect.succeed(`no ${item} left`)),
          Effect.orDie
        )
    }
  })
)
const StockLive = Handlers.layer(Stock, {
  take: ({ item }) => (item === "mug" ? Effect.void : Effect.fail(new OutOfStock({ item })))
})
const MailLive = Handlers.layer(Mail, { write: () => Effect.void })

const program = Effect.gen(function* () {
  const shop = yield* Caller.make(Shop)
  yield* Console.log(`mug    ${yield* shop.buy({ item: "mug" })}`)
  yield* Console.log(`plate  ${yield* shop.buy({ item: "plate" })}`)
})

// Each service has a tracer of its own, as it would in a process of its own.
const tracing = (baseUrl: string, serviceName: string) =>
  Otlp.layerJson({ baseUrl, resource: { serviceName } }).pipe(Layer.provide(FetchHttpClient.layer))

const main = Effect.gen(function* () {
  const collector = yield* Collector.start
  const { url } = collector
  const Live = Layer.mergeAll(
    ShopLive.pipe(Layer.provide(tracing(url, "shop"))),
    StockLive.pipe(Layer.provide(tracing(url, "stock"))),
    MailLive.pipe(Layer.provide(tracing(url, "mail")))
  ).pipe(Layer.provideMerge(Memory.layer))

  // What is still to be exported leaves when the layers close.
  yield* program.pipe(Effect.scoped, Effect.provide(Live), Effect.provide(tracing(url, "browser")))
  for (const line of collector.tree()) yield* Console.log(line)
})

main.pipe(Effect.scoped, NodeRuntime.runMain)
