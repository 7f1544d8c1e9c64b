/**
 * A process that is killed: `durable-worker.ts URL DIRECTORY`. Each handling is a line in `DIRECTORY/log`, written before anything else
 * happens, and its effect a file that is made once.
 */
import { appendFileSync, writeFileSync } from "node:fs"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Logger, Schema } from "effect"
import { Action, Handlers, Request, Service } from "fiberbus"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

/** Its order matters where a key is given: `n` counts up within it. */
export class Ledger extends Service.make(
  "ledger",
  Action.make("book", {
    payload: { id: Schema.String, key: Schema.String, n: Schema.Finite, millis: Schema.Finite },
    success: { id: Schema.String }
  }).pipe(
    Action.annotate(Action.Delivery, "durable"),
    Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key),
    Action.annotate(Action.Redelivery, { deliveries: 1_000 })
  )
) {}

/** How long a worker may be silent, in milliseconds. */
export const idleMillis = 500

const serve = (directory: string) =>
  Handlers.layer(
    Ledger,
    {
      book: ({ id, key, millis, n }) =>
        Effect.gen(function* () {
          const { deliveries } = yield* Request.current
          const note = (what: string) =>
            appendFileSync(`${directory}/log`, `${what} ${process.pid} ${id} ${deliveries} ${key} ${n}\n`)
          note("begun")
          yield* Effect.sleep(millis)
          try {
            writeFileSync(`${directory}/effects/${id}`, "", { flag: "wx" })
          } catch {
            note("repeated")
          }
          note("done")
          return { id }
        })
    },
    { concurrency: 3, durable: { idle: idleMillis } }
  )

if (process.argv[1] === import.meta.filename) {
  const [url = "", directory = ""] = process.argv.slice(2)
  const program = Layer.effectDiscard(Effect.sync(() => void process.stdout.write("ready\n"))).pipe(
    Layer.provide(serve(directory)),
    Layer.provide(RedisStreams.layer({ url, commandTimeout: "500 millis" })),
    Layer.provide(Logger.layer([]))
  )
  NodeRuntime.runMain(Layer.launch(program))
}
