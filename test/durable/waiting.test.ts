import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Metric, Option, Schedule, Schema, SchemaGetter, Scope, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Deadline, type Durable, type Policy, Service } from "fiberbus"
import * as Recorder from "../recorder.ts"
import * as Played from "./played.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}

/** A result that takes a second to be read. */
const Slow = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.sleep("1 second"), text)),
    encode: SchemaGetter.transform((text: string) => text)
  })
)

const durable = <A extends Action.Any>(action: A) => Action.annotate(action, Action.Delivery, "durable")

const Jobs = Service.make(
  "jobs",
  durable(Action.make("run", { payload: { n: Schema.Any }, success: Schema.Finite, error: Declined })),
  durable(Action.make("keyed", { payload: { key: Schema.optional(Schema.Any) }, success: Schema.Finite })).pipe(
    Action.annotate(Action.Key, ({ key }: { readonly key: any }) => key)
  ),
  durable(Action.make("slow", { success: Slow }))
)

/** A caller over a store that the test plays. */
const scene = Effect.fnUntraced(function* (options?: Played.Options) {
  const played = yield* Played.make(options)
  const jobs = yield* played.provide(Caller.make(Jobs))
  return { ...played, jobs }
})

const start = <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.forkChild(Effect.exit(call), { startImmediately: true })

/** How a call ended that failed on its way: why, whether it had started, and the receipt. */
const endOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit!)) as CallError.CallError
  assert.instanceOf(error, CallError.CallError)
  const { reason, started } = error
  return {
    reason: reason._tag === "TransportError" ? reason.kind : reason._tag,
    started,
    ...(reason._tag === "DeadlineExceeded" && reason.receipt !== undefined ? { receipt: reason.receipt } : undefined)
  }
}

const times = (all: ReadonlyArray<{ readonly at: number }>) => all.map(({ at }) => at)

const success = (payload: unknown) => ({ status: "success", payload, final: true })

