import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Exit, Fiber, Option, Schema, SchemaGetter } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, type Durable, Service } from "fiberbus"
import * as Channels from "../../src/wire/Channels.ts"
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
  durable(
    Action.make("run", {
      payload: { n: Schema.Finite },
      success: Schema.Finite,
      error: Schema.Union([Declined, CallError.CallError])
    })
  ).pipe(Action.annotate(Action.Timeout, "2 seconds")),
  durable(Action.make("keyed", { payload: { key: Schema.String } })).pipe(
    Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key)
  ),
  durable(Action.make("slow", { success: Slow })).pipe(Action.annotate(Action.Timeout, "500 millis")),
  durable(Action.make("slower", { success: Slow }))
)

const scene = Effect.fnUntraced(function* (options?: Played.Options) {
  const played = yield* Played.make(options)
  const jobs = yield* played.provide(Caller.make(Jobs))
  return { ...played, jobs }
})

const start = <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.forkChild(Effect.exit(call), { startImmediately: true })

/** Why it failed on its way, and whether it had started. */
const endOf = (exit: Exit.Exit<unknown, unknown>): ReadonlyArray<string> => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  assert.instanceOf(error, CallError.CallError)
  assert.deepInclude(error, { service: "jobs" })
  return [error.reason._tag === "TransportError" ? error.reason.kind : error.reason._tag, error.started]
}

const times = (all: ReadonlyArray<{ readonly at: number }>) => all.map(({ at }) => at)

const added = () => ({ _tag: "Added" }) as const

