// Metrics: what fiberbus counts, at an endpoint for Prometheus.
import { createServer } from "node:http"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Oven extends Service.make(
  "oven",
  Action.make("bake", { payload: { minutes: Schema.Finite }, success: Schema.String })
) {}

const OvenLive = Handlers.layer(
  Oven,
  { bake: ({ minutes }) => (minutes > 60 ? Effect.never : Effect.succeed("bread")) },
  { concurrency: 1, backlog: 0 }
)

// Metrics are always counted; this is all it takes to have them scraped.
const Endpoint = HttpRouter.serve(PrometheusMetrics.layerHttp(), { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
)

/** What Prometheus would do every few seconds; here without the times, which differ from run to run. */
const scrape = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  const url = HttpServer.formatAddress(address)
  const text = yield* Effect.promise(() => fetch(`${url}/metrics`).then((response) => response.text()))
  const lines = text.split("\n").filter((line) => /^fiberbus_(calls|handled)_|_count/.test(line))
  return lines.sort().join("\n")
})

const program = Effect.gen(function* () {
  const oven = yield* Caller.make(Oven)
  yield* oven.bake({ minutes: 20 })
  yield* oven.bake({ minutes: 30 })
  // One that takes too long, and one that finds the oven full.
  const slow = yield* Effect.forkChild(Effect.exit(oven.bake({ minutes: 600 }, { timeout: "2 seconds" })))
  yield* Effect.sleep("20 millis")
  yield* Effect.exit(oven.bake({ minutes: 10 }))
  yield* Console.log(`While one is in flight:\n${yield* scrape}`)
  yield* Fiber.join(slow)
  // The caller knows at once that its time is up; the oven is told, and stops a moment later.
  const over = yield* scrape.pipe(Effect.repeat({ until: (lines) => lines.includes("interrupted") }))
  yield* Console.log(`When it is over:\n${over}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.mergeAll(OvenLive, Endpoint).pipe(Layer.provideMerge(Memory.layer))),
  NodeRuntime.runMain
)