describe("a durable call", () => {
  it.effect("is appended once, with where its answer goes, and needs no look where that comes", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs, looks, sent } = yield* scene()
      const call = yield* start(jobs.run({ n: 1 }, { headers: { tenant: "a" } }))
      const append = yield* Played.next(appends)
      assert.deepInclude(append, { queue: "t:{jobs}" })
      assert.deepInclude(append.message, { key: "", delayMillis: 0 })
      const { fiberbus, reply_to, ...frame } = append.frame
      assert.match(reply_to, /^t:caller:/)
      // Its time is that of its waiting, and not of the work.
      assert.deepStrictEqual(fiberbus, { v: 1, headers: { tenant: "a" } })
      assert.deepStrictEqual(frame, {
        service: "jobs",
        action: "run",
        payload: { n: 1 },
        request_id: append.message.id
      })
      append.done(undefined, { _tag: "Added" })
      yield* Played.pass(999)
      answer(append, success(5))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(call.pollUnsafe(), Exit.succeed(Exit.succeed(5)))
      assert.deepStrictEqual([yield* Played.rest(appends), yield* Played.rest(looks), sent], [[], [], []])
    })
  )

  it.effect("says nothing beside its payload where there is nothing to say", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene()
      yield* start(jobs.run({ n: 1 }))
      assert.notProperty((yield* Played.next(appends)).frame, "fiberbus")
    })
  )

  it.effect("has its answer even where that is faster than the word that it is kept", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs, looks } = yield* scene()
      const call = yield* start(jobs.run({ n: 1 }))
      const append = yield* Played.next(appends)
      answer(append, { status: "error", payload: { failure: { _tag: "Declined", why: "no" } }, final: true })
      yield* Played.pass(0)
      assert.deepStrictEqual(call.pollUnsafe(), Exit.succeed(Exit.fail(new Declined({ why: "no" }))))
      append.done(undefined, { _tag: "Added" })
      yield* Played.pass(60_000)
      assert.deepStrictEqual([yield* Played.rest(appends), yield* Played.rest(looks)], [[], []])
    })
  )

  it.effect("has the result at once of what was handled before under its id", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({ append: () => Played.done(7) })
      assert.strictEqual(yield* jobs.run({ n: 1 }), 7)
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Played.rest(looks), [])
    })
  )

  it.effect("takes its turn among those of its key", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene()
      for (const key of ["ann", 7, "x".repeat(300), undefined]) yield* start(jobs.keyed({ key }))
      const keys = (yield* Played.rest(appends)).map(({ message }) => message.key)
      assert.deepStrictEqual(keys, ["ann", "7", "x".repeat(256), ""])
    })
  )

  it.effect(
    "is not kept where its payload could not be read: too deep, no JSON, or larger than store or bus allow",
    () =>
      Effect.gen(function* () {
        // The payload is one level, the request another one.
        const nested = (depth: number) => Array.from({ length: depth }).reduce<unknown>((inner) => [inner], 0)
        const deep = nested(63)
        const large = { n: "x".repeat(3_000) }
        const small = Played.make()
        const { durable, transport } = yield* small
        const smallStore = { durable: { capabilities: { ...durable.capabilities, maxFrameBytes: 2_000 } } }
        const smallBus = { transport: { capabilities: { ...transport.capabilities, maxFrameBytes: 2_000 } } }
        for (const [options, payload, fields] of [
          [{}, { n: deep }, { _tag: "InvalidPayload", path: [] }],
          [{}, { n: 1n }, { _tag: "InvalidPayload", path: [] }],
          [smallStore, large, { _tag: "PayloadTooLarge", what: "request", maxBytes: 2_000 }],
          [smallBus, large, { _tag: "PayloadTooLarge", what: "request", maxBytes: 2_000 }]
        ] as const) {
          const { appends, jobs } = yield* scene(options)
          for (const call of [jobs.run(payload), jobs.run.enqueue(payload)]) {
            const error = yield* Effect.flip(call as Effect.Effect<unknown, CallError.CallError | Declined>)
            assert.strictEqual(error._tag === "CallError" && error.started, "no")
            assert.deepInclude(error._tag === "CallError" && error.reason, fields)
          }
          // It says what would do.
          const { reason } = (yield* Effect.flip(jobs.run(payload))) as CallError.CallError
          if (reason._tag === "PayloadTooLarge") assert.isAbove(reason.bytes, 3_000)
          else assert.include(reason.message, payload.n === 1n ? "that JSON can carry" : "nested at most 63 deep")
          assert.deepStrictEqual(yield* Played.rest(appends), [])
        }
        const { jobs } = yield* scene({ append: () => Played.done(1) })
        assert.strictEqual(yield* jobs.run({ n: nested(62) }), 1)
      })
  )

  it.effect("leaves its place to others however it ends", () =>
    Effect.gen(function* () {
      const played = yield* Played.make({
        append: (index) => (index === 0 ? Played.failed("Overloaded") : index < 4 ? undefined : Played.done(5))
      })
      const jobs = yield* played.provide(Caller.make(Jobs)).pipe(Effect.provideService(Caller.MaxPending, 1))
      assert.deepStrictEqual(endOf(yield* Effect.exit(jobs.run({ n: 1n }))), {
        reason: "InvalidPayload",
        started: "no"
      })
      assert.deepStrictEqual(endOf(yield* Effect.exit(jobs.run({ n: 1 }))), { reason: "Overloaded", started: "no" })
      const late = yield* start(jobs.run({ n: 1 }, { timeout: "1 second" }))
      yield* Played.pass(1_000)
      assert.deepInclude(endOf(yield* Fiber.join(late)), { reason: "DeadlineExceeded" })
      yield* Fiber.interrupt(yield* start(jobs.run({ n: 1 })))
      const answered = yield* start(jobs.run({ n: 1 }))
      played.answer((yield* Played.rest(played.appends)).at(-1)!, success(5))
      yield* Played.pass(0)
      assert.deepStrictEqual(yield* Fiber.join(answered), Exit.succeed(5))
      assert.strictEqual(yield* jobs.run({ n: 1 }), 5)
    })
  )

  it.effect("is refused, and not kept, while as many wait as may", () =>
    Effect.gen(function* () {
      const played = yield* Played.make()
      const jobs = yield* played.provide(Caller.make(Jobs)).pipe(Effect.provideService(Caller.MaxPending, 1))
      yield* start(jobs.run({ n: 1 }))
      yield* Played.next(played.appends)
      assert.deepStrictEqual(endOf(yield* Effect.exit(jobs.run({ n: 2 }))), { reason: "Overloaded", started: "no" })
      assert.deepStrictEqual(yield* Played.rest(played.appends), [])
    })
  )
})

