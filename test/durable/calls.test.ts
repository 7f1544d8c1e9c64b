import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Action, type CallError, Caller, DeadLetters, Durable, Handlers, Memory, Request, Service } from "fiberbus"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}

const Payments = Service.make(
  "payments",
  Action.make("charge", {
    payload: { cents: Schema.Finite },
    success: { receipt: Schema.String },
    error: Declined
  }).pipe(Action.annotate(Action.Delivery, "durable"), Action.annotate(Action.Redelivery, { deliveries: 3 })),
  Action.make("balance", { success: Schema.Finite })
)

/** A service whose handler says what it got, and does what it is told. */
const service = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<{ readonly cents: number; readonly deliveries: number; readonly id: string }>()
  const open = yield* Deferred.make<void>()
  const handlers = {
    charge: ({ cents }: { readonly cents: number }) =>
      Effect.gen(function* () {
        const { deliveries, id } = yield* Request.current
        yield* Queue.offer(begun, { cents, deliveries, id })
        if (cents === 0) return yield* new Declined({ why: "nothing to pay" })
        if (cents < 0) return yield* Effect.die(new Error("a bug"))
        if (cents === 1 && deliveries === 1) return yield* Effect.die(new Error("a bug that passes"))
        if (cents === 2) yield* Deferred.await(open)
        return { receipt: `r-${cents}` }
      }),
    balance: () => Effect.succeed(7)
  }
  return { begun, open, layer: Handlers.layer(Payments, handlers, { grace: 0 }) }
})

const bus = Layer.mergeAll(Memory.layer, Durable.layerMemory)

/** Takes over at once what a consumer is silent about. */
const quick =
  (store: Durable.Durable["Service"]): Durable.Durable["Service"]["consume"] =>
  (consumption) =>
    store.consume({ ...consumption, idleMillis: 0 })

const reason = (exit: Exit.Exit<unknown, unknown>) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  return { reason: error.reason._tag, started: error.started }
}

