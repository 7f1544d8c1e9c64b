/**
 * Moves handlers of a service to a pool of threads, so that what computes for long does not hold up what waits.
 *
 * The handler is written in a file of its own, which each thread runs (`WorkerRunner.run`); the service names it in its place:
 *
 *     Handlers.layer(Images, { resize: WorkerPool.handler(Images, "resize"), info: … }).pipe(
 *       Layer.provide(WorkerPool.layer(Images, { url: new URL("./images.worker.ts", import.meta.url) }))
 *     )
 */
import { availableParallelism } from "node:os"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Schedule from "effect/Schedule"
import type * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import * as Deadline from "../policy/Deadline.ts"
import * as Request from "../server/Request.ts"
import * as Response from "../server/Response.ts"
import * as Backoff from "../transport/Backoff.ts"
import * as Reason from "../wire/Reason.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import * as Threads from "./internal/pool.ts"

export { NotStarted } from "./internal/pool.ts"

/** What is set for a pool. Every field but `url` has a default. */
export interface Options {
  /**
   * The file that each thread runs: `new URL("./images.worker.ts", import.meta.url)`. Where the program is compiled, the thread's
   * file is too: then it ends with `.js`. Threads get the flags of the process, so that what loads one loads the other.
   */
  readonly url: URL
  /** Threads, each of which does one job at a time. Default: one less than the machine runs at once, at least one. */
  readonly size?: number
  /** Jobs that may wait for a thread, default 100. At the limit callers get `Busy`. */
  readonly queue?: number
  /**
   * How a lost thread is replaced; its input is what happened, in words. Default: after 100 milliseconds doubling to 10 seconds, with
   * full jitter, without end. It begins anew once a thread has done a job. A schedule that ends gives the thread up.
   */
  readonly restart?: Schedule.Schedule<unknown, string>
  /** Time that an interrupted job has to end, before its thread is ended and replaced. Default 1 second. */
  readonly interruptWithin?: Duration.Input
  /** Megabytes of heap that a thread may use before it is ended and replaced. Default: as Node decides. */
  readonly heapMegabytes?: number
  /** Node's flags for the threads. Default: those of the process. */
  readonly execArgv?: ReadonlyArray<string>
}

/** The threads of a service, as a requirement. */
export interface Pool<in out ServiceName extends string> {
  readonly _: unique symbol
  readonly service: (_: ServiceName) => ServiceName
}

/** The thread that ran the job ended: it crashed, ran out of memory, or called `process.exit`. */
export class ThreadLost extends Data.TaggedError("ThreadLost")<{ readonly how: string }> {
  override get message() {
    return `its thread ended: ${this.how}`
  }
}

/** All threads were given up by the pool's `restart` schedule, or the pool was closed; the job was not begun. */
export class NoThreads extends Data.TaggedError("NoThreads") {
  override readonly message = "no thread is left"
}

/** Why a job brought neither its success nor a declared error. A defect in the thread is a defect here. */
export class JobError extends Data.TaggedError("JobError")<{
  readonly service: string
  readonly action: string
  readonly reason: Reason.Busy | ThreadLost | NoThreads
}> {
  override get message() {
    return `${this.service}.${this.action}: ${this.reason.message}`
  }
}

/**
 * Starts the threads for a service, and keeps their number, until the Scope closes. The Layer is there when all threads are ready.
 *
 * Units: all times are real time, whatever `Clock` says.
 * Errors: `NotStarted` when one of them cannot load its file, has not begun `WorkerRunner.run` within 30 seconds, or runs another
 * service's.
 */
export const layer = <S extends Service.Any>(
  service: S,
  options: Options
): Layer.Layer<Pool<S["serviceName"]>, Threads.NotStarted> =>
  Layer.effect(
    key(service),
    Threads.make(service.serviceName, {
      url: options.url,
      size: atLeast(1, options.size ?? availableParallelism() - 1),
      queue: atLeast(0, options.queue ?? 100),
      restart: options.restart ?? Backoff.make({ first: "100 millis", longest: "10 seconds" }),
      interruptWithin: options.interruptWithin ?? "1 second",
      heapMegabytes: options.heapMegabytes,
      execArgv: options.execArgv
    })
  ) as any

/**
 * Does one job of a thread: for what is no request, and for handlers that do something before or after.
 *
 * Shape: the payload and what comes back are the action's, and cross as its schemas write them. Steps go to `progress`, of which the
 * thread waits for each. Interrupting it interrupts the handler in the thread, and ends the thread if it does not yield.
 * Errors: the action's own, the same class; {@link JobError}. A defect of the thread's handler is one here, with its stack.
 */
