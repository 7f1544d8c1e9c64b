import { threadId } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  Queue,
  Schedule,
  Scope,
  Stream
} from "effect"
import { type CallError, Caller, Handlers, Memory } from "fiberbus"
import * as WorkerPool from "fiberbus/worker/WorkerPool"
import { Jobs, TooLarge } from "./jobs.ts"

const file = (name: string) => new URL(name, import.meta.url)

const threads = (options?: Partial<WorkerPool.Options>) =>
  WorkerPool.layer(Jobs, {
    url: file("./jobs.worker.ts"),
    size: 1,
    execArgv: ["--conditions=fiberbus-source"],
    restart: Schedule.spaced(1),
    ...options
  })

const inThread = <const Name extends keyof typeof Jobs.actions & string>(name: Name) => WorkerPool.handler(Jobs, name)

const JobsLive = Handlers.layer(
  Jobs,
  {
    square: inThread("square"),
    count: inThread("count"),
    where: inThread("where"),
    wait: inThread("wait"),
    spin: inThread("spin"),
    crash: inThread("crash"),
    die: inThread("die"),
    function: inThread("function"),
    left: inThread("left"),
    missing: inThread("missing"),
    here: () => Effect.succeed(threadId)
  },
  { concurrency: 100, grace: "5 seconds" }
)

/** Everything from the caller to the thread. Warnings about lost threads are expected here. */
const live = (options?: Partial<WorkerPool.Options>) =>
  JobsLive.pipe(
    Layer.provideMerge(threads(options)),
    Layer.provideMerge(Layer.fresh(Memory.layer)),
    Layer.provideMerge(Logger.layer([]))
  )

const outcome = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    const error = Option.getOrUndefined(Exit.findErrorOption(exit)) as CallError.CallError | undefined
    return error === undefined ? exit : { reason: error.reason._tag, started: error.started }
  })

/** Forks a streamed call, and succeeds with its fiber once the thread has begun it. */
const begin = Effect.fnUntraced(function* <E>(steps: Stream.Stream<{ readonly _tag: string }, E>) {
  const begun = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(steps, (event) => (event._tag === "Progress" ? Deferred.succeed(begun, undefined) : Effect.void))
  )
  yield* Deferred.await(begun)
  return fiber
})

const patient = { timeout: "60 seconds" } as const

const counted = Effect.map(Metric.snapshot, (metrics) =>
  metrics.filter(({ id }) => id === "fiberbus_worker_threads_lost_total")
)

