import { Effect, type Layer, type Option, Schema, type Scope } from "effect"
import {
  Action,
  Broadcast,
  type CallError,
  Caller,
  type Durable,
  Handlers,
  Listener,
  Service,
  Topic,
  type Transport
} from "fiberbus"
import { describe, expectTypeOf, it } from "vitest"

class Declined extends Schema.TaggedError<Declined>()("Declined", {}) {}

const charge = Action.make("charge", {
  payload: { cents: Schema.Finite },
  success: { receipt: Schema.String },
  error: Declined
})
const Plain = Service.make("payments", charge)
const Kept = Service.make("payments", charge.pipe(Action.annotate(Action.Delivery, "durable")), Action.make("ping"))

describe("a durable action", () => {
  it("needs a store on both sides, others do not", () => {
    expectTypeOf(Caller.make(Kept)).toEqualTypeOf<
      Effect.Effect<
        Caller.Caller<typeof Kept>,
        Transport.TransportError,
        Transport.Transport | Durable.Durable | Scope.Scope
      >
    >()
    expectTypeOf(Caller.make(Plain)).toEqualTypeOf<
      Effect.Effect<Caller.Caller<typeof Plain>, Transport.TransportError, Transport.Transport | Scope.Scope>
    >()
    expectTypeOf<Layer.Services<ReturnType<typeof serve>>>().toEqualTypeOf<Transport.Transport | Durable.Durable>()
  })

  it("can be enqueued, and is typed by its contract", () => {
    type Method = Caller.Caller<typeof Kept>["charge"]
    expectTypeOf<ReturnType<Method>>().toEqualTypeOf<
      Effect.Effect<{ readonly receipt: string }, Declined | CallError.CallError>
    >()
    expectTypeOf<ReturnType<Method["receipt"]>["poll"]>().toEqualTypeOf<
      Effect.Effect<Option.Option<{ readonly receipt: string }>, Declined | CallError.CallError>
    >()
    expectTypeOf<Method>().not.toHaveProperty("stream")
    expectTypeOf<Caller.Caller<typeof Plain>["charge"]>().not.toHaveProperty("enqueue")
    expectTypeOf<Caller.Caller<typeof Kept>["ping"]>().not.toHaveProperty("enqueue")
  })
})

const serve = () =>
  Handlers.layer(Kept, {
    charge: () => Effect.succeed({ receipt: "r" }),
    ping: () => Effect.void
  })

describe("a durable topic", () => {
  const orders = Topic.make("orders", { n: Schema.Finite })
  const kept = Topic.durable(orders)

  it("needs a store to be published to, and is what groups listen to", () => {
    expectTypeOf(Broadcast.publish(orders, { n: 1 })).toEqualTypeOf<
      Effect.Effect<number, Broadcast.PublishError, Transport.Transport>
    >()
    expectTypeOf(Broadcast.publish(kept, { n: 1 })).toEqualTypeOf<
      Effect.Effect<number, Broadcast.PublishError, Transport.Transport | Durable.Durable>
    >()
    // @ts-expect-error: nothing is kept of a topic that is not durable
    Listener.layerGroup(orders, "billing", () => Effect.void)
  })
})
