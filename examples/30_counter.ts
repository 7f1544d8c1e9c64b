// A shared counter: one process keeps it in a Ref, or all replicas in Redis, where INCR is one step. Set REDIS_URL, or it is in memory.
import { NodeRuntime } from "@effect/platform-node"
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import { Config, Console, Context, Effect, Layer, Option, Redacted, Ref, Schema } from "effect"
import { Redis } from "effect/persistence"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Tickets extends Service.make("tickets", Action.make("next", { success: Schema.Int })) {}

class Counter extends Context.Service<Counter, { readonly next: Effect.Effect<number> }>()("Counter") {
  static readonly layerMemory = Layer.effect(
    this,
    Effect.map(Ref.make(0), (ref) => ({ next: Ref.updateAndGet(ref, (count) => count + 1) }))
  )

  // GET and then SET would lose tickets to whoever comes between.
  static readonly layerRedis = Layer.effect(
    this,
    Effect.gen(function* () {
      const redis = yield* Redis.Redis
      const key = `tickets-${process.pid}`
      yield* Effect.addFinalizer(() => Effect.ignore(redis.send("DEL", key)))
      return { next: Effect.orDie(redis.send<number>("INCR", key)) }
    })
  )
}

const TicketsLive = Handlers.layer(Tickets, { next: () => Counter.use(({ next }) => next) })

const CounterLive = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.option(Config.Redacted("REDIS_URL"))
    yield* Console.log(`counted  in ${Option.isSome(url) ? "Redis" : "memory"}`)
    return Option.isSome(url)
      ? Counter.layerRedis.pipe(Layer.provide(NodeRedis.layer({ url: Redacted.value(url.value) })))
      : Counter.layerMemory
  })
)

const program = Effect.gen(function* () {
  const tickets = yield* Caller.make(Tickets)
  const drawn = yield* Effect.all(
    Array.from({ length: 100 }, () => tickets.next()),
    { concurrency: 20 }
  )
  yield* Console.log(`tickets  ${drawn.length}, all different: ${new Set(drawn).size === drawn.length}`)
  yield* Console.log(`last     ${Math.max(...drawn)}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(TicketsLive.pipe(Layer.provide(CounterLive), Layer.provideMerge(Memory.layer))),
  NodeRuntime.runMain
)