describe("WorkerPool", () => {
  it.live("carries payloads, results, errors and steps to a thread and back, by their schemas", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const at = new Date(7)
      assert.deepStrictEqual(yield* jobs.square({ n: 12n, at }, patient), { square: 144n, at })

      const error = yield* Effect.flip(jobs.square({ n: 1_000_001n, at }, patient))
      assert.instanceOf(error, TooLarge)
      assert.deepStrictEqual((error as TooLarge).limit, 1_000_000n)

      const events = yield* Stream.runCollect(jobs.count.stream({ to: 3 }, patient))
      assert.deepStrictEqual(
        events.map((event) => event.value),
        [new Date(1), new Date(2), new Date(3), 3]
      )

      assert.notStrictEqual((yield* jobs.where(patient)).thread, threadId)
      assert.strictEqual(yield* jobs.here(patient), threadId)

      const left = yield* jobs.left(patient)
      assert.isAbove(left, 0)
      assert.isAtMost(left, 60_000)
    }).pipe(Effect.scoped, Effect.provide(live()))
  )

  it.live("answers many jobs back to back, each with its own result, on all threads", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const numbers = Array.from({ length: 1_000 }, (_, n) => BigInt(n))
      const results = yield* Effect.forEach(numbers, (n) => jobs.square({ n, at: new Date(Number(n)) }, patient), {
        concurrency: 100
      })
      assert.deepStrictEqual(
        results,
        numbers.map((n) => ({ square: n * n, at: new Date(Number(n)) }))
      )
      // Two that wait at the same time are in two threads.
      const first = yield* begin(jobs.wait.stream(patient))
      const second = yield* begin(jobs.wait.stream(patient))
      yield* Fiber.interruptAll([first, second])
      // What takes them back has arrived before this is answered.
      yield* jobs.here(patient)
    }).pipe(Effect.scoped, Effect.provide(live({ size: 2 })))
  )

  it.live("lets a thread wait with each step until the one before has been taken", () =>
    Effect.gen(function* () {
      const arrived = yield* Deferred.make<void>()
      const stuck = yield* Effect.forkChild(
        WorkerPool.run(
          Jobs,
          "count",
          { to: 1_000 },
          { progress: () => Effect.andThen(Deferred.succeed(arrived, undefined), Effect.never) }
        )
      )
      yield* Deferred.await(arrived)
      yield* Fiber.interrupt(stuck)
      assert.strictEqual((yield* WorkerPool.run(Jobs, "where", undefined)).passed, 0)

      let taken = 0
      const progress = () => Effect.sync(() => taken++).pipe(Effect.asVoid)
      assert.strictEqual(yield* WorkerPool.run(Jobs, "count", { to: 1_000 }, { progress }), 1_000)
      assert.strictEqual(taken, 1_000)
    }).pipe(Effect.scoped, Effect.provide(live()))
  )

  for (const how of ["exit", "throw", "heap"] as const) {
    it.live(`replaces a thread that is lost by ${how}, and answers the request it had`, () =>
      Effect.gen(function* () {
        const jobs = yield* Caller.make(Jobs)
        const before = yield* jobs.where(patient)
        const crash = yield* Effect.forkChild(outcome(jobs.crash({ how }, patient)), { startImmediately: true })
        // Waits for the thread, and is done by its successor.
        const after = yield* jobs.where(patient)
        assert.deepStrictEqual(yield* Fiber.join(crash), { reason: "RemoteDefect", started: "yes" })
        assert.notStrictEqual(after.thread, before.thread)
        assert.lengthOf(yield* counted, 1)
      }).pipe(
        Effect.scoped,
        Effect.provide(live({ heapMegabytes: 64 })),
        Effect.provideService(Metric.MetricRegistry, new Map())
      )
    )
  }

  it.live("replaces a thread that is lost while it has nothing to do, and says so", () =>
    Effect.gen(function* () {
      const logged = yield* Queue.unbounded<string>()
      const logger = Logger.make(({ logLevel, message }) => void Queue.offerUnsafe(logged, `${logLevel} ${message}`))
      yield* Effect.gen(function* () {
        const before = yield* WorkerPool.run(Jobs, "where", undefined)
        yield* WorkerPool.run(Jobs, "crash", { how: "idle" })
        assert.match(yield* Queue.take(logged), /^Warn fiberbus: thread 0 of jobs crashed: .*4$/)
        assert.notStrictEqual((yield* WorkerPool.run(Jobs, "where", undefined)).thread, before.thread)
      }).pipe(Effect.provide(threads()), Effect.provide(Logger.layer([logger])))
      // Its end with its layer is nothing to tell of.
      assert.deepStrictEqual(yield* Queue.clear(logged), [])
    })
  )

  it.live("says how a thread was lost, and that none is left where its schedule ends", () =>
    Effect.gen(function* () {
      const lost = yield* Effect.flip(WorkerPool.run(Jobs, "crash", { how: "exit" }))
      assert.instanceOf(lost, WorkerPool.JobError)
      assert.match(lost.message, /^jobs\.crash: its thread ended: .*3$/)
      const none = yield* Effect.flip(WorkerPool.run(Jobs, "where", undefined))
      assert.strictEqual(none.reason._tag, "NoThreads")
    }).pipe(Effect.scoped, Effect.provide(live({ restart: Schedule.recurs(0) })))
  )

  it.live(
    "a handler that dies in the thread is a RemoteDefect, its stack in the service's log, the thread goes on",
    () => {
      const logged: Array<string> = []
      const logger = Logger.make(({ cause }) => void logged.push(Cause.pretty(cause)))
      return Effect.gen(function* () {
        const jobs = yield* Caller.make(Jobs)
        const before = yield* jobs.where(patient)
        assert.deepStrictEqual(yield* outcome(jobs.die(patient)), { reason: "RemoteDefect", started: "yes" })
        assert.deepStrictEqual(yield* outcome(jobs.missing(patient)), { reason: "RemoteDefect", started: "yes" })
        assert.strictEqual((yield* jobs.where(patient)).thread, before.thread)
        assert.match(logged[0]!, /a bug in the thread[\s\S]*jobs\.worker\.ts/)
        assert.match(logged[1]!, /jobs\.missing was given to a thread .* no handler/)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          JobsLive.pipe(
            Layer.provide(threads()),
            Layer.provideMerge(Layer.fresh(Memory.layer)),
            Layer.provideMerge(Logger.layer([logger]))
          )
        )
      )
    }
  )

  it.live("a result or step that no message can hold is a defect of its job alone", () =>
    Effect.gen(function* () {
      const { thread } = yield* WorkerPool.run(Jobs, "where", undefined)
      for (const as of ["success", "progress"] as const) {
        const exit = yield* Effect.exit(WorkerPool.run(Jobs, "function", { as }))
        assert.match(Cause.pretty((exit as Exit.Failure<unknown, unknown>).cause), /could not be cloned/)
      }
      assert.strictEqual((yield* WorkerPool.run(Jobs, "where", undefined)).thread, thread)
    }).pipe(Effect.scoped, Effect.provide(live()))
  )

  it.live("does not begin a job when it is closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(threads(), scope)
      const run = Effect.provideContext(WorkerPool.run(Jobs, "where", undefined), context)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* Effect.flip(run)).reason._tag, "NoThreads")
      yield* Fiber.join(closing)
    })
  )

  it.live("interrupts the job when its caller is interrupted, and keeps the thread", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const before = yield* jobs.where(patient)
      const fiber = yield* begin(jobs.wait.stream(patient))
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* jobs.where(patient), { thread: before.thread, interrupted: 1, passed: 0 })
    }).pipe(Effect.scoped, Effect.provide(live()))
  )

  it.live("interrupts the job at its deadline", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const { reason } = yield* Effect.flip(jobs.wait({ timeout: "1 millis" }))
      assert.strictEqual((reason as CallError.CallError["reason"])._tag, "DeadlineExceeded")
      // Had it not been interrupted, the only thread would not be free for this.
      yield* jobs.where(patient)
    }).pipe(Effect.scoped, Effect.provide(live()))
  )

  it.live("ends and replaces a thread whose job does not yield", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const before = yield* jobs.where(patient)
      const fiber = yield* begin(jobs.spin.stream(patient))
      yield* Fiber.interrupt(fiber)
      assert.notStrictEqual((yield* jobs.where(patient)).thread, before.thread)
      assert.deepInclude((yield* counted)[0]!.attributes, { service: "jobs", why: "stuck" })
    }).pipe(
      Effect.scoped,
      Effect.provide(live({ interruptWithin: "10 millis" })),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  )

  it.live("refuses with Busy when as many jobs wait as may, and forgets one that is interrupted while it waits", () =>
    Effect.gen(function* () {
      const jobs = yield* Caller.make(Jobs)
      const running = yield* begin(jobs.wait.stream(patient))
      const waiting = yield* Effect.forkChild(WorkerPool.run(Jobs, "where", undefined), { startImmediately: true })
      assert.deepStrictEqual(yield* outcome(jobs.where(patient)), { reason: "Busy", started: "no" })
      yield* Fiber.interrupt(waiting)
      const next = yield* Effect.forkChild(WorkerPool.run(Jobs, "where", undefined), { startImmediately: true })
      assert.deepStrictEqual(yield* outcome(jobs.where(patient)), { reason: "Busy", started: "no" })
      yield* Fiber.interrupt(running)
      assert.strictEqual((yield* Fiber.join(next)).interrupted, 1)
    }).pipe(Effect.scoped, Effect.provide(live({ queue: 1 })))
  )

  it.live("leaves no thread behind, and nothing to tell of, whatever they do", () =>
    Effect.gen(function* () {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => void logged.push(message))
      const before = workers()
      for (const act of ["nothing", "wait", "spin"] as const) {
        yield* Effect.gen(function* () {
          if (act === "nothing") return
          const begun = yield* Deferred.make<void>()
          yield* Effect.forkChild(
            WorkerPool.run(Jobs, act, undefined, { progress: () => Deferred.succeed(begun, undefined) })
          )
          yield* Deferred.await(begun)
          assert.isAbove(workers(), before)
        }).pipe(Effect.provide(threads({ size: 2 })), Effect.provide(Logger.layer([logger])))
        assert.strictEqual(workers(), before, act)
      }
      assert.deepStrictEqual(logged, [])
    })
  )

  for (const [what, url, detail] of [
    ["is not there", "./nowhere.worker.ts", /Cannot find module/],
    ["throws", "./broken.worker.ts", /broken on purpose/],
    ["runs another service's handlers", "./other.worker.ts", /is for user_service/]
  ] as const) {
    it.live(`does not start when the file ${what}`, () =>
      Effect.gen(function* () {
        const before = workers()
        const error = yield* Effect.flip(Effect.scoped(Layer.build(threads({ url: file(url), size: 2 }))))
        assert.instanceOf(error, WorkerPool.NotStarted)
        assert.match(error.message, /^the threads of jobs could not start from file:/)
        assert.match(error.detail, detail)
        assert.strictEqual(workers(), before)
      })
    )
  }
})

/** Threads of this process that have not ended. */
const workers = () => {
  const { workers } = process.report.getReport() as unknown as { readonly workers: ReadonlyArray<unknown> }
  return workers.length
}
