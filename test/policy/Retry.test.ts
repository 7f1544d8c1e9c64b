import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Fiber, Layer, Metric, Random, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  CallError,
  Caller,
  Deadline,
  Handlers,
  Memory,
  type Policy,
  Request,
  Retry,
  Service,
  Transport
} from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as Scripted from "../scripted.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", { n: Schema.Finite }) {}

const parts = {
  payload: { n: Schema.Finite },
  success: Schema.Finite,
  error: Failed,
  progress: { step: Schema.Finite }
} as const

const Jobs = Service.make(
  "jobs",
  Action.make("once", parts),
  Action.make("again", parts).pipe(Action.annotate(Action.Idempotent, true))
)

/** Both actions by one handler, with an account of the attempts that it saw. */
const serving = (
  handle: (n: number, attempt: number) => Effect.Effect<number, Failed>,
  options?: Parameters<typeof Handlers.layer>[2]
) => {
  const seen: Array<readonly [id: string, attempt: number]> = []
  const handler = ({ n }: { readonly n: number }) =>
    Effect.flatMap(Request.current, ({ attempt, id }) => {
      seen.push([id, attempt])
      return handle(n, attempt)
    })
  return { seen, layer: Handlers.layer(Jobs, { once: handler, again: handler }, { grace: 0, ...options }) }
}

const every = (millis: number) => Retry.policy({ schedule: Schedule.spaced(millis) })

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

const callError = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.instanceOf(error, CallError.CallError)
    return error
  })

/** Joins a call while virtual time passes and frames travel. */
const joining = <A, E>(fiber: Fiber.Fiber<A, E>, step = 10) =>
  Effect.gen(function* () {
    while (fiber.pollUnsafe() === undefined) {
      yield* Scripted.turns(3)
      yield* TestClock.adjust(step)
    }
    return yield* Fiber.join(fiber)
  })

const running = <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.flatMap(Effect.forkChild(call), joining)

