// Errors: what an action declares comes back as the same class; what went wrong on the way is a CallError with a reason.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Overdrawn extends Schema.TaggedError<Overdrawn>()("Overdrawn", { missing: Schema.Finite }) {}

class Bank extends Service.make(
  "bank",
  Action.make("withdraw", {
    payload: { amount: Schema.Finite.check(Schema.isGreaterThan(0)) },
    success: Schema.Struct({ left: Schema.Finite }),
    error: Overdrawn
  }),
  Action.make("audit")
) {}

class Tax extends Service.make("tax_office", Action.make("report")) {}

const BankLive = Handlers.layer(Bank, {
  withdraw: ({ amount }) =>
    amount > 100 ? Effect.fail(new Overdrawn({ missing: amount - 100 })) : Effect.succeed({ left: 100 - amount }),
  audit: () => Effect.never
})

const program = Effect.gen(function* () {
  const bank = yield* Caller.make(Bank)
  const tax = yield* Caller.make(Tax)

  yield* Console.log("withdraw 30   ", yield* bank.withdraw({ amount: 30 }))

  yield* bank
    .withdraw({ amount: 150 })
    .pipe(
      Effect.catchTag("Overdrawn", (error) =>
        Console.log("withdraw 150  ", `${error.missing} missing, instanceof Overdrawn: ${error instanceof Overdrawn}`)
      )
    )

  // `started` says whether the handler ran: after "no" it is safe to try again.
  yield* bank
    .withdraw({ amount: -1 })
    .pipe(Effect.catchTag("CallError", (error) => Console.log("withdraw -1   ", error.message, `(${error.started})`)))

  // One reason by its name; all others stay in the error channel.
  yield* tax
    .report()
    .pipe(
      Effect.catchReason("CallError", "NoResponders", (_, { started }) =>
        Console.log("tax report    ", `nobody is there, told at once, started: ${started}`)
      )
    )

  // Several reasons at once. 5 seconds would be the default timeout.
  yield* bank.audit({ timeout: "50 millis" }).pipe(
    Effect.catchReasons("CallError", {
      DeadlineExceeded: ({ timeoutMillis }) => Console.log("audit         ", `no answer within ${timeoutMillis} ms`),
      Busy: ({ retryAfterMillis }) => Console.log("audit         ", `try again in ${retryAfterMillis} ms`)
    })
  )
})

program.pipe(Effect.scoped, Effect.provide(BankLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
