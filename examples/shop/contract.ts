// What can be said in the shop. Everyone imports this file, nobody the services behind it.
import { Schema } from "effect"
import { Action, Service, Topic } from "fiberbus"

export class Order extends Schema.Class<Order>("Order")({
  id: Schema.String,
  customer: Schema.String,
  article: Schema.String,
  count: Schema.Int
}) {}

export class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { message: Schema.String }) {}

export class Payments extends Service.make(
  "payments",
  Action.make("charge", {
    payload: { card: Schema.String, euros: Schema.Int },
    success: { receipt: Schema.String },
    error: CardDeclined
  })
) {}

export class Orders extends Service.make(
  "orders",
  Action.make("place", {
    payload: { customer: Schema.String, article: Schema.String, count: Schema.Int, card: Schema.String },
    success: Order,
    error: CardDeclined
  })
) {}

export class Warehouse extends Service.make(
  "warehouse",
  Action.make("pack", {
    payload: { order: Order },
    progress: { packed: Schema.Int, of: Schema.Int },
    success: { parcel: Schema.String }
  })
) {}

export class Notifications extends Service.make(
  "notifications",
  Action.make("tell", { payload: { customer: Schema.String, text: Schema.String }, success: { letter: Schema.Int } })
) {}

/** A service of the contract that nobody serves today. */
export class Returns extends Service.make("returns", Action.make("send_back", { payload: { id: Schema.String } })) {}

export const OrderPlaced = Topic.make("order_placed", Order)
