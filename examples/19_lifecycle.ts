// Lifecycle: a program waits for the services it needs, says when it is ready, and tidies up before it stops.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Lifecycle, Memory, Service } from "fiberbus"

class Stock extends Service.make("stock", Action.make("count", { success: Schema.Finite })) {}
class Shop extends Service.make("shop", Action.make("health", { success: Schema.String })) {}

const StockLive = Handlers.layer(Stock, { count: () => Effect.succeed(7) })

const ShopLive = Handlers.layer(Shop, {
  health: () =>
    Effect.map(Lifecycle.state, (state) =>
      state._tag === "Starting" ? `Starting, without ${state.waitingFor.join(", ")}` : state._tag
    )
})

const AppLive = Layer.mergeAll(
  ShopLive,
  Lifecycle.waitFor(Stock, { timeout: "10 seconds" }),
  // Everything is there by now.
  Lifecycle.onReady(
    Effect.gen(function* () {
      const stock = yield* Caller.make(Stock)
      yield* Console.log(`ready     ${yield* stock.count()} mugs in stock`)
    })
  ),
  // Everything is still there, and answers.
  Lifecycle.onStop(Console.log("stopping  the last mug is put on the shelf"))
).pipe(Lifecycle.managed)

const program = Effect.gen(function* () {
  // In earnest this is Main.run(AppLive): it serves from the first moment, also while it waits.
  const app = yield* Effect.forkScoped(Layer.launch(AppLive))
  const shop = yield* Caller.make(Shop)
  const health = Effect.flatMap(shop.health(), (health) => Console.log(`health    ${health}`))
  yield* Effect.sleep("50 millis")
  yield* health

  yield* Console.log("stock     opens")
  yield* Layer.build(StockLive)
  while ((yield* shop.health()) !== "Ready") yield* Effect.sleep("10 millis")
  yield* health
  yield* Fiber.interrupt(app)
})

program.pipe(Effect.scoped, Effect.provide(Memory.layer), NodeRuntime.runMain)
