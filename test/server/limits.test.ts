import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Option, Queue, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  Broadcast,
  type CallError,
  Caller,
  Concurrency,
  Handlers,
  Listener,
  Memory,
  Request,
  Service,
  Topic,
  Transport
} from "fiberbus"
import type { Options } from "../../src/server/Options.ts"

class Work extends Service.make(
  "work",
  Action.make("go", { payload: { id: Schema.String }, success: Schema.String }),
  Action.make("report", { payload: { id: Schema.String }, success: Schema.String }).pipe(
    Action.annotate(Action.Concurrency, 2)
  )
) {}

const nobody = Transport.publish("nobody", "{}")

/** A service whose handlers say that they have begun, and end when they are told to. */
const make = Effect.fnUntraced(function* (options: Options, service: typeof Work = Work) {
  const begun = yield* Queue.unbounded<string>()
  const running = new Map<string, Deferred.Deferred<void>>()
  const handle = ({ id }: { readonly id: string }) =>
    Effect.gen(function* () {
      const end = yield* Deferred.make<void>()
      running.set(id, end)
      yield* Queue.offer(begun, id)
      yield* Deferred.await(end)
      running.delete(id)
      return id
    })
  yield* Layer.build(Handlers.layer(service, { go: handle, report: handle }, { grace: 0, ...options }))
  const caller = yield* Caller.make(service)
  /** Begins a call and goes on when the service has it. */
  const call = Effect.fnUntraced(function* (action: "go" | "report", id: string, headers: Record<string, string> = {}) {
    const fiber = yield* Effect.forkChild(caller[action]({ id }, { headers, timeout: 60_000 }), {
      startImmediately: true
    })
    yield* nobody
    return fiber
  })
  return {
    call,
    calls: (action: "go" | "report", ids: ReadonlyArray<string>, headers?: Record<string, string>) =>
      Effect.forEach(ids, (id) => call(action, id, headers)),
    /** Ends the handler of a request that has begun. */
    end: (id: string) => Effect.suspend(() => Deferred.succeed(running.get(id)!, undefined)),
    /** Those that have begun since it was asked last, in order. */
    begun: Effect.andThen(nobody, Queue.clear(begun)),
    next: Queue.take(begun)
  }
})

const outcome = (exit: Exit.Exit<string, unknown>) => {
  if (Exit.isSuccess(exit)) return exit.value
  const { reason, started } = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  return `${reason._tag} ${started}`
}

const outcomeOf = (fiber: Fiber.Fiber<string, unknown>) => Effect.map(Fiber.await(fiber), outcome)

/** Ends one after the other in the order in which they begin, and tells that order. */
const runOut = Effect.fnUntraced(function* (
  work: Effect.Success<ReturnType<typeof make>>,
  first: string,
  count: number
) {
  const order: Array<string> = []
  let id = first
  yield* work.begun
  for (let ended = 0; ended < count; ended++) {
    yield* work.end(id)
    id = yield* work.next
    order.push(id)
  }
  yield* work.end(id)
  return order
})