describe("a durable call that does not know whether it is kept", () => {
  it.effect("is appended again under its id, sooner at first, until its time is over", () =>
    Effect.gen(function* () {
      const { appends, jobs, looks } = yield* scene({ append: () => Played.failed("Unreachable") })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "8 seconds" }))
      yield* Played.pass(7_999)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(60_000)
      const all = yield* Played.rest(appends)
      assert.deepStrictEqual(times(all), [0, 50, 150, 350, 750, 1_550, 3_150, 5_150, 7_150])
      for (const { message } of all) assert.deepStrictEqual(message, all[0]!.message)
      // Nothing ever left.
      assert.deepStrictEqual(endOf(yield* Fiber.join(call)), { reason: "DeadlineExceeded", started: "no" })
      assert.deepStrictEqual(yield* Played.rest(looks), [])
    })
  )

  it.effect("ends with the receipt of what may be kept, however often the store was out of reach after that", () =>
    Effect.gen(function* () {
      for (const doubt of ["Timeout", "ConnectionLost"] as const) {
        const { appends, jobs } = yield* scene({
          append: (index) => (index === 0 ? Played.failed(doubt, "unknown") : Played.failed("Unreachable"))
        })
        const call = yield* start(jobs.run({ n: 1 }, { timeout: "200 millis" }))
        yield* Played.pass(200)
        const [first, ...others] = yield* Played.rest(appends)
        assert.lengthOf(others, 2)
        assert.deepStrictEqual(endOf(yield* Fiber.join(call)), {
          reason: "DeadlineExceeded",
          started: "unknown",
          receipt: first!.message.id
        })
      }
    })
  )

  it.effect("ends at once for a reason that does not pass by itself, and says whether it may be kept", () =>
    Effect.gen(function* () {
      const pending = []
      for (const kind of ["Overloaded", "PermissionDenied", "Unknown"] as const) {
        for (const [doubt, started] of [
          ["no", "no"],
          ["unknown", "unknown"]
        ] as const) {
          const { appends, jobs } = yield* scene({
            append: (index) => (index === 0 ? Played.failed("Timeout", doubt) : Played.failed(kind))
          })
          const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 hour" }))
          yield* Played.pass(50)
          assert.deepStrictEqual(endOf(yield* Fiber.join(call)), { reason: kind, started })
          yield* Played.pass(60_000)
          pending.push(...(yield* Played.rest(appends)).slice(2))
        }
      }
      assert.deepStrictEqual(pending, [])
    })
  )

  it.effect("has its answer while it waits to be appended again, and is appended no more", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs } = yield* scene({ append: () => Played.failed("Timeout", "unknown") })
      const call = yield* start(jobs.run({ n: 1 }))
      answer(yield* Played.next(appends), success(5))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(5))
      assert.deepStrictEqual(yield* Played.rest(appends), [])
    })
  )

  it.effect("ends by its deadline while the store says nothing, whatever that says afterwards", () =>
    Effect.gen(function* () {
      for (const late of [
        (append: Played.Append) => append.done(undefined, { _tag: "Added" }),
        (append: Played.Append) => append.done(undefined, Played.done(5)),
        (append: Played.Append) => append.done(Played.failed("Timeout"), undefined)
      ]) {
        const { appends, jobs, looks } = yield* scene()
        const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 second" }))
        const append = yield* Played.next(appends)
        yield* Played.pass(1_000)
        // The store may have it.
        assert.deepStrictEqual(endOf(yield* Fiber.join(call)), {
          reason: "DeadlineExceeded",
          started: "unknown",
          receipt: append.message.id
        })
        late(append)
        yield* Played.pass(60_000)
        assert.deepStrictEqual([yield* Played.rest(appends), yield* Played.rest(looks)], [[], []])
      }
    })
  )

  it.effect("ends by its deadline also where it is being appended again", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({
        append: (index) => (index === 0 ? Played.failed("Unreachable") : undefined)
      })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 second" }))
      yield* Played.pass(990)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(10)
      assert.lengthOf(yield* Played.rest(appends), 2)
      assert.deepInclude(endOf(yield* Fiber.join(call)), { reason: "DeadlineExceeded", started: "unknown" })
    })
  )
})

