// Redis Cluster: a service follows its channel to a promoted replica. Starts a cluster of its own from redis-server.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Logger, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Service, Transport } from "fiberbus"
import { RedisClusterServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"

class Prices extends Service.make(
  "prices",
  Action.make("of", { payload: { article: Schema.String }, success: { cents: Schema.Int } })
) {}

const PricesLive = Handlers.layer(Prices, { of: ({ article }) => Effect.succeed({ cents: 100 * article.length }) })

// Some nodes are enough: they know the others.
const TransportLive = Layer.unwrap(
  RedisClusterServer.RedisClusterServer.use(({ nodes }) =>
    Effect.succeed(RedisCluster.layer({ nodes: nodes.slice(0, 2) }))
  )
)

const program = Effect.gen(function* () {
  const cluster = yield* RedisClusterServer.RedisClusterServer
  const { capabilities } = yield* Transport.Transport
  yield* Console.log(`masters   ${(yield* cluster.masters).length}, receivers are ${capabilities.receivers}`)

  const prices = yield* Caller.make(Prices)
  yield* Console.log(`mug       ${(yield* prices.of({ article: "mug" })).cents} cents`)

  // The master of the channel "prices" is relieved by its replica.
  const back = Transport.states.pipe(
    Stream.takeUntil((state) => state.gaps > 0 && state._tag === "Ready"),
    Stream.runDrain
  )
  const followed = yield* Effect.forkChild(back, { startImmediately: true })
  yield* cluster.failover(yield* cluster.ownerOf("prices"))
  yield* Fiber.join(followed)
  yield* Console.log("failover  the service has followed its channel")

  yield* Console.log(`teapot    ${(yield* prices.of({ article: "teapot" })).cents} cents`)
})

const App = PricesLive.pipe(
  Layer.provideMerge(TransportLive),
  Layer.provideMerge(RedisClusterServer.layer({ replicas: 1 })),
  Layer.provideMerge(Logger.layer([]))
)
program.pipe(Effect.scoped, Effect.provide(App), NodeRuntime.runMain)
