// Discovery and health: processes tell what they serve, what they have done and how they are. Nothing is written for it but a check.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Ref, Schema } from "effect"
import { Action, Caller, Discovery, Handlers, Health, Memory, Service } from "fiberbus"

class Orders extends Service.make(
  "orders",
  Action.make("place", { payload: { count: Schema.Int }, error: Schema.Literal("sold out") })
) {}
class Mail extends Service.make("mail", Action.make("send")) {}

const program = Effect.gen(function* () {
  const stock = yield* Ref.make(2)

  const OrdersLive = Handlers.layer(
    Orders,
    {
      place: ({ count }) =>
        Effect.flatMap(
          Ref.modify(stock, (left) => [left >= count, left >= count ? left - count : left]),
          (placed) => (placed ? Effect.void : Effect.fail("sold out" as const))
        )
    },
    { version: "1.2.0" }
  )
  const StockCheck = Health.check(
    "stock",
    Effect.flatMap(Ref.get(stock), (left) => (left > 0 ? Effect.succeed(`${left} left`) : Effect.fail("none left"))),
    { service: Orders, timeout: "1 second" }
  )
  const MailLive = Handlers.layer(Mail, { send: () => Effect.void })
  yield* Layer.build(Layer.mergeAll(OrdersLive, StockCheck, MailLive))

  for (const { instances, service } of yield* Discovery.services()) {
    for (const { actions, version = "-" } of instances)
      yield* Console.log(`found     ${service} ${version}: ${actions}`)
  }

  const [info] = yield* Discovery.info(Orders)
  yield* Console.log("payload  ", JSON.stringify(info?.actions[0]?.payload?.["required"]))

  const tell = Effect.flatMap(Discovery.health(Orders), (all) =>
    Effect.forEach(all, ({ checks, live, ready }) => {
      const failed = checks.filter(({ status }) => status === "fail").map(({ detail, name }) => `${name}: ${detail}`)
      return Console.log(`health    live ${live}, ready ${ready}${failed.length > 0 ? ` (${failed})` : ""}`)
    })
  )
  yield* tell

  const orders = yield* Caller.make(Orders)
  yield* orders.place({ count: 2 })
  yield* orders.place({ count: 1 }).pipe(Effect.catch((error) => Console.log(`caller    ${error}`)))
  const [stats] = yield* Discovery.stats(Orders)
  yield* Console.log("outcomes ", JSON.stringify(stats?.actions[0]?.outcomes))

  // A result is kept for a second: many may ask.
  yield* Effect.sleep("1 second")
  yield* tell

  yield* Discovery.info("nobody").pipe(Effect.catch(({ message }) => Console.log(`error     ${message}`)))
})

program.pipe(Effect.scoped, Effect.provide(Memory.layer), NodeRuntime.runMain)
