// A small shop: services that call each other, a declared error, progress, a broadcast. Run by `npm run demo`.
import { randomUUID } from "node:crypto"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Data, Effect, Layer, Runtime, Stream } from "effect"
import { Caller, Memory, Transport } from "fiberbus"
import { Orders, Returns, Warehouse } from "./shop/contract.ts"
import { NotificationsLive } from "./shop/notifications.ts"
import { OrdersLive } from "./shop/orders.ts"
import { PaymentsLive } from "./shop/payments.ts"
import { Story } from "./shop/story.ts"
import { WarehouseLive } from "./shop/warehouse.ts"

const Shop = Layer.mergeAll(OrdersLive, PaymentsLive, WarehouseLive, NotificationsLive)

const visit = Effect.gen(function* () {
  const story = yield* Story
  const transport = yield* Transport.Transport
  const orders = yield* Caller.make(Orders)
  const warehouse = yield* Caller.make(Warehouse)
  const returns = yield* Caller.make(Returns)

  yield* Console.log(`A small shop, over ${transport.name}`)

  yield* story.title("Ada orders two mugs: a call, and a call below it")
  const order = yield* story.call(
    ["ada", "orders"],
    "2 × mug, please, from card 4242",
    orders.place({ customer: "Ada", article: "mug", count: 2, card: "4242" }),
    ({ id }) => `your order is ${id}`
  )

  yield* story.title("Everyone who listens hears of it: a broadcast")
  yield* story.tellHeard("order_placed", "mail", "stock")

  yield* story.title("Bob's card is declined: a declared error, the same class on every side")
  yield* story
    .call(
      ["bob", "orders"],
      "9 × mug, please, from card 1111",
      orders.place({ customer: "Bob", article: "mug", count: 9, card: "1111" }),
      ({ id }) => `your order is ${id}`
    )
    .pipe(Effect.catchTag("CardDeclined", () => story.remark("no order was placed, and nobody heard of it")))

  yield* story.title("Ada watches her parcel being packed: progress, then the result")
  yield* story.line("ask", "ada", "warehouse", `pack ${order.id}`)
  yield* warehouse.pack
    .stream({ order })
    .pipe(
      Stream.runForEach((event) =>
        event._tag === "Progress"
          ? story.line("step", "warehouse", "ada", `${event.value.packed} of ${event.value.of} packed`)
          : story.line("answer", "warehouse", "ada", `done, parcel ${event.value.parcel}`)
      )
    )

  yield* story.title("Ada sends it back, but nobody serves returns: told at once, not after a timeout")
  yield* story
    .call(["ada", "returns"], `send back ${order.id}`, returns.send_back({ id: order.id }), () => "taken back")
    .pipe(
      Effect.catchReason("CallError", "NoResponders", (_, { started }) =>
        story.remark(`started: ${started}, so it is safe to try again`)
      )
    )

  yield* Console.log("\nThe code is in examples/shop. Over Redis: npm run demo -- --redis redis://127.0.0.1:6379")
})

/** Told in one line; the process ends with status 1. */
class Stopped extends Data.TaggedError("Stopped") {
  override readonly [Runtime.errorReported] = false
}

const demo = Effect.gen(function* () {
  const { redis } = yield* Effect.try({
    try: () => parseArgs({ options: { redis: { type: "string" } } }).values,
    catch: () => new Error("the only option is --redis redis://host:port")
  })
  // Loaded only where it is wanted: the shop in memory needs no Redis client. The prefix keeps this run to itself, whatever
  // else uses that Redis.
  const transport =
    redis === undefined
      ? Memory.layer
      : Layer.unwrap(
          Effect.map(
            Effect.promise(() => import("fiberbus/transport/RedisPubSub")),
            (RedisPubSub) => RedisPubSub.layer({ url: redis, prefix: `shop-${randomUUID()}:` })
          )
        )
  const Live = Shop.pipe(Layer.provideMerge(Layer.merge(Story.layer, transport)))
  yield* visit.pipe(Effect.scoped, Effect.provide(Live))
}).pipe(Effect.catch((error) => Effect.andThen(Console.error(`demo: ${error.message}`), new Stopped())))

NodeRuntime.runMain(demo)
