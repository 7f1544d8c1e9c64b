/** Around each handling: its metrics, what its logs carry, the span it belongs to, and one of its own where a tracer was installed. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Tracer from "effect/Tracer"
import { Deadline } from "../../policy/Deadline.ts"
import * as Spans from "../../wire/Spans.ts"
import * as TraceContext from "../../wire/TraceContext.ts"
import * as HandlerMetrics from "../HandlerMetrics.ts"
import * as Request from "../Request.ts"
import type { Exchange } from "./exchange.ts"

/** What watches one handler or listener. */
export interface Observed {
  /** The handler's context: that of its layer, and what is in it because of who asks. */
  readonly begin: (exchange: Exchange) => Context.Context<never>
  /** What logs of it carry. */
  readonly annotations: (exchange: Exchange) => Annotations
  /** The handler has ended, and its answer is settled. */
  readonly end: (exchange: Exchange, exit: Exit.Exit<unknown, unknown>, millis: number) => void
  /** Whether each handling has a fiber, also one that has ended when it returns: a tracer or a Scheduler of its own looks at it. */
  readonly hasFiber: boolean
  /** What was counted so far. */
  readonly read: HandlerMetrics.HandlerMetrics["read"] | undefined
}

/** A handler of a service, whose layer was built with the context. */
export const action = (service: string, name: string, context: Context.Context<never>): Observed =>
  make(
    HandlerMetrics.ofAction(service, name, context),
    annotator(context, (_, requestId) =>
      requestId === undefined ? { service, action: name } : { service, action: name, requestId }
    ),
    ({ replyTo }) => Spans.request(replyTo === undefined ? "consumer" : "server", service, name),
    context
  )

/** A listener to a channel or to a pattern. */
export const topic = (name: string, isPattern: boolean, context: Context.Context<never>): Observed =>
  make(
    HandlerMetrics.ofTopic(name, context),
    annotator(context, (exchange, requestId) => {
      const topic = Spans.label(exchange.service)
      return requestId === undefined ? { topic } : { topic, requestId }
    }),
    ({ service }) => Spans.message("process", service, isPattern ? name : undefined),
    context
  )

type Annotations = Readonly<Record<string, unknown>>

// What the layer's logs carry, its handlers' carry as well. Mostly that is nothing, and then nothing is copied.
const annotator = (
  context: Context.Context<never>,
  own: (exchange: Exchange, requestId: string | undefined) => Annotations
): ((exchange: Exchange) => Annotations) => {
  const others = Context.get(context, References.CurrentLogAnnotations)
  const annotate = (exchange: Exchange) => own(exchange, exchange.id === "" ? undefined : Spans.label(exchange.id, 64))
  return Object.keys(others).length === 0 ? annotate : (exchange) => ({ ...others, ...annotate(exchange) })
}

// The deadline is the request's own, also where the layer was built below another request.
const withoutDeadline = (context: Context.Context<never>) => Context.add(context, Deadline, undefined)

const ownOf = (context: Context.Context<never>, exchange: Exchange): Context.Context<never> => {
  const own = Context.add(context, Request.Slot, exchange)
  return exchange.deadline === undefined ? own : Context.add(own, Deadline, exchange.deadline)
}

/** The same for what is no message of its own, and is not counted. */
export const uncounted = (observed: Observed, context: Context.Context<never>): Observed => {
  const base = withoutDeadline(context)
  return { ...observed, begin: (exchange) => ownOf(base, exchange), end: () => {} }
}

const make = (
  metrics: HandlerMetrics.HandlerMetrics,
  annotations: (exchange: Exchange) => Annotations,
  spanOf: (exchange: Exchange) => ReturnType<typeof Spans.request>,
  context: Context.Context<never>
): Observed => {
  const isTraced = context.mapUnsafe.has(Tracer.TracerKey) && Context.get(context, References.TracerEnabled)
  const run = Effect.runSyncWith(context)
  const base = withoutDeadline(context)
  const annotated = (exchange: Exchange) => Context.add(base, References.CurrentLogAnnotations, annotations(exchange))
  // Of those without an id, as most messages of topics, what was last is mostly the same.
  let lastOf: string | undefined
  let last = base
  const lastAnnotated = (exchange: Exchange) => {
    if (exchange.service !== lastOf) {
      lastOf = exchange.service
      last = annotated(exchange)
    }
    return last
  }
  return {
    annotations,
    hasFiber: isTraced || context.mapUnsafe.has(Scheduler.Scheduler.key),
    read: metrics.read,
    begin: (exchange) => {
      const { requestId, traceparent } = exchange.envelope
      const request = ownOf(requestId === null ? lastAnnotated(exchange) : annotated(exchange), exchange)
      // Most requests have nothing to do with a trace.
      if (!isTraced && traceparent === undefined) return request
      const parent = traceparent === undefined ? Option.none() : TraceContext.read(traceparent)
      if (!isTraced) return Option.isNone(parent) ? request : Context.add(request, Tracer.ParentSpan, parent.value)
      const { name, ...options } = spanOf(exchange)
      const belongs = Option.isNone(parent) ? { root: true } : { parent: parent.value }
      exchange.span = run(Effect.makeSpan(name, { ...options, ...belongs }))
      if (exchange.id !== "") exchange.span.attribute("fiberbus.request_id", Spans.label(exchange.id, 64))
      if (exchange.attempt > 1) exchange.span.attribute("fiberbus.attempt", exchange.attempt)
      return Context.add(request, Tracer.ParentSpan, exchange.span)
    },
    end: (exchange, exit, millis) => {
      const { defect, span } = exchange
      const ended = defect === undefined ? exit : Exit.failCause(defect)
      metrics.ended(outcomeOf(exchange, ended), millis)
      if (span === undefined) return
      if (ended._tag === "Failure") span.attribute(Spans.errorType, errorType(exchange, ended))
      const isTimed = Context.get(context, References.TracerTimingEnabled)
      span.end(isTimed ? Context.get(context, Clock.Clock).currentTimeNanosUnsafe() : 0n, ended)
    }
  }
}

const outcomeOf = ({ defect }: Exchange, exit: Exit.Exit<unknown, unknown>) => {
  if (exit._tag === "Success") return "success"
  return defect === undefined ? Spans.failureKind(exit) : "defect"
}

const errorType = (exchange: Exchange, exit: Exit.Failure<unknown, unknown>) => {
  const outcome = outcomeOf(exchange, exit)
  return outcome === "error" ? Spans.tagOf(exit) : outcome
}

/** For what is only good for a refusal. */
export const none: Observed = {
  annotations: () => ({}),
  begin: () => Context.empty(),
  end: () => {},
  hasFiber: false,
  read: undefined
}