describe("what is enqueued", () => {
  it.effect("is kept as it was said: under its id, by its key, for nobody who waits", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({ append: added })
      const { id } = yield* jobs.run.enqueue({ n: 1 }, { id: "order-1", key: "ann", headers: { tenant: "a" } })
      assert.strictEqual(id, "order-1")
      const append = yield* Played.next(appends)
      assert.strictEqual(append.queue, "t:{jobs}")
      const { frame: _, ...message } = append.message
      assert.deepStrictEqual(message, { id: "order-1", key: "ann", delayMillis: 0 })
      assert.deepStrictEqual(append.frame, {
        service: "jobs",
        action: "run",
        payload: { n: 1 },
        request_id: "order-1",
        fiberbus: { v: 1, headers: { tenant: "a" } }
      })
    })
  )

  it.effect("has an id and a key where none are said, and the one that is said comes first", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({ append: added })
      const one = yield* jobs.keyed.enqueue({ key: "ann" })
      const other = yield* jobs.keyed.enqueue({ key: "ann" }, { key: "bob" })
      assert.notStrictEqual(one.id, other.id)
      const all = yield* Played.rest(appends)
      assert.deepStrictEqual(
        all.map(({ message }) => [message.id, message.key]),
        [
          [one.id, "ann"],
          [other.id, "bob"]
        ]
      )
    })
  )

  it.effect("is kept back for a while, or until a time, and never for less than nothing", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000_000)
      const { appends, jobs } = yield* scene({ append: added })
      for (const options of [
        { delay: "10 minutes" },
        { at: new Date(1_005_000) },
        { at: DateTime.makeUnsafe(1_007_000) },
        { at: new Date(1_005_000), delay: "10 minutes" },
        { at: new Date(5) },
        {}
      ] as ReadonlyArray<Caller.EnqueueOptions>) {
        yield* jobs.run.enqueue({ n: 1 }, options)
      }
      const delays = (yield* Played.rest(appends)).map(({ message }) => message.delayMillis)
      assert.deepStrictEqual(delays, [600_000, 5_000, 7_000, 5_000, 0, 0])
    })
  )

  it.effect("is refused where its time is none, or its id cannot be one", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({ append: added })
      for (const options of [{ at: new Date("soon") }, { id: "" }, { id: "a b" }, { id: "x".repeat(257) }]) {
        assert.deepStrictEqual(endOf(yield* Effect.exit(jobs.run.enqueue({ n: 1 }, options))), ["InvalidPayload", "no"])
      }
      assert.deepStrictEqual(yield* Played.rest(appends), [])
      for (const id of ["x".repeat(256), "!", "~", "#", "[", "]"]) yield* jobs.run.enqueue({ n: 1 }, { id })
      // It says where, and what would do.
      for (const [options, expected] of [
        [{ id: '"' }, "an id of 1 to 256 printable characters"],
        [{ at: new Date("soon") }, "a date for `at`"]
      ] as const) {
        const { reason } = yield* Effect.flip(jobs.run.enqueue({ n: 1 }, options))
        assert.deepInclude(reason, { path: [] })
        assert.include(reason.message, expected)
      }
    })
  )

  it.effect("is appended again under its id until it is kept for sure", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({
        append: (index) => [Played.failed("Unreachable"), Played.failed("Timeout", "unknown")][index] ?? added()
      })
      const enqueued = yield* start(jobs.run.enqueue({ n: 1 }, { id: "order-1" }))
      yield* Played.pass(149)
      assert.isUndefined(enqueued.pollUnsafe())
      yield* Played.pass(1)
      const exit = yield* Fiber.join(enqueued)
      assert.isTrue(Exit.isSuccess(exit) && exit.value.id === "order-1")
      yield* Played.pass(60_000)
      const all = yield* Played.rest(appends)
      assert.deepStrictEqual(times(all), [0, 50, 150])
      for (const { message } of all) assert.deepStrictEqual(message, all[0]!.message)
    })
  )

  it.effect("fails when the time of its action is over, for what came last", () =>
    Effect.gen(function* () {
      for (const [first, end] of [
        [Played.failed("Unreachable"), ["Timeout", "no"]],
        [Played.failed("Unreachable", "unknown"), ["Timeout", "unknown"]]
      ] as const) {
        const { appends, jobs } = yield* scene({ append: (index) => (index === 0 ? first : Played.failed("Timeout")) })
        const begun = yield* Clock.currentTimeMillis
        const enqueued = yield* start(jobs.run.enqueue({ n: 1 }))
        yield* Played.pass(60_000)
        assert.deepStrictEqual(endOf(yield* Fiber.join(enqueued)), end)
        const all = times(yield* Played.rest(appends))
        assert.deepStrictEqual(
          all.map((at) => at - begun),
          [0, 50, 150, 350, 750, 1_550, 2_000]
        )
      }
    })
  )

  it.effect("waits two seconds at most before it is appended again", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({ append: () => Played.failed("Timeout") })
      yield* start(jobs.slower.enqueue())
      yield* Played.pass(60_000)
      assert.deepStrictEqual(times(yield* Played.rest(appends)), [0, 50, 150, 350, 750, 1_550, 3_150, 5_000])
    })
  )

  it.effect("fails at once for a reason that does not pass by itself", () =>
    Effect.gen(function* () {
      const { appends, jobs } = yield* scene({
        append: (index) => (index === 0 ? Played.failed("ConnectionLost", "unknown") : Played.failed("Overloaded"))
      })
      const enqueued = yield* start(jobs.run.enqueue({ n: 1 }))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(endOf(yield* Fiber.join(enqueued)), ["Overloaded", "unknown"])
      assert.lengthOf(yield* Played.rest(appends), 2)
    })
  )
})

