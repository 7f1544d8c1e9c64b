// Shared state: handlers run side by side, so what they share changes in one step: by a Ref, or a SynchronizedRef.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Ref, Schema, SynchronizedRef } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Votes extends Service.make(
  "votes",
  Action.make("careless"),
  Action.make("careful"),
  Action.make("totals", { success: Schema.Struct({ careless: Schema.Int, careful: Schema.Int }) }),
  Action.make("token", { success: Schema.String })
) {}

const VotesLive = Handlers.layer(
  Votes,
  Effect.gen(function* () {
    let careless = 0
    const careful = yield* Ref.make(0)
    const token = yield* SynchronizedRef.make(Option.none<string>())

    const logIn = Effect.gen(function* () {
      yield* Console.log("logs in")
      yield* Effect.sleep("5 millis")
      return "token-1"
    })

    return {
      // Between reading and writing others run: their votes are lost.
      careless: Effect.fnUntraced(function* () {
        const before = careless
        yield* Effect.sleep("1 millis")
        careless = before + 1
      }),
      careful: () =>
        Effect.andThen(
          Effect.sleep("1 millis"),
          Ref.update(careful, (votes) => votes + 1)
        ),
      totals: () => Effect.map(Ref.get(careful), (careful) => ({ careless, careful })),
      // The step that changes it is an effect of its own: the others wait for it, and find it done.
      token: () =>
        SynchronizedRef.modifyEffect(token, (known) =>
          Option.isSome(known)
            ? Effect.succeed([known.value, known] as const)
            : Effect.map(logIn, (fresh) => [fresh, Option.some(fresh)] as const)
        )
    }
  })
)

const program = Effect.gen(function* () {
  const votes = yield* Caller.make(Votes)
  const ten = Array.from({ length: 10 })
  yield* Effect.forEach(ten, () => votes.careless(), { concurrency: "unbounded" })
  yield* Effect.forEach(ten, () => votes.careful(), { concurrency: "unbounded" })
  const { careful, careless } = yield* votes.totals()
  yield* Console.log(`careless  ${careless < 10 ? "votes were lost" : "lucky"}`)
  yield* Console.log(`careful   ${careful} of 10`)

  const tokens = yield* Effect.forEach(ten, () => votes.token(), { concurrency: "unbounded" })
  yield* Console.log(`tokens    ${tokens.length} × ${[...new Set(tokens)].join()}`)
})

program.pipe(Effect.scoped, Effect.provide(VotesLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
