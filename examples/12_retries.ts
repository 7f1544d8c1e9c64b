// Retries: what did not start is tried again, what may have run only where the action says that this does no harm.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Request, Retry, Service } from "fiberbus"

class Shop extends Service.make(
  "shop",
  Action.make("price", { payload: { item: Schema.String }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Idempotent, true)
  ),
  Action.make("pay", { payload: { cents: Schema.Finite }, success: Schema.String })
) {}

const ShopLive = Handlers.layer(Shop, {
  // The attempts of a call share its id.
  price: Effect.fnUntraced(function* ({ item }) {
    const { attempt } = yield* Request.current
    yield* Console.log(`shop    looks for the price of a ${item}, attempt ${attempt}`)
    return yield* attempt === 1 ? Effect.never : Effect.succeed(250)
  }),
  pay: Effect.fnUntraced(function* ({ cents }) {
    yield* Console.log(`shop    takes ${cents} cents`)
    return yield* cents > 1_000 ? Effect.never : Effect.succeed("thank you")
  })
})

// Without a schedule it would be 50 ms doubling to 2 s, with jitter. At most 10 % more calls, whatever happens.
const retry = Retry.policy({ schedule: Schedule.spaced("20 millis"), attemptTimeout: "100 millis" })

const program = Effect.gen(function* () {
  const shop = yield* Caller.make(Shop, { policies: [retry] })

  // Nobody is there, so nothing has started.
  const early = yield* Effect.forkChild(shop.pay({ cents: 250 }))
  yield* Effect.sleep("50 millis")
  yield* Console.log("shop    opens")
  yield* Layer.build(ShopLive)
  yield* Console.log(`pay     ${yield* Fiber.join(early)}`)

  // No answer in 100 ms: it may be running, but asking twice for a price does no harm.
  yield* Console.log(`price   ${yield* shop.price({ item: "mug" }, { timeout: "300 millis" })}`)

  // No answer either, but nobody wants to pay twice: the call waits until its time is over.
  yield* shop
    .pay({ cents: 5_000 }, { timeout: "300 millis" })
    .pipe(
      Effect.catchTag("CallError", ({ reason, started }) => Console.log(`pay     ${reason._tag}, started: ${started}`))
    )

  // A call may do without: one attempt.
  yield* shop
    .price({ item: "spoon" }, { timeout: "300 millis", policies: [] })
    .pipe(Effect.catchReason("CallError", "DeadlineExceeded", ({ message }) => Console.log(`price   ${message}`)))
})

program.pipe(Effect.scoped, Effect.provide(Memory.layer), NodeRuntime.runMain)
