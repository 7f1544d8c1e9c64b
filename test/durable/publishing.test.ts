import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Queue, Schema } from "effect"
import { Broadcast, Memory, Prefixed, Topic, type Transport } from "fiberbus"
import * as Played from "./played.ts"

const Orders = Topic.durable(Topic.make("orders", { n: Schema.Finite }), { keep: "1 hour" })

const scene = Effect.fnUntraced(function* (options?: Played.Options) {
  const played = yield* Played.make(options)
  const heard = yield* Queue.unbounded<unknown>()
  yield* played.transport.subscribe({ _tag: "Channel", channel: "t:orders" }, (frame) => {
    Queue.offerUnsafe(heard, JSON.parse(String(frame)))
  })
  return { ...played, heard, publish: played.provide(Broadcast.publish(Orders, { n: 1 })) }
})

/** A store that gives what it keeps to those who listen over a bus of that name. */
const publishing = (name: string): Played.Options => ({
  durable: { name, capabilities: { kept: "broker", publishes: true, maxFrameBytes: 1_000_000 } }
})

const start = <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.forkChild(Effect.exit(call), { startImmediately: true })

const times = (all: ReadonlyArray<{ readonly at: number }>) => all.map(({ at }) => at)

describe("a message to a durable topic", () => {
  it.effect("is kept first, then sent to those who listen, who are counted", () =>
    Effect.gen(function* () {
      const { heard, publications, publish } = yield* scene()
      const published = yield* start(publish)
      const { done, publication, topic } = yield* Played.next(publications)
      const { frame, id, ...rest } = publication
      assert.strictEqual(topic, "t:{orders}")
      assert.deepStrictEqual(JSON.parse(frame), { n: 1 })
      assert.match(id, /^[\w-]{36}$/)
      assert.deepStrictEqual(rest, { keepMillis: 3_600_000, channel: "" })
      assert.deepStrictEqual(yield* Played.rest(heard), [])
      done(undefined, 9)
      yield* Played.pass(0)
      assert.deepStrictEqual(yield* Fiber.join(published), Exit.succeed(1))
      assert.deepStrictEqual(yield* Played.rest(heard), [{ n: 1 }])
    })
  )

  it.effect("is sent by the store, in the same step, where that is the bus as well", () =>
    Effect.gen(function* () {
      for (const prefix of ["", "more:"]) {
        const { heard, provide, publications } = yield* scene({ ...publishing("memory"), publish: () => 9 })
        assert.strictEqual(yield* provide(Prefixed.inside(prefix)(Broadcast.publish(Orders, { n: 1 }))), 9)
        const { publication, topic } = yield* Played.next(publications)
        assert.deepStrictEqual([topic, publication.channel], [`t:${prefix}{orders}`, `t:${prefix}orders`])
        assert.deepStrictEqual(yield* Played.rest(heard), [])
      }
      const { heard, publications, publish } = yield* scene({ ...publishing("another"), publish: () => 9 })
      assert.strictEqual(yield* publish, 1)
      assert.strictEqual((yield* Played.next(publications)).publication.channel, "")
      assert.deepStrictEqual(yield* Played.rest(heard), [{ n: 1 }])
    })
  )

  it.effect("is published also where only its sending to those who listen fails: it is kept", () =>
    Effect.gen(function* () {
      const { publish } = yield* scene({
        transport: { send: (_channel, _frame, sent) => sent(Played.failed("Unreachable"), 0) },
        publish: () => 9
      })
      assert.strictEqual(yield* publish, 0)
    })
  )

  it.effect("is kept again under its id for what passes by itself, within about two seconds", () =>
    Effect.gen(function* () {
      const { heard, publications, publish } = yield* scene({
        publish: (index) =>
          [Played.failed("Unreachable"), Played.failed("Timeout", "unknown"), Played.failed("ConnectionLost")][index] ??
          9
      })
      const published = yield* start(publish)
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Fiber.join(published), Exit.succeed(1))
      const all = yield* Played.rest(publications)
      assert.deepStrictEqual(times(all), [0, 50, 150, 350])
      for (const { publication } of all) assert.deepStrictEqual(publication, all[0]!.publication)
      assert.lengthOf(yield* Played.rest(heard), 1)
      // The next one is another one.
      yield* publish
      assert.notStrictEqual((yield* Played.next(publications)).publication.id, all[0]!.publication.id)
    })
  )

  it.effect("fails, unheard, where it cannot be kept", () =>
    Effect.gen(function* () {
      for (const [kind, attempts] of [
        ["Unreachable", [0, 50, 150, 350, 750, 1_550]],
        ["Overloaded", [0]]
      ] as const) {
        const { heard, publications, publish } = yield* scene({ publish: () => Played.failed(kind) })
        const begun = (yield* start(publish)) as Fiber.Fiber<Exit.Exit<unknown, unknown>>
        yield* Played.pass(60_000)
        const error = yield* Effect.flip(yield* Fiber.join(begun))
        assert.deepInclude(error, { _tag: "PublishError" })
        assert.strictEqual((error as Broadcast.PublishError).reason._tag === "TransportError" && kind, kind)
        const all = times(yield* Played.rest(publications))
        assert.deepStrictEqual(
          all.map((at) => at - all[0]!),
          [...attempts]
        )
        assert.deepStrictEqual(yield* Played.rest(heard), [])
      }
    })
  )

  it.effect("needs a store, and says which topic does", () =>
    Effect.gen(function* () {
      const publish = Broadcast.publish(Orders, { n: 1 }) as Effect.Effect<number, unknown, Transport.Transport>
      const exit = yield* Effect.exit(Effect.provide(publish, Memory.layer))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "orders is durable, and no Durable")
    })
  )
})
