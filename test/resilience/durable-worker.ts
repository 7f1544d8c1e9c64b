/**
 * A process that is killed: `durable-worker.ts WHERE DIRECTORY`, the first as JSON. Each handling is a line in `DIRECTORY/log`, written before
 * anything else happens, and its effect a file that is made once. Whoever finds `DIRECTORY/fate` at the beginning of one takes it for itself:
 * `freeze`, or `kill` and in how many milliseconds.
 */
import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Logger, Schedule, Schema } from "effect"
import { Action, type Durable, Handlers, Request, Service, type Transport } from "fiberbus"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

/** Where messages are kept: at one Redis or in a Cluster, and in how many partitions. */
export type Where = { readonly partitions: number } & (
  | { readonly url: string }
  | { readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }> }
)

/** The way there. In a Cluster nothing counts as kept before a replica has it. */
export const busOf = (where: Where): Layer.Layer<Durable.Durable | Transport.Transport, Transport.TransportError> => {
  const quick = { reconnect: Schedule.spaced("20 millis"), commandTimeout: "500 millis" } as const
  return "url" in where
    ? RedisStreams.layer({ url: where.url, ...quick })
    : RedisStreams.layerCluster({ nodes: where.nodes, replicas: 1, ...quick })
}

/** Its order matters where a key is given: `n` counts up within it. */
export const ledgerOf = ({ partitions }: Where) =>
  Service.make(
    "ledger",
    Action.make("book", {
      payload: { id: Schema.String, key: Schema.String, n: Schema.Finite, millis: Schema.Finite },
      success: { id: Schema.String }
    }).pipe(
      Action.annotate(Action.Delivery, "durable"),
      Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key),
      Action.annotate(Action.Redelivery, { deliveries: 1_000 })
    )
  ).pipe(Service.partitioned(partitions))

/** One of those who try at the same time has it, the others nothing. */
const taken = (directory: string): string => {
  const own = `${directory}/fate-${process.pid}`
  try {
    renameSync(`${directory}/fate`, own)
    return readFileSync(own, "utf8")
  } catch {
    return ""
  }
}

const serve = (where: Where, directory: string) =>
  Handlers.layer(
    ledgerOf(where),
    {
      book: ({ id, key, millis, n }) =>
        Effect.gen(function* () {
          const { deliveries } = yield* Request.current
          const note = (what: string) =>
            appendFileSync(`${directory}/log`, `${what} ${process.pid} ${id} ${deliveries} ${key} ${n}\n`)
          note("begun")
          const [fate, after] = taken(directory).split(" ")
          if (fate === "kill") setTimeout(() => process.kill(process.pid, "SIGKILL"), Number(after))
          if (fate === "freeze") {
            note("frozen")
            process.kill(process.pid, "SIGSTOP")
          }
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
    // The account looks at the end for what was kept: it is to be remembered until then.
    { concurrency: 3, durable: { idle: "500 millis", window: "1 hour" } }
  )

if (process.argv[1] === import.meta.filename) {
  const [where = "", directory = ""] = process.argv.slice(2)
  const at: Where = JSON.parse(where)
  const program = Layer.effectDiscard(Effect.sync(() => void process.stdout.write("ready\n"))).pipe(
    Layer.provide(serve(at, directory)),
    Layer.provide(busOf(at)),
    Layer.provide(Logger.layer([]))
  )
  NodeRuntime.runMain(Layer.launch(program))
}