describe("a durable call that is kept", () => {
  it.effect("is looked for now and then, as its answer may have been lost on the way", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({
        append: () => ({ _tag: "Added" }),
        look: (index) =>
          ([{ _tag: "Waiting" }, Played.failed("Timeout"), { _tag: "Unknown" }, { _tag: "Waiting" }] as const)[index] ??
          Played.done(6)
      })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 hour" }))
      yield* Played.pass(16_999)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(6))
      const all = yield* Played.rest(looks)
      assert.deepStrictEqual(times(all), [1_000, 3_000, 7_000, 12_000, 17_000])
    })
  )

  it.effect("is looked for at once and often where it was there before, as somebody else may be told", () =>
    Effect.gen(function* () {
      const { appends, jobs, looks } = yield* scene({
        append: () => ({ _tag: "Waiting" }),
        look: (index) => (index < 11 ? { _tag: "Waiting" } : Played.done(6))
      })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 hour" }))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(6))
      const [{ message }] = (yield* Played.rest(appends)) as [Played.Append]
      const all = yield* Played.rest(looks)
      assert.deepStrictEqual(times(all), [10, 30, 70, 150, 310, 630, 1_270, 2_550, 5_110, 10_110, 15_110, 20_110])
      for (const { id, queue } of all) assert.deepStrictEqual([id, queue], [message.id, "t:{jobs}"])
    })
  )

  it.effect("ends by its deadline to the millisecond with its receipt, whatever is found afterwards", () =>
    Effect.gen(function* () {
      const { appends, jobs, looks } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1500 millis" }))
      yield* Played.pass(1_490)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(10)
      const [append] = yield* Played.rest(appends)
      const end = call.pollUnsafe()
      assert.deepStrictEqual(endOf(yield* Fiber.join(call)), {
        reason: "DeadlineExceeded",
        started: "unknown",
        receipt: append!.message.id
      })
      const [look, ...others] = yield* Played.rest(looks)
      assert.deepStrictEqual(others, [])
      look!.done(undefined, Played.done(5))
      yield* Played.pass(60_000)
      assert.deepStrictEqual([yield* Played.rest(looks), call.pollUnsafe()], [[], end])
    })
  )

  it.effect("has started by its deadline where its service has said so", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 second" }))
      const append = yield* Played.next(appends)
      answer(append, { status: "success", payload: {}, final: false, fiberbus: { v: 1, by: "a", seq: 0, alive: true } })
      yield* Played.pass(1_000)
      assert.deepInclude(endOf(yield* Fiber.join(call)), { reason: "DeadlineExceeded", started: "yes" })
    })
  )

  it.effect("fails where its result cannot be read, however it was come by", () =>
    Effect.gen(function* () {
      for (const frame of ["no JSON", "[]", `{"status":"success","payload":"${"x".repeat(2_000_000)}"}`]) {
        const garbled: Durable.State & Durable.Appended = { _tag: "Done", frame }
        const added: Durable.Appended = { _tag: "Added" }
        for (const append of [garbled, added]) {
          const { jobs } = yield* scene({ append: () => append, look: () => garbled })
          const call = yield* start(jobs.run({ n: 1 }))
          yield* Played.pass(1_000)
          const exit = call.pollUnsafe()
          assert.isTrue(exit !== undefined && Exit.isSuccess(exit))
          const { reason, started } = Option.getOrThrow(Exit.findErrorOption(yield* Fiber.join(call))) as any
          assert.deepInclude(reason, { _tag: "ContractMismatch", part: "reply", path: [] })
          assert.include(reason.message, "a result that can be read")
          assert.strictEqual(started, "yes")
        }
      }
    })
  )

  it.effect("has its result read for as long as it has time, wherever that was found", () =>
    Effect.gen(function* () {
      for (const look of [undefined, Played.done("text")]) {
        const { answer, appends, jobs } = yield* scene({ append: () => ({ _tag: "Waiting" }), look: () => look })
        for (const [timeout, end] of [
          [1_500, Exit.succeed("text")],
          [800, undefined]
        ] as const) {
          const call = yield* start(jobs.slow({ timeout }))
          const append = yield* Played.next(appends)
          yield* Played.pass(10)
          if (look === undefined) answer(append, success("text"))
          yield* Played.pass(timeout - 10)
          const exit = yield* Fiber.join(call)
          if (end !== undefined) assert.deepStrictEqual(exit, end)
          else assert.deepStrictEqual(endOf(exit), { reason: "DeadlineExceeded", started: "yes" })
        }
      }
    })
  )

  it.effect("is not taken back when its caller goes away, and is looked for no more", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs, looks, sent } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 hour" }))
      const append = yield* Played.next(appends)
      yield* Fiber.interrupt(call)
      yield* Played.pass(60_000)
      answer(append, success(5))
      yield* Played.pass(0)
      assert.deepStrictEqual([yield* Played.rest(looks), sent], [[], []])
    })
  )
})

