// Producer and consumer: a bounded queue between them makes a fast producer wait, so that nothing piles up.
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Fiber, Layer, Queue, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Printer extends Service.make("printer", Action.make("print", { payload: { page: Schema.Int } })) {}

const PrinterLive = Handlers.layer(Printer, { print: () => Effect.sleep("2 millis") })

const program = Effect.gen(function* () {
  const printer = yield* Caller.make(Printer)
  // `Cause.Done` is how the producer says that nothing more will come.
  const pages = yield* Queue.bounded<number, Cause.Done>(2)
  let produced = 0
  let printed = 0
  let mostAhead = 0

  const producer = yield* Effect.forkChild(
    Effect.gen(function* () {
      for (let page = 1; page <= 12; page++) {
        yield* Queue.offer(pages, page)
        produced++
        mostAhead = Math.max(mostAhead, produced - printed)
      }
      yield* Queue.end(pages)
    })
  )

  const consumer = Effect.gen(function* () {
    const page = yield* Queue.take(pages)
    yield* printer.print({ page })
    printed++
  })
  yield* consumer.pipe(
    Effect.forever,
    Effect.catchIf(Cause.isDone, () => Effect.void)
  )

  yield* Fiber.join(producer)
  yield* Console.log(`printed  ${printed} of ${produced} pages`)
  yield* Console.log(`ahead    ${mostAhead} at most: two in the queue, one with the printer`)
})

program.pipe(Effect.scoped, Effect.provide(PrinterLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
