// REST beside messages: an HTTP endpoint, actions, an event listener and a background task share one store in one process.
import { createServer } from "node:http"
import { parseArgs } from "node:util"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Ref, Schedule, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "effect/http-api"
import { Action, Background, Broadcast, Caller, Handlers, Listener, Memory, Service, Topic } from "fiberbus"

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { article: Schema.String, left: Schema.Int }) {}
const Level = Schema.Struct({ article: Schema.String, left: Schema.Int })

class Stock extends Service.make(
  "stock",
  Action.make("take", { payload: { article: Schema.String, count: Schema.Int }, success: Level, error: SoldOut })
) {}
const Deliveries = Topic.make("deliveries", { article: Schema.String, count: Schema.Int })

// The same class is an error of the action, and an answer with status 409.
const Api = HttpApi.make("shop").add(
  HttpApiGroup.make("stock").add(
    HttpApiEndpoint.get("level", "/stock/:article", { params: { article: Schema.String }, success: Level }),
    HttpApiEndpoint.post("take", "/stock/:article/take", {
      params: { article: Schema.String },
      payload: Schema.Struct({ count: Schema.Int }),
      success: Level,
      error: SoldOut.pipe(HttpApiSchema.status(409))
    })
  )
)

/** The one resource: whoever changes it, all see it. */
export class Shelf extends Context.Service<Shelf>()("Shelf", {
  make: Effect.map(Ref.make<ReadonlyMap<string, number>>(new Map([["mug", 3]])), (ref) => ({
    level: (article: string) => Effect.map(Ref.get(ref), (shelf) => ({ article, left: shelf.get(article) ?? 0 })),
    /** Adds, or takes where the count is negative, unless too few are left. */
    change: Effect.fnUntraced(function* (article: string, count: number) {
      const left = yield* Ref.modify(ref, (shelf) => {
        const left = (shelf.get(article) ?? 0) + count
        return [left, left < 0 ? shelf : new Map([...shelf, [article, left]])]
      })
      return left < 0 ? yield* new SoldOut({ article, left: left - count }) : { article, left }
    })
  }))
}) {
  static readonly layer = Layer.effect(this, this.make)
}

const Actions = Handlers.layer(Stock, {
  take: ({ article, count }) => Shelf.use((shelf) => shelf.change(article, -count))
})

const OnDelivery = Listener.layer(Deliveries, ({ article, count }) =>
  Effect.andThen(
    Console.log(`event  ${count} × ${article} delivered`),
    Shelf.use((shelf) => shelf.change(article, count))
  )
)

// Looks again and again, and orders what is sold out, once.
let ordered = false
const Reorder = Background.layer(
  "reorder",
  Schedule.spaced("20 millis"),
  Effect.gen(function* () {
    const shelf = yield* Shelf
    if (ordered || (yield* shelf.level("mug")).left > 0) return
    ordered = true
    yield* Console.log("task   no mug left, orders 5")
    yield* Broadcast.publish(Deliveries, { article: "mug", count: 5 })
  })
)

const Endpoints = HttpApiBuilder.group(
  Api,
  "stock",
  Effect.fnUntraced(function* (handlers) {
    const shelf = yield* Shelf
    return handlers.handleAll({
      level: ({ params }) => shelf.level(params.article),
      take: ({ params, payload }) => shelf.change(params.article, -payload.count)
    })
  })
)

const Http = HttpRouter.serve(HttpApiBuilder.layer(Api).pipe(Layer.provide(Endpoints)), {
  disableLogger: true,
  disableListenLog: true
}).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })))

const request = (method: string, path: string, body?: object) =>
  HttpServer.addressFormattedWith((address) =>
    Effect.promise(async () => {
      const sent = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
      const response = await fetch(address + path, { method, ...sent })
      const { left, _tag = "ok" } = (await response.json()) as { readonly left: number; readonly _tag?: string }
      return { left, line: `http   ${method} ${path}: ${response.status} ${_tag}, ${left} left` }
    })
  )

const program = Effect.gen(function* () {
  const stock = yield* Caller.make(Stock)
  yield* Console.log((yield* request("GET", "/stock/mug")).line)
  yield* Console.log(`call   took 2, ${(yield* stock.take({ article: "mug", count: 2 })).left} left`)
  yield* Console.log((yield* request("POST", "/stock/mug/take", { count: 5 })).line)
  yield* Console.log("call   takes the last one")
  yield* stock.take({ article: "mug", count: 1 })
  const delivered = yield* request("GET", "/stock/mug").pipe(
    Effect.repeat({ until: ({ left }) => left > 0, schedule: Schedule.spaced("10 millis") })
  )
  yield* Console.log(delivered.line)
})

const { redis } = parseArgs({ options: { redis: { type: "string" } } }).values
const TransportLive =
  redis === undefined
    ? Memory.layer
    : Layer.unwrap(
        Effect.map(
          Effect.promise(() => import("fiberbus/transport/RedisPubSub")),
          (RedisPubSub) => RedisPubSub.layer({ url: redis, prefix: `rest-${process.pid}:` })
        )
      )

// At the end the listener, the task and the server are closed, then the store, then the transport.
const Live = Layer.mergeAll(Actions, OnDelivery, Reorder, Http).pipe(
  Layer.provide(Shelf.layer),
  Layer.provideMerge(TransportLive)
)

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
