import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  DateTime,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  Queue,
  Ref,
  Schedule,
  Scope,
  Stream,
  Tracer
} from "effect"
import { TestClock } from "effect/testing"
import { Action, Background, Caller, Handlers, Memory, Request, Service, type Transport } from "fiberbus"
import { Deadline } from "../../src/policy/Deadline.ts"

class Task extends Background.Service<Task, string, string>()("task") {}

const transport = Layer.fresh(Memory.layer)

/** Builds a layer on a transport of its own, and gives what it provides and what closes it. */
const build = Effect.fnUntraced(function* <A, E>(layer: Layer.Layer<A, E, Transport.Transport>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Layer.buildWithScope(Layer.provide(layer, transport), scope)
  return { context, close: Scope.close(scope, Exit.void) }
})

const handleOf = <E>(layer: Layer.Layer<Task, E, Transport.Transport>) =>
  Effect.map(build(layer), ({ context, close }) => ({ task: Context.get(context, Task), close }))

/** Runs that say when they begin, and end when they are told how. */
const runs = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<Deferred.Deferred<string, string>>()
  const effect = Effect.gen(function* () {
    const end = yield* Deferred.make<string, string>()
    yield* Queue.offer(begun, end)
    return yield* Deferred.await(end)
  })
  const next = Queue.take(begun)
  const waiting = Queue.size(begun)
  return { effect, next, waiting }
})

/** What is logged at a level, as text. */
const logged = Effect.gen(function* () {
  const lines: Array<{ readonly level: string; readonly text: string; readonly cause: string }> = []
  const layer = Logger.layer([
    Logger.make(({ logLevel, message, cause }) => {
      lines.push({ level: logLevel, text: String(message), cause: Cause.pretty(cause) })
    })
  ])
  return { lines, layer }
})

const defectOf = (exit: Exit.Exit<unknown, unknown>) =>
  exit._tag === "Failure" ? exit.cause.reasons.find(Cause.isDieReason)?.defect : undefined

const minute = Schedule.spaced("1 minute")

