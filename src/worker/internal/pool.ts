/** The threads of one service and the jobs that wait for them. Knows nothing of requests. */
import * as NodeWorkerThreads from "node:worker_threads"
import * as NodeWorker from "@effect/platform-node/NodeWorker"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Worker from "effect/workers/Worker"
import { isWorkerError, type WorkerError } from "effect/workers/WorkerError"
import * as WorkerMetrics from "../WorkerMetrics.ts"
import type { End, FromThread, ToThread } from "./messages.ts"

/** Longest time that a thread may take to load its file and be ready, in milliseconds. */
const startWithinMillis = 30_000

/** @see WorkerPool.Options */
export interface Options {
  readonly url: URL
  readonly size: number
  readonly queue: number
  readonly restart: Schedule.Schedule<unknown, string>
  readonly interruptWithin: Duration.Input
  readonly heapMegabytes: number | undefined
  readonly execArgv: ReadonlyArray<string> | undefined
}

/** The threads could not be started when their layer was built. */
export class NotStarted extends Data.TaggedError("NotStarted")<{
  readonly service: string
  readonly url: string
  readonly detail: string
}> {
  override get message() {
    return `the threads of ${this.service} could not start from ${this.url}: ${this.detail}`
  }
}

/** What a job says on its way, in order. The last one is an `End`, or nothing where its thread was lost. */
export type Event =
  | { readonly _tag: "Progress"; readonly value: unknown; readonly passedOn: Effect.Effect<void> }
  | End
  | { readonly _tag: "Lost"; readonly how: string }
  | { readonly _tag: "NoThreads" }

/** One job, from its admission to its end. */
export interface Job {
  readonly id: number
  readonly action: string
  readonly payload: unknown
  /** When nobody waits for it any more, by `performance.now`. */
  readonly deadline: number | undefined
  /** Not longer than the handler's own fibers are many: each waits until its step is passed on. */
  readonly events: Queue.Queue<Event>
  readonly over: Deferred.Deferred<void>
  thread: Thread | undefined
  /** When a thread took it. */
  begun: number
}

interface Thread {
  readonly id: number
  readonly ready: Deferred.Deferred<void, Error>
  post: (message: ToThread) => void
  raw: NodeWorkerThreads.Worker | undefined
  job: Job | undefined
  /** It takes jobs. */
  isReady: boolean
  /** Why the pool ended it itself, if it did. */
  ended: "stuck" | "slow_start" | undefined
  jobs: number
}

/** @see {@link make} */
export interface Pool {
  /** Begins a job, or lets it wait for a thread; nothing where as many wait as may. */
  readonly submit: (
    action: string,
    payload: unknown,
    remainingMillis: number | undefined
  ) => Effect.Effect<Job | undefined>
  /** Takes a job back that has not ended: succeeds when no thread works on it any more. */
  readonly cancel: (job: Job) => Effect.Effect<void>
  /** Milliseconds after which a place is likely to be free. */
  readonly retryAfterMillis: () => number
}