describe("Retry", () => {
  it.effect("tries again what was not sent, with the same id and the attempt's number", () => {
    const script = Scripted.make({ request: (index) => (index < 2 ? "refused" : "arrives") })
    const { layer, seen } = serving(Effect.succeed)
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(10)] })
      assert.strictEqual(yield* running(jobs.once({ n: 1 })), 1)
      assert.deepStrictEqual(
        seen.map(([, attempt]) => attempt),
        [3]
      )
      assert.strictEqual(script.requests[0]!["fiberbus"].attempt, 3)
      assert.strictEqual(script.requests[0]!["request_id"], seen[0]![0])
      assert.strictEqual(yield* running(jobs.once({ n: 2 })), 2)
      assert.notProperty(script.requests[1]!["fiberbus"], "attempt")
      assert.notStrictEqual(seen[1]![0], seen[0]![0])
      assert.strictEqual(yield* pendingCalls, 0)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("is not there unless it is given, and not for a call that says so", () => {
    const script = Scripted.make({ request: () => "refused" })
    return Effect.gen(function* () {
      const plain = yield* Caller.make(Jobs)
      const retrying = yield* Caller.make(Jobs, { policies: [every(10)] })
      assert.strictEqual((yield* callError(plain.again({ n: 1 }))).started, "no")
      assert.strictEqual((yield* callError(retrying.again({ n: 1 }, { policies: [] }))).started, "no")
      const names = yield* Caller.dynamic("jobs", { policies: [every(10)] })
      yield* callError(names.call("again", { n: 1 }, { policies: [] }))
      const call = yield* Effect.forkChild(names.call("again", { n: 1 }), { startImmediately: true })
      yield* Scripted.turns()
      assert.isUndefined(call.pollUnsafe())
    }).pipe(Effect.provide(script.layer))
  })

  it.effect("never sends twice what may have been handled, unless the action is idempotent", () => {
    const script = Scripted.make({ request: (index) => (index % 2 === 0 ? "broken" : "arrives") })
    const { layer } = serving(Effect.succeed)
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(10)] })
      const error = yield* callError(jobs.once({ n: 1 }))
      assert.strictEqual(error.started, "unknown")
      assert.lengthOf(script.requests, 1)
      assert.strictEqual(yield* running(jobs.again({ n: 2 })), 2)
      // The next one in the script is broken again.
      assert.strictEqual(yield* running(jobs.again({ n: 3 })), 3)
      assert.deepStrictEqual(
        script.requests.map(({ fiberbus, payload }) => [payload.n, fiberbus.attempt ?? 1]),
        [
          [1, 1],
          [2, 1],
          [3, 1],
          [3, 2]
        ]
      )
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  const cases: ReadonlyArray<[CallError.CallErrorReason, CallError.Started, plain: boolean, idempotent: boolean]> = [
    [new CallError.NoResponders({}), "no", true, true],
    [new CallError.Busy({ retryAfterMillis: 1 }), "no", true, true],
    [new CallError.Draining({}), "no", true, true],
    [new CallError.Draining({}), "yes", false, true],
    [new CallError.RateLimited({ retryAfterMillis: 1 }), "no", true, true],
    [new CallError.CircuitOpen({ retryAfterMillis: 1 }), "no", false, false],
    [new CallError.DeadlineExceeded({ timeoutMillis: 1 }), "no", true, true],
    [new CallError.DeadlineExceeded({ timeoutMillis: 1 }), "unknown", false, true],
    [new CallError.DeadlineExceeded({ timeoutMillis: 1 }), "yes", false, true],
    [new CallError.ConnectionLost({ detail: "" }), "unknown", false, true],
    [new CallError.ConnectionLost({ detail: "" }), "yes", false, true],
    [new CallError.UnknownAction({ action: "x" }), "no", false, false],
    [new CallError.InvalidPayload({ path: [], expected: "" }), "no", false, false],
    [new CallError.PayloadTooLarge({ what: "request", bytes: 2, maxBytes: 1 }), "no", false, false],
    [new CallError.UnknownReceipt({ id: "" }), "unknown", false, false],
    [new CallError.RemoteDefect({ id: "" }), "yes", false, false],
    [new CallError.RemoteError({ error: "", payload: null }), "yes", false, false],
    [new CallError.ContractMismatch({ part: "success", path: [], expected: "" }), "yes", false, false],
    ...Transport.TransportErrorKind.literals.flatMap((kind) =>
      (["no", "unknown"] as const).map((sent): [CallError.CallErrorReason, CallError.Started, boolean, boolean] => {
        const passing = ["Unreachable", "Timeout", "ConnectionLost", "Overloaded", "Unknown"].includes(kind)
        const reason = new Transport.TransportError({ kind, operation: "", detail: "", hint: "", sent })
        return [reason, sent, passing && sent === "no", passing]
      })
    )
  ]

  it("tries again by the table of docs/policies.md, every reason of it", () => {
    const tags = CallError.CallError.fields.reason.members.map((member) => member.fields._tag.schema.literal)
    assert.sameMembers([...new Set(cases.map(([reason]) => reason._tag))], [...tags])
    for (const [reason, started, plain, idempotent] of cases) {
      const failure = { reason, started }
      const what = `${reason._tag} ${"kind" in reason ? reason.kind : ""} ${started}`
      assert.strictEqual(Retry.isRetryable(failure, { idempotent: false, kind: "call" }), plain, what)
      assert.strictEqual(Retry.isRetryable(failure, { idempotent: true, kind: "call" }), idempotent, what)
      // What a stream may have given to its consumer is not given again.
      assert.strictEqual(Retry.isRetryable(failure, { idempotent: true, kind: "stream" }), plain, what)
    }
  })

  it.effect("leaves declared errors, defects and bad payloads as they are, and spends nothing on them", () => {
    const script = Scripted.make({})
    const { layer } = serving((n) => (n === 1 ? Effect.fail(new Failed({ n })) : Effect.die("bug")))
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [Retry.policy({ schedule: Schedule.spaced(0) })] })
      assert.deepStrictEqual(yield* Effect.flip(jobs.again({ n: 1 })), new Failed({ n: 1 }))
      assert.strictEqual((yield* callError(jobs.again({ n: 2 }))).reason._tag, "RemoteDefect")
      assert.strictEqual((yield* callError(jobs.again({ n: "x" as never }))).reason._tag, "InvalidPayload")
      assert.lengthOf(script.requests, 2)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("comes back to a busy service, never before it asks for", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const asked: Array<number> = []
      yield* transport.subscribe({ _tag: "Channel", channel: "jobs" }, (frame) => {
        const { payload, reply_to, request_id } = JSON.parse(String(frame))
        const busy = { error: "busy", reason: { _tag: "Busy", retryAfterMillis: 400 }, started: "no" }
        const answer = asked.push(payload.n) === 1 ? { status: "error", payload: busy } : { payload: payload.n }
        transport.send(reply_to, JSON.stringify({ ...answer, request_id, final: true }), () => {})
      })
      const jobs = yield* Caller.make(Jobs, { policies: [every(5)] })
      const call = yield* Effect.forkChild(jobs.once({ n: 1 }), { startImmediately: true })
      yield* Scripted.turns()
      yield* TestClock.adjust(404)
      yield* Scripted.turns()
      assert.deepStrictEqual(asked, [1])
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* joining(call), 1)
      assert.deepStrictEqual(asked, [1, 1])
      // Longer than the call has: it ends at once with what it has.
      asked.length = 0
      const error = yield* callError(jobs.once({ n: 1 }, { timeout: 405 }))
      assert.deepStrictEqual(error.reason, new CallError.Busy({ retryAfterMillis: 400 }))
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("keeps all attempts within the call's time, and begins no wait that would end after it", () => {
    const script = Scripted.make({ request: () => "refused" })
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(300)] })
      const call = yield* Effect.forkChild(callError(jobs.once({ n: 1 }, { timeout: 1_000 })), {
        startImmediately: true
      })
      for (const millis of [300, 300]) {
        assert.isUndefined(call.pollUnsafe())
        yield* TestClock.adjust(millis)
      }
      assert.isUndefined(call.pollUnsafe())
      yield* TestClock.adjust(300)
      // At 900 ms the next one would be late by 200: the call ends with what it has.
      const error = yield* Fiber.join(call)
      assert.strictEqual(error.reason._tag, "TransportError")
      assert.strictEqual(yield* pendingCalls, 0)
    }).pipe(Effect.provide(script.layer))
  })

  it.effect("gives each attempt what is left of the time", () => {
    const script = Scripted.make({ request: (index) => (index < 2 ? "broken" : "lost") })
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(400)] })
      const call = yield* Effect.forkChild(callError(jobs.again({ n: 1 }, { timeout: 1_000 })))
      const error = yield* joining(call, 100)
      assert.deepStrictEqual(
        script.requests.map(({ fiberbus }) => fiberbus.timeout_ms),
        [1_000, 600, 200]
      )
      assert.deepStrictEqual(error.reason, new CallError.DeadlineExceeded({ timeoutMillis: 1_000 }))
      assert.strictEqual(error.started, "unknown")
    }).pipe(Effect.provide(script.layer))
  })

  it.effect("says that a handler may have run if an earlier attempt may have reached one", () => {
    const script = Scripted.make({ request: (index) => (index === 0 ? "broken" : "refused") })
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [Retry.policy({ schedule: Schedule.recurs(1) })] })
      const error = yield* running(callError(jobs.again({ n: 1 })))
      assert.strictEqual((error.reason as Transport.TransportError).sent, "no")
      assert.strictEqual(error.started, "unknown")
    }).pipe(Effect.provide(script.layer))
  })

  it.effect("takes the late answer to an earlier attempt, between attempts as well", () => {
    const script = Scripted.make({
      request: (index) => (index === 0 ? "unconfirmed" : "arrives"),
      reply: (index) => (index === 0 ? { millis: 100 } : "arrives")
    })
    const { layer, seen } = serving(Effect.succeed)
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(1_000)] })
      const call = yield* Effect.forkChild(jobs.again({ n: 1 }), { startImmediately: true })
      yield* Scripted.turns()
      assert.strictEqual(yield* pendingCalls, 1)
      yield* TestClock.adjust(100)
      yield* Scripted.turns()
      assert.strictEqual(yield* Fiber.join(call), 1)
      assert.lengthOf(seen, 1)
      assert.lengthOf(script.requests, 1)
      assert.strictEqual(yield* pendingCalls, 0)
      assert.lengthOf(script.controls, 0)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("takes the first of two final answers", () => {
    const script = Scripted.make({ reply: (index) => (index === 0 ? { millis: 150 } : "arrives") })
    const { layer, seen } = serving((n, attempt) => Effect.succeed(n + attempt))
    return Effect.gen(function* () {
      const policies = [Retry.policy({ schedule: Schedule.spaced(0), attemptTimeout: 100 })]
      const jobs = yield* Caller.make(Jobs, { policies })
      assert.strictEqual(yield* running(jobs.again({ n: 10 })), 12)
      yield* TestClock.adjust(1_000)
      yield* Scripted.turns()
      assert.lengthOf(new Set(seen.map(([id]) => id)), 1)
      assert.lengthOf(seen, 2)
      assert.strictEqual(yield* pendingCalls, 0)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("finds a lost message by the attempt's own time, for idempotent actions alone", () => {
    const script = Scripted.make({ request: (index) => (index % 2 === 0 ? "lost" : "arrives") })
    const { layer } = serving(Effect.succeed)
    return Effect.gen(function* () {
      const policies = [Retry.policy({ schedule: Schedule.spaced(0), attemptTimeout: 200 })]
      const jobs = yield* Caller.make(Jobs, { policies })
      assert.strictEqual(yield* running(jobs.again({ n: 1 })), 1)
      const error = yield* running(callError(jobs.once({ n: 2 })))
      assert.deepStrictEqual(error.reason, new CallError.DeadlineExceeded({ timeoutMillis: 5_000 }))
      assert.lengthOf(script.requests, 3)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("waits on for a slow answer where the budget allows no further attempt", () => {
    const script = Scripted.make({})
    const { layer } = serving((n) => Effect.as(Effect.sleep(1_500), n))
    return Effect.gen(function* () {
      const policies = [
        Retry.policy({ schedule: Schedule.spaced(0), attemptTimeout: 100, budget: { ratio: 0, reserve: 1 } })
      ]
      const jobs = yield* Caller.make(Jobs, { policies })
      assert.strictEqual(yield* running(jobs.again({ n: 1 })), 1)
      assert.lengthOf(script.requests, 2)
      const late = yield* running(callError(jobs.again({ n: 2 }, { timeout: 1_000 })))
      assert.deepStrictEqual(late.reason, new CallError.DeadlineExceeded({ timeoutMillis: 1_000 }))
      assert.lengthOf(script.requests, 3)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("spends at most its budget, shared by all calls under the policy, and counts", () => {
    const script = Scripted.make({ request: () => "refused" })
    let sends = 0
    const Counting = Layer.effect(
      Transport.Transport,
      Effect.map(Transport.Transport, (inner) => ({
        ...inner,
        send: (...args: Parameters<typeof inner.send>) => {
          if (!Scripted.isPresence(JSON.parse(args[1]))) sends++
          inner.send(...args)
        }
      }))
    ).pipe(Layer.provide(script.layer))
    return Effect.gen(function* () {
      const policies = [Retry.policy({ schedule: Schedule.spaced(0), budget: { ratio: 0.1, reserve: 5 } })]
      const jobs = yield* Caller.make(Jobs, { policies })
      const others = yield* Caller.dynamic("others", { policies })
      const calls = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? jobs.once({ n }) : others.call("x")))
      yield* Effect.forEach(calls, (call) => running(Effect.flip(call)))
      // 5 at first, and 10 % of 100.
      assert.strictEqual(sends, 100 + 5 + 9)
      const retried = yield* Metric.value(
        Metric.withAttributes(Retry.retries, { service: "jobs", reason: "TransportError" })
      )
      const refused = yield* Metric.value(Metric.withAttributes(Retry.refused, { service: "others", why: "budget" }))
      assert.isAbove(retried.count, 5)
      assert.strictEqual(refused.count, 50)
    }).pipe(Effect.provide(Counting), Effect.provideService(Metric.MetricRegistry, new Map()))
  })

  describe("around an effect of its own", () => {
    const failed = (fields: Partial<Policy.Failure> & { readonly asks?: unknown } = {}): Policy.Failure => ({
      started: fields.started ?? "no",
      reason: fields.reason ?? { _tag: "Busy", retryAfterMillis: fields.asks }
    })

    /** Ends each attempt with the next of the failures, the last of them for ever. */
    const attempting = (policy: Policy.Policy, failures: ReadonlyArray<Policy.Failure>, idempotent = false) => {
      const at: Array<number> = []
      const attempt = Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.fail(failures[Math.min(at.push(now), failures.length) - 1]!)
      )
      const subject: Policy.Subject<Policy.Failure> = {
        service: "jobs",
        action: "run",
        kind: "call",
        idempotent,
        annotations: Context.empty(),
        refuse: () => Effect.die("unused"),
        failureOf: (failure) => failure
      }
      return { at, call: policy(attempt, subject) }
    }

    const count = (metric: typeof Retry.retries, attributes: Record<string, string>) =>
      Metric.value(Metric.withAttributes(metric, { service: "jobs", ...attributes }))

    const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideService(effect, Metric.MetricRegistry, new Map())

    /** For so long, on a clock that moves. */
    const passing = <A, E, R>(millis: number, call: Effect.Effect<A, E, R>) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.exit(call), { startImmediately: true })
        yield* TestClock.adjust(millis)
        return fiber.pollUnsafe() === undefined ? undefined : yield* Fiber.join(fiber)
      })

    it.effect("has ten retries in one go, and one for ten calls from then on, where nothing else is said", () =>
      Effect.gen(function* () {
        const policy = every(0)
        const attempts = (calls: number) =>
          Effect.gen(function* () {
            const { at, call } = attempting(policy, [failed()])
            for (let i = 0; i < calls; i++) yield* passing(0, call)
            return at.length
          })
        assert.strictEqual(yield* attempts(1), 1 + 10)
        assert.strictEqual(yield* attempts(9), 9)
        assert.strictEqual(yield* attempts(1), 1 + 1)
        assert.strictEqual(yield* attempts(30), 30 + 3)
        // It saves up no more than it began with.
        yield* Effect.forEach(Array.from({ length: 500 }), () =>
          policy(Effect.void, { failureOf: () => undefined } as unknown as Policy.Subject<never>)
        )
        assert.strictEqual(yield* attempts(1), 1 + 10)
      })
    )

    it.effect("counts its attempts by the reason before, and what it did not do by what was exhausted", () =>
      counted(
        Effect.gen(function* () {
          const once = Retry.policy({ schedule: Schedule.recurs(1) })
          yield* passing(0, attempting(once, [failed()]).call)
          const late = attempting(every(10), [failed()]).call
          yield* passing(10, Effect.provideService(late, Deadline.Deadline, yield* deadlineIn(10)))
          const poor = Retry.policy({ schedule: Schedule.spaced(0), budget: { reserve: 0 } })
          yield* passing(0, attempting(poor, [failed()]).call)
          assert.deepStrictEqual(yield* count(Retry.retries, { reason: "Busy" }), { count: 1, incremental: true })
          for (const why of ["schedule", "deadline", "budget"]) {
            assert.deepStrictEqual(yield* count(Retry.refused, { why }), { count: 1, incremental: true }, why)
          }
          assert.deepStrictEqual(
            [Retry.retries.id, Retry.refused.id],
            ["fiberbus_retries_total", "fiberbus_retries_refused_total"]
          )
        })
      )
    )

    const deadlineIn = (millis: number) =>
      Effect.map(
        Clock.clockWith((clock) => Effect.succeed(clock.monotonicTimeNanosUnsafe())),
        (nanos) => Number(nanos) / 1_000_000 + millis
      )

    it.effect("adds to its own wait what the service asks for, where that is a time", () =>
      Effect.gen(function* () {
        for (const [asks, wait] of [
          [undefined, 10],
          [0, 10],
          [-5, 10],
          [Number.NEGATIVE_INFINITY, 10],
          [Number.NaN, 10],
          ["90", 10],
          [null, 10],
          [90, 100]
        ]) {
          const { at, call } = attempting(Retry.policy({ schedule: Schedule.spaced(10) }), [failed({ asks })])
          const before = yield* Clock.currentTimeMillis
          yield* passing(150, call)
          assert.strictEqual(at[1]! - before, wait, String(asks))
        }
      })
    )

    it.effect("tries again in time that is left, not in the last moment", () =>
      Effect.gen(function* () {
        for (const [left, attempts] of [
          [-1, 1],
          [0, 1],
          [10, 1],
          [11, 2]
        ] as const) {
          const { at, call } = attempting(every(10), [failed()])
          const exit = yield* passing(50, Effect.provideService(call, Deadline.Deadline, yield* deadlineIn(left)))
          assert.lengthOf(at, attempts, `${left}`)
          assert.deepStrictEqual(exit, Exit.fail(failed()))
        }
      })
    )

    it.effect("ends at its deadline for any schedule, and counts no retry that had no time", () =>
      counted(
        Effect.gen(function* () {
          const { at, call } = attempting(Retry.policy({ schedule: Schedule.recurs(0) }), [failed()])
          yield* passing(0, Effect.provideService(call, Deadline.Deadline, yield* deadlineIn(0)))
          assert.lengthOf(at, 1)
          assert.strictEqual((yield* count(Retry.refused, { why: "schedule" })).count, 0)
        })
      )
    )

    it.effect("waits on for the answer to an attempt that has begun, and not for one that has not", () =>
      Effect.gen(function* () {
        const none = Retry.policy({ schedule: Schedule.recurs(0) })
        const late = (started: Policy.Failure["started"]) => failed({ started, reason: { _tag: "DeadlineExceeded" } })
        for (const started of ["yes", "unknown"] as const) {
          assert.isUndefined(yield* passing(10_000, attempting(none, [late(started)], true).call))
        }
        assert.deepStrictEqual(yield* passing(0, attempting(none, [late("no")], true).call), Exit.fail(late("no")))
        const lost = failed({ started: "unknown", reason: { _tag: "ConnectionLost" } })
        assert.deepStrictEqual(yield* passing(0, attempting(none, [lost], true).call), Exit.fail(lost))
      })
    )

    it.effect("gives attempts a time of their own only where it is told to, and only to what may be repeated", () =>
      Effect.gen(function* () {
        const patience = (options: Retry.Options, subject: Partial<Policy.Subject<never>>) =>
          Retry.policy(options)(
            Effect.map(Effect.context<never>(), (context) => Context.get(context, Deadline.AttemptTimeout)),
            { kind: "call", idempotent: true, ...subject } as Policy.Subject<never>
          )
        assert.strictEqual(yield* patience({ attemptTimeout: "2 seconds" }, {}), 2_000)
        assert.isUndefined(yield* patience({ attemptTimeout: "2 seconds" }, { idempotent: false }))
        assert.isUndefined(yield* patience({ attemptTimeout: "2 seconds" }, { kind: "stream" }))
        assert.strictEqual(yield* Effect.provideService(patience({}, {}), Deadline.AttemptTimeout, 7), 7)
      })
    )
  })

  it.effect("waits by default any time up to 50 ms, doubling to 2 seconds", () =>
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(Retry.schedule)
      const waits = yield* Effect.forEach(Array.from({ length: 10 }), () => step(0, undefined))
      const millis = waits.map(([, wait]) => Duration.toMillis(wait))
      for (const [index, wait] of millis.entries()) assert.isAtMost(wait, Math.min(2_000, 50 * 2 ** index))
      assert.isAbove(new Set(millis).size, 5)
    }).pipe(Random.withSeed("jitter"))
  )

  it.effect("repeats a stream only while nothing has been given to its consumer", () => {
    const script = Scripted.make({ request: (index) => (index === 0 ? "refused" : index === 2 ? "broken" : "arrives") })
    const { layer } = serving((n) => Effect.succeed(n))
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(10)] })
      const events = yield* running(Stream.runCollect(jobs.again.stream({ n: 1 })))
      assert.deepStrictEqual(events, [{ _tag: "Success", value: 1 }])
      const error = yield* running(callError(Stream.runDrain(jobs.again.stream({ n: 1 }))))
      assert.strictEqual(error.started, "unknown")
      assert.lengthOf(script.requests, 2)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("is taken back, and forgotten, when the caller's fiber is interrupted in an attempt or between two", () => {
    const script = Scripted.make({ request: (index) => (index === 1 ? "broken" : "arrives") })
    const { layer } = serving(() => Effect.never)
    return Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(100)] })
      for (const number of [1, 2]) {
        const call = yield* Effect.forkChild(jobs.again({ n: 1 }), { startImmediately: true })
        yield* Scripted.turns()
        assert.strictEqual(yield* pendingCalls, 1)
        yield* Fiber.interrupt(call)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(call)))
        assert.strictEqual(yield* pendingCalls, 0)
        assert.lengthOf(script.controls, number)
        assert.strictEqual(script.controls[number - 1]!["fiberbus"].cancel, script.requests[number - 1]!["request_id"])
      }
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
  })

  it.effect("ends when the caller's Scope closes, in whatever it waits", () => {
    const script = Scripted.make({ request: () => "refused" })
    return Effect.gen(function* () {
      const call = yield* Effect.scoped(
        Effect.gen(function* () {
          const jobs = yield* Caller.make(Jobs, { policies: [every(100)] })
          return yield* Effect.forkDetach(callError(jobs.once({ n: 1 })), { startImmediately: true })
        })
      )
      const error = yield* Fiber.join(call)
      assert.deepInclude(error.reason, { _tag: "TransportError", kind: "Closed" })
      assert.strictEqual(error.started, "no")
    }).pipe(Effect.provide(script.layer))
  })

  it.effect("over memory: nobody there yet, then somebody", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs, { policies: [every(100)] })
      const call = yield* Effect.forkChild(jobs.once({ n: 7 }), { startImmediately: true })
      yield* Scripted.turns()
      assert.isUndefined(call.pollUnsafe())
      yield* Layer.build(serving(Effect.succeed).layer)
      assert.strictEqual(yield* joining(call), 7)
    }).pipe(Effect.provide(Memory.layer))
  )
})
