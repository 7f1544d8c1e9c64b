/** Topics whose messages may share frames: fewer frames, and otherwise the same messages. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Queue, Schema, Scope } from "effect"
import { Broadcast, Listener, Memory, Topic, Transport } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import { Packer } from "../../src/transport/internal/Packer.ts"

const Plain = Topic.make("readings", { n: Schema.Finite, text: Schema.optional(Schema.String) })
const Packed = Plain.pipe(Topic.annotate(Topic.Packed, true))
const Numbered = Packed.pipe(Topic.annotate(Topic.Numbered, true))
const Kept = Packed.pipe(Topic.annotate(Topic.History, { messages: 1_000, for: "5 minutes" }))

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

/** A memory transport that packs as the one over Redis does, and may lose frames. */
const packing = (broker: Memory.Broker) => {
  const inner = Memory.make({ broker })
  const frames: Array<string> = []
  const isLost = { now: false }
  const packer = new Packer(
    (channel, frame, _bytes, sent) => {
      frames.push(frame)
      if (isLost.now) sent(undefined, 1)
      else inner.send(channel, frame, sent)
    },
    (_, defect) => {
      throw defect
    }
  )
  const transport: Transport.Transport["Service"] = {
    ...inner,
    capabilities: { ...inner.capabilities, packs: true },
    send: (channel, frame, sent, pack = false) =>
      pack ? packer.add(channel, frame, sent) : inner.send(channel, frame, sent)
  }
  return { frames, isLost, transport }
}

const setUp = Effect.gen(function* () {
  const broker = Memory.makeBroker()
  const publisher = packing(broker)
  const heard = yield* Queue.unbounded<unknown>()
  const listen = (layer: Layer.Layer<never, Transport.TransportError, Transport.Transport>) =>
    Layer.build(Layer.provide(layer, Layer.succeed(Transport.Transport, Memory.make({ broker }))))
  const publish = (topic: typeof Plain, numbers: ReadonlyArray<number>) =>
    Effect.forEach(numbers, (n) => Broadcast.publish(topic, { n }), { concurrency: "unbounded" }).pipe(
      Effect.provideService(Transport.Transport, publisher.transport)
    )
  return { ...publisher, heard, listen, publish, take: (count: number) => Queue.takeBetween(heard, count, count) }
})

