// The contract as it was released: this is what callers out there speak.
import { Schema } from "effect"
import { Action, Service, Topic } from "fiberbus/contract"

export class Orders extends Service.make(
  "orders",
  Action.make("place", {
    payload: {
      article: Schema.String,
      count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 })),
      shipping: Schema.Literals(["standard", "express", "pickup"])
    },
    success: { id: Schema.String }
  }),
  Action.make("cancel", { payload: { id: Schema.String } })
) {}

export const Shipped = Topic.make("orders.shipped", { id: Schema.String, at: Schema.Date })
