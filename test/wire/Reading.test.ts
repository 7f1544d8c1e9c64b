import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Control from "../../src/wire/Control.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Reading from "../../src/wire/Reading.ts"

const limit = Codec.defaultMaxBytes
const read = (message: object) => Reading.read(JSON.stringify(message), limit)

describe("Reading", () => {
  it("knows a request by its action", () => {
    const message = { action: "add", payload: '{"a":1}', request_id: "r-1", reply_to: "caller:1" }
    assert.deepStrictEqual(read(message), {
      kind: "request",
      what: "add",
      id: "r-1",
      payload: { a: 1 },
      fields: { action: "add", id: "r-1", message }
    })
    assert.strictEqual(read({ ...message, request_id: 7 }).id, "7")
    assert.strictEqual(read({ ...message, request_id: ["\u001b"] }).id, '["\\u001b"]')
    assert.strictEqual(read({ action: "add" }).id, "-")
  })

  it("knows a reply by its status, and says what it is", () => {
    const message = { status: "success", payload: 3, request_id: "r-1", final: true }
    assert.deepStrictEqual(read(message), {
      kind: "reply",
      what: "success",
      id: "r-1",
      payload: 3,
      fields: { status: "success", final: true, id: "r-1", message }
    })
    const step = (extension: object) => ({
      ...message,
      final: false,
      fiberbus: { v: 1, by: "one", seq: 0, ...extension }
    })
    for (const [reply, what, final] of [
      [{ ...message, status: "error" }, "error", true],
      [{ ...message, final: false }, "progress", false],
      [{ ...message, status: "error", final: false }, "progress", false],
      [step({}), "progress", false],
      [step({ ask: { id: 1, name: "sure" } }), "question", false],
      [step({ alive: true }), "alive", false],
      [{ ...step({ alive: true }), final: true }, "success", true]
    ] as const) {
      const reading = read(reply)
      assert.deepStrictEqual([reading.kind, reading.what], ["reply", what])
      assert.deepInclude(reading.fields, { status: what, final })
    }
  })

  it("takes a status alone for a message: others say it too", () => {
    assert.strictEqual(read({ status: "success", request_id: null }).kind, "reply")
    assert.strictEqual(read({ status: "success", request_id: null }).id, "-")
    assert.strictEqual(read({ status: "success", final: true }).kind, "reply")
    assert.deepInclude(read({ status: "success", final: true }).fields, { id: null })
    assert.strictEqual(read({ status: "up" }).kind, "message")
    assert.strictEqual(read({ status: 1, request_id: "r", final: true }).kind, "message")
  })

  it("knows what a caller says about a request on its way", () => {
    const about = { replyTo: "caller:1", requestId: "r-1", by: undefined }
    for (const [control, what, payload] of [
      [{ ...about, _tag: "Cancel" }, "cancel", {}],
      [{ ...about, _tag: "Credit", until: 9 }, "credit", 9],
      [{ ...about, _tag: "Answer", ask: 1, answer: { json: 5 } }, "answer", { json: 5 }]
    ] as const) {
      const frame = Control.write(control)
      assert.deepStrictEqual(Reading.read(frame, limit), {
        kind: "control",
        what,
        id: "r-1",
        payload,
        fields: { control: what, id: "r-1", message: JSON.parse(frame) }
      })
    }
  })

  it("takes any other object for a message", () => {
    const message = { type: "created", action: 5 }
    assert.deepStrictEqual(read(message), {
      kind: "message",
      what: "-",
      id: "-",
      payload: message,
      fields: { message }
    })
  })

  it("says why the rest is garbage, with all of it except what is too large", () => {
    const garbage = (what: string, payload: string, fields: object): Reading.Reading => ({
      kind: "garbage",
      what,
      id: "-",
      payload,
      fields: { reason: what, ...fields }
    })
    // In a part of a larger buffer, as frames from a socket are.
    const within = (bytes: ReadonlyArray<number>) => Uint8Array.from([0x41, ...bytes, 0x41]).subarray(1, -1)
    assert.deepStrictEqual(Reading.read("nó", limit), garbage("NotJson", "nó", { text: "nó" }))
    assert.deepStrictEqual(
      Reading.read(within([...Buffer.from("nó")]), limit),
      garbage("NotJson", "nó", { text: "nó" })
    )
    assert.deepStrictEqual(Reading.read("[1]", limit), garbage("NotAnObject", "[1]", { text: "[1]" }))
    assert.deepStrictEqual(
      Reading.read(within([0xff, 0x61]), limit),
      garbage("NotUtf8", "ÿa", { base64: Buffer.from([0xff, 0x61]).toString("base64") })
    )
    assert.deepStrictEqual(Reading.read("x".repeat(5), 4), garbage("TooLarge", "xxxxx", {}))
    assert.deepStrictEqual(Reading.read(within([0xff, 0x61]), 1), garbage("TooLarge", "ÿa", {}))
  })

  it("counts bytes, of text as well", () => {
    assert.strictEqual(Reading.size("né"), 3)
    assert.strictEqual(Reading.size(Uint8Array.of(1, 2, 3, 4)), 4)
  })

  it.prop("is total, and reads bytes as it reads their text", [Schema.Json, Schema.String], ([json, text]) => {
    for (const frame of [JSON.stringify(json), text]) {
      if (!frame.isWellFormed()) continue
      assert.deepStrictEqual(Reading.read(Buffer.from(frame), limit), Reading.read(frame, limit))
    }
  })

  it.prop("takes what it reads as a request for one that a service reads", [Schema.Json], ([action]) => {
    const reading = read({ action })
    assert.strictEqual(reading.kind === "request", typeof Envelope.readRequest({ action }) !== "string")
  })
})
