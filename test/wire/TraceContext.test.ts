import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema, Tracer } from "effect"
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
})