describe("A packed topic", () => {
  it.effect("sends what is published in one turn as one frame, and each listener hears each message in order", () =>
    Effect.gen(function* () {
      const { frames, heard, listen, publish, take } = yield* setUp
      yield* listen(Listener.layer(Packed, ({ n }) => Queue.offer(heard, n), { concurrency: 1 }))
      assert.deepStrictEqual(yield* publish(Packed, upTo(3)), [1, 1, 1])
      assert.deepStrictEqual(yield* take(3), upTo(3))
      assert.deepStrictEqual(frames, ['[{"n":1},{"n":2},{"n":3}]'])
      yield* publish(Packed, upTo(100))
      assert.deepStrictEqual(yield* take(100), upTo(100))
      assert.deepStrictEqual(
        frames.slice(1).map((frame) => JSON.parse(frame).length),
        [64, 36]
      )
    })
  )

  it.effect("is off unless the topic says so", () =>
    Effect.gen(function* () {
      const { frames, heard, listen, publish, take } = yield* setUp
      yield* listen(Listener.layer(Plain, ({ n }) => Queue.offer(heard, n), { concurrency: 1 }))
      yield* publish(Plain, upTo(3))
      assert.deepStrictEqual(yield* take(3), upTo(3))
      assert.deepStrictEqual(frames, [])
    })
  )

  it.effect("numbers each message, and tells of every one in a frame that was lost", () =>
    Effect.gen(function* () {
      const { frames, heard, isLost, listen, publish, take } = yield* setUp
      yield* listen(
        Listener.layer(Numbered, ({ n }, { number }) => Queue.offer(heard, [n, number?.seq]), {
          concurrency: 1,
          onGap: ({ firstSeq, lastSeq }) => Queue.offer(heard, { firstSeq, lastSeq })
        })
      )
      yield* publish(Numbered, [1, 2])
      assert.match(
        frames[0]!,
        /^\[\{"n":1,"fiberbus":\{"v":1,"from":"[\w-]+","seq":1\}\},\{"n":2,"fiberbus":\{"v":1,"from":"[\w-]+","seq":2\}\}\]$/
      )
      isLost.now = true
      yield* publish(Numbered, [3, 4, 5])
      isLost.now = false
      yield* publish(Numbered, [6, 7])
      assert.deepStrictEqual(yield* take(5), [[1, 1], [2, 2], { firstSeq: 3, lastSeq: 5 }, [6, 6], [7, 7]])
    })
  )

  it.live("gives what was lost from its history", () =>
    Effect.gen(function* () {
      const { heard, isLost, listen, publish, take } = yield* setUp
      yield* listen(
        Listener.layer(Kept, ({ n }, { backfilled }) => Queue.offer(heard, [n, backfilled]), { concurrency: 1 })
      )
      yield* publish(Kept, [1])
      assert.deepStrictEqual(yield* take(1), [[1, false]])
      isLost.now = true
      yield* publish(Kept, [2, 3])
      isLost.now = false
      yield* publish(Kept, [4])
      assert.deepStrictEqual(yield* take(3), [
        [2, true],
        [3, true],
        [4, false]
      ])
    })
  )

  for (const [what, topic, numbers] of [
    ["without numbers", Packed, [1, 2, 3, 4, 5]],
    ["with numbers, also where texts are the same", Numbered, [1, 1, 2, 3, 1]]
  ] as const) {
    it.effect(`is shared by a group message by message, ${what}`, () =>
      Effect.gen(function* () {
        const { frames, heard, listen, publish, take } = yield* setUp
        const member = Listener.layer(topic, ({ n }) => Queue.offer(heard, n), { group: "billing" })
        yield* listen(member)
        yield* listen(member)
        yield* publish(topic, numbers)
        assert.strictEqual(frames.length, 1)
        assert.deepStrictEqual((yield* take(5)).toSorted(), numbers.toSorted())
        yield* Effect.forEach(upTo(20), () => Effect.promise(() => new Promise(setImmediate)))
        assert.strictEqual(yield* Queue.size(heard), 0)
      })
    )
  }

  it.layer(RedisServer.layerOptions({}))((it) => {
    it.effect("travels in few frames over Redis, and long messages travel alone in their place", () =>
      Effect.gen(function* () {
        const { url } = yield* RedisServer.RedisServer
        const transport = RedisPubSub.layer({ url })
        yield* Effect.gen(function* () {
          const bus = yield* Transport.Transport
          const frames: Array<unknown> = []
          const heard: Array<number> = []
          const all = Deferred.makeUnsafe<void>()
          yield* bus.subscribe({ _tag: "Channel", channel: "readings" }, (frame) => {
            frames.push(JSON.parse(frame.toString()))
          })
          const scope = yield* Scope.Scope
          yield* Layer.buildWithScope(
            Listener.layer(
              Packed,
              ({ n }) =>
                Effect.sync(() => {
                  if (heard.push(n) === 301) Deferred.doneUnsafe(all, Exit.void)
                }),
              { concurrency: 1, backlog: 1_000 }
            ).pipe(Layer.provide(Layer.succeed(Transport.Transport, bus))),
            scope
          )
          const text = "x".repeat(9_000)
          yield* Effect.forEach(upTo(301), (n) => Broadcast.publish(Packed, n === 150 ? { n, text } : { n }), {
            concurrency: "unbounded",
            discard: true
          })
          yield* Deferred.await(all)
          assert.deepStrictEqual(heard, upTo(301))
          assert.isBelow(frames.length, 20)
          assert.deepStrictEqual(
            frames.filter((frame) => !Array.isArray(frame)),
            [{ n: 150, text }]
          )
          assert.isTrue(frames.every((frame) => !Array.isArray(frame) || frame.length <= 64))
        }).pipe(Effect.scoped, Effect.provide(transport))
      })
    )
  })
})
