// Packs parcels and says how far it is; another part of it listens to orders and minds the shelf.
import { Effect, Layer } from "effect"
import { Caller, Handlers, Listener } from "fiberbus"
import { Notifications, OrderPlaced, Warehouse } from "./contract.ts"
import { Story } from "./story.ts"

const Packing = Handlers.layer(
  Warehouse,
  Effect.gen(function* () {
    const story = yield* Story
    const notifications = yield* Caller.make(Notifications)
    return {
      pack: Effect.fnUntraced(function* ({ order }, { progress }) {
        yield* story
          .call(
            ["warehouse", "notifications"],
            `tell ${order.customer} that ${order.id} is being packed`,
            notifications.tell({ customer: order.customer, text: `${order.id} is being packed` }),
            ({ letter }) => `sent as letter ${letter}`
          )
          .pipe(Effect.orDie)
        for (let packed = 1; packed <= order.count; packed++) {
          yield* Effect.sleep("20 millis")
          yield* progress({ packed, of: order.count })
        }
        return { parcel: `p-${order.id}` }
      })
    }
  })
)

const Shelf = Listener.layer(
  OrderPlaced,
  Effect.gen(function* () {
    const story = yield* Story
    let left = 10
    return ({ article, count }) => {
      left -= count
      return story.heard("stock", `takes ${count} × ${article} off the shelf, ${left} left`)
    }
  }),
  { concurrency: 1 }
)

export const WarehouseLive = Layer.merge(Packing, Shelf)
