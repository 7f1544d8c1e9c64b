import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Broadcast, Listener, Memory, Topic, Transport } from "fiberbus"

const Orders = Topic.make("orders", { n: Schema.Finite })
const Numbered = Orders.pipe(Topic.annotate(Topic.Numbered, true))
const All = Topic.make("orders.*", { n: Schema.Finite })

/** Several processes over one broker, and what their listeners heard. */
const setUp = Effect.gen(function* () {
  const clock = yield* Effect.clockWith(Effect.succeed)
  const broker = Memory.makeBroker({ now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000 })
  const heard = yield* Queue.unbounded<readonly [who: string, n: number]>()
  const here = Memory.make({ broker })
  const within = <A, E, R>(layer: Layer.Layer<A, E, R>, transport = Memory.make({ broker })) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Layer.provide(layer, Layer.succeed(Transport.Transport, transport)), scope)
      return Scope.close(scope, Exit.void)
    })
  const hearing = (who: string, topic: typeof Orders, options: Listener.Grouped) =>
    Listener.layer(topic, ({ n }) => Queue.offer(heard, [who, n]), options)
  const publish = (n: number, topic: typeof Orders = Orders) =>
    Effect.provideService(Broadcast.publish(topic, { n }), Transport.Transport, here)
  const turns = Effect.forEach(Array.from({ length: 20 }), () => Effect.promise(() => new Promise(setImmediate)))
  const all = Effect.andThen(
    turns,
    Effect.map(Queue.clear(heard), (messages) => Array.from(messages))
  )
  return { broker, heard, here, within, hearing, publish, turns, all }
})

const numbersOf = (heard: ReadonlyArray<readonly [string, number]>) => heard.map(([, n]) => n).sort((a, b) => a - b)
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

