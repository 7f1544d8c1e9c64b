import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Layer, Logger, Queue, Schema, SchemaGetter, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, type CallError, Caller, Handlers, Memory, Response, Retry, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as Scripted from "../scripted.ts"

class Broken extends Schema.TaggedError<Broken>()("Broken", { at: Schema.Finite }) {}

const Numbers = Service.make(
  "numbers",
  Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite, error: Broken }),
  Action.make("tick", { items: { at: Schema.Date } }),
  Action.make("steps", { payload: { to: Schema.Finite }, progress: Schema.Finite, success: Schema.String }),
  Action.make("forever", { items: Schema.Finite })
)

/** The service, what it has produced so far, and the end of `forever` and `tick`. */
const serving = Effect.gen(function* () {
  const produced = { count: 0 }
  const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
  const noted = <A, E>(stream: Stream.Stream<A, E>) =>
    stream.pipe(
      Stream.tap(() => Effect.sync(() => produced.count++)),
      Stream.onExit((exit) => Queue.offer(over, exit))
    )
  const layer = Handlers.layer(Numbers, {
    count: ({ to }) =>
      Stream.concat(noted(Stream.range(1, Math.abs(to))), to < 0 ? Stream.fail(new Broken({ at: -to })) : Stream.empty),
    tick: () => noted(Stream.fromEffectRepeat(Effect.as(Effect.sleep("10 minutes"), { at: new Date(0) }))),
    steps: ({ to }, { progress }) =>
      Effect.forEach(
        Array.from({ length: to }),
        (_, i) => Effect.tap(progress(i + 1), () => Effect.sync(() => produced.count++)),
        { discard: true }
      ).pipe(Effect.as("done")),
    forever: () => noted(Stream.fromEffectRepeat(Effect.sync(() => produced.count)))
  })
  return { layer, produced, over: Queue.take(over) }
})

const withScript = (script: Scripted.Script) =>
  Effect.map(serving, (service) => {
    const scripted = Scripted.make(script)
    return { ...service, scripted, layer: service.layer.pipe(Layer.provideMerge(scripted.layer)) }
  })

const onMemory = withScript({})

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

const reasonOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    const { reason, started } = error as CallError.CallError
    return { started, ...reason, message: reason.message }
  })

/** Moves virtual time, in steps that leave the frames time to travel, until the fiber has ended. */
const timePasses = <A, E>(fiber: Fiber.Fiber<A, E>, step = 500) =>
  Effect.gen(function* () {
    while (fiber.pollUnsafe() === undefined) {
      yield* Scripted.turns(4)
      yield* TestClock.adjust(step)
    }
    return yield* Fiber.join(fiber)
  })

