// The serving process: SIGTERM or Ctrl-C lets running handlers end, answers their callers, then closes.
import { Console, Effect, Layer, Logger } from "effect"
import { Handlers } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { Reports } from "./contract.ts"

const ReportsLive = Handlers.layer(
  Reports,
  {
    write: Effect.fnUntraced(function* ({ title, pages }, { progress }) {
      yield* Console.log(`server  writes ${title}`)
      for (let page = 1; page <= pages; page++) {
        yield* progress({ page })
        yield* Effect.sleep("200 millis")
      }
      yield* Console.log(`server  has written ${title}`)
      return { file: `/reports/${title}.pdf` }
    })
  },
  { grace: "5 seconds" }
)

// Built after the service, so that it is ready when we say so.
const Ready = Layer.effectDiscard(Console.log("server  ready")).pipe(Layer.provide(ReportsLive))

// What fiberbus logs, in this example's own words: when it shuts down, and how that went.
const Log = Logger.layer([Logger.make(({ message }) => console.log(`server  ${String(message)}`))])

// RedisPubSub.layerConfig reads REDIS_URL; without it, it is Redis on this machine. A first signal shuts down, a second ends at once.
Main.run(Ready.pipe(Layer.provide(RedisPubSub.layerConfig()), Layer.provideMerge(Log)))
