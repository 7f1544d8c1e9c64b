// Context: code far below a handler, in forked fibers too, knows the request it works for, without being told.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Request, Service } from "fiberbus"

class Documents extends Service.make(
  "documents",
  Action.make("open", { payload: { title: Schema.String }, success: Schema.String })
) {}

// No parameter for the user, the tenant or the id: it finds them itself.
const audit = Effect.fnUntraced(function* (what: string) {
  const { service, action, headers } = yield* Request.current
  return `${service}.${action} for ${headers["user"]}: ${what}`
})

const render = Effect.fnUntraced(function* (title: string) {
  yield* Effect.sleep("5 millis")
  return yield* audit(`rendered ${title}`)
})

const DocumentsLive = Handlers.layer(Documents, {
  open: Effect.fnUntraced(function* ({ title }) {
    // Each of these runs in a fiber of its own, and inherits the request.
    const lines = yield* Effect.all([audit(`found ${title}`), render(title)], { concurrency: "unbounded" })
    return lines.join("\n")
  })
})

const program = Effect.gen(function* () {
  const documents = yield* Caller.make(Documents)

  // Two requests at the same time: neither sees the other's.
  const answers = yield* Effect.all(
    [
      documents.open({ title: "Plan" }, { headers: { user: "ada" } }),
      documents.open({ title: "Bill" }, { headers: { user: "bob" } })
    ],
    { concurrency: "unbounded" }
  )
  for (const answer of answers) yield* Console.log(answer)

  // For code that also runs outside of a request, there is an Option.
  const outside = yield* Request.option
  yield* Console.log(`outside of a handler: ${outside._tag}`)
})

program.pipe(Effect.scoped, Effect.provide(DocumentsLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