describe("The schedule of a background task", () => {
  it.effect("makes the first run after its first wait, and so on", () =>
    Effect.gen(function* () {
      const count = yield* Ref.make(0)
      yield* build(
        Background.layer(
          "task",
          minute,
          Ref.update(count, (n) => n + 1)
        )
      )
      const counts: Array<number> = []
      for (const step of ["59 seconds", "1 second", "59 seconds", "1 second", "10 minutes"] as const) {
        yield* TestClock.adjust(step)
        counts.push(yield* Ref.get(count))
      }
      assert.deepStrictEqual(counts, [0, 1, 1, 2, 12])
    })
  )

  it.effect("has a run before it where that is asked for", () =>
    Effect.gen(function* () {
      const { effect, next, waiting } = yield* runs
      yield* build(Background.layer("task", minute, effect, { first: "now", oncePerFleet: false }))
      yield* Deferred.succeed(yield* next, "at once")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* waiting, 1)
    })
  )

  it.effect("may be cron in a time zone, over both changes of the clocks there", () =>
    Effect.gen(function* () {
      const times: Array<string> = []
      const now = Effect.map(DateTime.now, (time) => times.push(DateTime.formatIso(time)))
      yield* TestClock.setTime(Date.parse("2026-03-27T12:00:00Z"))
      yield* build(Background.layer("task", Schedule.cron("30 8 * * *", "Europe/Oslo"), now))
      yield* TestClock.adjust("3 days")
      assert.deepStrictEqual(times, [
        "2026-03-28T07:30:00.000Z",
        "2026-03-29T06:30:00.000Z",
        "2026-03-30T06:30:00.000Z"
      ])
      yield* TestClock.setTime(Date.parse("2026-10-24T12:00:00Z"))
      times.length = 0
      yield* TestClock.adjust("2 days")
      assert.deepStrictEqual(times, ["2026-10-25T07:30:00.000Z", "2026-10-26T07:30:00.000Z"])
    })
  )

  it.effect("that is cron takes an hour that comes twice once, and makes up for one that is left out", () =>
    Effect.gen(function* () {
      const times: Array<string> = []
      const now = Effect.map(DateTime.now, (time) => times.push(DateTime.formatIso(time).slice(5, 16)))
      yield* TestClock.setTime(Date.parse("2026-10-24T23:30:00Z"))
      yield* Layer.build(
        Layer.mergeAll(
          Background.layer("hourly", Schedule.cron("0 * * * *", "Europe/Oslo"), now),
          Background.layer("nightly", Schedule.cron("30 2 * * *", "Europe/Oslo"), now)
        ).pipe(Layer.provide(transport))
      )
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(times, ["10-25T00:00", "10-25T00:30", "10-25T02:00"])
      yield* TestClock.setTime(Date.parse("2027-03-27T23:30:00Z"))
      times.length = 0
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(times, ["03-28T00:00", "03-28T01:00", "03-28T01:30", "03-28T02:00"])
    })
  )

  it.effect("may be further away than a timer of Node can wait", () =>
    Effect.gen(function* () {
      const { task } = yield* handleOf(
        Background.layer(Task, Schedule.cron("0 0 1 1 *", "UTC"), Effect.succeed("year"))
      )
      yield* TestClock.setTime(Date.parse("1970-12-31T23:59:00Z"))
      assert.strictEqual((yield* task.state).runs.succeeded, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* task.state).runs.succeeded, 1)
    })
  )

  it.effect("follows a clock that is set, and runs nothing twice", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let offset = 0
      const set: Clock.Clock = {
        ...clock,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + offset,
        currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + offset)
      }
      const hour = 3_600_000
      const { task } = yield* handleOf(
        Background.layer(Task, Schedule.cron("0 3 * * *", "UTC"), Effect.succeed("ran")).pipe(
          Layer.provide(Layer.succeed(Clock.Clock, set))
        )
      )
      const runs = Effect.map(task.state, ({ runs }) => runs.succeeded)
      // Set back: it has waited its three hours nevertheless, and the next night is the one after.
      offset = -hour
      yield* TestClock.adjust("3 hours")
      assert.strictEqual(yield* runs, 1)
      yield* TestClock.adjust("24 hours")
      assert.strictEqual(yield* runs, 1)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* runs, 2)
      // Set forward, past the next night and the one after that.
      offset += 30 * hour
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* runs, 3)
      yield* TestClock.adjust("17 hours")
      assert.strictEqual(yield* runs, 3)
      yield* TestClock.adjust("50 minutes")
      assert.strictEqual(yield* runs, 4)
    })
  )

  it.effect("that cannot be read fails the Layer", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(build(Background.layer("task", Schedule.cron("every day"), Effect.void)))
      assert.strictEqual(error._tag, "CronParseError")
    })
  )

  it.effect("may end: the task can still be run, and scheduled anew", () =>
    Effect.gen(function* () {
      const { task } = yield* handleOf(
        Background.layer(Task, Schedule.upTo(minute, { times: 2 }), Effect.succeed("ran"))
      )
      yield* TestClock.adjust("1 hour")
      const ended = yield* task.state
      assert.strictEqual(ended.runs.succeeded, 2)
      assert.isUndefined(ended.nextAt)
      assert.deepStrictEqual(yield* task.runNow, Exit.succeed("ran"))
      yield* task.reschedule(minute)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* task.state).runs.succeeded, 5)
    })
  )

  it.effect("that has no waits ticks once a millisecond, and leaves the process time for others", () =>
    Effect.gen(function* () {
      const { task } = yield* handleOf(Background.layer(Task, Schedule.forever, Effect.succeed("ran")))
      yield* TestClock.adjust("10 millis")
      const { runs, skipped } = yield* task.state
      assert.strictEqual(runs.succeeded + skipped, 11)
    })
  )

  it.effect("that breaks on the way is told, and the task stays", () =>
    Effect.gen(function* () {
      const { lines, layer } = yield* logged
      const broken = Schedule.spaced("1 second").pipe(
        Schedule.tap(({ attempt }) => (attempt === 2 ? Effect.die("no more") : Effect.void))
      )
      const { task } = yield* handleOf(
        Background.layer(Task, broken, Effect.succeed("ran")).pipe(Layer.provideMerge(layer))
      )
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* task.state).runs.succeeded, 1)
      assert.deepStrictEqual(
        lines.map(({ level, text }) => [level, text]),
        [["Error", "fiberbus: the schedule of the background task task is broken"]]
      )
      assert.deepStrictEqual(yield* task.runNow, Exit.succeed("ran"))
    })
  )
})

