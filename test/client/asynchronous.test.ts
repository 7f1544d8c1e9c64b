import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Queue, Schema, SchemaGetter, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Handlers, Memory, Request, Service, Transport } from "fiberbus"

/** Fails unless the effect fails with a CallError of that reason; gives the error. */
const reasonOf = <A, E, R>(call: Effect.Effect<A, E, R>, reason: CallError.CallErrorReason["_tag"]) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.instanceOf(error, CallError.CallError)
    assert.strictEqual(error.reason._tag, reason)
    return error
  })

/** Schemas that take their time, and say when they have begun; a service of the same name has none of them. */
const slow = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<string>()
  const stopped = yield* Queue.unbounded<string>()
  const open = yield* Deferred.make<void>()
  const pass = (text: string) =>
    Queue.offer(begun, text).pipe(
      Effect.andThen(Deferred.await(open)),
      Effect.onInterrupt(() => Queue.offer(stopped, text)),
      Effect.as(text)
    )
  const transform = { decode: SchemaGetter.transformEffect(pass), encode: SchemaGetter.transformEffect(pass) }
  const Slow = Schema.String.pipe(Schema.decodeTo(Schema.String, transform))
  const Echo = Service.make(
    "echo",
    Action.make("write", { payload: { text: Slow }, success: Schema.String }),
    Action.make("read", { payload: { text: Schema.String }, success: Slow, error: Slow }),
    Action.make("steps", { payload: { text: Schema.String }, success: Schema.String, progress: Slow })
  )
  return { Echo, begun, open: Deferred.succeed(open, undefined), stopped }
})

const Plain = Service.make(
  "echo",
  Action.make("write", { payload: { text: Schema.String }, success: Schema.Finite }),
  Action.make("read", { payload: { text: Schema.String }, success: Schema.String, error: Schema.String }),
  Action.make("steps", { payload: { text: Schema.String }, success: Schema.String, progress: Schema.String })
)

const PlainLive = Handlers.layer(Plain, {
  write: () => Effect.map(Request.current, ({ remainingMillis }) => remainingMillis ?? -1),
  read: ({ text }) => (text === "fail" ? Effect.fail(text) : Effect.succeed(text)),
  steps: ({ text }, { progress }) => Effect.as(progress(text), text)
}).pipe(Layer.provideMerge(Memory.layer))

describe("A call whose schemas work asynchronously", () => {
  it.effect("ends by its deadline while its payload is still being written, and sends nothing", () =>
    Effect.gen(function* () {
      const { Echo, begun, stopped } = yield* slow
      yield* Effect.gen(function* () {
        const echo = yield* Caller.make(Echo)
        for (const call of [
          echo.write({ text: "a" }, { timeout: 100 }),
          echo.write.send({ text: "a" }, { timeout: 100 }),
          Stream.runDrain(echo.write.stream({ text: "a" }, { timeout: 100 }))
        ]) {
          const fiber = yield* Effect.forkChild(reasonOf(call, "DeadlineExceeded"))
          yield* Queue.take(begun)
          yield* TestClock.adjust(99)
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust(1)
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(error.started, "no")
          assert.deepInclude(error.reason, { timeoutMillis: 100 })
          assert.strictEqual(yield* Queue.take(stopped), "a")
        }
      }).pipe(
        Effect.provide(
          Layer.sync(Transport.Transport, () => ({ ...Memory.make(), send: () => assert.fail("it was sent") }))
        )
      )
    })
  )

  it.effect("has for the rest the time that the writing of its payload left", () =>
    Effect.gen(function* () {
      const { begun, open, Echo } = yield* slow
      const Remaining = Service.make(
        "echo",
        Action.make("write", { payload: Echo.actions.write.payload, success: Schema.Finite })
      )
      yield* Effect.gen(function* () {
        const echo = yield* Caller.make(Remaining)
        const call = yield* Effect.forkChild(echo.write({ text: "a" }, { timeout: 1_000 }))
        yield* Queue.take(begun)
        yield* TestClock.adjust(300)
        yield* open
        assert.strictEqual(yield* Fiber.join(call), 700)
      }).pipe(Effect.provide(PlainLive))
    })
  )

  it.effect("ends by its deadline while what came back is still being read", () =>
    Effect.gen(function* () {
      const { begun, Echo, stopped } = yield* slow
      yield* Effect.gen(function* () {
        const echo = yield* Caller.make(Echo)
        const calls: Record<string, Effect.Effect<unknown, unknown>> = {
          success: echo.read({ text: "a" }, { timeout: 100 }),
          error: echo.read({ text: "fail" }, { timeout: 100 }),
          streamed: Stream.runDrain(echo.read.stream({ text: "a" }, { timeout: 100 })),
          step: Stream.runDrain(echo.steps.stream({ text: "a" }, { timeout: 100 }))
        }
        for (const [part, call] of Object.entries(calls)) {
          const fiber = yield* Effect.forkChild(reasonOf(call, "DeadlineExceeded"))
          yield* Queue.take(begun)
          yield* TestClock.adjust(99)
          assert.isUndefined(fiber.pollUnsafe(), part)
          yield* TestClock.adjust(1)
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(error.started, "yes", part)
          assert.deepInclude(error.reason, { timeoutMillis: 100 }, part)
          yield* Queue.take(stopped)
        }
      }).pipe(Effect.provide(PlainLive))
    })
  )

  it.effect("brings what its schemas made of it when they are done in time", () =>
    Effect.gen(function* () {
      const { begun, Echo, open } = yield* slow
      yield* Effect.gen(function* () {
        const echo = yield* Caller.make(Echo)
        const success = yield* Effect.forkChild(echo.read({ text: "a" }))
        const error = yield* Effect.forkChild(Effect.flip(echo.read({ text: "fail" })))
        const steps = yield* Effect.forkChild(Stream.runCollect(echo.steps.stream({ text: "b" })))
        yield* Queue.takeBetween(begun, 3, 3)
        yield* open
        assert.strictEqual(yield* Fiber.join(success), "a")
        assert.strictEqual(yield* Fiber.join(error), "fail")
        assert.deepStrictEqual(yield* Fiber.join(steps), [
          { _tag: "Progress", value: "b" },
          { _tag: "Success", value: "b" }
        ])
      }).pipe(Effect.provide(PlainLive))
    })
  )
})

