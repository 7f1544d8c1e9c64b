// A listener that answers: a message on a topic may say where an answer is wanted, and the listener answers by hand.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Caller, Listener, Memory, Request, Response, Topic } from "fiberbus"

const Questions = Topic.make("questions", { payload: Schema.Struct({ text: Schema.String }) })

const Live = Listener.layer(Questions, ({ payload }) =>
  Effect.gen(function* () {
    const { replyTo } = yield* Request.current
    if (replyTo === undefined) return yield* Console.log(`listener  heard ${payload.text}, nobody waits`)
    yield* Response.send({ heard: payload.text })
  })
).pipe(Layer.provideMerge(Memory.layer))

const program = Effect.gen(function* () {
  // Listeners are no actions, so that there is no contract to call them by; a topic's name is good enough for a dynamic caller.
  const questions = yield* Caller.dynamic("questions")
  yield* Console.log("caller   ", yield* questions.call("ask", { text: "where is the tea?" }))
  yield* questions.send("ask", { text: "the kettle boils" })
})

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