describe("a receipt", () => {
  const states: ReadonlyArray<
    readonly [string, Durable.State, Exit.Exit<number, unknown> | readonly [string, string]]
  > = [
    ["a result", Played.done(5), Exit.succeed(5)],
    [
      "a declared error",
      { _tag: "Done", frame: '{"status":"error","payload":{"failure":{"_tag":"Declined","why":"no"}}}' },
      Exit.fail(new Declined({ why: "no" }))
    ],
    ["nothing", { _tag: "Unknown" }, ["UnknownReceipt", "unknown"]],
    ["what cannot be read", { _tag: "Done", frame: "no JSON" }, ["ContractMismatch", "yes"]]
  ]

  for (const [name, state, end] of states) {
    it.effect("of a service with partitions has the result as soon as one of them tells it", () =>
      Effect.gen(function* () {
        const { looks, provide } = yield* Played.make()
        const jobs = yield* provide(Caller.make(Jobs.pipe(Service.partitioned(3))))
        const result = yield* start(jobs.run.receipt("order-1").poll)
        const asked = [yield* Played.next(looks), yield* Played.next(looks), yield* Played.next(looks)]
        assert.deepStrictEqual(
          asked.map(({ id, queue }) => [id, queue]),
          Channels.partitions("t:", "jobs", 3).map((queue) => ["order-1", queue])
        )
        // The master of the first one is away.
        asked[2]!.done(undefined, { _tag: "Unknown" })
        assert.isUndefined(result.pollUnsafe())
        asked[1]!.done(undefined, { _tag: "Done", frame: '{"status":"success","payload":3,"final":true}' })
        yield* Played.pass(0)
        assert.deepStrictEqual(result.pollUnsafe(), Exit.succeed(Exit.succeed(Option.some(3))))
        asked[0]!.done(Played.failed("Unreachable"), undefined)
        // Where none has a result, one that does not answer might.
        const unknown = yield* start(jobs.run.receipt("order-2").poll)
        for (const kind of ["Unknown", "Unreachable", "Unknown"] as const) {
          const { done } = yield* Played.next(looks)
          if (kind === "Unknown") done(undefined, { _tag: kind })
          else done(Played.failed(kind), undefined)
        }
        assert.deepStrictEqual(endOf(yield* Fiber.join(unknown)), ["Unreachable", "unknown"])
      })
    )

    it.effect(`brings ${name}, whether it is polled or awaited`, () =>
      Effect.gen(function* () {
        const { jobs, looks } = yield* scene({ look: () => state })
        const receipt = jobs.run.receipt("order-1")
        assert.strictEqual(receipt.id, "order-1")
        for (const asked of [Effect.map(receipt.poll, Option.getOrThrow), receipt.await()]) {
          const exit = yield* Effect.exit(asked)
          if (Exit.isExit(end)) assert.deepStrictEqual(exit, end)
          else assert.deepStrictEqual(endOf(exit), end)
        }
        const all = yield* Played.rest(looks)
        assert.deepStrictEqual(
          all.map(({ id, queue }) => [id, queue]),
          [
            ["order-1", "t:{jobs}"],
            ["order-1", "t:{jobs}"]
          ]
        )
      })
    )
  }

  it.effect("names what nothing is known of", () =>
    Effect.gen(function* () {
      const { jobs } = yield* scene({ look: () => ({ _tag: "Unknown" }) })
      const error = yield* Effect.flip(jobs.run.receipt("order-1").poll)
      assert.deepInclude((error as CallError.CallError).reason, { id: "order-1" })
    })
  )

  it.effect("polled says at once what there is, and why it cannot say", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({
        look: (index) => (index === 0 ? { _tag: "Waiting" } : Played.failed("Timeout", "unknown"))
      })
      const receipt = jobs.run.receipt("order-1")
      assert.deepStrictEqual(yield* receipt.poll, Option.none())
      assert.deepStrictEqual(endOf(yield* Effect.exit(receipt.poll)), ["Timeout", "unknown"])
      assert.lengthOf(yield* Played.rest(looks), 2)
    })
  )

  it.effect("awaited looks often at first, then each second, and past what passes by itself", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({
        look: (index) =>
          index === 10
            ? Played.done(5)
            : index === 3
              ? Played.failed("ConnectionLost", "unknown")
              : index === 4
                ? Played.failed("Unreachable")
                : { _tag: "Waiting" }
      })
      const result = yield* start(jobs.run.receipt("order-1").await({ timeout: "1 hour" }))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(yield* Fiber.join(result), Exit.succeed(5))
      assert.deepStrictEqual(
        times(yield* Played.rest(looks)),
        [0, 10, 30, 70, 150, 310, 630, 1_270, 2_270, 3_270, 4_270]
      )
    })
  )

  it.effect("awaited twice looks as often each time", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({ look: () => ({ _tag: "Waiting" }) })
      const awaited = jobs.run.receipt("order-1").await({ timeout: 50 })
      for (const begun of [0, 50]) {
        const result = yield* start(awaited)
        yield* Played.pass(50)
        yield* Fiber.join(result)
        assert.deepStrictEqual(
          times(yield* Played.rest(looks)).map((at) => at - begun),
          [0, 10, 30]
        )
      }
    })
  )

  it.effect("awaited fails for a reason that does not pass", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({ look: () => Played.failed("PermissionDenied") })
      const result = yield* start(jobs.run.receipt("order-1").await({ timeout: "1 hour" }))
      yield* Played.pass(60_000)
      assert.deepStrictEqual(endOf(yield* Fiber.join(result)), ["PermissionDenied", "unknown"])
      assert.lengthOf(yield* Played.rest(looks), 1)
    })
  )

  it.effect("awaited gives up after its time, or that of its action, and can be awaited again", () =>
    Effect.gen(function* () {
      const { jobs } = yield* scene({ look: () => ({ _tag: "Waiting" }) })
      const receipt = jobs.run.receipt("order-1")
      for (const [options, millis] of [
        [undefined, 2_000],
        [{}, 2_000],
        [{ timeout: "5 seconds" }, 5_000]
      ] as const) {
        const result = yield* start(receipt.await(options))
        yield* Played.pass(millis - 1)
        assert.isUndefined(result.pollUnsafe())
        yield* Played.pass(1)
        const exit = yield* Fiber.join(result)
        assert.deepStrictEqual(endOf(exit), ["DeadlineExceeded", "unknown"])
        const { reason } = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
        assert.deepInclude(reason, { timeoutMillis: millis, receipt: "order-1" })
      }
    })
  )

  it.effect("brings an error that is a result, also where it reads like a trouble of its own", () =>
    Effect.gen(function* () {
      const cause = new CallError.CallError({
        service: "jobs",
        action: "run",
        started: "no",
        reason: new CallError.ConnectionLost({ detail: "of the handler's own call" })
      })
      const failure = yield* Schema.encodeEffect(Schema.toCodecJson(CallError.CallError))(cause)
      const frame = JSON.stringify({ status: "error", payload: { failure }, final: true })
      const { jobs, looks } = yield* scene({ look: () => ({ _tag: "Done", frame }) })
      const result = yield* start(jobs.run.receipt("order-1").await())
      yield* Played.pass(60_000)
      assert.deepStrictEqual(endOf(yield* Fiber.join(result)), ["ConnectionLost", "no"])
      assert.lengthOf(yield* Played.rest(looks), 1)
    })
  )

  it.effect("has its result read for the time of its action, no longer", () =>
    Effect.gen(function* () {
      const { jobs } = yield* scene({ look: () => Played.done("text") })
      const read = yield* start(jobs.slower.receipt("order-1").poll)
      yield* Played.pass(1_000)
      assert.deepStrictEqual(yield* Fiber.join(read), Exit.succeed(Option.some("text")))
      const late = yield* start(jobs.slow.receipt("order-1").poll)
      yield* Played.pass(500)
      assert.deepStrictEqual(endOf(yield* Fiber.join(late)), ["DeadlineExceeded", "yes"])
    })
  )

  it.effect("of an id that cannot be one is refused unasked", () =>
    Effect.gen(function* () {
      const { jobs, looks } = yield* scene({ look: () => ({ _tag: "Waiting" }) })
      const receipt = jobs.run.receipt("a b")
      for (const asked of [receipt.poll, receipt.await()]) {
        assert.deepStrictEqual(endOf(yield* Effect.exit<unknown, unknown, never>(asked)), ["InvalidPayload", "no"])
      }
      assert.deepStrictEqual(yield* Played.rest(looks), [])
    })
  )
})