describe("A tick that meets a run", () => {
  it.effect("is skipped and counted, unless something else is said", () =>
    Effect.gen(function* () {
      const { effect, next, waiting } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect))
      yield* TestClock.adjust("3 minutes")
      const first = yield* next
      assert.strictEqual(yield* waiting, 0)
      assert.deepInclude(yield* task.state, { running: 1, skipped: 2, waiting: false })
      yield* Deferred.succeed(first, "done")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* waiting, 1)
    })
  )

  it.effect("waits for its end with queue, one at most", () =>
    Effect.gen(function* () {
      const { effect, next, waiting } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect, { overlap: "queue" }))
      yield* TestClock.adjust("5 minutes")
      assert.deepInclude(yield* task.state, { running: 1, skipped: 3, waiting: true })
      yield* Deferred.succeed(yield* next, "first")
      yield* Deferred.succeed(yield* next, "the one that waited")
      yield* Effect.yieldNow
      assert.strictEqual(yield* waiting, 0)
      assert.deepInclude(yield* task.state, { running: 0, waiting: false })
    })
  )

  it.effect("runs beside it, up to the limit", () =>
    Effect.gen(function* () {
      const { effect, next } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect, { overlap: { beside: 3 } }))
      yield* TestClock.adjust("5 minutes")
      assert.deepInclude(yield* task.state, { running: 3, skipped: 2 })
      yield* Deferred.succeed(yield* next, "the first")
      yield* TestClock.adjust("1 minute")
      assert.deepInclude(yield* task.state, { running: 3, skipped: 2 })
    })
  )

  it.effect("has a limit of one where that is no number", () =>
    Effect.gen(function* () {
      const { effect } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect, { overlap: { beside: Number("many") } }))
      yield* TestClock.adjust("2 minutes")
      assert.deepInclude(yield* task.state, { running: 1, skipped: 1 })
    })
  )
})

describe("A run that fails", () => {
  it.effect("or dies is logged with the task's name, counted, and the next one comes", () =>
    Effect.gen(function* () {
      const { lines, layer } = yield* logged
      let n = 0
      const effect = Effect.suspend(() => {
        n++
        return n === 1 ? Effect.fail("no paper") : n === 2 ? Effect.die(new Error("a bug")) : Effect.succeed("well")
      })
      const registry: Metric.MetricRegistry = new Map()
      const { task } = yield* handleOf(
        Background.layer(Task, minute, effect).pipe(
          Layer.provideMerge(layer),
          Layer.provide(Layer.succeed(Metric.MetricRegistry, registry))
        )
      )
      yield* TestClock.adjust("3 minutes")
      const { last, runs } = yield* task.state
      assert.deepStrictEqual(runs, { succeeded: 1, failed: 1, died: 1, interrupted: 0, lost: 0 })
      assert.deepStrictEqual(last?.exit, Exit.succeed("well"))
      assert.deepStrictEqual(
        lines.map(({ level, text }) => [level, text]),
        [
          ["Error", "fiberbus: the background task task failed"],
          ["Error", "fiberbus: the background task task died"]
        ]
      )
      assert.include(lines[0]!.cause, "no paper")
      const counted = (yield* Effect.provideService(Metric.snapshot, Metric.MetricRegistry, registry)).flatMap(
        ({ attributes, id, state }) =>
          id === "fiberbus_background_runs_total" ? [[attributes?.["outcome"], (state as { count: number }).count]] : []
      )
      assert.deepStrictEqual(Object.fromEntries(counted), { succeeded: 1, failed: 1, died: 1 })
    })
  )
})

