// Blueprint: Layers under one name, mounted as often as you like, each time behind a prefix of its own.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Action, Blueprint, Broadcast, Caller, Handlers, Listener, Memory, Prefixed, Service, Topic } from "fiberbus"

class Menu extends Service.make(
  "menu",
  Action.make("price", { payload: { dish: Schema.String }, success: Schema.String })
) {}
const Ordered = Topic.make("ordered", { dish: Schema.String })

class Bank extends Service.make("bank", Action.make("rate", { success: Schema.Finite })) {}
const BankLive = Handlers.layer(Bank, { rate: () => Effect.succeed(11) })

// What differs from mount to mount comes from outside.
class Restaurant extends Context.Service<Restaurant, { readonly city: string; readonly euros: number }>()(
  "Restaurant"
) {}

const MenuLive = Handlers.layer(
  Menu,
  Effect.gen(function* () {
    const { euros } = yield* Restaurant
    // The bank is no part of the blueprint, so it is called without the prefix.
    const bank = yield* Prefixed.outside(Caller.make(Bank))
    return {
      price: ({ dish }) => Effect.map(Effect.orDie(bank.rate()), (rate) => `${dish}: ${euros * rate} crowns`)
    }
  })
)

const KitchenLive = Listener.layer(
  Ordered,
  Effect.map(
    Restaurant,
    ({ city }) =>
      ({ dish }) =>
        Console.log(`kitchen  ${city} cooks ${dish}`)
  )
)

const RestaurantBlueprint = Blueprint.make("restaurant", [MenuLive, KitchenLive])

const mount = (city: string, euros: number) =>
  RestaurantBlueprint.pipe(
    Blueprint.prefixed(`${city.toLowerCase()}.`),
    Layer.provide(Layer.succeed(Restaurant, { city, euros }))
  )

const Live = Layer.mergeAll(mount("Oslo", 20), mount("Rome", 9)).pipe(
  Layer.provideMerge(BankLive),
  Layer.provideMerge(Memory.layer)
)

const program = Effect.gen(function* () {
  for (const city of ["oslo", "rome"]) {
    const menu = yield* Prefixed.inside(`${city}.`)(Caller.make(Menu))
    yield* Console.log(`${city}     ${yield* menu.price({ dish: "fish" })}`)
  }
  // On the wire it is a service of its own: whoever has no contract calls it by its whole name.
  const rome = yield* Caller.dynamic("rome.menu")
  yield* Console.log(`by name  ${yield* rome.call("price", { dish: "ice" })}`)

  yield* Prefixed.inside("oslo.")(Broadcast.publish(Ordered, { dish: "fish" }))
  yield* Prefixed.inside("rome.")(Broadcast.publish(Ordered, { dish: "ice" }))
})

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