/** Starts the threads, and keeps their number, until the Scope closes. Succeeds when all of them are ready. */
export const make = Effect.fnUntraced(function* (service: string, options: Options) {
  const context = Context.add(yield* Effect.context<never>(), Clock.Clock, Clock.Clock.defaultValue())
  const platform = yield* Worker.WorkerPlatform.pipe(Effect.provide(NodeWorker.layerPlatform))
  const runFork = Effect.runForkWith(context)
  const metrics = {
    waiting: Metric.withAttributes(WorkerMetrics.waiting, { service }),
    refused: Metric.withAttributes(WorkerMetrics.refused, { service }),
    lost: Metric.withAttributes(WorkerMetrics.lost, { service })
  }

  const waiting = new Set<Job>()
  const idle: Array<Thread> = []
  const threads = new Set<Thread>()
  let alive = options.size
  let closing = false
  let jobs = 0
  let meanMillis = 100

  const begin = (thread: Thread, job: Job) => {
    thread.job = job
    job.thread = thread
    job.begun = performance.now()
    const { action, deadline, id, payload } = job
    const remainingMillis = deadline === undefined ? undefined : deadline - job.begun
    thread.post({ _tag: "Run", job: id, action, payload, remainingMillis })
  }

  /** A thread has nothing to do. */
  const next = (thread: Thread) => {
    if (!thread.isReady) return
    const [job] = waiting
    if (job === undefined) return idle.push(thread)
    waiting.delete(job)
    metrics.waiting.updateUnsafe(waiting.size, context)
    begin(thread, job)
  }

  /** A thread gets no more jobs. */
  const retire = (thread: Thread) => {
    thread.isReady = false
    const at = idle.indexOf(thread)
    if (at >= 0) idle.splice(at, 1)
  }

  const end = (job: Job, event: Event) => {
    job.thread = undefined
    Queue.offerUnsafe(job.events, event)
    Deferred.doneUnsafe(job.over, Exit.void)
  }

  const receive = (thread: Thread, message: FromThread) => {
    if (message._tag === "Ready") {
      if (message.service !== service) {
        Deferred.doneUnsafe(thread.ready, Exit.fail(new Error(`its WorkerRunner.run is for ${message.service}`)))
        return
      }
      thread.isReady = true
      Deferred.doneUnsafe(thread.ready, Exit.void)
      return next(thread)
    }
    const { job } = thread
    if (job === undefined || job.id !== message.job) return
    if (message._tag === "Progress") {
      const passedOn = Effect.sync(() => thread.post({ _tag: "Ack", step: message.step }))
      Queue.offerUnsafe(job.events, { _tag: "Progress", value: message.value, passedOn })
      return
    }
    thread.job = undefined
    thread.jobs++
    meanMillis += (performance.now() - job.begun - meanMillis) / 8
    end(job, message)
    next(thread)
  }

  /** Runs one thread to its end, which is told in words. */
  const live = (thread: Thread) =>
    Effect.gen(function* () {
      const worker = yield* platform.spawn<FromThread, ToThread>(thread.id).pipe(
        Effect.provideService(Worker.Spawner, () => {
          const raw = new NodeWorkerThreads.Worker(options.url, {
            name: `${service}-${thread.id}`,
            ...(options.heapMegabytes === undefined
              ? undefined
              : { resourceLimits: { maxOldGenerationSizeMb: options.heapMegabytes } }),
            ...(options.execArgv === undefined ? undefined : { execArgv: [...options.execArgv] })
          })
          thread.raw = raw
          // At once, not when all of its end is known: a job given to it meanwhile would be lost with it.
          raw.once("error", () => retire(thread)).once("exit", () => retire(thread))
          return raw
        })
      )
      thread.post = (message) => {
        runFork(
          Effect.catchCause(worker.send(message), (cause) => {
            // What cannot be cloned, not a broken thread: that ends all by itself.
            if (message._tag !== "Run" || thread.job?.id !== message.job) return Effect.void
            receive(thread, { _tag: "Defect", job: message.job, message: Cause.pretty(cause), stack: "" })
            return Effect.void
          })
        )
      }
      threads.add(thread)
      const tooSlow = Effect.andThen(
        Effect.sleep(startWithinMillis),
        Effect.suspend(() => {
          thread.ended = "slow_start"
          return Effect.succeed(`not ready within ${startWithinMillis / 1000} seconds`)
        })
      )
      const untilReady = Effect.raceFirst(Effect.as(Deferred.await(thread.ready), undefined), tooSlow)
      const running: Effect.Effect<string, WorkerError> = worker.run((message: FromThread) =>
        Effect.sync(() => receive(thread, message))
      )
      return yield* Effect.raceFirst(
        running,
        Effect.flatMap(untilReady, (late) => (late === undefined ? Effect.never : Effect.succeed(late)))
      )
    }).pipe(
      Effect.catchCause((cause) => Effect.succeed(howOf(cause))),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          threads.delete(thread)
          retire(thread)
          const how = exit._tag === "Success" ? exit.value : "the pool was closed"
          if (thread.job !== undefined) end(thread.job, { _tag: "Lost", how })
          thread.job = undefined
        })
      )
    )

  const supervise = Effect.fnUntraced(function* (id: number, first: Deferred.Deferred<void, Error>) {
    let step = yield* Schedule.toStepWithSleep(options.restart)
    for (let isFirst = true; ; isFirst = false) {
      const thread: Thread = {
        id,
        ready: isFirst ? first : Deferred.makeUnsafe(),
        post: () => {},
        raw: undefined,
        job: undefined,
        isReady: false,
        ended: undefined,
        jobs: 0
      }
      const how = yield* live(thread)
      // Its layer is not there yet, and will not be.
      if (Deferred.doneUnsafe(first, Exit.fail(new Error(how)))) return
      if (closing) return
      yield* Metric.update(Metric.withAttributes(metrics.lost, { why: thread.ended ?? "crashed" }), 1)
      yield* Effect.logWarning(`fiberbus: thread ${id} of ${service} ${thread.ended ?? "crashed"}: ${how}`)
      if (thread.jobs > 0) step = yield* Schedule.toStepWithSleep(options.restart)
      if (Exit.isFailure(yield* Effect.exit(step(how)))) break
    }
    alive--
    yield* Effect.logError(`fiberbus: thread ${id} of ${service} is not started again, ${alive} are left`)
    if (alive === 0) endWaiting()
  })

  const endWaiting = () => {
    for (const job of waiting) end(job, { _tag: "NoThreads" })
    waiting.clear()
  }

  const started = Array.from({ length: options.size }, () => Deferred.makeUnsafe<void, Error>())
  yield* Effect.forEach(started, (first, id) => supervise(id, first), { concurrency: "unbounded", discard: true }).pipe(
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()),
    Effect.forkScoped
  )
  // Before the threads are asked to end: one that works, or has not begun yet, would not hear it.
  yield* Effect.addFinalizer(() => {
    closing = true
    alive = 0
    endWaiting()
    return Effect.forEach(
      Array.from(threads).filter(({ isReady, job }) => job !== undefined || !isReady),
      ({ raw }) => Effect.promise(async () => raw?.terminate()),
      { concurrency: "unbounded", discard: true }
    )
  })
  yield* Effect.forEach(started, Deferred.await, { concurrency: "unbounded", discard: true }).pipe(
    Effect.mapError(({ message }) => new NotStarted({ service, url: options.url.href, detail: message }))
  )

  return {
    retryAfterMillis: () => Math.max(1, Math.ceil((meanMillis * (waiting.size + 1)) / Math.max(1, alive))),
    submit: (action, payload, remainingMillis) =>
      Effect.map(Queue.unbounded<Event>(), (events) => {
        const over = Deferred.makeUnsafe<void>()
        const deadline = remainingMillis === undefined ? undefined : performance.now() + remainingMillis
        const job: Job = { id: jobs++, action, payload, deadline, events, over, thread: undefined, begun: 0 }
        // Those that are idle when the pool closes are on their way to their end.
        const thread = alive === 0 ? undefined : idle.pop()
        if (thread !== undefined) begin(thread, job)
        else if (alive === 0) end(job, { _tag: "NoThreads" })
        else if (waiting.size < options.queue) {
          waiting.add(job)
          metrics.waiting.updateUnsafe(waiting.size, context)
        } else {
          metrics.refused.updateUnsafe(1, context)
          return undefined
        }
        return job
      }),
    cancel: (job) =>
      Effect.suspend(() => {
        if (waiting.delete(job)) {
          metrics.waiting.updateUnsafe(waiting.size, context)
          return Effect.void
        }
        const { thread } = job
        if (thread === undefined) return Effect.void
        thread.post({ _tag: "Interrupt", job: job.id })
        const over = Effect.interruptible(Deferred.await(job.over))
        return Effect.timeoutOrElse(over, {
          duration: options.interruptWithin,
          // It does not yield. Its loss is noticed where it runs, and another takes its place.
          orElse: () =>
            Effect.promise(async () => {
              if (thread.job !== job) return
              thread.ended = "stuck"
              await thread.raw?.terminate()
            })
        })
      }).pipe(Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()))
  } satisfies Pool as Pool
})

const howOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const inner = isWorkerError(error) ? error.reason.cause : error
  if (inner instanceof Error) return inner.message
  return isWorkerError(error) ? error.message : String(error)
}
