import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue, Schedule, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Broadcast, DeadLetters, Durable, Listener, Memory, Topic, type Transport } from "fiberbus"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

const Orders = Topic.durable(Topic.make("orders", { n: Schema.Finite }), { keep: "1 hour" })

type Bus = Durable.Durable | Transport.Transport

/** Listens in a group, and gives what is heard, with a name. */
const listen = (heard: Queue.Queue<string>, name: string, group: string, options?: Listener.GroupOptions) =>
  Listener.layerGroup(Orders, group, ({ n }) => Queue.offer(heard, `${name} ${n}`), options)

/** `countsAll`: the count of receivers says all. Of a Cluster's classic pub/sub each node counts its own. */
const promises = (
  pass: Effect.Effect<void>,
  countsAll = true
): ReadonlyArray<readonly [string, Effect.Effect<void, unknown, Scope.Scope | Bus>]> => [
  [
    "gives every message to one listener of each group, and to all who listen without one",
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<string>()
      yield* Layer.build(listen(heard, "billing", "billing"))
      yield* Layer.build(listen(heard, "billing", "billing"))
      yield* Layer.build(listen(heard, "audit", "audit"))
      yield* Layer.build(Listener.layer(Orders, ({ n }) => Queue.offer(heard, `live ${n}`)))
      for (const n of [1, 2]) {
        const receivers = yield* Broadcast.publish(Orders, { n })
        if (countsAll) assert.strictEqual(receivers, 1)
        else assert.isAtMost(receivers, 1)
      }
      const all = yield* Queue.takeBetween(heard, 6, 6)
      assert.deepStrictEqual([...all].sort(), ["audit 1", "audit 2", "billing 1", "billing 2", "live 1", "live 2"])
      assert.strictEqual(Queue.sizeUnsafe(heard), 0)
    })
  ],
  [
    "keeps for a group what is published while none of it runs, and for a new one what is kept",
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<string>()
      yield* Effect.scoped(Layer.build(listen(heard, "a", "a")))
      for (const n of [1, 2]) yield* Broadcast.publish(Orders, { n })
      yield* Layer.build(listen(heard, "a", "a", { concurrency: 1 }))
      assert.deepStrictEqual(yield* Queue.takeBetween(heard, 2, 2), ["a 1", "a 2"])
      yield* Layer.build(listen(heard, "new", "new"))
      yield* Layer.build(listen(heard, "old", "old", { from: "beginning", concurrency: 1 }))
      assert.deepStrictEqual(yield* Queue.takeBetween(heard, 2, 2), ["old 1", "old 2"])
      yield* Broadcast.publish(Orders, { n: 3 })
      assert.deepStrictEqual([...(yield* Queue.takeBetween(heard, 3, 3))].sort(), ["a 3", "new 3", "old 3"])
      // A group that has ended gets nothing more.
      yield* Listener.removeGroup(Orders, "new")
      yield* Broadcast.publish(Orders, { n: 4 })
      assert.deepStrictEqual([...(yield* Queue.takeBetween(heard, 2, 2))].sort(), ["a 4", "old 4"])
    })
  ],
  [
    "delivers again to a group whose listener fails, then sets the message aside; other groups know nothing of it",
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<string>()
      let fails = true
      yield* Layer.build(listen(heard, "other", "other"))
      yield* Layer.build(
        Listener.layerGroup(
          Orders,
          "billing",
          ({ n }) =>
            Effect.andThen(
              Queue.offer(heard, `billing ${n}`),
              Effect.suspend(() => (fails ? Effect.fail("no paper") : Effect.void))
            ),
          { durable: { retry: Schedule.spaced("5 millis"), deliveries: 3 } }
        )
      )
      yield* Broadcast.publish(Orders, { n: 1 })
      const group = { topic: Orders, group: "billing" }
      while ((yield* DeadLetters.size(group)) === 0) yield* pass
      const [letter] = yield* DeadLetters.list(group)
      assert.deepStrictEqual([letter!.reason, letter!.deliveries], ["Failed", 3])
      assert.include(letter!.cause, "no paper")
      assert.deepStrictEqual([...(yield* Queue.takeBetween(heard, 4, 4))].sort(), [
        "billing 1",
        "billing 1",
        "billing 1",
        "other 1"
      ])
      fails = false
      yield* DeadLetters.replay(group, letter!.letter)
      assert.strictEqual(yield* Queue.take(heard), "billing 1")
      assert.strictEqual(yield* DeadLetters.size(group), 0)
    })
  ]
]

describe("a durable topic in memory", () => {
  for (const [name, promise] of promises(TestClock.adjust("5 millis"))) {
    it.effect(name, () => Effect.provide(promise, Layer.mergeAll(Memory.layer, Durable.layerMemory)))
  }
})

it.layer(RedisServer.layer, { excludeTestServices: true, timeout: "20 seconds" })("a durable topic in Redis", (it) => {
  for (const [name, promise] of promises(Effect.sleep("5 millis"))) {
    it.effect(name, () =>
      RedisServer.RedisServer.use(({ command, url }) =>
        Effect.andThen(
          command("FLUSHALL"),
          Effect.provide(Effect.scoped(promise), Layer.fresh(RedisStreams.layer({ url, prefix: "t:" })))
        )
      )
    )
  }
})

it.layer(RedisClusterServer.layer(), { excludeTestServices: true, timeout: "60 seconds" })(
  "a durable topic in a Redis Cluster",
  (it) => {
    for (const pubsub of ["sharded", "classic"] as const) {
      for (const [index, [name, promise]] of promises(Effect.sleep("5 millis"), pubsub === "sharded").entries()) {
        it.effect(`${name}, where pub/sub is ${pubsub}`, () =>
          RedisClusterServer.RedisClusterServer.use(({ nodes }) =>
            Effect.provide(
              Effect.scoped(promise),
              Layer.fresh(RedisStreams.layerCluster({ nodes, pubsub, prefix: `${pubsub}${index}:` }))
            )
          )
        )
      }
    }
  }
)
