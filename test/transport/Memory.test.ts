import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Memory from "../../src/transport/Memory.ts"
import { publish, Transport, type TransportError } from "../../src/transport/Transport.ts"

const channel = (name: string) => ({ _tag: "Channel", channel: name }) as const

describe("Memory", () => {
  it.effect("says what it promises", () =>
    Effect.gen(function* () {
      const { name, prefix, capabilities } = yield* Transport
      assert.strictEqual(name, "memory")
      assert.strictEqual(prefix, "")
      assert.deepStrictEqual(capabilities, {
        delivery: "at-most-once",
        receivers: "exact",
        ordered: true,
        patterns: true,
        maxFrameBytes: 1_048_576,
        inProcess: true
      })
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("takes options", () =>
    Effect.gen(function* () {
      const { prefix, capabilities } = yield* Transport
      assert.strictEqual(prefix, "shop.")
      assert.strictEqual(capabilities.maxFrameBytes, 100)
    }).pipe(Effect.provide(Memory.layerOptions({ prefix: "shop.", maxFrameBytes: 100 })))
  )

  it.effect("keeps brokers apart", () =>
    Effect.gen(function* () {
      const [here, there] = [Memory.make(), Memory.make()]
      let heard = 0
      yield* there.subscribe(channel("a"), () => {
        heard++
      })
      assert.strictEqual(yield* publish("a", "x").pipe(Effect.provideService(Transport, here)), 0)
      assert.strictEqual(heard, 0)
    })
  )

  it.effect("delivers after `send` has returned", () =>
    Effect.gen(function* () {
      const transport = Memory.make()
      const done = Deferred.makeUnsafe<void>()
      let heard = 0
      yield* transport.subscribe(channel("a"), () => {
        heard++
      })
      transport.send("a", "x", () => Deferred.doneUnsafe(done, Exit.void))
      assert.strictEqual(heard, 0)
      yield* Deferred.await(done)
      assert.strictEqual(heard, 1)
    })
  )

  it.effect("leaves time for others while two services answer each other without end", () =>
    Effect.gen(function* () {
      const transport = Memory.make()
      const timer = Deferred.makeUnsafe<void>()
      let rounds = 0
      yield* transport.subscribe(channel("ping"), () => {
        if (rounds++ === 0) setTimeout(() => Deferred.doneUnsafe(timer, Exit.void), 0)
        transport.send("ping", "x", () => {})
      })
      transport.send("ping", "x", () => {})
      yield* Deferred.await(timer)
      assert.isAbove(rounds, 0)
    })
  )

  it.effect("refuses frames above its capacity, and goes on when there is room", () =>
    Effect.gen(function* () {
      const transport = Memory.make({ capacity: 2 })
      const outcomes: Array<TransportError | number> = []
      const idle = Deferred.makeUnsafe<void>()
      for (let i = 0; i < 3; i++) {
        transport.send("a", "x", (error, receivers) => {
          outcomes.push(error ?? receivers)
          if (outcomes.length === 3) Deferred.doneUnsafe(idle, Exit.void)
        })
      }
      yield* Deferred.await(idle)
      const [refused, ...others] = outcomes
      assert.isTrue(typeof refused === "object" && refused.kind === "Overloaded" && refused.sent === "no")
      assert.deepStrictEqual(others, [0, 0])
      assert.strictEqual(yield* publish("a", "x").pipe(Effect.provideService(Transport, transport)), 0)
    })
  )
})
