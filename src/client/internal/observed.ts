/** Around each call: its metrics, always; a span where a tracer was installed; the span it belongs to in any case. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Tracer from "effect/Tracer"
import * as Spans from "../../wire/Spans.ts"
import * as TraceContext from "../../wire/TraceContext.ts"
import { CallError } from "../CallError.ts"
import type { Method, Outcome, Settings } from "./method.ts"
import type { Call } from "./waiting.ts"

/** Counts a call whose place in the inbox is not that of one attempt. */
export const counted = <A, E>(method: Method, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    let begun: number | undefined
    return Effect.onExit(
      // Counted where its end is sure to be: a fiber may be interrupted before it comes to this.
      Effect.suspend(() => {
        begun = method.inbox.now()
        method.metrics.begin()
        return effect
      }),
      (exit) =>
        Effect.sync(() => {
          if (begun !== undefined) method.metrics.end(outcomeOf(method, exit), method.inbox.now() - begun)
        })
    )
  })

/** Counts a call that may end before it has begun: its payload is still to be encoded. */
export const unbegun = <A, E>(method: Method, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.onExit(effect, (exit) =>
    Effect.sync(() => {
      if (exit._tag === "Failure") method.metrics.refused(outcomeOf(method, exit))
    })
  )

/** Counts a message without an answer. */
export const sent = <A, E>(method: Method, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.onExit(effect, (exit) => Effect.sync(() => method.metrics.sent(outcomeOf(method, exit))))

/** Counts the end of a call that has begun, when its outcome is decoded, and hands the outcome on. */
export const ended = (call: Call, outcome: Outcome): Outcome => {
  if (!Exit.isExit(outcome)) return Effect.onExit(outcome, (exit) => Effect.sync(() => void ended(call, exit)))
  const { method } = call
  // On the clock of its deadline, which was set when it began.
  const millis = call.deadline === 0 ? 0 : method.inbox.now() - call.deadline + call.timeoutMillis
  method.metrics.end(outcomeOf(method, outcome), millis)
  return outcome
}

/** One more attempt of a call begins: all are in its one span. */
export const retried = ({ span }: Settings, attempt: number, fiber: Fiber.Fiber<unknown, unknown>) => {
  if (span === undefined) return
  span.attribute("fiberbus.attempts", attempt)
  span.event("attempt", fiber.getRef(Clock.Clock).currentTimeNanosUnsafe(), { "fiberbus.attempt": attempt })
}

/** True where a tracer was installed: only then a span is opened. */
export const isTraced = ({ cache }: Fiber.Fiber<unknown, unknown>): boolean =>
  cache.tracer !== undefined && cache.tracerEnabled

/** Without a span of its own a call belongs to the one that is there, so that it goes on behind this process. */
export const belonging = ({ cache: { span } }: Fiber.Fiber<unknown, unknown>, settings: Settings): Settings =>
  span === undefined ? settings : { ...settings, traceparent: traceparentOf(span) }

/** Runs a call, or the sending of a message, in a span of its own. */
export const inSpan = <A, E>(
  kind: "client" | "producer",
  method: Method,
  settings: Settings,
  run: (settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  spanned(
    Spans.request(kind, method.service, method.action),
    (span) => run({ ...settings, span, traceparent: traceparentOf(span) }),
    (exit) => errorType(method, exit)
  )

/** Runs the publishing of a message in a span of its own, where a tracer was installed. */
export const publishing = <A, E, R>(channel: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    isTraced(fiber)
      ? spanned(
          Spans.message("publish", channel),
          () => effect,
          (exit) => {
            const kind = Spans.failureKind(exit)
            return kind === "error" ? Spans.tagOf(exit) : kind
          }
        )
      : effect
  )

const spanned = <A, E, R>(
  { name, ...options }: ReturnType<typeof Spans.request>,
  run: (span: Tracer.Span) => Effect.Effect<A, E, R>,
  errorType: (exit: Exit.Failure<unknown, unknown>) => string
): Effect.Effect<A, E, R> =>
  Effect.useSpan(name, options, (span) =>
    Effect.suspend(() => run(span)).pipe(
      (effect) => Effect.provideService(effect, Tracer.ParentSpan, span) as Effect.Effect<A, E, R>,
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (exit._tag === "Failure") span.attribute(Spans.errorType, errorType(exit))
        })
      )
    )
  )

const traceparentOf = (current: Tracer.AnySpan) => {
  const span = TraceContext.propagated(current)
  return span === undefined ? undefined : TraceContext.write(span)
}

/** One of a fixed set: it becomes a metric's attribute. */
const outcomeOf = (method: Method, exit: Exit.Exit<unknown, unknown>): string => {
  if (exit._tag === "Success") return "success"
  const kind = Spans.failureKind(exit)
  return kind === "error" ? (reasonOf(method, exit) ?? kind) : kind
}

const errorType = (method: Method, exit: Exit.Failure<unknown, unknown>): string => {
  const kind = Spans.failureKind(exit)
  return kind === "error" ? (reasonOf(method, exit) ?? Spans.tagOf(exit)) : kind
}

// A declared error may be a CallError as well, that of a call which the handler made.
const reasonOf = (method: Method, { cause }: Exit.Failure<unknown, unknown>): string | undefined => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  return error instanceof CallError && error.service === method.service && error.action === method.action
    ? error.reason._tag
    : undefined
}
