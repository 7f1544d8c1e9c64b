/**
 * Tries a call again, where that can neither do harm nor multiply an overload.
 *
 * See docs/policies.md for the table of what is tried again.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Deadline from "./Deadline.ts"
import type { Failure, Policy, Subject } from "./Policy.ts"

/** @see {@link policy} */
export interface Options {
  /**
   * When, and how often. The time a service asks for (`retryAfterMillis`) comes before the schedule's. Default: {@link schedule}, as
   * often as deadline and budget allow.
   */
  readonly schedule?: Schedule.Schedule<unknown, Failure>
  /** How many attempts there may be beyond the first ones. Default {@link budget}. */
  readonly budget?: Partial<Budget>
  /**
   * How long an attempt is waited for before the next one is made, where the action is idempotent: what finds a lost message in
   * time. The attempt's late answer still counts. Default: no limit but the call's own, so that a lost message is a lost call.
   */
  readonly attemptTimeout?: Duration.Input
}

/** All calls under a policy add to its budget, and each retry takes 1 out. */
export interface Budget {
  /** What a call adds: retries per call in the long run. */
  readonly ratio: number
  /** What the budget begins with, and holds at most: retries in one go. */
  readonly reserve: number
}

/** The default: retries add 10 % to the calls, and 10 in one go. */
export const budget: Budget = { ratio: 0.1, reserve: 10 }

/** The default: 50 milliseconds doubling to 2 seconds, with full jitter (any time up to that). */
export const schedule: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("2 seconds")
]).pipe(Schedule.modifyDelay(({ duration }) => Effect.map(Random.next, (random) => Duration.times(duration, random))))

/** Attempts beyond the first one of their calls, by `service` and the `reason` that the one before ended for. */
export const retries = Metric.counter("fiberbus_retries_total", {
  description: "Attempts beyond the first one of their calls, by the reason that the one before ended for",
  incremental: true
})

/** Retries that would have been right but were not made, by `service` and `why`: `schedule`, `deadline` or `budget`. */
export const refused = Metric.counter("fiberbus_retries_refused_total", {
  description: "Retries that were not made, by what was exhausted",
  incremental: true
})

/**
 * Makes a policy that tries again. Everything under one policy shares its budget: make it once, and give it to one caller or
 * to several.
 *
 * Tried again is what did not start (`started: "no"`), and where the action is annotated `Action.Idempotent` also what may have:
 * nothing that a second attempt could not change, and no stream that may have given a step. The call's deadline holds for all
 * attempts together, and a wait that would end after it is not begun: the call then ends with what it has.
 */
export const policy = (options: Options = {}): Policy => {
  const tokens = makeTokens({ ...budget, ...options.budget })
  const patience =
    options.attemptTimeout === undefined
      ? undefined
      : Duration.toMillis(Duration.fromInputUnsafe(options.attemptTimeout))
  return (call, subject) =>
    Effect.suspend(() => {
      tokens.add()
      const attempt =
        patience === undefined || !mayRepeat(subject)
          ? call
          : Effect.provideService(call, Deadline.AttemptTimeout, patience)
      return Effect.catch(attempt, (error) =>
        Effect.flatMap(Schedule.toStep(options.schedule ?? schedule), (step) =>
          again({ attempt, subject, step, tokens }, error)
        )
      )
    })
}

interface Loop<A, E> {
  readonly attempt: Effect.Effect<A, E>
  readonly subject: Subject<E>
  readonly step: (now: number, failure: Failure) => Pull.Pull<[unknown, Duration.Duration], never, unknown>
  readonly tokens: Tokens
}

const again = Effect.fnUntraced(function* <A, E>(loop: Loop<A, E>, first: E): Effect.fn.Return<A, E> {
  const { attempt, step, subject, tokens } = loop
  const { service } = subject
  let error = first
  while (true) {
    const failure = subject.failureOf(error)
    if (failure === undefined || !isRetryable(failure, subject)) return yield* Effect.fail(error)
    // An attempt that was given up may yet be answered; the call's deadline ends the wait for it.
    const last =
      failure.reason._tag === "DeadlineExceeded" && failure.started !== "no" ? Effect.never : Effect.fail(error)
    const left = yield* Deadline.remainingMillis
    if (left <= 0) return yield* Effect.fail(error)
    const give = (why: string) =>
      Effect.andThen(Metric.update(Metric.withAttributes(refused, { service, why }), 1), last)
    const next = yield* Effect.option(step(yield* Clock.currentTimeMillis, failure))
    if (Option.isNone(next)) return yield* give("schedule")
    const wait = Duration.toMillis(next.value[1]) + retryAfterMillis(failure)
    if (wait >= left) return yield* give("deadline")
    if (!tokens.take()) return yield* give("budget")
    yield* Metric.update(Metric.withAttributes(retries, { service, reason: failure.reason._tag }), 1)
    yield* Effect.sleep(wait)
    const result = yield* Effect.result(attempt)
    if (Result.isSuccess(result)) return result.success
    error = result.failure
  }
})

// The time that a peer asks for is its word, and may be any number.
const retryAfterMillis = ({ reason }: Failure): number =>
  typeof reason.retryAfterMillis === "number" && reason.retryAfterMillis > 0 ? reason.retryAfterMillis : 0

/** Whether a second handling would do no harm. The steps of a stream cannot be taken back. */
const mayRepeat = ({ idempotent, kind }: Pick<Subject<never>, "idempotent" | "kind">) => idempotent && kind === "call"

/** Whether another attempt may do better, and nobody is harmed if the one before was handled. */
export const isRetryable = (
  { reason, started }: Failure,
  subject: Pick<Subject<never>, "idempotent" | "kind">
): boolean =>
  (reason._tag === "TransportError" ? passing.has(reason.kind) : transient.has(reason._tag)) &&
  (started === "no" || mayRepeat(subject))

// Not an open circuit, which is there to end calls at once, nor what would be the same again.
const transient = new Set(["NoResponders", "Busy", "Draining", "RateLimited", "DeadlineExceeded", "ConnectionLost"])

// Of a link: not what is wrong with its settings or rights, nor what was closed.
const passing = new Set<unknown>(["Unreachable", "Timeout", "ConnectionLost", "Overloaded", "Unknown"])

interface Tokens {
  readonly add: () => void
  readonly take: () => boolean
}

const makeTokens = ({ ratio, reserve }: Budget): Tokens => {
  // In thousandths: tenths added up as fractions fall short of a whole.
  let left = Math.round(reserve * 1_000)
  const most = left
  return {
    add: () => {
      left = Math.min(most, left + Math.round(ratio * 1_000))
    },
    take: () => {
      if (left < 1_000) return false
      left -= 1_000
      return true
    }
  }
}
