// Takes orders: has payments charge the card, then tells everyone.
import { Effect } from "effect"
import { Broadcast, Caller, Handlers } from "fiberbus"
import { Order, OrderPlaced, Orders, Payments } from "./contract.ts"
import { Story } from "./story.ts"

const price = 12

export const OrdersLive = Handlers.layer(
  Orders,
  Effect.gen(function* () {
    const story = yield* Story
    const payments = yield* Caller.make(Payments)
    let orders = 0
    return {
      place: Effect.fnUntraced(function* ({ customer, article, count, card }) {
        const euros = count * price
        yield* story
          .call(
            ["orders", "payments"],
            `charge ${euros} euros to card ${card}`,
            payments.charge({ card, euros }),
            ({ receipt }) => `charged, receipt ${receipt}`
          )
          // CardDeclined is declared, so it goes through to our caller. Payments out of reach is a bug of the system.
          .pipe(Effect.catchTag("CallError", Effect.die))
        const order = new Order({ id: `o-${++orders}`, customer, article, count })
        yield* story.line("event", "orders", "everyone", `order_placed ${order.id}`)
        yield* Effect.orDie(Broadcast.publish(OrderPlaced, order))
        return order
      })
    }
  })
)