describe("The handle of a task", () => {
  it.effect("runs it now and gives the run's exit, also a failure", () =>
    Effect.gen(function* () {
      const { effect, next } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect))
      const asked = yield* Effect.forkChild(task.runNow)
      yield* Deferred.fail(yield* next, "no paper")
      const exit: Exit.Exit<string, string> = yield* Fiber.join(asked)
      assert.deepStrictEqual(exit, Exit.fail("no paper"))
    })
  )

  it.effect("refuses to run it beside a run, and joins the run that waits", () =>
    Effect.gen(function* () {
      const { effect, next } = yield* runs
      const skipping = (yield* handleOf(Background.layer(Task, minute, effect))).task
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Effect.flip(skipping.runNow)).reason, "Running")
      yield* Deferred.succeed(yield* next, "first")

      const queueing = (yield* handleOf(Background.layer(Task, minute, effect, { overlap: "queue" }))).task
      const asked = yield* Effect.forkChild(
        Effect.all([queueing.runNow, queueing.runNow, queueing.runNow], { concurrency: 3 })
      )
      yield* Deferred.succeed(yield* next, "1")
      yield* Deferred.succeed(yield* next, "2")
      assert.deepStrictEqual(yield* Fiber.join(asked), [Exit.succeed("1"), Exit.succeed("2"), Exit.succeed("2")])
    })
  )

  it.effect("leaves a run alone when whoever asked for it goes away", () =>
    Effect.gen(function* () {
      const { effect, next } = yield* runs
      const { task } = yield* handleOf(Background.layer(Task, minute, effect))
      const asked = yield* Effect.forkChild(task.runNow)
      const run = yield* next
      yield* Fiber.interrupt(asked)
      assert.strictEqual((yield* task.state).running, 1)
      yield* Deferred.succeed(run, "done")
      yield* Effect.yieldNow
      assert.strictEqual((yield* task.state).runs.succeeded, 1)
    })
  )

  it.effect("lets ticks pass while paused, and keeps their times", () =>
    Effect.gen(function* () {
      const { task } = yield* handleOf(Background.layer(Task, minute, Effect.succeed("ran")))
      yield* task.pause
      yield* TestClock.adjust("150 seconds")
      assert.deepInclude(yield* task.state, { paused: true, skipped: 0 })
      assert.deepStrictEqual(yield* task.runNow, Exit.succeed("ran"))
      yield* task.resume
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual((yield* task.state).runs.succeeded, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* task.state).runs.succeeded, 2)
    })
  )

  it.effect("takes another schedule from now on, or says why it cannot", () =>
    Effect.gen(function* () {
      const { task } = yield* handleOf(Background.layer(Task, minute, Effect.succeed("ran")))
      yield* TestClock.adjust("30 seconds")
      yield* task.reschedule(Schedule.spaced("10 seconds"))
      assert.strictEqual(DateTime.toEpochMillis((yield* task.state).nextAt!), 40_000)
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* task.state).runs.succeeded, 3)
      const error = yield* Effect.flip(task.reschedule(Schedule.cron("never")))
      assert.strictEqual(error._tag, "CronParseError")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* task.state).runs.succeeded, 4)
    })
  )

  it.effect("tells how it is doing, now and as it changes", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000)
      const { task } = yield* handleOf(Background.layer(Task, minute, Effect.as(Effect.sleep("5 seconds"), "ran")))
      const seen = yield* Queue.unbounded<Background.State<string, string>>()
      yield* Effect.forkChild(Stream.runForEach(task.states, (state) => Queue.offer(seen, state)))
      assert.deepInclude(yield* Queue.take(seen), { running: 0, paused: false, last: undefined })
      yield* TestClock.adjust("65 seconds")
      const { last, nextAt } = yield* task.state
      assert.strictEqual(DateTime.toEpochMillis(last!.startedAt), 61_000)
      assert.strictEqual(last!.outcome, "succeeded")
      assert.strictEqual(DateTime.toEpochMillis(nextAt!), 121_000)
      const states = yield* Queue.takeAll(seen)
      assert.deepStrictEqual([...new Set(states.map(({ running }) => running))], [1, 0])
    })
  )
})

describe("When the Layer of a task closes", () => {
  it.effect("a run is interrupted and its finalizers run", () =>
    Effect.gen(function* () {
      const ended: Array<string> = []
      const begun = yield* Deferred.make<void>()
      const effect = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never).pipe(
        Effect.onInterrupt(() => Effect.sync(() => ended.push("interrupted")))
      )
      const { task, close } = yield* handleOf(
        Background.layer(
          Task,
          minute,
          Effect.andThen(
            Effect.addFinalizer(() => Effect.sync(() => ended.push("finalized"))),
            effect
          )
        )
      )
      const asked = yield* Effect.forkChild(task.runNow)
      yield* Deferred.await(begun)
      yield* close
      assert.deepStrictEqual(ended, ["interrupted", "finalized"])
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.join(asked)))
      assert.strictEqual((yield* task.state).runs.interrupted, 1)
      assert.strictEqual((yield* Effect.flip(task.runNow)).reason, "Closed")
    })
  )

  it.live("a run that cannot be interrupted does not hold it up for long", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<string>()
      const begun = yield* Deferred.make<void>()
      const stubborn = Effect.uninterruptible(
        Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(release))
      )
      const { task, close } = yield* handleOf(Background.layer(Task, minute, stubborn))
      yield* Effect.forkChild(task.runNow)
      yield* Deferred.await(begun)
      // It would wait for ever: nobody releases the run before.
      yield* close
      yield* Deferred.succeed(release, "late")
    })
  )

  it.effect("a run may end by itself within the grace period", () =>
    Effect.gen(function* () {
      const { effect, next } = yield* runs
      const { task, close } = yield* handleOf(Background.layer(Task, minute, effect, { grace: "1 minute" }))
      const asked = yield* Effect.forkChild(task.runNow)
      const run = yield* next
      const closing = yield* Effect.forkChild(close)
      yield* Effect.yieldNow
      yield* Deferred.succeed(run, "just in time")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Fiber.join(asked), Exit.succeed("just in time"))
    })
  )

  it.effect("a run that fails even then is told as an error, one that is interrupted as what it is", () =>
    Effect.gen(function* () {
      const { lines, layer } = yield* logged
      const { effect, next } = yield* runs
      const failing = yield* handleOf(
        Background.layer(Task, minute, effect, { grace: "1 minute" }).pipe(Layer.provideMerge(layer))
      )
      yield* Effect.forkChild(failing.task.runNow)
      const run = yield* next
      const closing = yield* Effect.forkChild(failing.close, { startImmediately: true })
      yield* Deferred.fail(run, "no paper")
      yield* Fiber.join(closing)
      const never = yield* handleOf(Background.layer(Task, minute, effect).pipe(Layer.provideMerge(layer)))
      yield* Effect.forkChild(never.task.runNow)
      yield* next
      yield* never.close
      assert.deepStrictEqual(
        lines.map(({ text }) => text),
        [
          "fiberbus: the background task task failed",
          "fiberbus: the background task task was interrupted by the shutdown, after 0 ms"
        ]
      )
    })
  )

  it.effect("a handle is of no use any more, and of no harm", () =>
    Effect.gen(function* () {
      const { task, close } = yield* handleOf(Background.layer(Task, minute, Effect.succeed("ran")))
      yield* close
      yield* task.pause
      yield* task.resume
      yield* task.reschedule(minute)
      assert.strictEqual((yield* Effect.flip(task.runNow)).reason, "Closed")
      yield* TestClock.adjust("1 hour")
      assert.deepInclude(yield* task.state, { nextAt: undefined, running: 0, last: undefined })
    })
  )

  it.effect("nothing ticks any more", () =>
    Effect.gen(function* () {
      const count = yield* Ref.make(0)
      const { close } = yield* build(
        Background.layer(
          "task",
          minute,
          Ref.update(count, (n) => n + 1)
        )
      )
      yield* TestClock.adjust("1 minute")
      yield* close
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Ref.get(count), 1)
    })
  )
})

