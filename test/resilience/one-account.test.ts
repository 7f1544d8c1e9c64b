import { assert, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisCluster from "fiberbus/transport/RedisCluster"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { run } from "./one-account.ts"

it.live(
  "10,000 calls of fiberbus and Daebus callers to three replicas are each handled once, and answered once",
  () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const { failures, notOnce, shares } = yield* run(RedisPubSub.make({ url }), 10_000)
      assert.deepStrictEqual(failures, [])
      assert.deepStrictEqual(notOnce, [])
      for (const share of shares) assert.isAbove(share, 0)
    }).pipe(Effect.scoped, Effect.provide([RedisServer.layerOptions({}), Logger.layer([])])),
  120_000
)

it.live(
  "4,000 calls to three replicas over a Cluster are each handled once, and answered once",
  () =>
    Effect.gen(function* () {
      const { nodes } = yield* RedisClusterServer.make()
      const { failures, notOnce, shares } = yield* run(RedisCluster.make({ nodes }), 4_000)
      assert.deepStrictEqual(failures, [])
      assert.deepStrictEqual(notOnce, [])
      for (const share of shares) assert.isAbove(share, 0)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))),
  120_000
)
