// The contract as it is on this branch: four changes, of which two break somebody.
import { Schema } from "effect"
import { Action, Service, Topic } from "fiberbus/contract"

export class Orders extends Service.make(
  "orders",
  Action.make("place", {
    payload: {
      article: Schema.String,
      // Fewer: breaks callers that order more.
      count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 500 })),
      // One more: old services do not know it. Deploy the services first.
      shipping: Schema.Literals(["standard", "express", "pickup", "drone"]),
      // New, and may be left out.
      note: Schema.optionalKey(Schema.String)
    },
    success: { id: Schema.String }
  }),
  Action.make("cancel", { payload: { id: Schema.String } })
) {}

// One more field, which old publishers leave out and old listeners do not read.
export const Shipped = Topic.make("orders.shipped", {
  id: Schema.String,
  at: Schema.Date,
  by: Schema.optionalKey(Schema.String)
})
