// The code of docs/redis-cluster.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Layer } from "effect"
import type { Transport } from "fiberbus"
import * as Main from "fiberbus/node/Main"
import * as RedisCluster from "fiberbus/transport/RedisCluster"

declare const AppLive: Layer.Layer<never, never, Transport.Transport>

export const snippets = () => {
  const TransportLive = RedisCluster.layer({
    nodes: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }, { host: "10.0.0.3", port: 6380 }]
  })

  Main.run(AppLive.pipe(Layer.provide(TransportLive)))
  Main.run(AppLive.pipe(Layer.provide(RedisCluster.layerConfig()))) // REDIS_CLUSTER_NODES and the others below
}
