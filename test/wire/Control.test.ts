import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Control from "../../src/wire/Control.ts"

const parse = (frame: string) => Codec.parse(frame, Codec.defaultMaxBytes) as Codec.JsonObject

const about = { replyTo: "caller:1", requestId: "r-1" }

describe("Control", () => {
  it.prop(
    "is read as it was written",
    [Schema.String, Schema.String, Schema.Natural, Schema.Json, Schema.UndefinedOr(Schema.String)],
    ([replyTo, requestId, count, json, by]) => {
      const about = { replyTo, requestId, by }
      const controls: ReadonlyArray<Control.Control> = [
        { ...about, _tag: "Cancel" },
        { ...about, _tag: "Credit", until: count },
        { ...about, _tag: "Answer", ask: count, answer: { json: JSON.parse(JSON.stringify(json)) } },
        { ...about, _tag: "Answer", ask: count, answer: { declined: replyTo.slice(0, 1_000) } }
      ]
      for (const control of controls) assert.deepStrictEqual(Control.read(parse(Control.write(control))), control)
    }
  )

  it.prop("is nothing where a field is of another kind", [Schema.Json, Schema.Json], ([value, other]) => {
    for (const fiberbus of [
      value,
      { v: 1, cancel: value, by: other },
      { v: value, cancel: "r" },
      { v: 1, credit: "r", until: value },
      { v: 1, credit: value, until: 1 },
      { v: 1, answer: "r", ask: value, declined: other },
      { v: 1, answer: value, ask: 1 }
    ]) {
      const read = Control.read({ reply_to: "caller:1", fiberbus, payload: other })
      if (read === undefined) continue
      assert.strictEqual(typeof read.requestId, "string")
      if (read._tag === "Credit") assert.isTrue(Number.isSafeInteger(read.until) && read.until >= 0)
      if (read._tag === "Answer") assert.isTrue(Number.isSafeInteger(read.ask) && read.ask >= 0)
    }
    assert.isUndefined(Control.read({ reply_to: value === "text" ? 1 : [value], fiberbus: { v: 1, cancel: "r" } }))
  })

  it("is written as docs/wire.md has it", () => {
    const about = { replyTo: "caller:1", requestId: "r-1", by: "1f" }
    for (const [control, message] of [
      [
        { ...about, by: undefined, _tag: "Cancel" },
        { reply_to: "caller:1", fiberbus: { v: 1, cancel: "r-1" } }
      ],
      [
        { ...about, _tag: "Cancel" },
        { reply_to: "caller:1", fiberbus: { v: 1, cancel: "r-1", by: "1f" } }
      ],
      [
        { ...about, _tag: "Credit", until: 8 },
        { reply_to: "caller:1", fiberbus: { v: 1, credit: "r-1", by: "1f", until: 8 } }
      ],
      [
        { ...about, _tag: "Answer", ask: 2, answer: { json: [1] } },
        { reply_to: "caller:1", payload: [1], fiberbus: { v: 1, answer: "r-1", by: "1f", ask: 2 } }
      ],
      [
        { ...about, _tag: "Answer", ask: 2, answer: { declined: "no" } },
        { reply_to: "caller:1", fiberbus: { v: 1, answer: "r-1", by: "1f", ask: 2, declined: "no" } }
      ]
    ] as const) {
      assert.deepStrictEqual(parse(Control.write(control)), message as unknown as Codec.JsonObject)
    }
  })

  it("is of version 1, for all or for a process that is named", () => {
    const read = (fiberbus: unknown) => Control.read({ reply_to: "caller:1", fiberbus })
    assert.deepStrictEqual(read({ v: 1, cancel: "r-1", by: "1f" }), { ...about, _tag: "Cancel", by: "1f" })
    for (const v of [undefined, null, 0, 2, "1", true]) assert.isUndefined(read({ v, cancel: "r-1" }))
    for (const by of [null, 0, true, ["1f"], {}]) {
      assert.isUndefined(read({ v: 1, cancel: "r-1", by }))
      assert.isUndefined(read({ v: 1, credit: "r-1", until: 1, by }))
    }
    // A text has fields as well.
    assert.isUndefined(read("fiberbus"))
    assert.isUndefined(Control.read({ fiberbus: { v: 1, cancel: "r-1" } }))
  })

  it("cuts a long reason", () => {
    const frame = Control.write({
      ...about,
      by: undefined,
      _tag: "Answer",
      ask: 0,
      answer: { declined: "x".repeat(9_999) }
    })
    assert.deepInclude(Control.read(parse(frame)), { answer: { declined: "x".repeat(1_000) } })
  })
})