describe("a durable action", () => {
  it.effect("is called as any other, beside actions that are not durable", () =>
    Effect.gen(function* () {
      const { layer } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        assert.deepStrictEqual(yield* payments.charge({ cents: 5 }), { receipt: "r-5" })
        assert.strictEqual(yield* payments.balance(), 7)
        const declined = yield* Effect.flip(payments.charge({ cents: 0 }))
        assert.instanceOf(declined, Declined)
      }).pipe(Effect.provide(Layer.provideMerge(layer, bus)))
    })
  )

  it.effect("keeps what is enqueued until a service is there", () =>
    Effect.gen(function* () {
      const { begun, layer } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        const receipt = yield* payments.charge.enqueue({ cents: 5 }, { id: "order-1" })
        assert.strictEqual(receipt.id, "order-1")
        assert.deepStrictEqual(yield* receipt.poll, Option.none())
        const waiting = yield* Effect.forkChild(receipt.await({ timeout: "1 hour" }), { startImmediately: true })
        yield* Effect.gen(function* () {
          assert.strictEqual((yield* Queue.take(begun)).id, "order-1")
          yield* TestClock.adjust("2 seconds")
          assert.deepStrictEqual(yield* Fiber.join(waiting), { receipt: "r-5" })
          // Another process knows the id as well.
          const other = yield* Caller.make(Payments)
          assert.deepStrictEqual(yield* other.charge.receipt("order-1").poll, Option.some({ receipt: "r-5" }))
          // The same id is the same message.
          yield* other.charge.enqueue({ cents: 6 }, { id: "order-1" })
          assert.deepStrictEqual(yield* other.charge.receipt("order-1").await(), { receipt: "r-5" })
          assert.strictEqual(Queue.sizeUnsafe(begun), 0)
        }).pipe(Effect.provide(layer))
      }).pipe(Effect.provide(bus))
    })
  )

  it.effect("ends only the waiting with the timeout, and names the receipt", () =>
    Effect.gen(function* () {
      const { begun, layer, open } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        const call = yield* Effect.forkChild(Effect.exit(payments.charge({ cents: 2 }, { timeout: "1 second" })))
        yield* Queue.take(begun)
        yield* TestClock.adjust("2 seconds")
        const exit = yield* Fiber.join(call)
        assert.deepStrictEqual(reason(exit), { reason: "DeadlineExceeded", started: "unknown" })
        const error = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
        const id = (error.reason as CallError.DeadlineExceeded).receipt!
        yield* Deferred.succeed(open, undefined)
        const result = yield* Effect.forkChild(payments.charge.receipt(id).await(), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(result), { receipt: "r-2" })
      }).pipe(Effect.provide(Layer.provideMerge(layer, bus)))
    })
  )

  it.effect("is handled all the same when its caller goes away", () =>
    Effect.gen(function* () {
      const { begun, layer, open } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        const call = yield* Effect.forkChild(payments.charge({ cents: 2 }))
        const { id } = yield* Queue.take(begun)
        yield* Fiber.interrupt(call)
        yield* Deferred.succeed(open, undefined)
        const result = yield* Effect.forkChild(payments.charge.receipt(id).await(), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(result), { receipt: "r-2" })
      }).pipe(Effect.provide(Layer.provideMerge(layer, bus)))
    })
  )

  it.effect("is delivered again after a defect, and answers its caller then", () =>
    Effect.gen(function* () {
      const { begun, layer } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        const call = yield* Effect.forkChild(payments.charge({ cents: 1 }), { startImmediately: true })
        assert.strictEqual((yield* Queue.take(begun)).deliveries, 1)
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Queue.take(begun)).deliveries, 2)
        assert.deepStrictEqual(yield* Fiber.join(call), { receipt: "r-1" })
      }).pipe(Effect.provide(Layer.provideMerge(layer, bus)))
    })
  )

  it.effect("is set aside when it has killed its process too often", () =>
    Effect.gen(function* () {
      const { begun, layer } = yield* service
      const store = Durable.onStore(Durable.makeStore(() => 0))
      // Processes that take it and are not heard of again.
      const consumption = {
        queue: "{payments}",
        group: "payments",
        idleMillis: 0,
        windowMillis: 60_000,
        maxDeadLetters: 10
      }
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        const receipt = yield* payments.charge.enqueue({ cents: 5 })
        const first = yield* store.consume({ ...consumption, consumer: "dead" })
        yield* first.read(1)
        for (const _ of [2, 3]) assert.lengthOf((yield* first.claim(1)).entries, 1)
        // Its fourth delivery, of three.
        yield* Effect.gen(function* () {
          while ((yield* DeadLetters.size(Payments)) === 0) yield* TestClock.adjust("1 second")
        }).pipe(Effect.provide(layer))
        const [letter] = yield* DeadLetters.list(Payments)
        assert.deepStrictEqual([letter!.reason, letter!.deliveries], ["Crashed", 4])
        assert.strictEqual(Queue.sizeUnsafe(begun), 0)
        const error = yield* Effect.flip(receipt.poll)
        assert.strictEqual(error._tag === "CallError" && error.reason._tag, "RemoteDefect")
      }).pipe(
        Effect.provide(Layer.merge(Memory.layer, Layer.succeed(Durable.Durable, { ...store, consume: quick(store) })))
      )
    })
  )

  it.effect("is handled when it is due, and those of a key in the order of their enqueue", () =>
    Effect.gen(function* () {
      const { begun, layer, open } = yield* service
      yield* Effect.gen(function* () {
        const payments = yield* Caller.make(Payments)
        yield* payments.charge.enqueue({ cents: 10 }, { delay: "1 hour" })
        yield* payments.charge.enqueue({ cents: 11 }, { at: new Date(30 * 60_000) })
        yield* TestClock.adjust("29 minutes")
        assert.strictEqual(Queue.sizeUnsafe(begun), 0)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Queue.take(begun)).cents, 11)
        yield* TestClock.adjust("30 minutes")
        assert.strictEqual((yield* Queue.take(begun)).cents, 10)

        yield* payments.charge.enqueue({ cents: 2 }, { key: "ann" })
        yield* payments.charge.enqueue({ cents: 20 }, { key: "ann" })
        yield* payments.charge.enqueue({ cents: 30 }, { key: "bob" })
        const first = [yield* Queue.take(begun), yield* Queue.take(begun)]
        assert.deepStrictEqual(
          first.map(({ cents }) => cents),
          [2, 30]
        )
        yield* Deferred.succeed(open, undefined)
        assert.strictEqual((yield* Queue.take(begun)).cents, 20)
      }).pipe(Effect.provide(Layer.provideMerge(layer, bus)))
    })
  )

  it.effect("ends with PayloadTooLarge where a step of it is too large, and is delivered no more", () =>
    Effect.gen(function* () {
      const Reports = Service.make(
        "reports",
        Action.make("write", { progress: Schema.String }).pipe(Action.annotate(Action.Delivery, "durable"))
      )
      const ended = yield* Deferred.make<void>()
      const layer = Handlers.layer(Reports, {
        write: (_, { progress }) =>
          progress("x".repeat(3_000)).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(ended, undefined))
          )
      })
      const store = Durable.onStore(Durable.makeStore(() => 0))
      yield* Effect.gen(function* () {
        const reports = yield* Caller.make(Reports)
        const error = yield* Effect.flip(reports.write())
        assert.deepStrictEqual([error.reason._tag, error.started], ["PayloadTooLarge", "yes"])
        yield* Deferred.await(ended)
        const other = yield* store.consume({
          queue: "{reports}",
          group: "reports",
          consumer: "other",
          idleMillis: 0,
          windowMillis: 0,
          maxDeadLetters: 1
        })
        assert.deepStrictEqual((yield* other.claim(10)).entries, [])
      }).pipe(
        Effect.provide(
          Layer.provideMerge(
            layer,
            Layer.merge(Memory.layerOptions({ maxFrameBytes: 2_000 }), Layer.succeed(Durable.Durable, store))
          )
        )
      )
    })
  )

  it.effect("refuses an id that cannot be one", () =>
    Effect.gen(function* () {
      const payments = yield* Caller.make(Payments)
      for (const id of ["", "a b", 'a"b', "x".repeat(257), "\u0000"]) {
        const error = yield* Effect.flip(payments.charge.enqueue({ cents: 1 }, { id }))
        assert.deepStrictEqual([error.reason._tag, error.started], ["InvalidPayload", "no"])
        const asked = yield* Effect.flip(payments.charge.receipt(id).poll)
        assert.strictEqual(asked._tag, "CallError")
      }
    }).pipe(Effect.scoped, Effect.provide(bus))
  )

  it.effect("stays durable where its service says live for all others", () =>
    Effect.gen(function* () {
      const payments = yield* Caller.make(Payments)
      const handled = yield* Deferred.make<void>()
      const receipt = yield* payments.charge.enqueue({ cents: 5 })
      yield* Layer.build(
        Handlers.layer(
          Payments,
          {
            charge: ({ cents }) => Effect.as(Deferred.succeed(handled, undefined), { receipt: `r-${cents}` }),
            balance: () => Effect.succeed(7)
          },
          { delivery: "live" }
        )
      )
      const waiting = yield* Effect.forkChild(receipt.await(), { startImmediately: true })
      yield* Deferred.await(handled)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(waiting), { receipt: "r-5" })
      assert.strictEqual(yield* payments.balance(), 7)
    }).pipe(Effect.scoped, Effect.provide(bus))
  )

  it.effect("needs a store: without one it is a defect that says what to provide", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Caller.make(Payments).pipe(Effect.provide(Memory.layer)) as Effect.Effect<unknown, unknown, never>
      )
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "Durable.layerMemory")
    }).pipe(Effect.scoped)
  )

  it("cannot be one that streams or asks", () => {
    assert.throws(
      () => Action.make("watch", { items: Schema.String }).pipe(Action.annotate(Action.Delivery, "durable")),
      "need a caller who is there"
    )
  })
})
