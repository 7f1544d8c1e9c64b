import * as Util from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { vi } from "vitest"
import * as RedisClusterServer from "../../src/testing/RedisClusterServer.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Memory from "../../src/transport/Memory.ts"
import * as RedisCluster from "../../src/transport/RedisCluster.ts"
import * as RedisPubSub from "../../src/transport/RedisPubSub.ts"

const { TwoTransports } = TransportConformance

/** Keeps from the terminal what a case lets go wrong on purpose; it is all that may be logged. */
const quietly = <A, E, R>(run: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => vi.spyOn(console, "log").mockImplementation(() => {})),
    (spy) =>
      Effect.tap(run, () =>
        Effect.sync(() => {
          for (const line of spy.mock.calls) assert.include(Util.format(...line), "thrown on purpose")
        })
      ),
    (spy) => Effect.sync(() => spy.mockRestore())
  )

const conforms = <E>(layer: Layer.Layer<TransportConformance.TwoTransports, E>) =>
  it.layer(layer)((it) => {
    for (const { name, applies, run } of TransportConformance.cases) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const { here } = yield* TwoTransports
          if (applies(here.capabilities)) yield* run
        }).pipe(quietly)
      )
    }
  })

describe("Memory", () => {
  conforms(
    Layer.sync(TwoTransports, () => {
      const broker = Memory.makeBroker()
      return { here: Memory.make({ broker }), there: Memory.make({ broker }) }
    })
  )
})

describe("Memory with a prefix", () => {
  conforms(
    Layer.sync(TwoTransports, () => {
      const broker = Memory.makeBroker()
      return { here: Memory.make({ broker, prefix: "shop." }), there: Memory.make({ broker, prefix: "shop." }) }
    })
  )
})

const overRedis = (server: RedisServer.Options, options?: RedisPubSub.Options) =>
  Layer.effect(
    TwoTransports,
    Effect.gen(function* () {
      const { url, tls } = yield* RedisServer.RedisServer
      const all = { url, ...(tls === undefined ? {} : { tls: { ca: tls.ca } }), ...options }
      return { here: yield* RedisPubSub.make(all), there: yield* RedisPubSub.make(all) }
    })
  ).pipe(Layer.provide(RedisServer.layerOptions(server)))

describe("RedisPubSub", () => {
  conforms(overRedis({}, { prefix: "shop." }))
})

describe("RedisPubSub over TLS", () => {
  conforms(overRedis({ tls: {} }))
})

describe("RedisPubSub over a Unix socket", () => {
  conforms(overRedis({ unixSocket: true }))
})

// As Redis 5 and some proxies: the library falls back to RESP2, where subscriptions take over the connection.
describe("RedisPubSub with a server that knows no HELLO", () => {
  conforms(overRedis({ args: ["--rename-command", "HELLO", ""] }))
})

const overCluster = (options?: Partial<RedisCluster.Options>) =>
  Layer.effect(
    TwoTransports,
    Effect.gen(function* () {
      const { nodes } = yield* RedisClusterServer.RedisClusterServer
      const all = { nodes, ...options }
      return { here: yield* RedisCluster.make(all), there: yield* RedisCluster.make(all) }
    })
  ).pipe(Layer.provide(RedisClusterServer.layer()))

describe("RedisCluster", () => {
  conforms(overCluster({ prefix: "shop." }))
})

describe("RedisCluster in classic mode", () => {
  conforms(overCluster({ pubsub: "classic" }))
})
