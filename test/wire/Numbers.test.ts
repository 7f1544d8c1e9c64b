import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Numbers from "../../src/wire/Numbers.ts"

/** The frames that docs/wire.md shows, as they stand there. */
const wire = readFileSync(resolve(import.meta.dirname, "../../docs/wire.md"), "utf8")
const shown = Array.from(
  wire.matchAll(/<!-- test\/wire\/Numbers\.test\.ts -->\n```json\n([\s\S]*?)```/g),
  ([, frames]) => frames!.trim().split("\n")
).flat()

const from = "0b5c1f2e-77a1"
const message = '{"id":"o1"}'
const said: ReadonlyArray<Numbers.Said> = [
  { _tag: "Ask" },
  { _tag: "Last", from, seq: 41, ageMillis: 90_000 },
  { _tag: "Refill", replyTo: "caller:0b5c…", from, first: 12, last: 20 },
  {
    _tag: "Refilled",
    channel: "orders",
    from,
    first: 12,
    until: 13,
    messages: [Numbers.write('{"id":"o12"}', { from, seq: 12 })]
  }
]

describe("Numbers", () => {
  it("are written as docs/wire.md shows them", () => {
    assert.deepStrictEqual([Numbers.write(message, { from, seq: 41 }), ...said.map(Numbers.writeSaid)], shown)
  })

  it("are read as they were written", () => {
    assert.deepStrictEqual(Numbers.read(JSON.parse(shown[0]!)), { from, seq: 41 })
    assert.deepStrictEqual(
      shown.slice(1).map((frame) => Numbers.readSaid(JSON.parse(frame))),
      [...said]
    )
    assert.deepStrictEqual(Numbers.read(JSON.parse(Numbers.write("{}", { from, seq: 1 }))), { from, seq: 1 })
  })

  it("are no messages, and messages are none of them", () => {
    for (const frame of shown.slice(1)) {
      assert.isTrue(Numbers.isSaid(JSON.parse(frame)))
      assert.isUndefined(Numbers.read(JSON.parse(frame)))
    }
    assert.isFalse(Numbers.isSaid(JSON.parse(shown[0]!)))
    assert.isUndefined(Numbers.readSaid(JSON.parse(shown[0]!)))
  })

  it("leave the message as it was given", () => {
    assert.deepStrictEqual(Numbers.strip(JSON.parse(shown[0]!)), { id: "o1" })
    const other = { fiberbus: { v: 1, traceparent: "x" } }
    assert.strictEqual(Numbers.strip(other), other)
  })

  it("are not read from what is none", () => {
    for (const extension of [
      undefined,
      null,
      1,
      [],
      {},
      { v: 2, from, seq: 1 },
      { v: 1, from, seq: 0 },
      { v: 1, from, seq: 1.5 },
      { v: 1, from: "a b", seq: 1 },
      { v: 1, from: "", seq: 1 },
      { v: 1, numbers: "last", from, seq: -1, age_ms: 1 },
      { v: 1, numbers: "last", from, seq: 1, age_ms: "1" },
      { v: 1, numbers: "refill", from, first: 1, last: 2 },
      { v: 1, numbers: "refilled", channel: "orders", from, first: 1, until: 1 },
      { v: 1, numbers: "other", from, first: 1 }
    ]) {
      const raw = { fiberbus: extension, messages: [1] }
      assert.isUndefined(Numbers.read(raw), JSON.stringify(extension))
      assert.isUndefined(Numbers.readSaid(raw), JSON.stringify(extension))
    }
    const many = Array.from({ length: 65 }, () => "{}")
    assert.isUndefined(
      Numbers.readSaid({
        fiberbus: { v: 1, numbers: "refilled", channel: "a", from, first: 1, until: 1 },
        messages: many
      })
    )
  })
})
