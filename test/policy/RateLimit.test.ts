import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule } from "effect"
import * as Limiter from "effect/persistence/RateLimiter"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Handlers, Memory, Retry, Service } from "fiberbus"
import * as RateLimit from "fiberbus/policy/RateLimit"
import * as Scripted from "../scripted.ts"

const Jobs = Service.make("jobs", Action.make("run"), Action.make("other"))

const serving = () => {
  const seen: Array<string> = []
  const layer = Handlers.layer(Jobs, {
    run: () => Effect.sync(() => void seen.push("run")),
    other: () => Effect.sync(() => void seen.push("other"))
  })
  return { seen, layer: layer.pipe(Layer.provideMerge(Memory.layer)) }
}

const limited = (error: unknown) => {
  assert.instanceOf(error, CallError.CallError)
  assert.strictEqual(error.started, "no")
  assert.instanceOf(error.reason, CallError.RateLimited)
  return error.reason.retryAfterMillis
}

describe("RateLimit", () => {
  it.effect("lets a burst through, then evenly, each call waiting for its turn", () => {
    const { layer, seen } = serving()
    return Effect.gen(function* () {
      const policies = [yield* RateLimit.make({ limit: 2, window: "1 second" })]
      const jobs = yield* Caller.make(Jobs, { policies })
      const calls = yield* Effect.forEach([1, 2, 3, 4, 5], () =>
        Effect.forkChild(jobs.run(), { startImmediately: true })
      )
      yield* Scripted.turns()
      assert.lengthOf(seen, 2)
      for (const served of [3, 4, 5]) {
        yield* TestClock.adjust(499)
        yield* Scripted.turns()
        assert.lengthOf(seen, served - 1)
        yield* TestClock.adjust(1)
        yield* Scripted.turns()
        assert.lengthOf(seen, served)
      }
      yield* Fiber.joinAll(calls)
    }).pipe(Effect.provide(layer))
  })

  it.effect("ends a call at once that could not wait within its time, and takes nothing from the others for it", () => {
    const { layer, seen } = serving()
    return Effect.gen(function* () {
      const policies = [yield* RateLimit.make({ limit: 1, window: "1 second" })]
      const jobs = yield* Caller.make(Jobs, { policies })
      yield* jobs.run()
      for (const timeout of [500, 999, 1_000]) {
        assert.strictEqual(limited(yield* Effect.flip(jobs.run({ timeout }))), 1_000)
      }
      yield* TestClock.adjust(1_000)
      yield* jobs.run({ timeout: 500 })
      assert.lengthOf(seen, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("ends calls at once where it is told to, per action or per service", () => {
    const { layer } = serving()
    return Effect.gen(function* () {
      const perService = yield* RateLimit.make({ limit: 1, whenReached: "fail" })
      const perAction = yield* RateLimit.make({ limit: 1, whenReached: "fail", per: "action" })
      const jobs = yield* Caller.make(Jobs, { policies: [perService] })
      yield* jobs.run()
      limited(yield* Effect.flip(jobs.other()))
      yield* jobs.run({ policies: [perAction] })
      yield* jobs.other({ policies: [perAction] })
      limited(yield* Effect.flip(jobs.other({ policies: [perAction] })))
    }).pipe(Effect.provide(layer))
  })

  it.effect("behind retries counts each attempt, and is tried again when there is room", () => {
    const script = Scripted.make({ request: (index) => (index < 2 ? "refused" : "arrives") })
    const layer = Handlers.layer(Jobs, { run: () => Effect.void, other: () => Effect.void })
    return Effect.gen(function* () {
      const limit = yield* RateLimit.make({ limit: 1, window: "1 second", whenReached: "fail" })
      const jobs = yield* Caller.make(Jobs, { policies: [Retry.policy({ schedule: Schedule.spaced(0) }), limit] })
      const call = yield* Effect.forkChild(jobs.run(), { startImmediately: true })
      yield* Scripted.turns()
      yield* TestClock.adjust(0)
      yield* TestClock.adjust(1_999)
      yield* Scripted.turns()
      assert.lengthOf(script.requests, 0)
      yield* TestClock.adjust(1)
      yield* Scripted.turns()
      yield* Fiber.join(call)
      assert.strictEqual(script.requests[0]!["fiberbus"].timeout_ms, 3_000)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("lets calls through while a store of the user's own fails", () => {
    const { layer, seen } = serving()
    const gone = new Limiter.RateLimiterError({ reason: new Limiter.RateLimitStoreError({ message: "gone" }) })
    const fail = () => Effect.fail(gone)
    return Effect.gen(function* () {
      const limiter = yield* Limiter.make.pipe(
        Effect.provideService(Limiter.RateLimiterStore, {
          fixedWindow: fail,
          tokenBucket: fail,
          adaptiveConsume: fail,
          adaptiveFeedback: fail
        })
      )
      const jobs = yield* Caller.make(Jobs, { policies: [RateLimit.fromLimiter(limiter, { limit: 1 })] })
      yield* Effect.all([jobs.run(), jobs.run()])
      assert.lengthOf(seen, 2)
    }).pipe(Effect.provide(layer))
  })
})
