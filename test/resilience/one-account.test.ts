import { assert, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { RedisServer } from "fiberbus/testing"
import { run } from "./one-account.ts"

it.live(
  "10,000 calls of fiberbus and Daebus callers to three replicas are each handled once, and answered once",
  () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const { failures, notOnce, shares } = yield* run(url, 10_000)
      assert.deepStrictEqual(failures, [])
      assert.deepStrictEqual(notOnce, [])
      for (const share of shares) assert.isAbove(share, 0)
    }).pipe(Effect.scoped, Effect.provide([RedisServer.layerOptions({}), Logger.layer([])])),
  120_000
)