describe("a durable call whose link is lost", () => {
  it.effect("is looked for soon instead, and has its time", () =>
    Effect.gen(function* () {
      const { answer, appends, heal, jobs, looks, lose } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "10 seconds" }))
      const append = yield* Played.next(appends)
      yield* Played.pass(500)
      lose()
      heal()
      yield* Played.pass(2_000)
      assert.deepStrictEqual(times(yield* Played.rest(looks)), [600, 800, 1_200, 2_000])
      // Answers that come are taken still.
      answer(append, success(5))
      yield* Played.pass(0)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(5))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Played.rest(looks), [])
    })
  )

  it.effect("ends by its deadline all the same", () =>
    Effect.gen(function* () {
      const { appends, jobs, lose } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "10 seconds" }))
      yield* Played.pass(9_000)
      lose()
      yield* Played.pass(990)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(10)
      const [append] = yield* Played.rest(appends)
      assert.deepStrictEqual(endOf(yield* Fiber.join(call)), {
        reason: "DeadlineExceeded",
        started: "unknown",
        receipt: append!.message.id
      })
    })
  )

  it.effect("goes on where it was being appended", () =>
    Effect.gen(function* () {
      const { appends, jobs, looks, lose } = yield* scene()
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "10 seconds" }))
      const append = yield* Played.next(appends)
      lose()
      yield* Played.pass(500)
      // One at a time.
      assert.deepStrictEqual([yield* Played.rest(appends), yield* Played.rest(looks)], [[], []])
      append.done(undefined, { _tag: "Waiting" })
      yield* Played.pass(10)
      const look = yield* Played.next(looks)
      look.done(undefined, Played.done(5))
      yield* Played.pass(0)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(5))
    })
  )

  it.effect("is appended again where it waited for that", () =>
    Effect.gen(function* () {
      const { appends, jobs, lose } = yield* scene({
        append: (index) => (index < 3 ? Played.failed("Unreachable") : Played.done(5))
      })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "10 seconds" }))
      yield* Played.pass(60)
      lose()
      yield* Played.pass(5_000)
      assert.lengthOf(yield* Played.rest(appends), 4)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(5))
    })
  )

  it.effect("has its receipt where its time was over, and nobody had noticed yet", () =>
    Effect.gen(function* () {
      const { appends, jobs, lose } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "995 millis" }))
      yield* Played.pass(997)
      assert.isUndefined(call.pollUnsafe())
      lose()
      yield* Played.pass(0)
      const [append] = yield* Played.rest(appends)
      assert.deepStrictEqual(endOf(yield* Fiber.join(call)), {
        reason: "DeadlineExceeded",
        started: "unknown",
        receipt: append!.message.id
      })
    })
  )

  it.effect("ends with the transport, or with the Scope of its caller", () =>
    Effect.gen(function* () {
      const { appends, close, jobs, looks } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const call = yield* start(jobs.run({ n: 1 }))
      close()
      assert.deepStrictEqual(endOf(yield* Fiber.join(call)), { reason: "Closed", started: "unknown" })
      const scope = yield* Scope.make()
      const other = yield* Scope.provide(scene(), scope)
      const left = yield* start(other.jobs.run({ n: 1 }))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(endOf(yield* Fiber.join(left)), { reason: "Closed", started: "unknown" })
      yield* Played.pass(60_000)
      assert.lengthOf(yield* Played.rest(appends), 1)
      assert.deepStrictEqual(yield* Played.rest(looks), [])
    })
  )
})

