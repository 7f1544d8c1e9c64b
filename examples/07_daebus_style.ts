// Daebus style: answer by hand, from anywhere below a handler, as Python's Daebus services do.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Response, Service } from "fiberbus"

class Files extends Service.make(
  "files",
  Action.make("upload", {
    payload: { name: Schema.String },
    progress: { percent: Schema.Finite },
    success: { stored: Schema.String }
  })
) {}

const store = Effect.fnUntraced(function* (name: string) {
  yield* Response.send({ percent: 50 }, { final: false })
  yield* Response.send({ percent: 100 }, { final: false })
  return yield* Response.send({ stored: `/files/${name}` })
})

const FilesLive = Handlers.layer(Files, {
  upload: Effect.fnUntraced(function* ({ name }) {
    if (name.endsWith(".exe")) return yield* Response.error(`will not store ${name}`)
    // Both return Response.sent, which says: the answer is on its way, send none for me.
    const sent = yield* store(name)
    yield* Console.log("service  answered, and goes on")
    return sent
  })
})

const program = Effect.gen(function* () {
  const files = yield* Caller.make(Files)

  yield* files.upload
    .stream({ name: "notes.txt" })
    .pipe(Stream.runForEach(({ _tag, value }) => Console.log(`caller   ${_tag}`, value)))

  // An error by hand is a text that no contract declares: it arrives as RemoteError.
  yield* files
    .upload({ name: "virus.exe" })
    .pipe(
      Effect.catchReason("CallError", "RemoteError", ({ error, _tag }) => Console.log(`caller   ${_tag}: ${error}`))
    )
})

program.pipe(Effect.scoped, Effect.provide(FilesLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
