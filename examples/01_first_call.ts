// A first call: say what can be asked, answer it, ask it. All in memory.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Greeter extends Service.make(
  "greeter",
  Action.make("greet", { payload: { name: Schema.String }, success: Schema.String })
) {}

const GreeterLive = Handlers.layer(Greeter, {
  greet: ({ name }) => Effect.succeed(`Hello, ${name}!`)
})

const program = Effect.gen(function* () {
  const greeter = yield* Caller.make(Greeter)
  const greeting = yield* greeter.greet({ name: "Ada" })
  yield* Console.log(greeting)
})

const Live = GreeterLive.pipe(Layer.provideMerge(Memory.layer))

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
