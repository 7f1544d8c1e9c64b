/** A tracer that keeps every span, for tests. */
import { Option, Tracer } from "effect"

export interface Recorder {
  readonly tracer: Tracer.Tracer
  /** In the order in which they were opened. */
  readonly spans: ReadonlyArray<Tracer.NativeSpan>
  /** The only one with a name, or one of a kind where several have it. */
  readonly span: (name: string, kind?: Tracer.SpanKind) => Tracer.NativeSpan
}

export const make = (onEnd?: (span: Tracer.Span) => void): Recorder => {
  class Span extends Tracer.NativeSpan {
    override end(...args: Parameters<Tracer.Span["end"]>) {
      super.end(...args)
      onEnd?.(this)
    }
  }
  const spans: Array<Tracer.NativeSpan> = []
  return {
    spans,
    tracer: Tracer.make({
      span: (options) => {
        const span = new Span(options)
        spans.push(span)
        return span
      }
    }),
    span: (name, kind) => {
      const found = spans.filter((span) => span.name === name && (kind === undefined || span.kind === kind))
      if (found.length !== 1) throw new Error(`${found.length} spans are named ${name}`)
      return found[0]!
    }
  }
}

export const parentOf = (span: Tracer.Span): string | undefined =>
  Option.getOrUndefined(Option.map(span.parent, ({ spanId }) => spanId))

/** `success`, `failure`, or `open` for one that was never ended. */
export const statusOf = ({ status }: Tracer.Span): string =>
  status._tag === "Started" ? "open" : status.exit._tag === "Success" ? "success" : "failure"
