import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue, Schema } from "effect"
import { Broadcast, Listener, Memory, Topic, Transport } from "fiberbus"

const Events = Topic.make("user_events", { type: Schema.String, at: Schema.Date.pipe(Schema.optionalKey) })
const AllEvents = Topic.make("user_events.*", { type: Schema.String })

const collecting = Effect.map(Queue.unbounded<any>(), (heard) => ({
  heard,
  into: (message: unknown) => Queue.offer(heard, message)
}))

describe("Listener and Broadcast", () => {
  it.effect("hears every message as the contract's type, and the publisher how many were reached", () =>
    Effect.gen(function* () {
      const { heard, into } = yield* collecting
      yield* Effect.gen(function* () {
        const at = new Date(0)
        assert.strictEqual(yield* Broadcast.publish(Events, { type: "created", at }), 1)
        assert.deepStrictEqual(yield* Queue.take(heard), { type: "created", at })
      }).pipe(Effect.provide(Listener.layer(Events, into).pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("counts nobody where nobody listens", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Broadcast.publish(Events, { type: "created" }), 0)
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("runs all listeners of a channel, whatever one of them does", () =>
    Effect.gen(function* () {
      const { heard, into } = yield* collecting
      const Live = Layer.mergeAll(
        Listener.layer(Events, () => Effect.die("dead")),
        Listener.layer(Events, () => Effect.fail("failed")),
        Listener.layer(Events, (): Effect.Effect<void> => {
          throw new Error("thrown")
        }),
        Listener.layer(Events, () => Effect.never, { grace: 0 }),
        Listener.layer(Topic.make("user_events", { type: Schema.Finite }), into),
        Listener.layer(Events, ({ type }) => into(`one ${type}`)),
        Listener.layer(Events, ({ type }) => into(`two ${type}`))
      )
      yield* Effect.gen(function* () {
        for (const type of ["a", "b"]) {
          yield* Broadcast.publish(Events, { type })
          assert.sameMembers(yield* Queue.takeBetween(heard, 2, 2), [`one ${type}`, `two ${type}`])
        }
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("hears all channels of a pattern and knows which one it was", () =>
    Effect.gen(function* () {
      const { heard, into } = yield* collecting
      const Live = Listener.layer(AllEvents, ({ type }, { channel }) => into({ type, channel }))
      yield* Effect.gen(function* () {
        yield* Broadcast.publish(Events, { type: "not below it" })
        yield* Broadcast.publish(Topic.at(AllEvents, "user_events.eu"), { type: "created" })
        assert.deepStrictEqual(yield* Queue.take(heard), { type: "created", channel: "user_events.eu" })
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layerOptions({ prefix: "a*:" })))))
    })
  )

  it.effect("keeps the order of messages with a concurrency of one", () =>
    Effect.gen(function* () {
      const { heard, into } = yield* collecting
      const Live = Listener.layer(
        Events,
        ({ type }) => Effect.andThen(type === "first" ? Effect.yieldNow : Effect.void, into(type)),
        { concurrency: 1 }
      )
      yield* Effect.gen(function* () {
        const types = ["first", ...Array.from({ length: 500 }, (_, n) => `event ${n}`)]
        yield* Effect.forEach(types, (type) => Broadcast.publish(Events, { type }), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* Queue.takeBetween(heard, types.length, types.length), types)
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("drops what is no message of the topic, and hears the next", () =>
    Effect.gen(function* () {
      const { heard, into } = yield* collecting
      yield* Effect.gen(function* () {
        for (const text of ["not json", "[1]", '"text"', "null", '{"type":1}', '{"type":"ok","reply_to":5}']) {
          yield* Transport.publish("user_events", text)
        }
        assert.deepStrictEqual(yield* Queue.take(heard), { type: "ok" })
        assert.isTrue(Option.isNone(yield* Queue.poll(heard)))
      }).pipe(Effect.provide(Listener.layer(Events, into).pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("publishes nothing that does not fit: not the schema, not an object, not the size", () =>
    Effect.gen(function* () {
      const failed = <A, R>(publish: Effect.Effect<A, Broadcast.PublishError, R>) =>
        Effect.map(Effect.flip(publish), ({ reason }) => reason)
      assert.deepInclude(yield* failed(Broadcast.publish(Events, { type: 1 as never })), {
        _tag: "InvalidMessage",
        path: ["type"]
      })
      const Text = Topic.make("text", Schema.Any)
      assert.deepInclude(yield* failed(Broadcast.publish(Text, "hello")), { _tag: "InvalidMessage" })
      const List = Topic.make("list", Schema.Array(Schema.String))
      assert.deepInclude(yield* failed(Broadcast.publish(List, ["hello"])), { _tag: "InvalidMessage" })
      assert.deepInclude(yield* failed(Broadcast.publish(Events, { type: "x".repeat(200) })), {
        _tag: "PayloadTooLarge",
        maxBytes: 100
      })
    }).pipe(Effect.provide(Memory.layerOptions({ maxFrameBytes: 100 })))
  )
})
