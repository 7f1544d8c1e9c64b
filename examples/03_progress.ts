// Progress: a handler reports steps on its way, and a caller streams them, then the result.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Importer extends Service.make(
  "importer",
  Action.make("import_rows", {
    payload: { rows: Schema.Array(Schema.String) },
    progress: { done: Schema.Finite, total: Schema.Finite },
    success: { imported: Schema.Finite }
  })
) {}

const ImporterLive = Handlers.layer(Importer, {
  import_rows: Effect.fnUntraced(function* ({ rows }, { progress }) {
    for (const [index] of rows.entries()) {
      yield* Effect.sleep("5 millis")
      yield* progress({ done: index + 1, total: rows.length })
    }
    return { imported: rows.length }
  })
})

const program = Effect.gen(function* () {
  const importer = yield* Caller.make(Importer)
  const rows = ["Ada", "Grace", "Barbara"]

  yield* importer.import_rows
    .stream({ rows })
    .pipe(
      Stream.runForEach((event) =>
        event._tag === "Progress"
          ? Console.log(`step    ${event.value.done} of ${event.value.total}`)
          : Console.log(`result  ${event.value.imported} rows imported`)
      )
    )

  // The steps to a function, the result as the result.
  const { imported } = yield* importer.import_rows
    .stream({ rows })
    .pipe(Caller.onProgress(({ done }) => Console.log(`step    ${done}`)))
  yield* Console.log(`call    ${imported} rows imported`)
})

program.pipe(Effect.scoped, Effect.provide(ImporterLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