export const run: <S extends Service.Any, const Name extends Service.ActionName<S>, R = never>(
  service: S,
  name: Name,
  payload: Action.Payload<S["actions"][Name]>,
  options?: {
    readonly progress?: (step: Action.Progress<S["actions"][Name]>) => Effect.Effect<void, never, R>
  }
) => Effect.Effect<
  Action.Success<S["actions"][Name]>,
  Action.Error<S["actions"][Name]> | JobError,
  Pool<S["serviceName"]> | R
> = Effect.fnUntraced(function* (
  service: Service.Any,
  name: string,
  payload: unknown,
  options?: { readonly progress?: (step: any) => Effect.Effect<void, never, any> }
) {
  const action = service.actions[name]!
  const threads = yield* key(service)
  const remaining = yield* Deadline.remainingMillis
  const json = yield* Effect.orDie(SchemaCodec.make(action.payload).encode(payload))
  const failed = (reason: JobError["reason"]) => new JobError({ service: service.serviceName, action: name, reason })

  const follow = Effect.fnUntraced(function* (job: Threads.Job) {
    while (true) {
      const event = yield* Queue.take(job.events)
      switch (event._tag) {
        case "Progress": {
          const step = yield* Effect.orDie(SchemaCodec.make(action.progress).decode(event.value))
          if (options?.progress !== undefined) yield* options.progress(step)
          yield* event.passedOn
          break
        }
        case "Success":
          return yield* Effect.orDie(SchemaCodec.make(action.success).decode(event.value))
        case "Failure":
          return yield* Effect.flatMap(Effect.orDie(SchemaCodec.make(action.error).decode(event.error)), Effect.fail)
        case "Defect":
          return yield* Effect.die(thrown(event))
        case "Interrupted":
          return yield* Effect.interrupt
        case "Lost":
          return yield* failed(new ThreadLost({ how: event.how }))
        case "NoThreads":
          return yield* failed(new NoThreads())
      }
    }
  })

  return yield* Effect.acquireUseRelease(
    threads.submit(name, json, Number.isFinite(remaining) ? remaining : undefined),
    (job) =>
      job === undefined ? failed(new Reason.Busy({ retryAfterMillis: threads.retryAfterMillis() })) : follow(job),
    (job) => (job === undefined ? Effect.void : threads.cancel(job))
  )
}) as any

/**
 * A handler that runs in a thread of the service's pool, in place of one that would run here.
 *
 * Its request keeps its slot of the service while it waits for a thread: of `concurrency` 10, four run on four threads and six wait. So
 * the pool's `queue` matters only where `concurrency` is larger than both together.
 * Outcomes: the success and declared errors as from any handler. `Busy` (started: no) where as many jobs wait as may. `RemoteDefect`
 * (started: yes) where the thread's handler died, its thread was lost, or none is left; the log tells which. A request that is
 * interrupted, by its deadline or its caller, interrupts its job.
 */
export const handler =
  <S extends Service.Any, const Name extends Service.ActionName<S>>(service: S, name: Name) =>
  (
    payload: Action.Payload<S["actions"][Name]>,
    tools: { readonly progress: (step: Action.Progress<S["actions"][Name]>) => Effect.Effect<void> }
  ): Effect.Effect<
    Action.Success<S["actions"][Name]> | Response.Sent,
    Action.Error<S["actions"][Name]>,
    Pool<S["serviceName"]>
  > =>
    Effect.catchIf(
      run(service, name, payload, { progress: tools.progress }),
      (error): error is JobError => error instanceof JobError,
      (error) => (error.reason._tag === "Busy" ? refuse(error.reason) : Effect.die(error))
    ) as any

/** Not begun, and the caller is told so: no handler can fail with that by itself. */
const refuse = (busy: Reason.Busy) =>
  Effect.map(Request.exchange("WorkerPool.handler"), (exchange) => {
    exchange.refuse(busy, "no")
    return Response.sent
  })

const key = (service: Service.Any) =>
  Context.Service<Pool<string>, Threads.Pool>(`fiberbus/worker/WorkerPool/${service.serviceName}`)

const atLeast = (least: number, given: number) => Math.max(least, Math.floor(given) || 0)

/** What was thrown in the thread, with its own stack: that of this process would tell nothing. */
const thrown = ({ message, stack }: { readonly message: string; readonly stack: string }) => {
  const error = new Error(message)
  if (stack !== "") error.stack = stack
  return error
}
