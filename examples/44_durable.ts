// Durable work: kept until it was handled, also while no service runs. In memory; with --redis URL over Redis Streams, with --cluster HOST:PORT in a Redis Cluster.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Logger, Option, Schedule, Schema } from "effect"
import { Action, Caller, DeadLetters, Durable, Handlers, Memory, Request, Service } from "fiberbus"

class OutOfPaper extends Schema.TaggedError<OutOfPaper>()("OutOfPaper", { tray: Schema.Finite }) {}

class Printer extends Service.make(
  "printer_44",
  // The one word that makes the difference; the handler below is like any other.
  Action.make("print", {
    payload: { text: Schema.String },
    success: { pages: Schema.Finite },
    error: OutOfPaper
  }).pipe(Action.annotate(Action.Delivery, "durable"))
) {}

const PrinterLive = Handlers.layer(
  Printer,
  {
    print: ({ text }) =>
      Effect.gen(function* () {
        const { deliveries } = yield* Request.current
        yield* Console.log(`  printer  ${text}, delivery ${deliveries}`)
        if (text === "form") return yield* new OutOfPaper({ tray: 2 })
        if (text === "photo" && deliveries === 1) return yield* Effect.die("a paper jam")
        if (text === "poster") return yield* Effect.die("too large")
        return { pages: text.length }
      })
  },
  { durable: { retry: Schedule.spaced("10 millis"), deliveries: 2 }, concurrency: 1 }
)

const program = Effect.gen(function* () {
  const printer = yield* Caller.make(Printer)

  yield* Console.log("nobody serves, and nothing is lost")
  const id = `letter-${crypto.randomUUID()}`
  const letter = yield* printer.print.enqueue({ text: "letter" }, { id })
  yield* Console.log(`  result   ${Option.isSome(yield* letter.poll) ? "there" : "not yet"}`)

  yield* Effect.gen(function* () {
    yield* Console.log(`  result   ${(yield* letter.await()).pages} pages`)

    yield* Console.log("the same id is the same message")
    const again = yield* printer.print.enqueue({ text: "letter" }, { id })
    yield* Console.log(`  result   ${(yield* again.await()).pages} pages`)

    yield* Console.log("a handler that dies gets another delivery; an error of the contract is an answer")
    yield* Console.log(`  result   ${(yield* printer.print({ text: "photo" })).pages} pages`)
    yield* Effect.catchTag(printer.print({ text: "form" }), "OutOfPaper", ({ tray }) =>
      Console.log(`  result   tray ${tray} is empty`)
    )

    yield* Console.log("what goes on failing is set aside, with its cause")
    // Over Redis the one of an earlier run may still be there; ours stays, for `fiberbus dead list printer_44`.
    yield* DeadLetters.discardAll(Printer)
    yield* Effect.flip(printer.print({ text: "poster" }))
    for (const dead of yield* DeadLetters.list(Printer))
      yield* Console.log(`  dead     ${dead.action}, ${dead.deliveries} deliveries, ${dead.reason}`)
  }).pipe(Effect.provide(PrinterLive))
})

const [, , flag, address = ""] = process.argv
const bus =
  flag === undefined
    ? Layer.merge(Memory.layer, Durable.layerMemory)
    : Layer.unwrap(
        // Only where it is asked for: fiberbus itself loads no Redis client.
        Effect.map(
          Effect.promise(() => import("fiberbus/transport/RedisStreams")),
          (RedisStreams) => {
            const prefix = process.env["FIBERBUS_PREFIX"]
            if (flag !== "--cluster") return RedisStreams.layer({ url: address, prefix })
            // One node is enough: it knows the others.
            const [host = "", port] = address.split(":")
            return RedisStreams.layerCluster({ nodes: [{ host, port: Number(port) }], prefix })
          }
        )
      )

// Quiet: the deaths above are told in the log as well.
NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(bus), Effect.provide(Logger.layer([]))))
