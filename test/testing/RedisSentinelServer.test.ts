import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { RedisSentinelServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

describe("RedisSentinelServer", () => {
  it.live(
    "tells who is the master, before a failover, after it, and after a crash",
    () =>
      Effect.gen(function* () {
        const redis = yield* RedisSentinelServer.make({ replicas: 2, password: "watch-word" })
        const [first] = redis.servers
        assert.lengthOf(redis.servers, 3)
        assert.strictEqual(yield* redis.master, first)
        yield* first!.command("SET", "kept", "yes")
        const second = yield* redis.failover
        assert.notStrictEqual(second, first)
        assert.strictEqual(yield* redis.master, second)
        assert.strictEqual(yield* second.command("GET", "kept"), "yes")
        yield* second.kill
        const third = yield* redis.promoted(second)
        assert.notStrictEqual(third, second)
        assert.include(String(yield* third.command("INFO", "replication")), "role:master")
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "is where a transport finds its master",
    () =>
      Effect.gen(function* () {
        const { name, password, sentinels } = yield* RedisSentinelServer.make({ name: "shop", password: "watch-word" })
        const transport = yield* RedisPubSub.make({ sentinels, name, sentinelPassword: Redacted.make(password!) })
        assert.include(transport.name, "/shop")
        assert.strictEqual(transport.capabilities.receivers, "exact")
      }).pipe(Effect.scoped),
    120_000
  )

  it.effect("refuses a number of replicas that it cannot have", () =>
    Effect.gen(function* () {
      for (const replicas of [0, 6, Number.NaN]) {
        const error = yield* Effect.flip(RedisSentinelServer.make({ replicas }))
        assert.deepStrictEqual([error.kind, error.detail], ["ClusterFailed", "it takes 1 to 5 replicas"])
      }
    }).pipe(Effect.scoped)
  )
})