describe("an action with items", () => {
  it.effect("is told of no more room when it has ended", () =>
    Effect.gen(function* () {
      const { layer, over, scripted } = yield* withScript({})
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const seen = yield* Queue.unbounded<number>()
        const gate = yield* Deferred.make<void>()
        const stream = yield* numbers.count({ to: 30 }, { window: 40 }).pipe(
          Stream.rechunk(1),
          Stream.runForEach((n) => Effect.andThen(Queue.offer(seen, n), Deferred.await(gate))),
          Effect.forkChild
        )
        yield* over
        yield* Scripted.turns()
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(stream)
        assert.deepStrictEqual(scripted.controls, [])
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("brings them in order, and nothing else", () =>
    Effect.gen(function* () {
      const { layer } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        assert.deepStrictEqual(
          yield* Stream.runCollect(numbers.count({ to: 1_000 })),
          Array.from({ length: 1_000 }, (_, i) => i + 1)
        )
        assert.deepStrictEqual(yield* Stream.runCollect(numbers.count({ to: 1 })), [1])
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("brings those before a declared error, then the error as its class", () =>
    Effect.gen(function* () {
      const { layer } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const seen: Array<number> = []
        const error = yield* numbers.count({ to: -300 }, { window: 16 }).pipe(
          Stream.runForEach((n) => Effect.sync(() => seen.push(n))),
          Effect.flip
        )
        assert.instanceOf(error, Broken)
        assert.lengthOf(seen, 300)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect.prop(
    "brings whatever it emits unchanged, for any window",
    [Schema.Array(Schema.Json), Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))],
    ([values, window]) =>
      Effect.gen(function* () {
        const Echo = Service.make("echo", Action.make("all", { items: Schema.Json }))
        yield* Effect.gen(function* () {
          const echo = yield* Caller.make(Echo)
          // -0 is 0 in JSON.
          assert.deepStrictEqual(yield* Stream.runCollect(echo.all({ window })), JSON.parse(JSON.stringify(values)))
        }).pipe(
          Effect.provide(
            Handlers.layer(Echo, { all: () => Stream.fromIterable(values) }).pipe(Layer.provideMerge(Memory.layer))
          )
        )
      })
  )

  it.effect("waits for a consumer that is a window behind, and goes on when it takes", () =>
    Effect.gen(function* () {
      const { layer, produced } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const taken = yield* Queue.unbounded<number>()
        const gate = yield* Queue.unbounded<void>()
        yield* numbers.forever({ window: 10 }).pipe(
          Stream.runForEach((n) => Effect.andThen(Queue.offer(taken, n), Queue.take(gate))),
          Effect.forkScoped
        )
        yield* Queue.take(taken)
        yield* Scripted.turns(50)
        // What it was given room for, and one that waits. A batch counts as taken when the consumer begins with it.
        const ahead = produced.count
        assert.isAtMost(ahead, 21)
        for (let i = 1; i <= 200; i++) {
          yield* Queue.offer(gate, undefined)
          yield* Queue.take(taken)
          assert.isAtMost(produced.count - i, 21)
        }
        yield* Scripted.turns(50)
        assert.isAbove(produced.count, 200)
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )

  it.effect("stops its producer when the consumer has enough", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        assert.lengthOf(yield* Stream.runCollect(Stream.take(numbers.forever(), 5)), 5)
        assert.isTrue(Exit.hasInterrupts(yield* over))
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("can be called without a contract", () =>
    Effect.gen(function* () {
      const { layer } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.dynamic("numbers")
        const ticks = numbers.items("tick", {}, { timeout: "2 seconds" }).pipe(Stream.take(2), Stream.runCollect)
        assert.deepStrictEqual(yield* timePasses(yield* Effect.forkChild(ticks)), [
          { at: "1970-01-01T00:00:00.000Z" },
          { at: "1970-01-01T00:00:00.000Z" }
        ])
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("ends with RemoteDefect when its producer dies, and when an item does not fit", () =>
    Effect.gen(function* () {
      const Bad = Service.make(
        "bad",
        Action.make("dies", { items: Schema.Finite }),
        Action.make("misfits", { items: Schema.Finite.check(Schema.isLessThan(3)) })
      )
      const layer = Handlers.layer(Bad, {
        dies: () => Stream.concat(Stream.make(1, 2), Stream.die(new Error("a secret"))),
        misfits: () => Stream.make(1, 2, 3)
      })
      yield* Effect.gen(function* () {
        const bad = yield* Caller.make(Bad)
        for (const stream of [bad.dies(), bad.misfits()]) {
          const seen: Array<number> = []
          const error = yield* reasonOf(Stream.runForEach(stream, (n) => Effect.sync(() => seen.push(n))))
          assert.deepInclude(error, { _tag: "RemoteDefect", started: "yes" })
          assert.deepStrictEqual(seen, [1, 2])
        }
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("lasts as long as both sides are heard of, however quiet it is", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const stream = yield* Effect.forkChild(
          Stream.runCollect(Stream.take(numbers.tick({ timeout: "2 seconds" }), 3))
        )
        const ticks = yield* timePasses(stream)
        assert.lengthOf(ticks, 3)
        assert.instanceOf(ticks[0]!.at, Date)
        yield* over
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("lasts while its consumer is slow", () =>
    Effect.gen(function* () {
      const { layer } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const slow = numbers.count({ to: 12 }, { window: 2, timeout: "1 second" }).pipe(
          Stream.tap(() => Effect.sleep("1 minute")),
          Stream.runCollect
        )
        assert.lengthOf(yield* timePasses(yield* Effect.forkChild(slow), 200), 12)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("ends with DeadlineExceeded when its service is not heard of any more", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ reply: (index) => (index < 3 ? "arrives" : "lost") })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const stream = yield* Effect.forkChild(reasonOf(Stream.runDrain(numbers.tick({ timeout: "2 seconds" }))))
        assert.deepInclude(yield* timePasses(stream), {
          _tag: "DeadlineExceeded",
          started: "yes",
          timeoutMillis: 2_000
        })
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("ends with DeadlineExceeded, started unknown, when nothing comes at all", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ request: () => "lost" })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const stream = yield* Effect.forkChild(reasonOf(Stream.runDrain(numbers.tick({ timeout: "2 seconds" }))))
        assert.deepInclude(yield* timePasses(stream), { _tag: "DeadlineExceeded", started: "unknown" })
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("stops its producer when its caller is not heard of any more", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* withScript({ control: () => "lost" })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        yield* Effect.forkChild(Effect.exit(Stream.runDrain(numbers.tick({ timeout: "2 seconds" }))))
        const exit = yield* timePasses(yield* Effect.forkChild(over))
        assert.isTrue(Exit.hasInterrupts(exit))
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("is tried again under a policy while nothing has begun, and then lasts like any", () =>
    Effect.gen(function* () {
      const { layer, scripted } = yield* withScript({ request: (index) => (index === 0 ? "refused" : "arrives") })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers, { policies: [Retry.policy()] })
        const counted = yield* Effect.forkChild(Stream.runCollect(numbers.count({ to: 100 }, { window: 4 })))
        assert.lengthOf(yield* timePasses(counted), 100)
        assert.deepInclude(scripted.requests[0]!["fiberbus"], { attempt: 2, credit: 4 })
        const ticks = numbers.tick({ timeout: "2 seconds" }).pipe(Stream.take(2), Stream.runCollect)
        assert.lengthOf(yield* timePasses(yield* Effect.forkChild(ticks)), 2)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("goes on after a word about room for more was lost: the next one makes it good", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ control: (index) => (index === 0 ? "lost" : "arrives") })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const all = yield* Effect.forkChild(Stream.runCollect(numbers.count({ to: 100 }, { window: 4 })))
        assert.lengthOf(yield* timePasses(all), 100)
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("a step that is too large for a frame", () => {
  const Large = Service.make(
    "large",
    Action.make("items", { items: Schema.String }),
    Action.make("steps", { progress: Schema.String })
  )

  it.effect("ends the call, and its producer stops at once", () =>
    Effect.gen(function* () {
      const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
      const layer = Handlers.layer(Large, {
        items: () =>
          Stream.fromArray(["a", "x".repeat(2_000), ...Array.from({ length: 100 }, () => "b")]).pipe(
            Stream.onExit((exit) => Queue.offer(over, exit))
          ),
        steps: (_, { progress }) =>
          Effect.andThen(progress("x".repeat(2_000)), Effect.forever(progress("b"))).pipe(
            Effect.onExit((exit) => Queue.offer(over, exit))
          )
      })
      yield* Effect.gen(function* () {
        const large = yield* Caller.make(Large)
        for (const call of [
          Stream.runDrain(large.items({ window: 8 })),
          Stream.runDrain(large.steps.stream()),
          Stream.runDrain(large.steps.stream({ window: 1 })),
          // By a caller that does not count them.
          large.steps()
        ]) {
          const error = yield* reasonOf(call)
          assert.deepInclude(error, { _tag: "PayloadTooLarge", started: "yes" })
          assert.isTrue(Exit.hasInterrupts(yield* Queue.take(over)))
        }
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layerOptions({ maxFrameBytes: 1_024 })))))
    })
  )
})

describe("the numbers of steps", () => {
  const lost = (index: number) =>
    Effect.gen(function* () {
      const { layer, over } = yield* withScript({ reply: (reply) => (reply === index ? "lost" : "arrives") })
      return yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const seen: Array<number> = []
        const stream = numbers.count({ to: 30 }, { window: 10 })
        const error = yield* Effect.forkChild(
          reasonOf(Stream.runForEach(stream, (n) => Effect.sync(() => seen.push(n))))
        )
        const reason = yield* timePasses(error)
        assert.deepStrictEqual(
          seen,
          Array.from({ length: seen.length }, (_, i) => i + 1)
        )
        yield* over
        assert.strictEqual(yield* pendingCalls, 0)
        return { reason, seen: seen.length }
      }).pipe(Effect.provide(layer))
    })

  it.effect("show a frame that was lost: the stream fails and its producer stops", () =>
    Effect.gen(function* () {
      const { reason, seen } = yield* lost(1)
      assert.deepInclude(reason, { _tag: "ConnectionLost", started: "yes" })
      assert.match(reason.message, new RegExp(`steps ${seen + 1} to \\d+ of the stream are missing`))
      assert.isBelow(seen, 30)
    })
  )

  it.effect("show that the last items were lost, though the end arrived", () =>
    Effect.gen(function* () {
      // The frames are counted first, so that the one before the end is known.
      const counted = yield* withScript({})
      let frames = 0
      const counting = yield* withScript({ reply: () => void frames++ })
      yield* Effect.gen(function* () {
        yield* Stream.runDrain((yield* Caller.make(Numbers)).count({ to: 30 }, { window: 10 }))
      }).pipe(Effect.provide(counting.layer))
      const { reason, seen } = yield* lost(frames - 2)
      assert.deepInclude(reason, { _tag: "ConnectionLost", started: "yes" })
      assert.isBelow(seen, 30)
      assert.strictEqual(counted.produced.count, 0)
    })
  )

  it.effect("make a frame that arrives twice count once", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ reply: () => "twice" })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        assert.lengthOf(yield* Stream.runCollect(numbers.count({ to: 100 }, { window: 7 })), 100)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("show a lost progress step in place of a silently shorter success", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ reply: (index) => (index === 0 ? "lost" : "arrives") })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const reason = yield* reasonOf(Stream.runDrain(numbers.steps.stream({ to: 3 })))
        assert.deepInclude(reason, { _tag: "ConnectionLost", started: "yes" })
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("progress", () => {
  it.effect("waits for a consumer that is a window behind", () =>
    Effect.gen(function* () {
      const { layer, produced } = yield* onMemory
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const gate = yield* Deferred.make<void>()
        const first = yield* Deferred.make<void>()
        const events = yield* numbers.steps.stream({ to: 5_000 }, { window: 8 }).pipe(
          Stream.tap(() => Effect.andThen(Deferred.succeed(first, undefined), Deferred.await(gate))),
          Stream.runCollect,
          Effect.forkChild
        )
        yield* Deferred.await(first)
        yield* Scripted.turns(50)
        assert.isAtMost(produced.count, 16)
        yield* Deferred.succeed(gate, undefined)
        const all = yield* Fiber.join(events)
        assert.lengthOf(all, 5_001)
        assert.deepStrictEqual(all[5_000], { _tag: "Success", value: "done" })
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("goes on after the last word about room was lost, when the service says that it runs", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ control: (index) => (index === 0 ? "lost" : "arrives") })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const stream = numbers.steps.stream({ to: 8 }, { window: 4 })
        assert.lengthOf(yield* timePasses(yield* Effect.forkChild(Stream.runCollect(stream))), 9)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("counts a warning sent by hand as none of its steps", () =>
    Effect.gen(function* () {
      const Warned = Service.make("warned", Action.make("go", { progress: Schema.Json }))
      const layer = Handlers.layer(Warned, {
        go: Effect.fnUntraced(function* (_, { progress }) {
          yield* progress(1)
          yield* Response.error("careful", { final: false })
          yield* progress(2)
        })
      })
      yield* Effect.gen(function* () {
        const warned = yield* Caller.make(Warned)
        const events = yield* Stream.runCollect(warned.go.stream())
        assert.deepStrictEqual(
          events.map((event) => event.value),
          [1, { error: "careful" }, 2, undefined]
        )
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})

describe("items whose schema takes time", () => {
  it.effect("have the stream's time to be read, whenever they come", () =>
    Effect.gen(function* () {
      const Slow = Schema.Finite.pipe(
        Schema.decodeTo(Schema.Finite, {
          decode: SchemaGetter.transformEffect((n: number) => Effect.as(Effect.sleep("300 millis"), n)),
          encode: SchemaGetter.passthrough()
        })
      )
      const Slowly = Service.make("slowly", Action.make("tick", { items: Slow }))
      const layer = Handlers.layer(Slowly, {
        tick: () => Stream.make(1, 2, 3).pipe(Stream.tap(() => Effect.sleep("800 millis")))
      })
      yield* Effect.gen(function* () {
        const slowly = yield* Caller.make(Slowly)
        const all = yield* Effect.forkChild(Stream.runCollect(slowly.tick({ timeout: "3 seconds" })))
        assert.deepStrictEqual(yield* timePasses(all, 100), [1, 2, 3])
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})

describe("a process that has gone", () => {
  it.effect("is noticed when its caller has something to say to it", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({
        control: () => "unheard",
        reply: (index) => (index < 4 ? "arrives" : "lost")
      })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const options = { window: 4, timeout: "1 hour" } as const
        for (const drained of [
          Stream.runDrain(numbers.forever(options)),
          Stream.runDrain(numbers.steps.stream({ to: 1_000 }, options))
        ]) {
          const began = yield* Clock.currentTimeMillis
          const error = yield* timePasses(yield* Effect.forkChild(reasonOf(drained)), 50)
          assert.deepInclude(error, { _tag: "ConnectionLost", started: "yes" })
          assert.include(error.message, "the process that was answering is gone")
          assert.isBelow((yield* Clock.currentTimeMillis) - began, 2_000)
        }
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("has its last words heard, and what was on the way", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({
        control: () => "unheard",
        // The end comes later than the news that nobody is there.
        reply: (index) => (index === 0 ? "arrives" : { millis: 100 })
      })
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const steps = Stream.runCollect(numbers.steps.stream({ to: 5 }, { window: 6 }))
        assert.lengthOf(yield* timePasses(yield* Effect.forkChild(steps), 10), 6)
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("a service that shuts down", () => {
  for (const policies of [[], [Retry.policy()]]) {
    it.effect(`hears who leaves its stream, ${policies.length === 0 ? "without" : "under"} policies`, () =>
      Effect.gen(function* () {
        const { layer, over } = yield* serving
        const scripted = Scripted.make({})
        const service = yield* Scope.make()
        yield* Effect.gen(function* () {
          yield* Layer.buildWithScope(layer, service)
          const numbers = yield* Caller.make(Numbers, { policies })
          const begun = yield* Deferred.make<void>()
          const stream = yield* numbers.forever({ window: 4 }).pipe(
            Stream.runForEach(() => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)),
            Effect.forkChild
          )
          yield* Deferred.await(begun)
          const closed = yield* Effect.forkChild(Scope.close(service, Exit.void), { startImmediately: true })
          yield* Scripted.turns()
          yield* Fiber.interrupt(stream)
          assert.isTrue(Exit.hasInterrupts(yield* over))
          // Its channel is left by now; that of the process is heard until the last handler has ended.
          const takenBack = scripted.controls
            .map(({ fiberbus }) => fiberbus)
            .filter(({ cancel }) => cancel !== undefined)
          assert.isDefined(takenBack.at(-1)?.by)
          yield* Fiber.join(closed)
        }).pipe(Effect.provide(scripted.layer))
      })
    )
  }

  it.effect("goes on with the streams that are open, for the grace", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* serving
      const service = yield* Scope.make()
      yield* Effect.gen(function* () {
        yield* Layer.buildWithScope(layer, service)
        const numbers = yield* Caller.make(Numbers)
        const begun = yield* Deferred.make<void>()
        const gate = yield* Deferred.make<void>()
        const stream = yield* numbers.count({ to: 1_000 }, { window: 4 }).pipe(
          Stream.tap(() => Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(gate))),
          Stream.runCollect,
          Effect.forkChild
        )
        yield* Deferred.await(begun)
        const closed = yield* Effect.forkChild(Scope.close(service, Exit.void), { startImmediately: true })
        yield* Scripted.turns()
        // It takes no more, and hears of the room for what it has begun.
        assert.deepInclude(yield* reasonOf(Stream.runDrain(numbers.count({ to: 1 }))), { started: "no" })
        yield* Deferred.succeed(gate, undefined)
        assert.lengthOf(yield* Fiber.join(stream), 1_000)
        assert.isTrue(Exit.isSuccess(yield* over))
        yield* Fiber.join(closed)
      }).pipe(Effect.provide(Memory.layer))
    })
  )
})

describe("several processes of one name", () => {
  it.effect("answer with the stream of one; the others stop", () =>
    Effect.gen(function* () {
      const broker = Memory.makeBroker()
      const process = () => Layer.fresh(Memory.layerOptions({ broker }))
      const [one, two] = [yield* serving, yield* serving]
      const layer = Layer.mergeAll(
        one.layer.pipe(Layer.provide(process())),
        two.layer.pipe(Layer.provide(process())),
        process()
      )
      yield* Effect.gen(function* () {
        const numbers = yield* Caller.make(Numbers)
        const stream = yield* Effect.forkChild(Stream.runCollect(Stream.take(numbers.forever({ window: 16 }), 1_000)))
        const stopped = yield* Effect.raceFirst(one.over, two.over)
        assert.isTrue(Exit.hasInterrupts(stopped))
        assert.lengthOf(yield* Fiber.join(stream), 1_000)
        // One went on alone.
        assert.isBelow(Math.min(one.produced.count, two.produced.count), 500)
        assert.isAtLeast(Math.max(one.produced.count, two.produced.count), 1_000)
        assert.deepStrictEqual(
          yield* Stream.runCollect(numbers.count({ to: 500 })),
          Array.from({ length: 500 }, (_, i) => i + 1)
        )
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("a stream that one of several processes refuses", () => {
  // All of them hear each request.
  const Runs = Service.make(
    "runs",
    Action.make("list", { items: { run: Schema.Finite, n: Schema.Finite } }).pipe(
      Action.annotate(Action.Delivery, "live")
    )
  )

  /** A process that lists the number of the run with each item, and others that refuse the first request, or answer it late. */
  const processes = Effect.fnUntraced(function* (patience: number) {
    const broker = Memory.makeBroker()
    const process = () => Layer.fresh(Memory.layerOptions({ broker }))
    const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
    let runs = 0
    const lists = Handlers.layer(Runs, {
      list: () => {
        const run = ++runs
        return Stream.fromEffect(Effect.sleep(patience)).pipe(
          Stream.flatMap(() => Stream.range(1, 100)),
          Stream.map((n) => ({ run, n })),
          Stream.onExit((exit) => Queue.offer(over, exit))
        )
      }
    })
    const refuses = Layer.effectDiscard(
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        let requests = 0
        yield* transport.subscribe({ _tag: "Channel", channel: "runs" }, (frame) => {
          const { action, reply_to, request_id } = JSON.parse(String(frame))
          if (action === undefined) return
          const say = (reply: object, by: string) =>
            transport.send(reply_to, JSON.stringify({ ...reply, request_id, fiberbus: { v: 1, by, seq: 0 } }), () => {})
          const payload = { error: "busy", reason: { _tag: "Busy", retryAfterMillis: 1 }, started: "no" }
          if (++requests === 1) say({ status: "error", payload, final: true }, "busy-one")
          // It was on its way when the call was tried again.
          else say({ status: "success", payload: { run: 0, n: 1 }, final: false }, "slow-one")
        })
      })
    )
    const layer = Layer.mergeAll(
      lists.pipe(Layer.provide(process())),
      refuses.pipe(Layer.provide(process())),
      process()
    )
    return { layer, over: Queue.take(over) }
  })

  const itemsOf = (run: number) => Array.from({ length: 100 }, (_, i) => ({ run, n: i + 1 }))

  it.effect("is stopped in those that began with it", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* processes(0)
      yield* Effect.gen(function* () {
        const runs = yield* Caller.make(Runs)
        assert.deepInclude(yield* reasonOf(Stream.runDrain(runs.list({ window: 8 }))), { _tag: "Busy", started: "no" })
        assert.isTrue(Exit.hasInterrupts(yield* over))
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("brings the items of one run where it would be tried again", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* processes(0)
      yield* Effect.gen(function* () {
        const runs = yield* Caller.make(Runs, { policies: [Retry.policy()] })
        const list = yield* Effect.forkChild(Stream.runCollect(runs.list({ window: 8 })))
        assert.deepStrictEqual(yield* timePasses(list, 100), itemsOf(1))
        assert.isTrue(Exit.isSuccess(yield* over))
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("brings the items of one run where it is tried again before the first has any", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* processes(3_000)
      yield* Effect.gen(function* () {
        const runs = yield* Caller.make(Runs, { policies: [Retry.policy()] })
        const list = yield* Effect.forkChild(Stream.runCollect(runs.list({ window: 8 })))
        assert.deepStrictEqual(yield* timePasses(list, 100), itemsOf(2))
        assert.isTrue(Exit.hasInterrupts(yield* over))
        assert.isTrue(Exit.isSuccess(yield* over))
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("a one-way message to an action with items", () => {
  it.effect("begins no stream: nobody would end it", () =>
    Effect.gen(function* () {
      const { layer, produced } = yield* onMemory
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* Transport.publish("numbers", JSON.stringify({ action: "forever" })), 1)
        yield* Scripted.turns()
        assert.strictEqual(produced.count, 0)
      }).pipe(Effect.provide(layer), Effect.provide(Logger.layer([])))
    })
  )
})

describe("a Daebus caller of an action with items", () => {
  it.effect("gets a frame for each, and one for the end", () =>
    Effect.gen(function* () {
      const { layer } = yield* onMemory
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const frames = yield* Queue.unbounded<unknown>()
        yield* transport.subscribe({ _tag: "Channel", channel: "caller:python" }, (frame) => {
          Queue.offerUnsafe(frames, JSON.parse(String(frame)))
        })
        yield* Transport.publish(
          "numbers",
          JSON.stringify({ action: "count", payload: { to: 3 }, reply_to: "caller:python", request_id: "r1" })
        )
        const frame = (payload: unknown, final: boolean) => ({ status: "success", payload, request_id: "r1", final })
        assert.deepStrictEqual(yield* Queue.takeBetween(frames, 4, 4), [
          frame(1, false),
          frame(2, false),
          frame(3, false),
          frame(null, true)
        ])
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )
})
