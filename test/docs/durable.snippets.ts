/** The code of docs/durable.md, type-checked. */
import { Effect, Layer, Schedule, Schema } from "effect"
import { Action, Broadcast, Caller, DeadLetters, Handlers, Listener, Service, Topic } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { why: Schema.String }) {}

export class Payments extends Service.make(
  "payments",
  Action.make("charge", {
    payload: { customer: Schema.String, cents: Schema.Finite },
    success: { receipt: Schema.String },
    error: CardDeclined
  }).pipe(Action.annotate(Action.Delivery, "durable"))
) {}

const PaymentsLive = Handlers.layer(Payments, {
  charge: ({ cents }) => Effect.succeed({ receipt: `r-${cents}` })
})

Main.run(PaymentsLive.pipe(Layer.provide(RedisStreams.layer({ url: "redis://127.0.0.1:6379" }))))

export const InCluster = RedisStreams.layerCluster({
  nodes: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }, { host: "10.0.0.3" }],
  replicas: 1
})

export const calling = Effect.gen(function* () {
  const payments = yield* Caller.make(Payments)
  const paid = yield* payments.charge({ customer: "ann", cents: 500 })
  const order = yield* payments.charge.enqueue(
    { customer: "ann", cents: 700 },
    { id: "order-17", delay: "10 minutes", key: "ann" }
  )
  const now = yield* order.poll // Option<{ receipt: string }>
  const later = yield* order.await({ timeout: "1 hour" })
  const elsewhere = yield* payments.charge.receipt("order-17").poll
  return { paid, now, later, elsewhere }
})

export const Charge = Action.make("charge", { payload: { customer: Schema.String } }).pipe(
  Action.annotate(Action.Delivery, "durable"),
  Action.annotate(Action.Key, ({ customer }: { readonly customer: string }) => customer),
  Action.annotate(Action.Redelivery, { retry: Schedule.spaced("10 seconds"), deliveries: 3 })
)

const Book = Action.make("book", { payload: { account: Schema.String } }).pipe(
  Action.annotate(Action.Delivery, "durable")
)

class Ledger extends Service.make("ledger", Book).pipe(Service.partitioned(12)) {}

export const ledger = Ledger

export const looking = Effect.gen(function* () {
  for (const { letter, reason, cause } of yield* DeadLetters.list(Payments)) {
    yield* Effect.log(letter, reason, cause)
    yield* DeadLetters.replay(Payments, letter)
  }
})

const Orders = Topic.durable(Topic.make("orders", { id: Schema.String }), { keep: "7 days" })

const Billing = Listener.layerGroup(Orders, "billing", ({ id }) => Effect.log(`bill ${id}`))
const Report = Listener.layerGroup(Orders, "report", ({ id }) => Effect.log(id), { from: "beginning" })
const announce = Broadcast.publish(Orders, { id: "17" })

void [Billing, Report, announce]