describe("a durable call under policies", () => {
  /** A policy that makes an attempt more after each failure, so many at most, and sleeps before. */
  const again =
    (times: number, millis = 0): Policy.Policy =>
    (call) =>
      Effect.retry(call, { schedule: Schedule.spaced(millis), times })

  it.effect("is one message, whatever attempts they make", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({
        append: (index) => (index < 2 ? Played.failed("Overloaded") : Played.done(5))
      })
      const call = yield* start(jobs.run({ n: 1 }, { policies: [again(2)] }))
      yield* Played.pass(0)
      assert.deepStrictEqual(yield* Fiber.join(call), Exit.succeed(5))
      const all = yield* Played.rest(appends)
      assert.lengthOf(all, 3)
      for (const { message } of all) assert.deepStrictEqual(message, all[0]!.message)
      // Another call is another one.
      yield* start(jobs.run({ n: 1 }, { policies: [again(2)] }))
      assert.notStrictEqual((yield* Played.next(appends)).message.id, all[0]!.message.id)
    })
  )

  it.effect("has one time for all of them, and begins none after that", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({
        append: (index) => (index === 0 ? Played.failed("Overloaded") : undefined)
      })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "1 second", policies: [again(1, 600)] }))
      yield* Played.pass(990)
      assert.isUndefined(call.pollUnsafe())
      yield* Played.pass(10)
      assert.deepStrictEqual(times(yield* Played.rest(appends)), [0, 600])
      assert.deepInclude(endOf(yield* Fiber.join(call)), { reason: "DeadlineExceeded", started: "unknown" })

      const late = yield* start(jobs.run({ n: 1 }, { timeout: "1 second", policies: [again(1, 1_000)] }))
      const append = yield* Played.next(appends)
      append.done(Played.failed("Overloaded"), undefined)
      yield* Played.pass(1_000)
      assert.deepStrictEqual(endOf(yield* Fiber.join(late)), { reason: "DeadlineExceeded", started: "no" })
      const { reason } = Option.getOrThrow(Exit.findErrorOption(yield* Fiber.join(late))) as CallError.CallError
      assert.deepInclude(reason, { timeoutMillis: 1_000 })
      assert.deepStrictEqual(yield* Played.rest(appends), [])
    })
  )

  it.effect("may be kept if one of them may have left it there", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene()
      const run = (policy: Policy.Policy) => start(jobs.run({ n: 1 }, { timeout: "1 second", policies: [policy] }))
      // The first one cannot tell, the second one is refused.
      const refused = yield* run(again(1))
      const first = yield* Played.next(appends)
      first.done(Played.failed("Unknown", "unknown"), undefined)
      yield* Played.pass(0)
      const second = yield* Played.next(appends)
      second.done(Played.failed("Overloaded"), undefined)
      yield* Played.pass(0)
      assert.deepStrictEqual(endOf(yield* Fiber.join(refused)), { reason: "Overloaded", started: "unknown" })

      // The first one is given up while the store has it in hand.
      const impatient = yield* run((call) => Effect.timeoutOrElse(call, { duration: 500, orElse: () => call }))
      const given = yield* Played.next(appends)
      yield* Played.pass(500)
      given.done(Played.failed("Overloaded"), undefined)
      const other = yield* Played.next(appends)
      other.done(Played.failed("Overloaded"), undefined)
      yield* Played.pass(0)
      assert.deepStrictEqual(endOf(yield* Fiber.join(impatient)), { reason: "Overloaded", started: "unknown" })

      // It is over before there is another one.
      const late = yield* run(again(1, 1_000))
      const last = yield* Played.next(appends)
      last.done(Played.failed("Unknown", "unknown"), undefined)
      yield* Played.pass(1_000)
      assert.deepStrictEqual(endOf(yield* Fiber.join(late)), {
        reason: "DeadlineExceeded",
        started: "unknown",
        receipt: last.message.id
      })
    })
  )

  it.effect("goes on with its newest attempt, whatever a look of an older one finds after that", () =>
    Effect.gen(function* () {
      const { answer, appends, jobs, looks } = yield* scene({ append: () => ({ _tag: "Added" }) })
      const impatient: Policy.Policy = (call) =>
        Effect.timeoutOrElse(call, { duration: "1500 millis", orElse: () => call })
      const call = yield* start(jobs.run({ n: 1 }, { timeout: "10 seconds", policies: [impatient] }))
      yield* Played.pass(1_500)
      const [first, second, ...others] = yield* Played.rest(appends)
      assert.deepStrictEqual([second!.message.id, others], [first!.message.id, []])
      const look = yield* Played.next(looks)
      assert.strictEqual(look.at, 1_000)
      look.done(undefined, Played.done(5))
      yield* Played.pass(0)
      assert.isUndefined(call.pollUnsafe())
      answer(second!, success(6))
      yield* Played.pass(0)
      assert.deepStrictEqual(call.pollUnsafe(), Exit.succeed(Exit.succeed(6)))
    })
  )

  it.effect("tells them what it is, and when it ends", () =>
    Effect.gen(function* () {
      const { jobs } = yield* scene({ append: () => Played.done(5) })
      const seen: Array<unknown> = []
      const foreign = (service: string, action: string) =>
        new CallError.CallError({ service, action, started: "yes", reason: new CallError.NoResponders({}) })
      const look: Policy.Policy = (call, { annotations, failureOf, refuse: _, ...subject }) =>
        Effect.andThen(
          Effect.map(Deadline.Deadline, (deadline) => {
            seen.push(subject, deadline, Context.get(annotations, Action.Delivery))
            for (const error of [new Declined({ why: "" }), foreign("jobs", "other"), foreign("others", "run")]) {
              seen.push(failureOf(error as never))
            }
            seen.push(failureOf(foreign("jobs", "run") as never)?.started)
          }),
          call
        )
      yield* TestClock.setTime(3_000)
      assert.strictEqual(yield* jobs.run({ n: 1 }, { timeout: "1 second", policies: [look] }), 5)
      assert.deepStrictEqual(seen, [
        { service: "jobs", action: "run", kind: "call", idempotent: true },
        4_000,
        "durable",
        undefined,
        undefined,
        undefined,
        "yes"
      ])
      const refuse: Policy.Policy = (_, subject) => subject.refuse(new CallError.RateLimited({ retryAfterMillis: 5 }))
      const refused = yield* Effect.exit(jobs.run({ n: 1 }, { policies: [refuse] }))
      assert.deepStrictEqual(endOf(refused), { reason: "RateLimited", started: "no" })
    })
  )
})

