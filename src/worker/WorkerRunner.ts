/** The thread's side of a `WorkerPool`: what a thread does with the jobs it is given. */
import * as NodeWorkerRunner from "@effect/platform-node/NodeWorkerRunner"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as WorkerRunnerPlatform from "effect/workers/WorkerRunner"
import type * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import { Deadline } from "../policy/Deadline.ts"
import type * as Handlers from "../server/Handlers.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import type { End, FromThread, ToThread } from "./internal/messages.ts"

/** What a handler gets beside its payload. */
export interface Tools<in Progress> {
  /** Sends a step to whoever streams the call. Succeeds when the service has passed it on, so that a fast thread waits for it. */
  readonly progress: (step: Progress) => Effect.Effect<void>
}

/** One handler: the decoded payload in, the success or a declared error out. */
export type Handler<A extends Action.Any, R = any> = (
  payload: Action.Payload<A>,
  tools: Tools<Action.Progress<A>>
) => Effect.Effect<Action.Success<A>, Action.Error<A>, R>

/** Handlers of those actions of a service that its threads are for. One that answers with a Stream of `items` cannot be. */
export type HandlersOf<S extends Service.Any> = {
  readonly [Name in Service.ActionName<S>]?: [Action.Items<S["actions"][Name]>] extends [never]
    ? Handler<S["actions"][Name]>
    : never
}

type NoOthers<Handlers, S extends Service.Any> = {
  readonly [Name in Exclude<
    keyof Handlers,
    Service.ActionName<S>
  >]: `${Name & string} is no action of ${S["serviceName"]}`
}

/** The pool gave a job to a thread that has no handler for it. A mistake in the program, hence a defect. */
export class NotInThread extends Data.TaggedError("NotInThread")<{
  readonly service: string
  readonly action: string
}> {
  override get message() {
    return `${this.service}.${this.action} was given to a thread whose WorkerRunner.run has no handler for it`
  }
}

/**
 * Takes jobs from the pool that started this thread, one at a time, until the pool closes.
 *
 * Shape: the main effect of the pool's file: `WorkerRunner.run(Images, { resize: … }).pipe(Effect.provide(…), NodeRuntime.runMain)`.
 * A handler is an Effect as in `Handlers.layer`, except that the current `Request` stays behind; the time that is left comes
 * along (`Deadline`). It can be interrupted wherever it yields: a long computation does well to `yield* Effect.yieldNow` between
 * its parts, otherwise its thread is ended instead.
 * Errors: dies when this is not a thread.
 */
export const run = <S extends Service.Any, Handlers extends HandlersOf<S>>(
  service: S,
  handlers: Handlers & NoOthers<Handlers, S>
): Effect.Effect<void, never, Handlers.ServicesOf<Handlers>> =>
  Effect.gen(function* () {
    const platform = yield* WorkerRunnerPlatform.WorkerRunnerPlatform
    const backing = yield* platform.start<FromThread, ToThread>()
    const post = (message: FromThread) => backing.sendUnsafe(0, message)
    const running = new Map<number, Fiber.Fiber<unknown, unknown>>()
    const unacknowledged = new Map<number, () => void>()
    let steps = 0

    const progressOf = (action: Action.Any, job: number) => (value: unknown) =>
      Effect.flatMap(Effect.orDie(SchemaCodec.make(action.progress).encode(value)), (value) =>
        Effect.callback<void>((resume) => {
          const step = steps++
          post({ _tag: "Progress", job, step, value })
          unacknowledged.set(step, () => resume(Effect.void))
          return Effect.sync(() => unacknowledged.delete(step))
        })
      )

    const work = ({ action: name, job, payload, remainingMillis }: ToThread & { readonly _tag: "Run" }) =>
      Effect.withFiber<End>((fiber) => {
        running.set(job, fiber)
        const action = service.actions[name]
        const handler = (handlers as Record<string, Handler<any> | undefined>)[name]
        const handling =
          action === undefined || handler === undefined
            ? Effect.die(new NotInThread({ service: service.serviceName, action: name }))
            : SchemaCodec.make(action.payload)
                .decode(payload)
                .pipe(
                  Effect.orDie,
                  Effect.flatMap(
                    (payload) =>
                      handler(payload, { progress: progressOf(action, job) }) as Effect.Effect<unknown, unknown>
                  ),
                  Effect.scoped,
                  Effect.exit,
                  Effect.flatMap((exit) => endOf(action, job, exit))
                )
        const now = Number(fiber.getRef(Clock.Clock).monotonicTimeNanosUnsafe()) / 1_000_000
        return handling.pipe(
          Effect.provideService(Deadline, remainingMillis === undefined ? undefined : now + remainingMillis),
          Effect.catchCause((cause) => Effect.succeed(defect(job, cause))),
          // Nothing after an interruption would be run, but this is.
          Effect.onExit((exit) =>
            Effect.sync(() => {
              running.delete(job)
              try {
                post(exit._tag === "Success" ? exit.value : defect(job, exit.cause))
              } catch (error) {
                // A value that no message can hold, which `Schema.Any` lets through. Nothing said would be a job without an end.
                post(defect(job, Cause.die(error)))
              }
            })
          )
        )
      })

    post({ _tag: "Ready", service: service.serviceName })
    yield* backing.run((_, message) => {
      switch (message._tag) {
        case "Run":
          return work(message)
        case "Interrupt":
          return running.get(message.job)?.interruptUnsafe()
        case "Ack": {
          const resume = unacknowledged.get(message.step)
          unacknowledged.delete(message.step)
          return resume?.()
        }
      }
    })
  }).pipe(Effect.orDie, Effect.provide(NodeWorkerRunner.layer)) as any

const endOf = (action: Action.Any, job: number, exit: Exit.Exit<unknown, unknown>): Effect.Effect<End> => {
  if (exit._tag === "Success") {
    return Effect.map(Effect.orDie(SchemaCodec.make(action.success).encode(exit.value)), (value) => ({
      _tag: "Success",
      job,
      value
    }))
  }
  const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
  if (failure === undefined) return Effect.succeed(defect(job, exit.cause))
  return Effect.map(Effect.orDie(SchemaCodec.make(action.error).encode(failure.error)), (error) => ({
    _tag: "Failure",
    job,
    error
  }))
}

const defect = (job: number, cause: Cause.Cause<unknown>): End => {
  if (Cause.hasInterruptsOnly(cause)) return { _tag: "Interrupted", job }
  const error = Cause.squash(cause)
  return error instanceof Error
    ? { _tag: "Defect", job, message: error.message, stack: error.stack ?? "" }
    : { _tag: "Defect", job, message: String(error), stack: "" }
}