describe("A limit of concurrency", () => {
  it.effect("is changed while it holds: upwards who waits begins, downwards what runs ends first", () =>
    Effect.gen(function* () {
      const limit = yield* Concurrency.make(1)
      const work = yield* make({ concurrency: limit })
      yield* work.calls("go", ["1", "2", "3", "4", "5"])
      assert.deepStrictEqual(yield* work.begun, ["1"])

      yield* limit.resize(3)
      assert.deepStrictEqual(yield* work.begun, ["2", "3"])
      assert.strictEqual(yield* limit.running, 3)

      yield* limit.resize(1)
      assert.strictEqual(yield* limit.running, 3)
      assert.strictEqual(yield* limit.limit, 1)
      yield* work.end("1")
      yield* work.end("2")
      assert.deepStrictEqual(yield* work.begun, [])
      yield* work.end("3")
      assert.deepStrictEqual(yield* work.begun, ["4"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("is shared by services and listeners, which get free slots in turn", () =>
    Effect.gen(function* () {
      const limit = Concurrency.makeUnsafe(1)
      const Other = Service.make("other", Work.actions.go, Work.actions.report)
      const work = yield* make({ concurrency: limit })
      const other = yield* make({ concurrency: limit }, Other as never)
      const News = Topic.make("news", { text: Schema.String })
      const heard = yield* Queue.unbounded<string>()
      yield* Layer.build(Listener.layer(News, ({ text }) => Queue.offer(heard, text), { concurrency: limit }))

      yield* work.calls("go", ["a1", "a2", "a3"])
      yield* other.calls("go", ["b1", "b2"])
      yield* Broadcast.publish(News, { text: "news" })
      assert.deepStrictEqual(yield* work.begun, ["a1"])

      yield* work.end("a1")
      assert.strictEqual(yield* work.next, "a2")
      yield* work.end("a2")
      assert.strictEqual(yield* other.next, "b1")
      assert.deepStrictEqual(yield* Queue.clear(heard), [])
      yield* other.end("b1")
      assert.strictEqual(yield* Queue.take(heard), "news")
      // The listener was done at once, so that the next was begun.
      assert.strictEqual(yield* work.next, "a3")
      yield* work.end("a3")
      assert.strictEqual(yield* other.next, "b2")
      assert.strictEqual(yield* limit.running, 1)
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("gets back what a service holds that is closed", () =>
    Effect.gen(function* () {
      const limit = yield* Concurrency.make(2)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const work = yield* make({ concurrency: limit })
          yield* work.calls("go", ["1", "2", "3"])
          assert.strictEqual(yield* limit.running, 2)
        })
      )
      assert.strictEqual(yield* limit.running, 0)
      const work = yield* make({ concurrency: limit })
      yield* work.calls("go", ["4", "5"])
      assert.deepStrictEqual(yield* work.begun, ["4", "5"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("cannot be nothing, a part, or no number", () =>
    Effect.gen(function* () {
      for (const limit of [0, -1, 1.5, Number.NaN]) {
        assert.throws(() => Concurrency.makeUnsafe(limit), RangeError)
        const ok = yield* Concurrency.make(1)
        assert.isTrue(Exit.hasDies(yield* Effect.exit(ok.resize(limit))))
        assert.strictEqual(yield* ok.limit, 1)
        assert.isTrue(Exit.hasDies(yield* Effect.exit(make({ concurrency: limit }))))
      }
      assert.isTrue(Concurrency.isConcurrency(Concurrency.makeUnsafe(Number.POSITIVE_INFINITY)))
      assert.isFalse(Concurrency.isConcurrency(10))
    }).pipe(Effect.provide(Memory.layer))
  )
})

describe("A limit of one action", () => {
  it.effect("keeps no other action from free slots, nor from the backlog, whoever floods it", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 3, backlog: 4 })
      const reports = yield* work.calls("report", ["r1", "r2", "r3", "r4", "r5", "r6"])
      assert.deepStrictEqual(yield* work.begun, ["r1", "r2"])

      // A slot is free, though four wait.
      yield* work.calls("go", ["g1"])
      assert.deepStrictEqual(yield* work.begun, ["g1"])
      // No slot is free and the backlog is full: the flood makes room.
      yield* work.calls("go", ["g2"])
      assert.strictEqual(yield* outcomeOf(reports[5]!), "Busy no")

      yield* work.end("r1")
      assert.deepStrictEqual(yield* work.begun, ["r3"])
      yield* work.end("g1")
      assert.deepStrictEqual(yield* work.begun, ["g2"])
      yield* work.end("g2")
      // Free slots are left to others while the action has what it may.
      assert.deepStrictEqual(yield* work.begun, [])
      yield* work.end("r2")
      yield* work.end("r3")
      assert.deepStrictEqual(yield* work.begun, ["r4", "r5"])
      yield* work.end("r4")
      yield* work.end("r5")
      const outcomes = yield* Effect.forEach(reports, outcomeOf)
      assert.deepStrictEqual(outcomes, ["r1", "r2", "r3", "r4", "r5", "Busy no"])
    }).pipe(Effect.provide(Memory.layer))
  )
})

describe("A full backlog", () => {
  it.effect("refuses the newcomer with Busy and a time that grows with what waits", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: 2 })
      const calls = yield* work.calls("go", ["1", "2", "3", "4"])
      const error = yield* Effect.flip(Fiber.join(calls[3]!))
      assert.deepInclude(error, { started: "no" })
      const { reason } = error as CallError.CallError
      assert.isTrue(reason._tag === "Busy" && reason.retryAfterMillis >= 1 && reason.retryAfterMillis <= 30_000)
      assert.deepStrictEqual(yield* runOut(work, "1", 2), ["2", "3"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("drops the oldest where that is wanted, which gets Busy", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: { size: 2, whenFull: "dropOldest" } })
      const calls = yield* work.calls("go", ["1", "2", "3", "4", "5"])
      assert.strictEqual(yield* outcomeOf(calls[1]!), "Busy no")
      assert.strictEqual(yield* outcomeOf(calls[2]!), "Busy no")
      assert.deepStrictEqual(yield* runOut(work, "1", 2), ["4", "5"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("drops the newest without an answer where that is wanted, and counts it", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: { size: 1, whenFull: "dropNewest" } })
      const calls = yield* work.calls("go", ["1", "2", "3"])
      yield* TestClock.adjust(59_999)
      assert.isUndefined(calls[2]!.pollUnsafe())
      assert.strictEqual(yield* value("fiberbus_requests_refused_total", { reason: "Dropped" }), 1)
      assert.deepStrictEqual(yield* runOut(work, "1", 1), ["2"])
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* outcomeOf(calls[2]!), "DeadlineExceeded unknown")
    }).pipe(withMetrics, Effect.provide(Memory.layer))
  )

  it.effect("of a listener drops and counts: the newest, or the oldest", () =>
    Effect.gen(function* () {
      const News = Topic.make("news", { n: Schema.Finite })
      for (const whenFull of ["refuse", "dropNewest", "dropOldest"] as const) {
        const heard = yield* Queue.unbounded<number>()
        const goOn = yield* Queue.unbounded<void>()
        yield* Effect.scoped(
          Effect.gen(function* () {
            const hear = ({ n }: { readonly n: number }) => Effect.andThen(Queue.offer(heard, n), Queue.take(goOn))
            yield* Layer.build(Listener.layer(News, hear, { concurrency: 1, backlog: { size: 2, whenFull }, grace: 0 }))
            for (const n of [1, 2, 3, 4]) yield* Broadcast.publish(News, { n })
            yield* nobody
            yield* Queue.offerAll(goOn, [undefined, undefined])
            const got = [yield* Queue.take(heard), yield* Queue.take(heard), yield* Queue.take(heard)]
            assert.deepStrictEqual(got, whenFull === "dropOldest" ? [1, 3, 4] : [1, 2, 3])
          })
        )
      }
      assert.strictEqual(yield* value("fiberbus_requests_refused_total", { service: "news", reason: "Busy" }), 2)
      assert.strictEqual(yield* value("fiberbus_discarded_total", { reason: "Busy" }), 2)
      assert.strictEqual(yield* value("fiberbus_discarded_total", { reason: "Dropped" }), 1)
    }).pipe(withMetrics, Effect.provide(Memory.layer))
  )
})

describe("Fairness by key", () => {
  const fairBy: NonNullable<Options["fairBy"]> = ({ headers }) => {
    if (headers["tenant"] === "mad") throw new Error("no key")
    return headers["tenant"] ?? ""
  }
  const tenant = (name: string) => ({ tenant: name })

  it.effect("serves waiting requests of different keys in turn, each key's in order", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, fairBy })
      yield* work.calls("go", ["a0", "a1", "a2", "a3"], tenant("a"))
      yield* work.calls("go", ["b1", "b2"], tenant("b"))
      yield* work.calls("go", ["c1"], tenant("c"))
      assert.deepStrictEqual(yield* work.begun, ["a0"])
      assert.deepStrictEqual(yield* runOut(work, "a0", 6), ["a1", "b1", "c1", "a2", "b2", "a3"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("lets a key alone use the backlog, and makes room for the others by its newest", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: 4, fairBy })
      const a = yield* work.calls("go", ["a0", "a1", "a2", "a3", "a4"], tenant("a"))
      const b = yield* work.calls("go", ["b1", "b2", "b3"], tenant("b"))
      const c = yield* work.calls("go", ["c1", "c2"], tenant("c"))
      // Two each; a third of one's own would only take the other's place. Then one place for c.
      assert.strictEqual(yield* outcomeOf(a[4]!), "Busy no")
      assert.strictEqual(yield* outcomeOf(a[3]!), "Busy no")
      assert.strictEqual(yield* outcomeOf(b[2]!), "Busy no")
      assert.strictEqual(yield* outcomeOf(c[1]!), "Busy no")
      const order = yield* runOut(work, "a0", 4)
      assert.lengthOf(order, 4)
      assert.include(order, "c1")
      const outcomes = yield* Effect.forEach([...a, ...b, ...c], outcomeOf)
      assert.lengthOf(
        outcomes.filter((outcome) => outcome === "Busy no"),
        5
      )
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("makes room by the oldest of the greedy key where the oldest is to go", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: { size: 3, whenFull: "dropOldest" }, fairBy })
      const a = yield* work.calls("go", ["a0", "a1", "a2", "a3"], tenant("a"))
      const b = yield* work.calls("go", ["b1", "b2"], tenant("b"))
      assert.strictEqual(yield* outcomeOf(a[1]!), "Busy no")
      assert.strictEqual(yield* outcomeOf(b[0]!), "Busy no")
      assert.deepStrictEqual(yield* runOut(work, "a0", 3), ["a2", "b2", "a3"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("hurts only the request whose key cannot be told", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, fairBy })
      yield* work.calls("go", ["a0"], tenant("a"))
      const mad = yield* work.call("go", "mad", tenant("mad"))
      yield* work.calls("go", ["a1"], tenant("a"))
      assert.strictEqual(yield* outcomeOf(mad), "RemoteDefect no")
      assert.deepStrictEqual(yield* runOut(work, "a0", 1), ["a1"])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("keeps its word to waiting callers that leave", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1, backlog: 2, fairBy })
      const [, a1] = yield* work.calls("go", ["a0", "a1"], tenant("a"))
      yield* work.calls("go", ["b1"], tenant("b"))
      yield* Fiber.interrupt(a1!)
      yield* nobody
      yield* work.calls("go", ["c1"], tenant("c"))
      assert.deepStrictEqual(yield* runOut(work, "a0", 2), ["b1", "c1"])
      assert.strictEqual(yield* value("fiberbus_backlog", { service: "work" }), 0)
    }).pipe(withMetrics, Effect.provide(Memory.layer))
  )
})

