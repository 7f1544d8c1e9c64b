import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Queue, Schema, Semaphore } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Deadline, Handlers, Memory, type Policy, Service } from "fiberbus"

// The example of docs/policies.md.
const AtOnce = Context.Reference<number>("app/AtOnce", { defaultValue: () => 20 })

const atOnce = (): Policy.Policy => {
  const semaphores = new Map<string, Semaphore.Semaphore>()
  return (call, { action, annotations, service }) => {
    const name = `${service}.${action}`
    const semaphore = semaphores.get(name) ?? Semaphore.makeUnsafe(Context.get(annotations, AtOnce))
    semaphores.set(name, semaphore)
    return semaphore.withPermit(call)
  }
}

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite }, success: Schema.Finite }).pipe(Action.annotate(AtOnce, 2)),
  Action.make("fail", { error: { code: Schema.Finite } }).pipe(Action.annotate(Action.Idempotent, true))
)

const JobsLive = Handlers.layer(Jobs, { run: ({ n }) => Effect.succeed(n), fail: () => Effect.fail({ code: 7 }) })
const Bus = JobsLive.pipe(Layer.provideMerge(Memory.layer))

describe("Policy", () => {
  it.effect("is around each call, the first of several outermost, and knows what it is around", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const noting =
        (name: string): Policy.Policy =>
        (call, { action, idempotent, kind, service }) =>
          Effect.andThen(
            Effect.sync(() => log.push(`${name} ${service}.${action} ${kind} ${idempotent}`)),
            call
          )
      const jobs = yield* Caller.make(Jobs, { policies: [noting("a"), noting("b")] })
      assert.strictEqual(yield* jobs.run({ n: 1 }), 1)
      assert.deepStrictEqual(yield* Effect.flip(jobs.fail({ policies: [noting("c")] })), { code: 7 })
      yield* jobs.run.send({ n: 1 })
      yield* Effect.exit(jobs.run({ n: "x" as never }))
      assert.deepStrictEqual(log, ["a jobs.run call false", "b jobs.run call false", "c jobs.fail call true"])
    }).pipe(Effect.provide(Bus))
  )

  it.effect("reads settings of its own from the action", () =>
    Effect.gen(function* () {
      const begun = yield* Queue.unbounded<number>()
      const Waiting = Handlers.layer(
        Jobs,
        {
          run: ({ n }) => Effect.as(Effect.andThen(Queue.offer(begun, n), Effect.sleep(100)), n),
          fail: () => Effect.void
        },
        { grace: 0 }
      )
      yield* Effect.gen(function* () {
        const jobs = yield* Caller.make(Jobs, { policies: [atOnce()] })
        const calls = yield* Effect.forEach([1, 2, 3], (n) => Effect.forkChild(jobs.run({ n })))
        yield* Queue.takeN(begun, 2)
        assert.strictEqual(yield* Queue.size(begun), 0)
        yield* TestClock.adjust(100)
        assert.strictEqual(yield* Queue.take(begun), 3)
        yield* TestClock.adjust(100)
        assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), [1, 2, 3])
      }).pipe(Effect.provide(Waiting.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("tells failures on the way from declared errors", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const watching: Policy.Policy = (call, { failureOf }) =>
        Effect.tapError(call, (error) => Effect.sync(() => seen.push(failureOf(error)?.reason._tag ?? "declared")))
      const jobs = yield* Caller.make(Jobs, { policies: [watching] })
      yield* Effect.exit(jobs.fail())
      const names = yield* Caller.dynamic("jobs", { policies: [watching] })
      yield* Effect.exit(names.call("nope"))
      assert.deepStrictEqual(seen, ["declared", "UnknownAction"])
    }).pipe(Effect.provide(Bus))
  )

  it.effect("takes a CallError that the action declares for an answer", () =>
    Effect.gen(function* () {
      const Relay = Service.make("relay", Action.make("pass", { error: CallError.CallError }))
      const RelayLive = Handlers.layer(
        Relay,
        Effect.map(Caller.dynamic("nobody"), (nobody) => ({ pass: () => Effect.asVoid(nobody.call("x")) }))
      )
      yield* Effect.gen(function* () {
        const failures: Array<unknown> = []
        const watching: Policy.Policy = (call, { failureOf }) =>
          Effect.tapError(call, (error) => Effect.sync(() => failures.push(failureOf(error))))
        const relay = yield* Caller.make(Relay, { policies: [watching] })
        assert.strictEqual((yield* Effect.flip(relay.pass())).service, "nobody")
        assert.deepStrictEqual(failures, [undefined])
      }).pipe(Effect.provide(RelayLive.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("knows the time that is left", () =>
    Effect.gen(function* () {
      const left: Array<number> = []
      const measuring: Policy.Policy = (call) =>
        Effect.andThen(
          Effect.map(Deadline.remainingMillis, (millis) => left.push(millis)),
          call
        )
      const jobs = yield* Caller.make(Jobs, { policies: [measuring, (call) => Effect.delay(call, 300), measuring] })
      const call = yield* Effect.forkChild(jobs.run({ n: 1 }, { timeout: 1_000 }), { startImmediately: true })
      yield* TestClock.adjust(300)
      yield* Fiber.join(call)
      assert.deepStrictEqual(left, [1_000, 700])
      assert.strictEqual(yield* Deadline.remainingMillis, Number.POSITIVE_INFINITY)
    }).pipe(Effect.provide(Bus))
  )
})
