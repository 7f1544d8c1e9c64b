/**
 * Spans across processes, as W3C Trace Context writes them: the `traceparent` header.
 *
 * Source: https://www.w3.org/TR/trace-context/, version 00. `tracestate` is not carried.
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

const form = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** Writes a span as a `traceparent`; nothing for one whose ids have another form. */
export const write = ({ sampled, spanId, traceId }: Tracer.AnySpan): string | undefined => {
  const traceparent = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
  return form.test(traceparent) ? traceparent : undefined
}

/** Reads a `traceparent` as a span of somewhere else; nothing if it is none. */
export const read = (traceparent: string): Option.Option<Tracer.ExternalSpan> => {
  const found = form.exec(traceparent)
  if (found === null) return Option.none()
  const [traceId, spanId, flags] = found.slice(1) as [string, string, string]
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return Option.none()
  return Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }))
}

/** The span that goes on the wire for the current one: the nearest that does not hide itself (`Tracer.DisablePropagation`). */
export const propagated = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  while (span !== undefined && Context.get(span.annotations, Tracer.DisablePropagation)) {
    span = span._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
  }
  return span
}