describe("the spans of durable calls", () => {
  it.effect(
    "are those of a client where it waits, and of a producer where it does not, and travel with the request",
    () =>
      Effect.gen(function* () {
        const recorder = Recorder.make()
        const { appends, jobs } = yield* scene({ append: () => Played.done(5) })
        yield* Effect.andThen(jobs.run({ n: 1 }), jobs.run.enqueue({ n: 1 })).pipe(
          Effect.provideService(Tracer.Tracer, recorder.tracer)
        )
        const traceparents = (yield* Played.rest(appends)).map(({ frame }) => frame.fiberbus.traceparent)
        assert.deepStrictEqual(
          recorder.spans.map(({ kind, name }) => [kind, name]),
          [
            ["client", "jobs.run"],
            ["producer", "jobs.run"]
          ]
        )
        assert.deepStrictEqual(
          traceparents,
          recorder.spans.map(({ spanId, traceId }) => `00-${traceId}-${spanId}-01`)
        )
      })
  )
})

/** What was counted of calls: the metric, its outcome, and its value where that is not 0. */
const counted = (registry: Metric.MetricRegistry) =>
  Array.from(registry.values(), ({ attributes, hooks, id }) => {
    const state = hooks.get(Context.empty()) as { count?: number; value?: number }
    return [id, attributes?.["outcome"] ?? "", state.count ?? state.value]
  }).filter(([id, , count]) => String(id).startsWith("fiberbus_call") && count !== 0)