describe("The name of a task", () => {
  it.effect("is borne by one per transport; both places are named", () =>
    Effect.gen(function* () {
      const two = Layer.mergeAll(
        Background.layer("task", minute, Effect.void),
        Background.layer("task", minute, Effect.void)
      )
      const exit = yield* Effect.exit(build(two))
      const defect = defectOf(exit)
      assert.instanceOf(defect, Background.DuplicateName)
      if (!(defect instanceof Background.DuplicateName)) return
      assert.match(
        defect.message,
        /^There are two background tasks named task: Background\.layer at .*Background\.test\.ts:\d+:\d+.* and Background\.layer at .*Background\.test\.ts:/
      )
      // On another transport, or after the first has closed, it is free.
      const { close } = yield* build(Background.layer("task", minute, Effect.void))
      yield* build(Background.layer("task", minute, Effect.void))
      yield* close
    })
  )

  it("must be a name", () => {
    assert.throws(() => Background.layer("two words", minute, Effect.void), /The background task name "two words"/)
    assert.throws(() => Background.Service<Task>()(""), /it is empty/)
  })
})

it.effect("Each run begins a trace where there is a tracer, whatever its Layer was built in", () =>
  Effect.gen(function* () {
    const spans: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    yield* build(Background.layer("task", minute, Effect.withSpan(Effect.void, "inside"))).pipe(
      Effect.withSpan("start of the program"),
      Effect.provideService(Tracer.Tracer, tracer)
    )
    yield* TestClock.adjust("2 minutes")
    assert.deepStrictEqual(
      spans.map(({ name, parent }) => [
        name,
        Option.match(parent, { onNone: () => "", onSome: ({ spanId }) => spanId })
      ]),
      [
        ["start of the program", ""],
        ["background task", ""],
        ["inside", spans[1]!.spanId],
        ["background task", ""],
        ["inside", spans[3]!.spanId]
      ]
    )
  })
)

it.effect("A task whose Layer is built below a request is no part of that", () =>
  Effect.gen(function* () {
    const seen = yield* Deferred.make<readonly [Option.Option<Request.Request>, number | undefined]>()
    const scope = yield* Effect.scope
    const Builder = Service.make("builder", Action.make("build"))
    const look = Effect.flatMap(Effect.all([Request.option, Deadline]), (found) => Deferred.succeed(seen, found))
    const Live = Handlers.layer(Builder, {
      build: () => Effect.asVoid(Layer.buildWithScope(Background.layer("task", minute, look, { first: "now" }), scope))
    })
    yield* Effect.gen(function* () {
      const builder = yield* Caller.make(Builder)
      yield* builder.build()
      assert.deepStrictEqual(yield* Deferred.await(seen), [Option.none(), undefined])
    }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(transport))))
  })
)