describe("A request that waits", () => {
  it.effect("is counted as refused when its deadline passes", () =>
    Effect.gen(function* () {
      const work = yield* make({ concurrency: 1 })
      const calls = yield* work.calls("go", ["1", "2"])
      yield* TestClock.adjust("61 seconds")
      for (const call of calls) assert.include(yield* outcomeOf(call), "DeadlineExceeded")
      assert.deepStrictEqual(yield* work.begun, ["1"])
      assert.strictEqual(yield* value("fiberbus_requests_refused_total", { reason: "DeadlineExceeded" }), 1)
    }).pipe(withMetrics, Effect.provide(Memory.layer))
  )

  it.effect("for a handler that waits for it ends with its deadline, and both slots are free again", () =>
    Effect.gen(function* () {
      const Nested = Service.make(
        "nested",
        Action.make("outer", { success: Schema.String }),
        Action.make("inner", { success: Schema.String })
      )
      const begun = yield* Queue.unbounded<string>()
      const Live = Handlers.layer(
        Nested,
        Effect.map(Caller.make(Nested), (nested) => ({
          outer: () =>
            Effect.andThen(Queue.offer(begun, "outer"), nested.inner()).pipe(
              Effect.catch(({ reason, started }) => Effect.succeed(`${reason._tag} ${started}`))
            ),
          inner: () => Effect.as(Queue.offer(begun, "inner"), "inner")
        })),
        { concurrency: 1 }
      )
      yield* Layer.build(Live)
      const nested = yield* Caller.make(Nested)
      const call = yield* Effect.forkChild(Effect.exit(nested.outer({ timeout: "2 seconds" })), {
        startImmediately: true
      })
      assert.strictEqual(yield* Queue.take(begun), "outer")
      yield* nobody
      yield* TestClock.adjust("3 seconds")
      assert.include(outcome(yield* Fiber.join(call)), "DeadlineExceeded")
      assert.strictEqual(yield* nested.inner(), "inner")
      assert.deepStrictEqual(yield* Queue.clear(begun), ["inner"])
    }).pipe(Effect.provide(Memory.layer))
  )
})

