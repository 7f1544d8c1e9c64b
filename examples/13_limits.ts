// Limits: how many handlers run at once, who goes first when there is a queue, and what happens when it is full.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Schema } from "effect"
import { Action, Caller, Concurrency, Handlers, Memory, Request, Service } from "fiberbus"

class Kitchen extends Service.make(
  "kitchen",
  Action.make("cook", { payload: { dish: Schema.String } }),
  // There is one oven. Who waits for it keeps nobody else from the stove.
  Action.make("bake", { payload: { dish: Schema.String } }).pipe(Action.annotate(Action.Concurrency, 1))
) {}

const work = (what: string, dish: string) =>
  Effect.gen(function* () {
    const { headers } = yield* Request.current
    yield* Console.log(`  ${what} ${dish} for ${headers["table"]}`)
    yield* Effect.sleep("20 millis")
  })

const program = Effect.gen(function* () {
  // Two at once to begin with; the same object could be given to several services, which then share it.
  const cooks = yield* Concurrency.make(2)
  yield* Layer.build(
    Handlers.layer(
      Kitchen,
      { cook: ({ dish }) => work("cooks", dish), bake: ({ dish }) => work("bakes", dish) },
      { concurrency: cooks, backlog: 4, fairBy: ({ headers }) => headers["table"] ?? "" }
    )
  )
  const kitchen = yield* Caller.make(Kitchen)

  const order = (action: "cook" | "bake", dish: string, table: string) =>
    kitchen[action]({ dish }, { headers: { table } }).pipe(
      Effect.catchReason("CallError", "Busy", () => Console.log(`  too busy for ${dish} for ${table}`)),
      Effect.orDie,
      Effect.forkChild({ startImmediately: true })
    )
  const served = (orders: ReadonlyArray<Fiber.Fiber<void>>) => Effect.forEach(orders, Fiber.join, { discard: true })

  yield* Console.log("one oven, two cooks")
  yield* served([
    yield* order("bake", "bread", "table 1"),
    yield* order("bake", "cake", "table 1"),
    yield* order("cook", "soup", "table 2")
  ])

  yield* Console.log("a table of many, and one of two")
  yield* served([
    yield* order("cook", "soup", "table 1"),
    yield* order("cook", "fish", "table 1"),
    yield* order("cook", "rice", "table 1"),
    yield* order("cook", "eggs", "table 1"),
    yield* order("cook", "plums", "table 2"),
    yield* order("cook", "pears", "table 2")
  ])

  yield* Console.log("more than can wait, until there are more cooks")
  const early = []
  for (const dish of ["1", "2", "3", "4", "5", "6", "7"]) early.push(yield* order("cook", `dish ${dish}`, "table 1"))
  yield* served([early.pop()!])
  yield* Console.log("  four more cooks come in")
  yield* cooks.resize(6)
  yield* served(early)
})

program.pipe(Effect.scoped, Effect.provide(Memory.layer), NodeRuntime.runMain)
