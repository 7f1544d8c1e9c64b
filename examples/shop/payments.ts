// Charges cards, and declares how that may fail.
import { Effect } from "effect"
import { Handlers } from "fiberbus"
import { CardDeclined, Payments } from "./contract.ts"

export const PaymentsLive = Handlers.layer(
  Payments,
  Effect.sync(() => {
    let receipts = 0
    return {
      charge: ({ card, euros }) =>
        card === "4242"
          ? Effect.sync(() => ({ receipt: `r-${++receipts}` }))
          : Effect.fail(new CardDeclined({ message: `${euros} euros are over the limit of card ${card}` }))
    }
  })
)
