import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Schedule, Schema } from "effect"
import * as Breaker from "effect/persistence/CircuitBreaker"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Handlers, Memory, Retry, Service } from "fiberbus"
import * as CircuitBreaker from "fiberbus/policy/CircuitBreaker"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { kind: Schema.String }, error: Failed }),
  Action.make("other")
)

/** A service whose handler ends as its payload says, and an account of how often it ran. */
const serving = () => {
  const seen: Array<string> = []
  const layer = Handlers.layer(
    Jobs,
    {
      run: ({ kind }) =>
        Effect.suspend((): Effect.Effect<void, Failed> => {
          seen.push(kind)
          return kind === "bug"
            ? Effect.die("bug")
            : kind === "declared"
              ? Effect.fail(new Failed())
              : kind === "never"
                ? Effect.never
                : Effect.void
        }),
      other: () => Effect.sync(() => void seen.push("other"))
    },
    { grace: 0 }
  )
  return { seen, layer: layer.pipe(Layer.provideMerge(Memory.layer)) }
}

const reasonOf = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.instanceOf(error, CallError.CallError)
    return [error.reason, error.started] as const
  })

const open = (retryAfterMillis: number) => [new CallError.CircuitOpen({ retryAfterMillis }), "no"] as const

describe("CircuitBreaker", () => {
  it.effect("ends calls at once after failures in a row, then lets one through, then all", () => {
    const { layer, seen } = serving()
    return Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 3, openDuration: "10 seconds" })
      const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
      const run = (kind: string) => jobs.run({ kind })
      yield* Effect.exit(run("bug"))
      yield* Effect.exit(run("bug"))
      yield* run("well")
      for (const _ of [1, 2, 3]) assert.strictEqual((yield* reasonOf(run("bug")))[0]._tag, "RemoteDefect")
      assert.lengthOf(seen, 6)
      assert.deepStrictEqual(yield* reasonOf(run("well")), open(10_000))
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* reasonOf(run("well")), open(1_000))
      assert.lengthOf(seen, 6)
      // Each action has a circuit of its own.
      yield* jobs.other()
      yield* TestClock.adjust("1 second")
      const probe = yield* Effect.forkChild(run("never"), { startImmediately: true })
      assert.deepStrictEqual(yield* reasonOf(run("well")), open(0))
      // Interrupted, it has said nothing: the next one tries.
      yield* Fiber.interrupt(probe)
      yield* run("well")
      yield* Effect.all([run("well"), run("well")], { concurrency: 2 })
    }).pipe(Effect.provide(layer))
  })

  it.effect("opens again when the call that was let through fails", () => {
    const { layer } = serving()
    return Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 1, openDuration: Schedule.exponential("1 second") })
      const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
      for (const millis of [1_000, 2_000, 4_000]) {
        assert.strictEqual((yield* reasonOf(jobs.run({ kind: "bug" })))[0]._tag, "RemoteDefect")
        assert.deepStrictEqual(yield* reasonOf(jobs.run({ kind: "well" })), open(millis))
        yield* TestClock.adjust(millis)
      }
    }).pipe(Effect.provide(layer))
  })

  it.effect("counts neither declared errors nor bad payloads, and no interruption", () => {
    const { layer } = serving()
    return Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 1 })
      const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
      const names = yield* Caller.dynamic("jobs", { policies: [breaker] })
      assert.instanceOf(yield* Effect.flip(jobs.run({ kind: "declared" })), Failed)
      assert.strictEqual((yield* reasonOf(jobs.run({ kind: 1 as never })))[0]._tag, "InvalidPayload")
      assert.strictEqual((yield* reasonOf(names.call("run", { kind: 1 })))[0]._tag, "InvalidPayload")
      assert.strictEqual((yield* reasonOf(names.call("run", { kind: "declared" })))[0]._tag, "RemoteError")
      assert.strictEqual((yield* reasonOf(names.call("nope")))[0]._tag, "UnknownAction")
      const call = yield* Effect.forkChild(jobs.run({ kind: "never" }), { startImmediately: true })
      yield* Fiber.interrupt(call)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(call)))
      yield* jobs.run({ kind: "well" })
    }).pipe(Effect.provide(layer))
  })

  it.effect("counts who is not there, and who does not answer in time", () => {
    const { layer } = serving()
    return Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 1, per: "service" })
      const nobody = yield* Caller.dynamic("nobody", { policies: [breaker] })
      assert.strictEqual((yield* reasonOf(nobody.call("x")))[0]._tag, "NoResponders")
      assert.deepStrictEqual(yield* reasonOf(nobody.call("y")), open(5_000))
      const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
      const call = yield* Effect.forkChild(reasonOf(jobs.run({ kind: "never" }, { timeout: 1_000 })))
      yield* TestClock.adjust(1_000)
      assert.strictEqual((yield* Fiber.join(call))[0]._tag, "DeadlineExceeded")
      assert.deepStrictEqual(yield* reasonOf(jobs.other()), open(5_000))
    }).pipe(Effect.provide(layer))
  })

  it("knows of every reason what it says about the service", () => {
    const tags = CallError.CallError.fields.reason.members.map((member) => member.fields._tag.schema.literal)
    const counted = tags.filter(
      (_tag) => CircuitBreaker.outcomeOf({ started: "unknown", reason: { _tag } })._tag === "Failure"
    )
    assert.sameMembers(counted, ["NoResponders", "Busy", "Draining", "DeadlineExceeded", "RemoteDefect"])
  })

  it("takes an undeclared error for an answer, what is the caller's own matter for none", () => {
    const outcome = (_tag: string) => CircuitBreaker.outcomeOf({ started: "unknown", reason: { _tag } })
    assert.deepStrictEqual(outcome("RemoteError"), Breaker.success)
    for (const tag of ["TransportError", "InvalidPayload", "UnknownAction", "RateLimited", "CircuitOpen"]) {
      assert.deepStrictEqual(outcome(tag), Breaker.ignored)
    }
    assert.deepStrictEqual(outcome("Busy"), Breaker.failure())
    const asking = (retryAfterMillis: unknown) =>
      CircuitBreaker.outcomeOf({ started: "no", reason: { _tag: "Busy", retryAfterMillis } })
    for (const no of [null, "700", {}]) assert.deepStrictEqual(asking(no), Breaker.failure())
    assert.deepStrictEqual(asking(-700), Breaker.failure({ retryAfter: 0 }))
  })

  it.effect(
    "counts failures in a row: an answer between them begins the count anew, what says nothing does not",
    () => {
      const { layer } = serving()
      return Effect.gen(function* () {
        for (const [between, opens] of [
          ["well", false],
          ["declared", false],
          [1, true]
        ] as const) {
          const breaker = yield* CircuitBreaker.make({ failures: 2 })
          const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
          const names = yield* Caller.dynamic("jobs", { policies: [breaker] })
          yield* Effect.exit(jobs.run({ kind: "bug" }))
          yield* Effect.exit(names.call("run", { kind: between }))
          yield* Effect.exit(jobs.run({ kind: "bug" }))
          const exit = yield* Effect.exit(jobs.run({ kind: "well" }))
          assert.strictEqual(Exit.isFailure(exit), opens, String(between))
        }
      }).pipe(Effect.provide(layer))
    }
  )

  it("stays open for as long as a busy service asks", () => {
    const busy = CircuitBreaker.outcomeOf({ started: "no", reason: new CallError.Busy({ retryAfterMillis: 700 }) })
    assert.deepStrictEqual(busy, Breaker.failure({ retryAfter: 700 }))
  })

  it.effect("inside of retries sees each attempt, and an open circuit is not tried again", () =>
    Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 2 })
      const retry = Retry.policy({ schedule: Schedule.spaced(0) })
      const nobody = yield* Caller.dynamic("nobody", { policies: [retry, breaker] })
      const call = yield* Effect.forkChild(reasonOf(nobody.call("x")))
      while (call.pollUnsafe() === undefined) {
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        yield* TestClock.adjust(1)
      }
      assert.strictEqual((yield* Fiber.join(call))[0]._tag, "CircuitOpen")
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("sees an attempt that is given up as one that was not answered", () => {
    const { layer } = serving()
    return Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ failures: 1 })
      const retry = Retry.policy({ schedule: Schedule.spaced(0), attemptTimeout: 100 })
      const Slow = Service.make(
        "jobs",
        Action.make("run", { payload: { kind: Schema.String } }).pipe(Action.annotate(Action.Idempotent, true))
      )
      const jobs = yield* Caller.make(Slow, { policies: [retry, breaker] })
      const call = yield* Effect.forkChild(reasonOf(jobs.run({ kind: "never" })), { startImmediately: true })
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(yield* Fiber.join(call), [
        new CallError.CircuitOpen({ retryAfterMillis: 5_000 }),
        "unknown"
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("takes a breaker of the user's own, which may share its circuits or refuse without its store", () => {
    const broken = new Breaker.CircuitBreakerError({
      reason: new Breaker.CircuitBreakerStoreError({ message: "gone" })
    })
    const Gone = Layer.succeed(Breaker.CircuitBreakerStore, {
      admit: () => Effect.fail(broken),
      record: () => Effect.fail(broken),
      state: () => Effect.fail(broken)
    })
    const { layer } = serving()
    return Effect.gen(function* () {
      const options = { tripPolicy: Breaker.consecutive(1), openDuration: 1_000, onStoreError: "fail" } as const
      const breaker = CircuitBreaker.fromBreaker(yield* Effect.provide(Breaker.make(options), Gone))
      const jobs = yield* Caller.make(Jobs, { policies: [breaker] })
      assert.deepStrictEqual(yield* reasonOf(jobs.run({ kind: "well" })), open(0))
    }).pipe(Effect.provide(layer))
  })
})
