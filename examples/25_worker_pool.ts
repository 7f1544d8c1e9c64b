// A worker pool: three fibers, each with a resource of its own, take requests from one queue, whoever is free.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Deferred, Effect, Layer, Queue, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Kitchen extends Service.make(
  "kitchen",
  Action.make("cook", { payload: { dish: Schema.String }, success: Schema.Struct({ stove: Schema.Int }) })
) {}

const KitchenLive = Handlers.layer(
  Kitchen,
  Effect.gen(function* () {
    const orders = yield* Queue.bounded<Deferred.Deferred<{ readonly stove: number }>>(100)

    // They live as long as the Layer. What a worker owns (a connection, a device) it opens here, once.
    const worker = Effect.fnUntraced(function* (stove: number) {
      const order = yield* Queue.take(orders)
      yield* Effect.sleep("5 millis")
      yield* Deferred.succeed(order, { stove })
    })
    for (const stove of [1, 2, 3]) yield* Effect.forkScoped(Effect.forever(worker(stove)))

    return {
      cook: Effect.fnUntraced(function* () {
        const done = yield* Deferred.make<{ readonly stove: number }>()
        yield* Queue.offer(orders, done)
        return yield* Deferred.await(done)
      })
    }
  })
)

const program = Effect.gen(function* () {
  const kitchen = yield* Caller.make(Kitchen)
  const dishes = ["soup", "rice", "fish", "cake", "tea", "eggs", "leek", "pie", "jam"]
  const cooked = yield* Effect.forEach(dishes, (dish) => kitchen.cook({ dish }), { concurrency: "unbounded" })
  const stoves = [...new Set(cooked.map(({ stove }) => stove))].sort()
  yield* Console.log(`cooked  ${cooked.length} dishes`)
  yield* Console.log(`stoves  ${stoves.join(", ")}`)
  // For work that computes, the workers are threads: see 21_cpu_bound.
})

program.pipe(Effect.scoped, Effect.provide(KitchenLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
