import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Queue, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Broadcast, Listener, Memory, Prefixed, Topic, Transport } from "fiberbus"
import * as Planted from "./planted.ts"

const Plain = Topic.make("orders", { n: Schema.Finite })
const Numbered = Plain.pipe(Topic.annotate(Topic.Numbered, true))
const Kept = Plain.pipe(Topic.annotate(Topic.History, { messages: 1_000, for: "5 minutes" }))

type Heard = number | `again ${number}` | { readonly missed: number; readonly first: number; readonly last: number }

/** A publisher and a listener, each with a link of its own; what is heard, in its order. */
const setUp = Effect.fnUntraced(function* (
  topic: typeof Plain,
  capabilities: Partial<Transport.Capabilities> = {},
  options: Listener.Alone<never, never> = {}
) {
  const broker = Memory.makeBroker()
  const publisher = Planted.make(Memory.make({ broker }))
  const listener = Planted.make(Memory.make({ broker }), capabilities)
  const heard = yield* Queue.unbounded<Heard>()
  const gaps: Array<Listener.Gap> = []
  const listen = Effect.fnUntraced(function* () {
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(
      Listener.layer(topic, ({ n }, { backfilled }) => Queue.offer(heard, backfilled ? `again ${n}` : n), {
        concurrency: 1,
        onGap: (gap) => {
          gaps.push(gap)
          return Queue.offer(heard, { missed: gap.missed, first: gap.firstSeq, last: gap.lastSeq })
        },
        ...options
      }).pipe(Layer.provide(Layer.succeed(Transport.Transport, listener.transport))),
      scope
    )
    return Scope.close(scope, Exit.void)
  })
  const close = yield* listen()
  yield* Effect.addFinalizer(() => close)
  const publish = (n: number) =>
    Effect.provideService(Broadcast.publish(topic, { n }), Transport.Transport, publisher.transport)
  const take = (count: number) => Queue.takeBetween(heard, count, count)
  /** Lets frames arrive. */
  const turns = Effect.forEach(Array.from({ length: 20 }), () => Effect.promise(() => new Promise(setImmediate)))
  const isMessage = (channel: string) => channel === "orders"
  const lose = (lost: (n: number) => boolean) => {
    listener.copies = (frame, channel) => (isMessage(channel) && lost(JSON.parse(frame).n) ? 0 : 1)
  }
  return { publisher, listener, heard, gaps, publish, take, turns, lose, listen }
})

