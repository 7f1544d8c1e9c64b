import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Schema, Tracer } from "effect"
import * as TraceContext from "../../src/wire/TraceContext.ts"

const hex = (length: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${length}}$`)))

describe("TraceContext", () => {
  it.effect.prop("reads what it writes", [hex(32), hex(16), Schema.Boolean], ([traceId, spanId, sampled]) =>
    Effect.sync(() => {
      const traceparent = TraceContext.write(Tracer.externalSpan({ traceId, spanId, sampled }))!
      const read = TraceContext.read(traceparent)
      if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return assert.isTrue(Option.isNone(read))
      assert.deepInclude(Option.getOrThrow(read), { traceId, spanId, sampled })
    })
  )

  it("reads nothing else", () => {
    for (const text of [
      "",
      "00",
      "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
      "x00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      `00-${"a".repeat(100_000)}`
    ]) {
      assert.isTrue(Option.isNone(TraceContext.read(text)), text.slice(0, 60))
    }
  })

  it("writes nothing for ids of another form", () => {
    assert.isUndefined(TraceContext.write(Tracer.externalSpan({ traceId: "native", spanId: "1" })))
  })

  it("writes the example of the specification", () => {
    assert.strictEqual(
      TraceContext.write(
        Tracer.externalSpan({ traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7", sampled: true })
      ),
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    )
  })

  it("passes on the nearest span that does not hide itself", () => {
    const hidden = Context.make(Tracer.DisablePropagation, true)
    const shown = Context.empty()
    const span = (parent: Tracer.AnySpan | undefined, annotations: Context.Context<never>) =>
      new Tracer.NativeSpan({
        name: "span",
        parent: Option.fromUndefinedOr(parent),
        annotations,
        links: [],
        startTime: 0n,
        kind: "internal",
        sampled: true
      })
    const root = span(undefined, shown)
    assert.strictEqual(TraceContext.propagated(root), root)
    assert.strictEqual(TraceContext.propagated(span(span(root, hidden), hidden)), root)
    assert.isUndefined(TraceContext.propagated(span(undefined, hidden)))
    assert.isUndefined(TraceContext.propagated(undefined))
    const external = { traceId: "1", spanId: "2" }
    const elsewhere = Tracer.externalSpan(external)
    assert.strictEqual(TraceContext.propagated(span(elsewhere, hidden)), elsewhere)
    assert.isUndefined(TraceContext.propagated(Tracer.externalSpan({ ...external, annotations: hidden })))
  })
})