describe("A handler's time", () => {
  it.effect("is limited for requests without a deadline, and shows in what they call", () =>
    Effect.gen(function* () {
      const begun = yield* Queue.unbounded<number | undefined>()
      const Slow = Service.make("slow", Action.make("go"))
      const stuck = Effect.flatMap(Request.current, ({ remainingMillis }) =>
        Effect.andThen(Queue.offer(begun, remainingMillis), Effect.never)
      )
      yield* Layer.build(Handlers.layer(Slow, { go: () => stuck }, { concurrency: 1, handlerTimeout: "2 seconds" }))
      const transport = yield* Transport.Transport
      const replies = yield* Queue.unbounded<any>()
      yield* transport.subscribe({ _tag: "Channel", channel: "caller:test" }, (frame) => {
        Queue.offerUnsafe(replies, JSON.parse(String(frame)))
      })
      for (const request_id of ["1", "2"])
        yield* Transport.publish("slow", JSON.stringify({ action: "go", reply_to: "caller:test", request_id }))
      // Each has its time from when it begins.
      for (const request_id of ["1", "2"]) {
        assert.strictEqual(yield* Queue.take(begun), 2_000)
        yield* TestClock.adjust("2 seconds")
        const reply = yield* Queue.take(replies)
        assert.strictEqual(reply.request_id, request_id)
        assert.deepInclude(reply.payload, {
          started: "yes",
          reason: { _tag: "DeadlineExceeded", timeoutMillis: 2_000 }
        })
      }
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("of a listener is limited too: it is interrupted and counted, which is nobody's defect", () =>
    Effect.gen(function* () {
      const News = Topic.make("news", { text: Schema.String })
      const ended = yield* Queue.unbounded<string>()
      const hear = ({ text }: { readonly text: string }) =>
        (text === "never" ? Effect.never : Effect.void).pipe(
          Effect.onExit((exit) => Queue.offer(ended, Exit.hasInterrupts(exit) ? "interrupted" : text))
        )
      yield* Layer.build(Listener.layer(News, hear, { concurrency: 1, handlerTimeout: 100 }))
      yield* Broadcast.publish(News, { text: "never" })
      yield* Broadcast.publish(News, { text: "next" })
      yield* nobody
      yield* TestClock.adjust(110)
      assert.strictEqual(yield* Queue.take(ended), "interrupted")
      assert.strictEqual(yield* Queue.take(ended), "next")
      assert.strictEqual(yield* value("fiberbus_discarded_total", { reason: "DeadlineExceeded" }), 1)
    }).pipe(withMetrics, Effect.provide(Memory.layer))
  )
})

describe("Overload", () => {
  it.effect("ends each of ten thousand calls at once in a typed outcome, with an exact account", () =>
    Effect.gen(function* () {
      let atOnce = 0
      let most = 0
      const executions = new Map<string, number>()
      const handle = ({ id }: { readonly id: string }) =>
        Effect.gen(function* () {
          executions.set(id, (executions.get(id) ?? 0) + 1)
          most = Math.max(most, ++atOnce)
          yield* Effect.yieldNow
          atOnce--
          return id
        })
      yield* Layer.build(Handlers.layer(Work, { go: handle, report: handle }))
      const work = yield* Caller.make(Work)
      const ids = Array.from({ length: 10_000 }, (_, index) => `${index}`)
      const exits = yield* Effect.forEach(ids, (id) => Effect.exit(work.go({ id }, { timeout: 60_000 })), {
        concurrency: "unbounded"
      })
      let answered = 0
      for (const [index, exit] of exits.entries()) {
        const id = ids[index]!
        if (outcome(exit) === id) answered++
        else assert.strictEqual(outcome(exit), "Busy no")
        assert.strictEqual(executions.get(id) ?? 0, outcome(exit) === id ? 1 : 0)
      }
      assert.strictEqual(most, 10)
      assert.isAtLeast(answered, 1_010)
      assert.strictEqual(executions.size, answered)
      assert.strictEqual(
        yield* value("fiberbus_requests_refused_total", { service: "work", reason: "Busy" }),
        10_000 - answered
      )
      assert.strictEqual(yield* value("fiberbus_handlers_running", { service: "work" }), 0)
      assert.strictEqual(yield* value("fiberbus_backlog", { service: "work" }), 0)
    }).pipe(withMetrics, Effect.provide(Layer.fresh(Memory.layer)))
  )
})

describe("The gauges of a service", () => {
  it.effect("show all of its layers, and nothing when there is none", () =>
    Effect.gen(function* () {
      const Go = Service.make("two", Work.actions.go)
      const Report = Service.make("two", Work.actions.report)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const never = { concurrency: 1, grace: 0 }
          yield* Layer.build(Handlers.layer(Go, { go: () => Effect.never }, never))
          yield* Effect.scoped(
            Effect.gen(function* () {
              yield* Layer.build(Handlers.layer(Report, { report: () => Effect.never }, never))
              const go = yield* Caller.make(Go)
              const report = yield* Caller.make(Report)
              for (const id of ["1", "2", "3"]) yield* go.go.send({ id })
              for (const id of ["1", "2"]) yield* report.report.send({ id })
              yield* nobody
              assert.strictEqual(yield* value("fiberbus_handlers_running", { service: "two" }), 2)
              assert.strictEqual(yield* value("fiberbus_backlog", { service: "two" }), 3)
            })
          )
          assert.strictEqual(yield* value("fiberbus_handlers_running", { service: "two" }), 1)
          assert.strictEqual(yield* value("fiberbus_backlog", { service: "two" }), 2)
        })
      )
      assert.isUndefined(yield* value("fiberbus_handlers_running", { service: "two" }))
      assert.isUndefined(yield* value("fiberbus_backlog", { service: "two" }))
    }).pipe(withMetrics, Effect.provide(Layer.fresh(Memory.layer)))
  )
})

/** The sum of a metric's series that have these attributes; nothing if there are none. */
function value(id: string, attributes: Record<string, string>) {
  return Effect.map(Metric.snapshot, (series) => {
    const found = series.filter(
      (one) => one.id === id && Object.entries(attributes).every(([name, wanted]) => one.attributes?.[name] === wanted)
    )
    if (found.length === 0) return undefined
    return found.reduce((sum, { state }) => sum + Number("count" in state ? state.count : (state as any).value), 0)
  })
}

/** A registry of its own. */
function withMetrics<A, E, R>(effect: Effect.Effect<A, E, R>) {
  return Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))
}
