/** A serving process for tests of signals: `service.ts <name> <redis url> <grace in ms>`. */
import { Console, Effect, Layer, Schedule, Schema } from "effect"
import { Action, Concurrency, Handlers, Service } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const [name, url, grace] = process.argv.slice(2)

const Held = Service.make(
  name!,
  Action.make("hold", { payload: { id: Schema.String } }),
  Action.make("echo", { payload: { id: Schema.String }, success: { id: Schema.String } }),
  Action.make("break")
)

const sound = Concurrency.makeUnsafe(10)
let isBroken = false
/** Breaks the pool on purpose. */
const concurrency: Concurrency.Concurrency = {
  ...sound,
  releaseUnsafe: () => {
    if (isBroken) throw new Error("broken on purpose")
    sound.releaseUnsafe()
  }
}

const HeldLive = Handlers.layer(
  Held,
  {
    hold: ({ id }) =>
      Console.log(`holds ${id}`).pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Console.log(`lets ${id} go`))
      ),
    echo: ({ id }) => Effect.succeed({ id }),
    break: () =>
      Effect.sync(() => {
        isBroken = true
      })
  },
  { grace: Number(grace), concurrency, restart: Schedule.recurs(0) }
)

Main.run(
  Layer.effectDiscard(Console.log("ready")).pipe(
    Layer.provide(HeldLive),
    Layer.provide(RedisPubSub.layer({ url: url! }))
  )
)