describe("A listener to a topic with numbers", () => {
  it.effect("is told what it missed before the message that shows it", () =>
    Effect.gen(function* () {
      const { gaps, lose, publish, take } = yield* setUp(Numbered)
      lose((n) => n === 3 || n === 4)
      for (const n of [1, 2]) yield* publish(n)
      yield* take(2)
      yield* TestClock.adjust("1 minute")
      for (const n of [3, 4, 5, 6]) yield* publish(n)
      assert.deepStrictEqual(yield* take(3), [{ missed: 2, first: 3, last: 4 }, 5, 6])
      const [gap] = gaps
      assert.strictEqual(gap!.channel, "orders")
      assert.strictEqual(gap!.until.epochMilliseconds - gap!.since.epochMilliseconds, 60_000)
    })
  )

  it.effect("sees no number, and tells the handler which one it was", () =>
    Effect.gen(function* () {
      const Whole = Topic.make("orders", Schema.Record(Schema.String, Schema.Any)).pipe(
        Topic.annotate(Topic.Numbered, true)
      )
      const heard = yield* Queue.unbounded<unknown>()
      const Live = Listener.layer(Whole, (message, { number }) => Queue.offer(heard, [message, number?.seq]))
      yield* Effect.gen(function* () {
        yield* Broadcast.publish(Whole, { n: 1 })
        yield* Broadcast.publish(Whole, {})
        assert.deepStrictEqual(yield* Queue.takeBetween(heard, 2, 2), [
          [{ n: 1 }, 1],
          [{}, 2]
        ])
        const failure = yield* Effect.flip(Broadcast.publish(Whole, { fiberbus: 1 }))
        assert.deepInclude(failure.reason, { _tag: "InvalidMessage", path: ["fiberbus"] })
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("learns of the last messages of who is silent, after a gap of its link", () =>
    Effect.gen(function* () {
      const { listener, lose, publish, take, turns, heard } = yield* setUp(Numbered)
      lose((n) => n > 1)
      for (const n of [1, 2, 3]) yield* publish(n)
      assert.deepStrictEqual(yield* take(1), [1])
      listener.gap()
      yield* turns
      assert.strictEqual(yield* Queue.size(heard), 0)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* take(1), [{ missed: 2, first: 2, last: 3 }])
    })
  )

  it.effect("learns of it without a gap, when it asks by itself", () =>
    Effect.gen(function* () {
      const { lose, publish, take, turns } = yield* setUp(Numbered)
      lose((n) => n > 1)
      for (const n of [1, 2]) yield* publish(n)
      yield* take(1)
      yield* turns
      yield* TestClock.adjust("3 seconds")
      yield* turns
      yield* TestClock.adjust("34 seconds")
      yield* turns
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* take(1), [{ missed: 1, first: 2, last: 2 }])
    })
  )

  it.effect("counts from the first message that it hears, of who was there before it", () =>
    Effect.gen(function* () {
      const { gaps, listen, publish, take, turns } = yield* setUp(Numbered)
      for (const n of [1, 2]) yield* publish(n)
      yield* take(2)
      yield* TestClock.adjust("1 second")
      yield* listen()
      yield* turns
      yield* publish(3)
      assert.deepStrictEqual(yield* take(2), [3, 3])
      assert.deepStrictEqual(gaps, [])
    })
  )

  it.effect("is told of the first messages of who began while nothing came through", () =>
    Effect.gen(function* () {
      const { lose, publish, take, turns } = yield* setUp(Numbered)
      yield* turns
      yield* TestClock.adjust("5 seconds")
      lose((n) => n < 3)
      for (const n of [1, 2, 3]) yield* publish(n)
      assert.deepStrictEqual(yield* take(2), [{ missed: 2, first: 1, last: 2 }, 3])
    })
  )

  it.effect("hears a message once that comes twice, or after it was told to be missing", () =>
    Effect.gen(function* () {
      const { heard, listener, publish, take, turns } = yield* setUp(Numbered)
      listener.copies = () => 2
      listener.late = (frame) => frame.includes('"n":2')
      for (const n of [1, 2, 3]) yield* publish(n)
      assert.deepStrictEqual(yield* take(3), [1, { missed: 1, first: 2, last: 2 }, 3])
      listener.release()
      yield* turns
      assert.strictEqual(yield* Queue.size(heard), 0)
    })
  )

  it.effect("waits for what was overtaken where the transport keeps no order", () =>
    Effect.gen(function* () {
      const { gaps, listener, publish, take, turns } = yield* setUp(Numbered, { ordered: false })
      listener.late = (frame) => frame.includes('"n":2')
      for (const n of [1, 2, 3]) yield* publish(n)
      assert.deepStrictEqual(yield* take(1), [1])
      yield* turns
      listener.release()
      assert.deepStrictEqual(yield* take(2), [2, 3])
      assert.deepStrictEqual(gaps, [])
      listener.late = (frame) => frame.includes('"n":4')
      for (const n of [4, 5]) yield* publish(n)
      yield* turns
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* take(2), [{ missed: 1, first: 4, last: 4 }, 5])
    })
  )

  it.effect("does not wait for more than it can hold", () =>
    Effect.gen(function* () {
      const { gaps, lose, publish, take } = yield* setUp(
        Numbered,
        { ordered: false },
        { concurrency: 1, backlog: 5_000 }
      )
      lose((n) => n === 2)
      for (let n = 1; n <= 1_100; n++) yield* publish(n)
      yield* take(1_100)
      assert.deepStrictEqual(
        gaps.map(({ firstSeq, missed }) => [firstSeq, missed]),
        [[2, 1]]
      )
    })
  )

  it.effect("gets a gap told when its backlog has room for it, and loses none of them", () =>
    Effect.gen(function* () {
      const { gaps, lose, publish, take, turns } = yield* setUp(Numbered, {}, { concurrency: 1, backlog: 1 })
      lose((n) => n % 2 === 0)
      yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8, 9], publish, { concurrency: "unbounded" })
      yield* turns
      yield* TestClock.adjust("1 second")
      yield* turns
      const total = gaps.reduce((sum, { missed }) => sum + missed, 0)
      assert.strictEqual(total, 4)
      yield* take(1)
    })
  )

  it.effect("gives back a number that never left", () =>
    Effect.gen(function* () {
      const { gaps, publish, publisher, take } = yield* setUp(Numbered)
      const { send } = publisher.transport
      yield* publish(1)
      Object.assign(publisher.transport, {
        send: (_channel: string, _frame: string, sent: Transport.Sent) =>
          sent(new Transport.TransportError({ kind: "Overloaded", operation: "", detail: "", hint: "", sent: "no" }), 0)
      })
      assert.strictEqual((yield* Effect.flip(publish(2))).reason._tag, "TransportError")
      Object.assign(publisher.transport, { send })
      yield* publish(3)
      assert.deepStrictEqual(yield* take(2), [1, 3])
      assert.deepStrictEqual(gaps, [])
    })
  )

  it.effect("hears all channels of a pattern, each with numbers of its own, and no questions about them", () =>
    Effect.gen(function* () {
      const Sensors = Topic.make("sensors.*", { n: Schema.Finite }).pipe(Topic.annotate(Topic.Numbered, true))
      const planted = Planted.make(Memory.make({ prefix: "a:" }))
      const heard = yield* Queue.unbounded<unknown>()
      const transport = Prefixed.make(planted.transport, "b:")
      planted.copies = (frame, channel) => (channel === "a:b:sensors.one" && frame.includes('"n":2') ? 0 : 1)
      const Live = Layer.mergeAll(
        Listener.layer(Sensors, ({ n }, { channel }) => Queue.offer(heard, [channel, n]), {
          concurrency: 1,
          onGap: ({ channel, missed }) => Queue.offer(heard, [channel, { missed }])
        }),
        Listener.layer(Topic.make("*", Schema.Record(Schema.String, Schema.Any)), (message, { channel }) =>
          channel.startsWith("sensors") && "n" in message ? Effect.void : Queue.offer(heard, ["odd", channel, message])
        )
      )
      yield* Effect.gen(function* () {
        for (const n of [1, 2, 3]) {
          yield* Broadcast.publish(Topic.at(Sensors, "sensors.one"), { n })
          yield* Broadcast.publish(Topic.at(Sensors, "sensors.two"), { n })
        }
        const all = yield* Queue.takeBetween(heard, 6, 6)
        assert.deepStrictEqual(
          all.filter((one: any) => one[0] === "sensors.one"),
          [
            ["sensors.one", 1],
            ["sensors.one", { missed: 1 }],
            ["sensors.one", 3]
          ]
        )
        assert.strictEqual(all.filter((one: any) => one[0] === "sensors.two").length, 3)
      }).pipe(Effect.provide(Live), Effect.provideService(Transport.Transport, transport), Effect.scoped)
    })
  )
})

