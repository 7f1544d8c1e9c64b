import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Queue,
  References,
  Scheduler,
  Scope,
  Tracer
} from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"
import { Deadline } from "../../src/policy/Deadline.ts"
import { Slot } from "../../src/server/Request.ts"
import * as PerTransport from "../../src/transport/PerTransport.ts"
import { Transport, TransportError } from "../../src/transport/Transport.ts"

const refused = new TransportError({ kind: "Unreachable", operation: "test", detail: "refused", hint: "", sent: "no" })

/** Counts what is made and released; each instance is its number. */
const counted = () => {
  const made: Array<number> = []
  const released: Array<number> = []
  const instance = PerTransport.make(() =>
    Effect.acquireRelease(
      Effect.sync(() => made.push(made.length + 1)),
      (value) => Effect.sync(() => void released.push(value))
    )
  )
  return { instance, made, released }
}

describe("PerTransport", () => {
  it.effect("makes one instance for all who ask at once, wherever their fibers give way", () =>
    Effect.gen(function* () {
      // A fiber that gives way more often gets nowhere.
      for (let operations = 10; operations < 120; operations++) {
        const { instance, made, released } = counted()
        const all = yield* Effect.all([instance, instance, instance], { concurrency: "unbounded" }).pipe(
          Effect.scoped,
          Effect.provideService(References.MaxOpsBeforeYield, operations),
          Effect.provide(Layer.fresh(Memory.layer))
        )
        assert.deepStrictEqual([all, made, released], [[1, 1, 1], [1], [1]], `after ${operations} operations`)
      }
    })
  )

  it.effect("makes one instance for each transport", () =>
    Effect.gen(function* () {
      const { instance } = counted()
      const on = (transport: Transport["Service"]) => Effect.provideService(instance, Transport, transport)
      const [one, two] = [Memory.make(), Memory.make()]
      assert.deepStrictEqual([yield* on(one), yield* on(two), yield* on(one)], [1, 2, 1])
    })
  )

  it.effect("lets no two layers claim one action, wherever their fibers give way", () =>
    Effect.gen(function* () {
      const Once = Service.make("once", Action.make("go"))
      const OnceLive = () => Layer.build(Handlers.layer(Once, { go: () => Effect.void }))
      for (let operations = 10; operations < 120; operations++) {
        const exit = yield* Effect.all([OnceLive(), OnceLive()], { concurrency: 2 }).pipe(
          Effect.scoped,
          Effect.provideService(References.MaxOpsBeforeYield, operations),
          Effect.provide(Layer.fresh(Memory.layer)),
          Effect.exit
        )
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(defect, Handlers.DuplicateHandler, `after ${operations} operations`)
      }
    })
  )

  it.effect("keeps the instance until the last who holds it is gone, whoever came first", () =>
    Effect.gen(function* () {
      const { instance, made, released } = counted()
      const hold = Effect.gen(function* () {
        const scope = yield* Scope.make()
        yield* Scope.provide(instance, scope)
        return Scope.close(scope, Exit.void)
      })
      const [first, second] = [yield* hold, yield* hold]
      yield* first
      const third = yield* hold
      yield* second
      assert.deepStrictEqual([made, released], [[1], []])
      yield* third
      assert.deepStrictEqual([made, released], [[1], [1]])
      assert.strictEqual(yield* Effect.scoped(instance), 2)
      assert.deepStrictEqual(released, [1, 2])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("lets those who waited make it when the first could not, and those who come again", () =>
    Effect.gen(function* () {
      const released: Array<number> = []
      const begun = yield* Deferred.make<void>()
      const open = yield* Deferred.make<void>()
      let attempts = 0
      const instance = PerTransport.make(() =>
        Effect.gen(function* () {
          const attempt = ++attempts
          yield* Effect.addFinalizer(() => Effect.sync(() => void released.push(attempt)))
          yield* Deferred.succeed(begun, undefined)
          yield* Deferred.await(open)
          return attempt <= 2 ? yield* refused : attempt
        })
      )
      const first = yield* Effect.forkChild(Effect.flip(instance))
      yield* Deferred.await(begun)
      const others = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(Effect.result(instance), { startImmediately: true })
      )
      yield* Deferred.succeed(open, undefined)
      assert.strictEqual(yield* Fiber.join(first), refused)
      const results = yield* Effect.forEach(others, Fiber.join)
      assert.deepStrictEqual(
        results.map((result) => result._tag),
        ["Failure", "Success", "Success"]
      )
      // What a failed attempt had acquired is gone at once, not with the Scope of whoever asked.
      assert.deepStrictEqual(released, [1, 2])
      assert.strictEqual(yield* instance, 3)
    }).pipe(Effect.scoped, Effect.provide(Memory.layer))
  )

  it.effect("can be asked for again within one Scope after a subscription that failed", () =>
    Effect.gen(function* () {
      // Heard on its service's channel alone.
      const Once = Service.make("once", Action.make("go").pipe(Action.annotate(Action.Delivery, "live")))
      const memory = Memory.make()
      let failures = 0
      const flaky = Transport.of({
        ...memory,
        // The first of the service, and the first of the callers.
        subscribe: (target, receive) =>
          Effect.suspend(() =>
            // Each process has it besides.
            !(target._tag === "Channel" && target.channel === "fiberbus.who") && failures++ % 2 === 0
              ? Effect.fail(refused)
              : memory.subscribe(target, receive)
          )
      })
      yield* Effect.gen(function* () {
        const OnceLive = Layer.fresh(Handlers.layer(Once, { go: () => Effect.void }))
        yield* Effect.retry(Layer.build(OnceLive), { times: 1 })
        const once = yield* Effect.retry(Caller.make(Once), { times: 1 })
        yield* once.go()
        assert.strictEqual(failures, 4)
      }).pipe(Effect.provideService(Transport, flaky))
    })
  )

  it.effect("goes to the next when whoever was making it is interrupted, or waited in vain", () =>
    Effect.gen(function* () {
      const begun = yield* Queue.unbounded<number>()
      const released: Array<number> = []
      let attempts = 0
      const instance = PerTransport.make(() =>
        Effect.gen(function* () {
          const attempt = ++attempts
          yield* Effect.addFinalizer(() => Effect.sync(() => void released.push(attempt)))
          yield* Queue.offer(begun, attempt)
          return attempt === 1 ? yield* Effect.never : attempt
        })
      )
      const making = yield* Effect.forkChild(instance)
      yield* Queue.take(begun)
      const impatient = yield* Effect.forkChild(instance, { startImmediately: true })
      const patient = yield* Effect.forkChild(instance, { startImmediately: true })
      yield* Fiber.interrupt(impatient)
      assert.isUndefined(making.pollUnsafe())
      yield* Fiber.interrupt(making)
      assert.strictEqual(yield* Fiber.join(patient), 2)
      assert.deepStrictEqual(released, [1])
    }).pipe(Effect.scoped, Effect.provide(Memory.layer))
  )

  it.effect("keeps nothing of the request, span, annotations or services that it was first asked in", () =>
    Effect.gen(function* () {
      class Own extends Context.Service<Own, string>()("Own") {}
      const instance = PerTransport.make(() => Effect.context<never>())
      const context = yield* instance.pipe(
        Effect.provideService(Own, "own"),
        Effect.provideService(Slot, {} as never),
        Effect.provideService(Deadline, 1),
        Effect.annotateLogs("user", "first"),
        Effect.withSpan("first")
      )
      assert.isUndefined(Context.getOrUndefined(context, Own))
      assert.isUndefined(Context.getOrUndefined(context, Tracer.ParentSpan))
      assert.isUndefined(Context.get(context, Slot))
      assert.isUndefined(Context.get(context, Deadline))
      assert.deepStrictEqual(Context.get(context, References.CurrentLogAnnotations), {})
      assert.strictEqual(Context.get(context, Clock.Clock), yield* Clock.Clock)
      assert.strictEqual(Context.get(context, Scheduler.Scheduler), yield* Scheduler.Scheduler)
      assert.isFalse((yield* Scheduler.Scheduler) === Context.get(Context.empty(), Scheduler.Scheduler))
    }).pipe(Effect.scoped, Effect.provide(Memory.layer))
  )

  it.effect("takes the clock of the first who asks, and another's once all have gone", () =>
    Effect.gen(function* () {
      const instance = PerTransport.make(() => Clock.Clock)
      const test = yield* Clock.Clock
      const [first, second] = yield* Effect.scoped(Effect.all([instance, TestClock.withLive(instance)]))
      assert.deepStrictEqual([first === test, second === test], [true, true])
      const live = yield* Effect.scoped(TestClock.withLive(instance))
      assert.isFalse(live === test)
      assert.isTrue((yield* Effect.scoped(instance)) === test)
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("lets the calls of each test end by its own clock over a transport that tests share", () => {
    const Hang = Service.make("hang", Action.make("go"))
    const memory = Memory.make()
    const call = Effect.gen(function* () {
      const hang = yield* Caller.make(Hang)
      const call = yield* Effect.forkChild(Effect.flip(hang.go()), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      return (yield* Fiber.join(call)).reason._tag
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.fresh(Handlers.layer(Hang, { go: () => Effect.never }, { grace: 1 }))),
      Effect.provideService(Transport, memory),
      Effect.provide(Layer.fresh(TestClock.layer()))
    )
    return Effect.gen(function* () {
      assert.strictEqual(yield* call, "DeadlineExceeded")
      assert.strictEqual(yield* call, "DeadlineExceeded")
    })
  })
})
