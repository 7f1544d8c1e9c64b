/** The runs of one background task: which may begin, which waits, and what is written down of each. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Lease from "../../transport/Lease.ts"
import * as TaskMetrics from "../TaskMetrics.ts"
import * as WindDown from "./windDown.ts"

/** How a run ended. `lost`: it was interrupted because its lease was lost. */
export type Outcome = "succeeded" | "failed" | "died" | "interrupted" | "lost"

/** Why there was no run. `Running`: by the overlap rule. `Closed`: the Layer is. The others are those of a lease. */
export type Refusal = "Running" | "Closed" | Exclude<Lease.NotHeld["reason"], "Lost">

/** A run that was asked for. */
export interface Run<A, E> {
  /** The occurrence of the schedule that it is for; nothing for one that somebody asked for. */
  readonly occurrence: Lease.Occurrence | undefined
  /** The exit of the effect, or why it was not run. */
  readonly done: Deferred.Deferred<Exit.Exit<A, E>, Refusal>
}

/** @see {@link make} */
export interface Runs<A, E> {
  /** Begins a run, lets it wait, joins the one that waits, or refuses it. */
  readonly ask: (occurrence: Lease.Occurrence | undefined) => Run<A, E>
  readonly running: () => number
  readonly isWaiting: () => boolean
  /** Refuses what comes or waits, and ends what runs. Bounded in time. */
  readonly close: (grace: Duration.Input) => Effect.Effect<void>
}

/** How long a run goes on asking for its lease while the store does not answer. */
export const patience = "1 minute"

/** Makes the account of a task. The effect and what watches it run in `context`. */
export const make = <A, E>(options: {
  readonly name: string
  readonly effect: Effect.Effect<A, E>
  readonly context: Context.Context<never>
  readonly limit: number
  readonly queue: boolean
  /** The lease that a run needs; nothing where it needs none. */
  readonly lease: { readonly ttl?: Duration.Input } | undefined
  readonly onEnd: (startedAtMillis: number, outcome: Outcome, exit: Exit.Exit<A, E>, millis: number) => void
  readonly onSkip: (reason: Refusal) => void
  /** Something has begun or ended. */
  readonly onChange: () => void
}): Runs<A, E> => {
  const { context, lease, name } = options
  const runFork = Effect.runForkWith(context)
  const clock = Context.get(context, Clock.Clock)
  const task = { task: name }
  const fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  let running = 0
  let waiting: Run<A, E> | undefined
  let closed = false

  const log = (line: Effect.Effect<void>) => void runFork(Effect.annotateLogs(line, task))

  /** Writes down why a run is not made. What is returned ends the waiting for it, when all else is in its place. */
  const refused = (run: Run<A, E>, reason: Refusal, error?: Lease.NotHeld): Exit.Exit<never, Refusal> => {
    if (run.occurrence !== undefined && reason !== "Closed") {
      Metric.withAttributes(TaskMetrics.skipped, { ...task, reason }).updateUnsafe(1, context)
      options.onSkip(reason)
      const why = `fiberbus: the background task ${name} makes no run`
      if (reason === "Early" || reason === "Unreachable") log(Effect.logError(`${why}: ${error?.message}`))
      else log(Effect.logDebug(`${why}: ${reason}`))
    }
    return Exit.fail(reason)
  }

  /** The same for a run that has ended. */
  const over = (outcome: Outcome, exit: Exit.Exit<A, E>, startedAt: number): Exit.Exit<Exit.Exit<A, E>> => {
    const took = Math.max(0, clock.currentTimeMillisUnsafe() - startedAt)
    Metric.withAttributes(TaskMetrics.runs, { ...task, outcome }).updateUnsafe(1, context)
    Metric.withAttributes(TaskMetrics.duration, task).updateUnsafe(took, context)
    // To be interrupted at shutdown is no trouble, but must be found. Of a lost lease its own error tells.
    if (closed && outcome === "interrupted") {
      log(Effect.logInfo(`fiberbus: the background task ${name} was interrupted by the shutdown, after ${took} ms`))
    } else if (exit._tag === "Failure" && outcome !== "lost") {
      log(Effect.logError(`fiberbus: the background task ${name} ${outcome}`, exit.cause))
    }
    options.onEnd(startedAt, outcome, exit, took)
    return Exit.succeed(exit)
  }

  const settle = (run: Run<A, E>, exit: Exit.Exit<Exit.Exit<A, E>, Lease.NotHeld>, startedAt: number | undefined) => {
    if (exit._tag === "Success") return over(outcomeOf(exit.value), exit.value, startedAt!)
    const error = exit.cause.reasons.find(Cause.isFailReason)?.error
    if (error !== undefined && error.reason !== "Lost") return refused(run, error.reason, error)
    if (error !== undefined) {
      log(Effect.logError(`fiberbus: the background task ${name} was interrupted: ${error.message}`))
      return over("lost", Exit.interrupt(), startedAt!)
    }
    const isInterrupted = Cause.hasInterruptsOnly(exit.cause)
    if (startedAt === undefined && isInterrupted) return refused(run, "Closed")
    // A defect beside the effect is the store's.
    return over(
      isInterrupted ? "interrupted" : "died",
      Exit.failCause(exit.cause as Cause.Cause<never>),
      startedAt ?? clock.currentTimeMillisUnsafe()
    )
  }

  const begin = (run: Run<A, E>) => {
    running++
    let startedAt: number | undefined
    // What the effect itself says is a value here, so that an error beside it is the lease's.
    const guarded = Effect.suspend(() => {
      startedAt = clock.currentTimeMillisUnsafe()
      return Effect.exit(options.effect)
    })
    const held: Effect.Effect<Exit.Exit<A, E>, Lease.NotHeld, any> = lease === undefined
      ? guarded
      : Lease.hold(name, { ...lease, patience, ...(run.occurrence && { occurrence: run.occurrence }) })(guarded)
    // On a later turn: what it does first may bring somebody back here, who must find it in its place.
    const later = Effect.andThen(Effect.yieldNow, held as Effect.Effect<Exit.Exit<A, E>, Lease.NotHeld>)
    const fiber = runFork(later)
    fibers.add(fiber)
    fiber.addObserver((exit) => {
      fibers.delete(fiber)
      running--
      const done = settle(run, exit, startedAt)
      const next = waiting
      waiting = undefined
      if (next !== undefined) begin(next)
      options.onChange()
      Deferred.doneUnsafe(run.done, done)
    })
    options.onChange()
  }

  const refuse = (run: Run<A, E>, reason: Refusal) => Deferred.doneUnsafe(run.done, refused(run, reason))

  return {
    running: () => running,
    isWaiting: () => waiting !== undefined,
    ask: (occurrence) => {
      const run: Run<A, E> = { occurrence, done: Deferred.makeUnsafe() }
      if (closed) refuse(run, "Closed")
      else if (running < options.limit) begin(run)
      else if (!options.queue) refuse(run, "Running")
      else if (waiting === undefined) {
        waiting = run
        options.onChange()
      } else if (occurrence === undefined) return waiting
      else refuse(run, "Running")
      return run
    },
    close: (grace) =>
      Effect.suspend(() => {
        closed = true
        if (waiting !== undefined) refuse(waiting, "Closed")
        waiting = undefined
        return WindDown.fibers(fibers, grace)
      })
  }
}

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (exit._tag === "Success") return "succeeded"
  if (Cause.hasDies(exit.cause)) return "died"
  return Cause.hasFails(exit.cause) ? "failed" : "interrupted"
}
