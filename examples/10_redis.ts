// Redis: the same service over Redis by switching one Layer. Set REDIS_URL, or it runs in memory.
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service, Transport } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

class Counter extends Service.make(
  "counter",
  Action.make("add", { payload: { amount: Schema.Int }, success: Schema.Struct({ total: Schema.Int }) })
) {}

const CounterLive = Handlers.layer(
  Counter,
  Effect.sync(() => {
    let total = 0
    return {
      add: ({ amount }) =>
        Effect.sync(() => {
          total += amount
          return { total }
        })
    }
  })
)

// The one Layer. Neither the service nor its callers know which it is.
const TransportLive = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.option(Config.Redacted("REDIS_URL"))
    // layerConfig reads REDIS_URL by itself, and FIBERBUS_PREFIX and more; RedisPubSub.layer({ url }) takes it from you.
    return Option.isSome(url) ? RedisPubSub.layerConfig() : Memory.layer
  })
)

const program = Effect.gen(function* () {
  const { name, capabilities } = yield* Transport.Transport
  yield* Console.log(`over   ${name} (${capabilities.delivery})`)

  const counter = yield* Caller.make(Counter)
  yield* counter.add({ amount: 2 })
  const { total } = yield* counter.add({ amount: 3 })
  yield* Console.log(`total  ${total}`)
})

program.pipe(Effect.scoped, Effect.provide(CounterLive.pipe(Layer.provideMerge(TransportLive))), NodeRuntime.runMain)