describe("A listener to a topic with a history", () => {
  it.effect("gets what it missed from its publisher, in order, and then what came meanwhile", () =>
    Effect.gen(function* () {
      const { gaps, lose, publish, take } = yield* setUp(Kept)
      lose((n) => n > 1 && n < 200)
      for (let n = 1; n <= 201; n++) yield* publish(n)
      const expected: Array<Heard> = [1, ...Array.from({ length: 198 }, (_, i) => `again ${i + 2}` as const), 200, 201]
      assert.deepStrictEqual(yield* take(201), expected)
      assert.deepStrictEqual(gaps, [])
    })
  )

  it.effect("is told of what the publisher has no more", () =>
    Effect.gen(function* () {
      const Short = Plain.pipe(Topic.annotate(Topic.History, { messages: 3, for: "5 minutes" }))
      const { lose, publish, publisher, take } = yield* setUp(Short)
      lose((n) => n > 1 && n < 8)
      for (let n = 1; n <= 8; n++) yield* publish(n)
      assert.deepStrictEqual(yield* take(5), [1, { missed: 4, first: 2, last: 5 }, "again 6", "again 7", 8])
      assert.isTrue(publisher.sent.some(({ channel }) => channel.startsWith("caller:")))
    })
  )

  it.effect("is told of what is older than the history goes back", () =>
    Effect.gen(function* () {
      const { listener, lose, publish, take } = yield* setUp(Kept)
      lose((n) => n === 2 || n === 3)
      // Otherwise it would have asked in time.
      const { copies } = listener
      listener.copies = (frame, channel) => (frame.includes('"last"') ? 0 : copies(frame, channel))
      for (const n of [1, 2]) yield* publish(n)
      yield* TestClock.adjust("6 minutes")
      for (const n of [3, 4]) yield* publish(n)
      assert.deepStrictEqual(yield* take(4), [1, { missed: 1, first: 2, last: 2 }, "again 3", 4])
    })
  )

  it.effect("waits for a publisher that does not answer for a time, and is told then", () =>
    Effect.gen(function* () {
      const { heard, listener, lose, publish, take, turns } = yield* setUp(Kept)
      lose((n) => n === 2)
      const { copies } = listener
      listener.copies = (frame, channel) => (frame.includes("refilled") ? 0 : copies(frame, channel))
      for (const n of [1, 2, 3]) yield* publish(n)
      assert.deepStrictEqual(yield* take(1), [1])
      yield* turns
      assert.strictEqual(yield* Queue.size(heard), 0)
      yield* TestClock.adjust("1100 millis")
      yield* turns
      yield* TestClock.adjust("1100 millis")
      assert.deepStrictEqual(yield* take(2), [{ missed: 1, first: 2, last: 2 }, 3])
      const asks = listener.sent.filter(({ frame }) => frame.includes('"refill"'))
      assert.lengthOf(asks, 2)
    })
  )

  it.effect("hands over what came by itself while it was asked for, and tells only the rest", () =>
    Effect.gen(function* () {
      const Short = Plain.pipe(Topic.annotate(Topic.History, { messages: 2, for: "5 minutes" }))
      const { listener, publish, take, turns } = yield* setUp(Short)
      const waiting = (channel: string) => channel.startsWith("caller:")
      listener.late = (frame, channel) => waiting(channel) || /"n":[35]/.test(frame)
      const release = listener.release
      for (const n of [1, 2]) yield* publish(n)
      yield* take(2)
      listener.copies = (frame) => (frame.includes('"n":4') ? 0 : 1)
      for (const n of [3, 4, 5, 6]) yield* publish(n)
      yield* turns
      // 3 and 5 come late, and the answer after them; of it only 5 and 6 are kept.
      release()
      assert.deepStrictEqual(yield* take(4), [3, { missed: 1, first: 4, last: 4 }, 5, 6])
    })
  )

  it.effect("gets the last messages of who is silent", () =>
    Effect.gen(function* () {
      const { listener, lose, publish, take, turns } = yield* setUp(Kept)
      lose((n) => n > 1)
      for (const n of [1, 2, 3]) yield* publish(n)
      yield* take(1)
      listener.gap()
      yield* turns
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* take(2), ["again 2", "again 3"])
    })
  )

  it.effect("asks once more for what it cannot hold", () =>
    Effect.gen(function* () {
      const { gaps, lose, listener, publish, take, turns } = yield* setUp(Kept)
      lose((n) => n === 2)
      const { copies } = listener
      listener.copies = (frame, channel) => (frame.includes("refilled") ? 0 : copies(frame, channel))
      for (let n = 1; n <= 1_100; n++) yield* publish(n)
      yield* take(1)
      yield* turns
      listener.copies = copies
      // Of 1,000 that are kept, the second is none.
      yield* TestClock.adjust("1100 millis")
      const heard = yield* take(1_099)
      assert.deepStrictEqual(heard.slice(0, 2), [{ missed: 1, first: 2, last: 2 }, 3])
      assert.deepStrictEqual(heard.slice(-2), ["again 1099", "again 1100"])
      assert.deepStrictEqual(
        gaps.map(({ firstSeq, missed }) => [firstSeq, missed]),
        [[2, 1]]
      )
    })
  )

  it.effect("answers nobody but inboxes, and no more than a number of times a second", () =>
    Effect.gen(function* () {
      const { listener, publish, publisher, turns } = yield* setUp(Kept)
      yield* publish(1)
      yield* turns
      const { from } = JSON.parse(publisher.sent.find(({ channel }) => channel === "orders")!.frame).fiberbus
      const ask = (replyTo: string) =>
        Effect.callback<void>((resume) =>
          listener.transport.send(
            "numbers:orders",
            JSON.stringify({ reply_to: replyTo, fiberbus: { v: 1, numbers: "refill", from, first: 1, last: 1 } }),
            () => resume(Effect.void)
          )
        )
      yield* ask("user_service")
      for (let i = 0; i < 300; i++) yield* ask("caller:somebody")
      yield* turns
      assert.lengthOf(
        publisher.sent.filter(({ channel }) => channel === "user_service"),
        0
      )
      assert.lengthOf(
        publisher.sent.filter(({ channel }) => channel === "caller:somebody"),
        200
      )
    })
  )
})