describe("A group of listeners", () => {
  for (const [what, topic] of [
    ["without numbers", Orders],
    ["with numbers", Numbered]
  ] as const) {
    it.effect(`handles each message ${what} once, over processes and within one`, () =>
      Effect.gen(function* () {
        const { all, hearing, publish, within } = yield* setUp
        const group = { group: "billing" }
        yield* within(Layer.merge(hearing("a1", topic, group), hearing("a2", topic, group)))
        yield* within(hearing("b", topic, group))
        yield* within(hearing("mail", topic, { group: "mail" }))
        for (const n of upTo(300)) yield* publish(n, topic)
        const heard = yield* all
        const billing = heard.filter(([who]) => who !== "mail")
        assert.deepStrictEqual(numbersOf(billing), upTo(300))
        assert.deepStrictEqual(numbersOf(heard.filter(([who]) => who === "mail")), upTo(300))
        assert.isTrue(billing.some(([who]) => who === "a1") && billing.some(([who]) => who === "a2"))
      })
    )
  }

  it.effect("handles the same text as often as it was published", () =>
    Effect.gen(function* () {
      const { all, hearing, publish, within } = yield* setUp
      yield* within(hearing("a", Orders, { group: "billing", concurrency: 1 }))
      yield* within(hearing("b", Orders, { group: "billing", concurrency: 1 }))
      yield* TestClock.adjust("20 seconds")
      for (const _ of upTo(50)) yield* publish(1)
      assert.lengthOf(yield* all, 50)
      for (const _ of upTo(50)) {
        yield* TestClock.adjust("13 seconds")
        yield* publish(1)
        assert.lengthOf(yield* all, 1)
      }
    })
  )

  it.effect("handles no text twice that goes on while members come and go", () =>
    Effect.gen(function* () {
      const { all, hearing, publish, within } = yield* setUp
      const group = { group: "billing" }
      const leave = yield* within(hearing("a", Orders, group))
      yield* TestClock.adjust("20 seconds")
      for (let n = 1; n <= 30; n++) {
        yield* publish(1)
        assert.lengthOf(yield* all, 1)
        yield* TestClock.adjust("1 second")
      }
      yield* within(hearing("b", Orders, group))
      for (let n = 1; n <= 30; n++) {
        yield* publish(1)
        assert.deepStrictEqual(yield* all, [["a", 1]])
        yield* TestClock.adjust("1 second")
      }
      yield* leave
      // Who was not sure takes over, and may lose one of them at first.
      let lost = 0
      for (let n = 1; n <= 30; n++) {
        yield* publish(1)
        const heard = yield* all
        assert.isAtMost(heard.length, 1)
        if (heard.length === 0) lost++
        yield* TestClock.adjust("1100 millis")
      }
      assert.isAtMost(lost, 2)
    })
  )

  it.effect("lets those go first who are free", () =>
    Effect.gen(function* () {
      const { all, broker, hearing, here, publish, turns, within } = yield* setUp
      const started = yield* Deferred.make<void>()
      const busy = Listener.layer(Orders, () => Effect.andThen(Deferred.succeed(started, undefined), Effect.never), {
        group: "billing",
        concurrency: 1,
        grace: 0
      })
      yield* within(busy, Memory.make({ broker }))
      yield* publish(1)
      yield* Deferred.await(started)
      yield* within(hearing("free", Orders, { group: "billing" }))
      yield* TestClock.adjust("20 seconds")
      for (const n of [2, 3, 4]) yield* publish(n)
      yield* turns
      assert.deepStrictEqual(numbersOf(yield* all), [2, 3, 4])
      assert.strictEqual(here.name, "memory")
    })
  )

  it.effect("shares the channels of a pattern, where one text on two of them is two messages", () =>
    Effect.gen(function* () {
      const { heard, here, turns, within } = yield* setUp
      const listening = (who: string) =>
        Listener.layer(All, ({ n }, { channel }) => Queue.offer(heard, [`${who} ${channel}`, n]), { group: "billing" })
      yield* within(listening("a"))
      yield* within(listening("b"))
      for (const channel of ["orders.eu", "orders.us"] as const) {
        for (const n of upTo(20)) {
          yield* Effect.provideService(Broadcast.publish(Topic.at(All, channel), { n }), Transport.Transport, here)
        }
      }
      yield* turns
      const all = Array.from(yield* Queue.clear(heard))
      for (const channel of ["orders.eu", "orders.us"]) {
        assert.deepStrictEqual(numbersOf(all.filter(([who]) => who.endsWith(channel))), upTo(20))
      }
    })
  )

  it.effect("goes on without a member that leaves, which finishes what it has", () =>
    Effect.gen(function* () {
      const { all, hearing, heard, publish, turns, within } = yield* setUp
      const gate = yield* Deferred.make<void>()
      const slow = Listener.layer(
        Orders,
        ({ n }) => Effect.andThen(Deferred.await(gate), Queue.offer(heard, ["slow", n])),
        { group: "billing", concurrency: 1 }
      )
      const leave = yield* within(slow)
      for (const n of [1, 2, 3]) yield* publish(n)
      yield* turns
      const leaving = yield* Effect.forkChild(leave, { startImmediately: true })
      yield* within(hearing("other", Orders, { group: "billing" }))
      for (const n of [4, 5]) yield* publish(n)
      assert.deepStrictEqual(yield* all, [
        ["other", 4],
        ["other", 5]
      ])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(leaving)
      // All three were its own, also those that waited.
      assert.deepStrictEqual(numbersOf(yield* all), [1, 2, 3])
    })
  )

  it.effect("needs a transport that has claims", () =>
    Effect.gen(function* () {
      const { claim: _, ...transport } = Memory.make()
      const Live = Listener.layer(Orders, () => Effect.void, { group: "billing" })
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(Layer.provide(Live, Layer.succeed(Transport.Transport, transport))))
      )
      assert.deepInclude(error, { _tag: "TransportError", kind: "InvalidOptions" })
      assert.include(error.hint, "without a group")
    })
  )

  it.effect("refuses names that are none", () =>
    Effect.sync(() => {
      assert.throws(() => Listener.layer(Orders, () => Effect.void, { group: "a b" }), /group name "a b"/)
      // @ts-expect-error gaps are each listener's own
      Listener.layer(Orders, () => Effect.void, { group: "a", onGap: () => Effect.void })
    })
  )
})
