// Testing without a broker: a whole system on a test's clock, stubs by contract, recorded traffic, nothing to sleep for.
import assert from "node:assert/strict"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Schema } from "effect"
import { Action, Broadcast, Caller, Handlers, Service, Topic } from "fiberbus"
import { TestBus } from "fiberbus/testing"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}

class Payments extends Service.make(
  "payments",
  Action.make("charge", { payload: { cents: Schema.Int }, success: { receipt: Schema.String }, error: Declined }),
  Action.make("refund", { payload: { receipt: Schema.String } })
) {}

class Tickets extends Service.make(
  "tickets",
  Action.make("buy", { payload: { seat: Schema.String }, success: Schema.String, error: Declined })
) {}

const Sold = Topic.make("tickets.sold", { seat: Schema.String })

// Under test: it charges, prints the ticket, which takes a while, and tells everyone.
const TicketsLive = Handlers.layer(
  Tickets,
  Effect.gen(function* () {
    const payments = yield* Caller.make(Payments)
    return {
      buy: Effect.fnUntraced(function* ({ seat }) {
        const { receipt } = yield* Effect.catchTag(payments.charge({ cents: 4_200 }), "CallError", Effect.die)
        yield* Effect.sleep("3 seconds")
        yield* Effect.orDie(Broadcast.publish(Sold, { seat }))
        return `seat ${seat}, receipt ${receipt}`
      })
    }
  })
)

// Not under test: one action answers as the test needs it, the other has no stub.
let funds = 10_000
const PaymentsStub = TestBus.stub(Payments, {
  charge: ({ cents }) =>
    Effect.suspend(() => {
      funds -= cents
      return funds < 0 ? Effect.fail(new Declined({ why: "no money" })) : Effect.succeed({ receipt: `r-${cents}` })
    })
})

const program = Effect.gen(function* () {
  const tickets = yield* Caller.make(Tickets)

  const bought = yield* Effect.forkChild(tickets.buy({ seat: "A1" }))
  yield* TestBus.elapse("2 seconds")
  assert.deepEqual(yield* TestBus.published(Sold), [])
  yield* TestBus.elapse("1 second")
  assert.equal(yield* Fiber.join(bought), "seat A1, receipt r-4200")
  assert.deepEqual(yield* TestBus.published(Sold), [{ seat: "A1" }])
  yield* Console.log("sold after three seconds of the test's clock, which took none of ours")

  yield* Effect.forkChild(tickets.buy({ seat: "A2" }))
  yield* TestBus.elapse("3 seconds")
  const declined = yield* Effect.flip(tickets.buy({ seat: "A3" }))
  assert(declined instanceof Declined)
  yield* Console.log(`declined: ${declined.why}`)

  // What went over the bus, typed by the contract, with what came back.
  for (const { payload, outcome } of yield* TestBus.sent(Payments, "charge"))
    yield* Console.log(`charge ${payload.cents} cents: ${outcome?._tag}`)

  const payments = yield* Caller.make(Payments)
  const unstubbed = yield* Effect.flip(payments.refund({ receipt: "r-4200" }))
  yield* Console.log(unstubbed.message)

  // Nothing is on its way, nobody waits, no handler runs.
  yield* TestBus.settled
})

const System = TestBus.layer(Layer.merge(TicketsLive, PaymentsStub))

program.pipe(Effect.scoped, Effect.provide(System), NodeRuntime.runMain)