describe("A payload that may be nothing", () => {
  const Maybe = Service.make(
    "maybe",
    Action.make("nothing", { payload: Schema.Undefined, success: Schema.Unknown }),
    Action.make("text", { payload: Schema.UndefinedOr(Schema.String), success: Schema.Unknown }),
    Action.make("fields", { payload: { name: Schema.optionalKey(Schema.String) }, success: Schema.Unknown })
  )
  const show = (payload: unknown) => Effect.succeed(payload === undefined ? "nothing" : payload)
  const MaybeLive = Handlers.layer(Maybe, { nothing: show, text: show, fields: show }).pipe(
    Layer.provideMerge(Memory.layer)
  )

  it.effect("is left out where the contract has none, also beside options", () =>
    Effect.gen(function* () {
      const maybe = yield* Caller.make(Maybe)
      assert.strictEqual(yield* maybe.nothing(), "nothing")
      assert.strictEqual(yield* maybe.nothing({ timeout: 100 }), "nothing")
      const call = yield* Effect.forkChild(reasonOf(maybe.nothing({ timeout: 0 }), "DeadlineExceeded"), {
        startImmediately: true
      })
      yield* TestClock.adjust(10)
      assert.deepInclude((yield* Fiber.join(call)).reason, { timeoutMillis: 0 })
      assert.strictEqual(yield* maybe.nothing.send(), 1)
      assert.lengthOf(yield* Stream.runCollect(maybe.nothing.stream()), 1)
    }).pipe(Effect.provide(MaybeLive))
  )

  it.effect("arrives as nothing where the contract lets it be undefined", () =>
    Effect.gen(function* () {
      const maybe = yield* Caller.make(Maybe)
      assert.strictEqual(yield* maybe.text(undefined), "nothing")
      assert.strictEqual(yield* maybe.text("a"), "a")
      assert.strictEqual(yield* maybe.text(undefined, { timeout: 100 }), "nothing")
    }).pipe(Effect.provide(MaybeLive))
  )

  it.effect("is an empty object where all fields may be left out", () =>
    Effect.gen(function* () {
      const maybe = yield* Caller.make(Maybe)
      assert.deepStrictEqual(yield* maybe.fields(), {})
      assert.deepStrictEqual(yield* maybe.fields({}), {})
      assert.deepStrictEqual(yield* maybe.fields({ name: "a" }), { name: "a" })
    }).pipe(Effect.provide(MaybeLive))
  )
})

describe("A value nested deeper than its receiver reads", () => {
  /** Arrays around a number, so many levels of them. */
  const nested = (depth: number) => {
    let value: unknown = 1
    for (let level = 0; level < depth; level++) value = [value]
    return value
  }
  const bulky = (value: unknown) => ({ text: "x".repeat(100_000), value })
  const Deep = Service.make(
    "deep",
    Action.make("answer", { payload: { depth: Schema.Finite }, success: Schema.Any }),
    Action.make("answerBulky", { payload: { depth: Schema.Finite }, success: Schema.Any }),
    Action.make("fail", { payload: { depth: Schema.Finite }, error: Schema.Any }),
    Action.make("take", { payload: Schema.Any })
  )
  const DeepLive = Handlers.layer(Deep, {
    answer: ({ depth }) => Effect.succeed(nested(depth)),
    answerBulky: ({ depth }) => Effect.succeed(bulky(nested(depth))),
    fail: ({ depth }) => Effect.fail(nested(depth)),
    take: () => Effect.void
  }).pipe(Layer.provide(Logger.layer([])), Layer.provideMerge(Memory.layer))

  it.effect("is a defect of the service at once where it answers, and the deepest that fits arrives", () =>
    Effect.gen(function* () {
      const deep = yield* Caller.make(Deep)
      assert.deepStrictEqual(yield* deep.answer({ depth: 63 }), nested(63))
      assert.deepStrictEqual(yield* Effect.flip(deep.fail({ depth: 62 })), nested(62))
      for (const depth of [64, 80, 5_000]) yield* reasonOf(deep.answer({ depth }), "RemoteDefect")
      assert.deepStrictEqual(yield* deep.answerBulky({ depth: 62 }), bulky(nested(62)))
      for (const depth of [63, 80, 5_000]) yield* reasonOf(deep.answerBulky({ depth }), "RemoteDefect")
      for (const depth of [63, 80, 5_000]) yield* reasonOf(deep.fail({ depth }), "RemoteDefect")
    }).pipe(Effect.provide(DeepLive))
  )

  it.effect("is refused at once where it is the payload, and the deepest that fits arrives", () =>
    Effect.gen(function* () {
      const deep = yield* Caller.make(Deep)
      yield* deep.take(nested(63))
      for (const depth of [64, 80, 5_000]) {
        const error = yield* reasonOf(deep.take(nested(depth)), "InvalidPayload")
        assert.strictEqual(error.started, "no")
        yield* reasonOf(deep.take.send(nested(depth)), "InvalidPayload")
      }
    }).pipe(Effect.provide(DeepLive))
  )
})