describe("the metrics of durable calls", () => {
  it.effect("count a call once that is interrupted while its answer is read", () =>
    Effect.gen(function* () {
      for (const append of [undefined, Played.done("text")]) {
        const registry: Metric.MetricRegistry = new Map()
        yield* Effect.gen(function* () {
          const { answer, appends, jobs } = yield* scene({ append: () => append })
          const call = yield* start(jobs.slow())
          const appended = yield* Played.next(appends)
          if (append === undefined) answer(appended, success("text"))
          yield* Played.pass(500)
          assert.deepStrictEqual(counted(registry), [["fiberbus_calls_in_flight", "", 1]])
          yield* Fiber.interrupt(call)
          yield* Played.pass(1_000)
          assert.sameDeepMembers(counted(registry), [
            ["fiberbus_call_duration_milliseconds", "", 1],
            ["fiberbus_calls_total", "interrupted", 1]
          ])
        }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
      }
    })
  )

  it.effect("count each end once", () =>
    Effect.gen(function* () {
      const registry: Metric.MetricRegistry = new Map()
      yield* Effect.gen(function* () {
        const { answer, appends, jobs } = yield* scene()
        const over = yield* start(jobs.run({ n: 1 }, { timeout: "1 second" }))
        yield* Played.next(appends)
        yield* Played.pass(1_000)
        yield* Fiber.join(over)
        const answered = yield* start(jobs.run({ n: 1 }))
        answer(yield* Played.next(appends), success(5))
        yield* Played.pass(0)
        yield* Fiber.join(answered)
        const left = yield* start(jobs.run({ n: 1 }))
        yield* Fiber.interrupt(left)
        const open = yield* start(jobs.run({ n: 1 }))
        yield* Played.pass(0)
        assert.sameDeepMembers(counted(registry), [
          ["fiberbus_calls_in_flight", "", 1],
          ["fiberbus_call_duration_milliseconds", "", 3],
          ["fiberbus_calls_total", "DeadlineExceeded", 1],
          ["fiberbus_calls_total", "success", 1],
          ["fiberbus_calls_total", "interrupted", 1]
        ])
        yield* Fiber.interrupt(open)
      }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
    })
  )
})
