// The serving process: SIGTERM or Ctrl-C lets running handlers end, answers their callers, then closes.
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Layer, Runtime } from "effect"
import { Handlers } from "fiberbus"
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

// Built after the service, so that it is ready when we say so; closed before it.
const Announced = Layer.effectDiscard(
  Effect.acquireRelease(Console.log("server  ready"), () => Console.log("server  takes no more, ends what runs"))
).pipe(Layer.provide(ReportsLive))

// RedisPubSub.layerConfig reads REDIS_URL; without it, it is Redis on this machine.
Layer.launch(Announced.pipe(Layer.provide(RedisPubSub.layerConfig()))).pipe(
  Effect.ensuring(Console.log("server  closed")),
  NodeRuntime.runMain({
    // To be stopped by a signal is a server's normal end: status 0, not 130.
    teardown: (exit, onExit) =>
      Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)
  })
)
