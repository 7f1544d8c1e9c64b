import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Memory, Prefixed, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Claims from "../../src/transport/internal/claims.ts"

type Shape = Transport.Transport["Service"]

const claim = (transport: Shape, key: string, ttlMillis = 60_000) =>
  Effect.callback<boolean, Transport.TransportError>((resume) =>
    transport.claim!(key, ttlMillis, (error, won) =>
      resume(error === undefined ? Effect.succeed(won) : Effect.fail(error))
    )
  )

const barrier = (transport: Shape) =>
  Effect.callback<boolean>((resume) => transport.barrier!((passed) => resume(Effect.succeed(passed))))

const cases = (makeTwo: Effect.Effect<readonly [Shape, Shape]>) => {
  it.live("gives a key to the first who claims it, and to another when its time is over", () =>
    Effect.gen(function* () {
      const [here, there] = yield* makeTwo
      const both = yield* Effect.all([claim(here, "a"), claim(there, "a"), claim(Prefixed.make(here, "x."), "a")])
      assert.deepStrictEqual(both, [true, false, false])
      assert.isTrue(yield* claim(there, "b", 20))
      yield* Effect.repeat(claim(here, "b"), { until: (won) => won })
      assert.isFalse(yield* claim(there, "b"))
    })
  )

  it.live("passes a barrier when what was sent before has come", () =>
    Effect.gen(function* () {
      const [here, there] = yield* makeTwo
      const heard: Array<string> = []
      yield* there.subscribe({ _tag: "Channel", channel: "c" }, (frame) => void heard.push(String(frame)))
      for (let round = 1; round <= 20; round++) {
        yield* Effect.provideService(Transport.publish("c", `${round}`), Transport.Transport, here)
        assert.isTrue(yield* barrier(there))
        assert.lengthOf(heard, round)
      }
    })
  )
}

describe("Memory", () => {
  cases(
    Effect.sync(() => {
      const broker = Memory.makeBroker()
      return [Memory.make({ broker }), Memory.make({ broker })] as const
    })
  )

  it("remembers claims until their time is over, and no more than it may", () => {
    let now = 0
    const claim = Claims.make(3, () => now)
    assert.deepStrictEqual(
      ["a", "a", "b", "c"].map((key) => claim(key, 100)),
      [true, false, true, true]
    )
    // The oldest makes room.
    assert.isTrue(claim("d", 100))
    assert.isTrue(claim("a", 100))
    assert.isFalse(claim("d", 100))
    now = 101
    assert.deepStrictEqual(
      ["d", "a", "a"].map((key) => claim(key, 100)),
      [true, true, false]
    )
  })
})

describe("RedisPubSub", () => {
  it.layer(RedisServer.layer, { excludeTestServices: true })((it) => {
    it.effect("claims, and passes barriers, as its broker has them", () =>
      Effect.gen(function* () {
        const { command, url } = yield* RedisServer.RedisServer
        const [here, there] = [yield* RedisPubSub.make({ url }), yield* RedisPubSub.make({ url })]
        const won = yield* Effect.all([claim(here, "fiberbus:claim:s:1"), claim(there, "fiberbus:claim:s:1")])
        assert.deepStrictEqual(won, [true, false])
        const left = Number(yield* command("PTTL", "fiberbus:claim:s:1"))
        assert.isTrue(left > 0 && left <= 60_000)
        assert.isTrue(yield* claim(there, "b", 20))
        yield* Effect.repeat(claim(here, "b"), { until: (won) => won })
        const heard: Array<string> = []
        yield* there.subscribe({ _tag: "Channel", channel: "c" }, (frame) => void heard.push(String(frame)))
        for (let round = 1; round <= 20; round++) {
          yield* Effect.provideService(Transport.publish("c", `${round}`), Transport.Transport, here)
          assert.isTrue(yield* barrier(there))
          assert.lengthOf(heard, round)
        }
      })
    )
  })
})
