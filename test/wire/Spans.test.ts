import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Spans from "../../src/wire/Spans.ts"

class Broken extends Error {
  readonly _tag = "Broken"
}

const failure = (cause: Cause.Cause<unknown>) => Exit.failCause(cause) as Exit.Failure<unknown, unknown>

describe("Spans", () => {
  describe("a label", () => {
    it("is a plain text as it is, up to the width", () => {
      for (const text of ["", "user_service.get-user", "caller:1/a@b#c", "x".repeat(128)]) {
        assert.strictEqual(Spans.label(text), text)
      }
      assert.strictEqual(Spans.label("x".repeat(129)), `${"x".repeat(127)}…`)
      assert.strictEqual(Spans.label("abcd", 3), "ab…")
    })

    it("is printable, whatever a peer sends", () => {
      assert.strictEqual(Spans.label("a b"), "a b")
      assert.strictEqual(Spans.label("a\u001b[2J"), "a\\u001b[2J")
      assert.strictEqual(Spans.label("\nabc"), "\\u000aabc")
      assert.strictEqual(Spans.label("abc\n"), "abc\\u000a")
      assert.strictEqual(Spans.label("\n"), "\\u000a")
      assert.strictEqual(Spans.label("\u001b\n"), "\\u001b\\u000a")
      assert.strictEqual(Spans.label(`\n${"x".repeat(200)}`), `\\u000a${"x".repeat(126)}…`)
    })
  })

  it("describe a request by OpenTelemetry's words for RPC", () => {
    assert.deepStrictEqual(Spans.request("client", "users", "get\n"), {
      name: "users.get\\u000a",
      kind: "client",
      attributes: { "rpc.system": "fiberbus", "rpc.service": "users", "rpc.method": "get\\u000a" }
    })
    const { name } = Spans.request("server", "s".repeat(128), "a".repeat(128))
    assert.strictEqual(name, `${"s".repeat(128)}.${"a".repeat(128)}`)
  })

  it("describe a message by its words for messaging", () => {
    assert.deepStrictEqual(Spans.message("publish", "news\n"), {
      name: "publish news\\u000a",
      kind: "producer",
      attributes: {
        "messaging.system": "fiberbus",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "news\\u000a"
      }
    })
    assert.deepStrictEqual(Spans.message("process", "news.a", "news.*"), {
      name: "process news.*",
      kind: "consumer",
      attributes: {
        "messaging.system": "fiberbus",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "news.a",
        "messaging.destination.template": "news.*"
      }
    })
    assert.strictEqual(Spans.errorType, "error.type")
  })

  it("tell a defect, an error and an interruption apart; what weighs most counts", () => {
    const fail = Cause.fail("e")
    const die = Cause.die("d")
    const interrupt = Cause.interrupt(1)
    for (const [cause, kind] of [
      [fail, "error"],
      [die, "defect"],
      [interrupt, "interrupted"],
      [Cause.combine(fail, interrupt), "error"],
      [Cause.combine(fail, die), "defect"],
      [Cause.combine(interrupt, die), "defect"]
    ] as const) {
      assert.strictEqual(Spans.failureKind(failure(cause)), kind)
    }
  })

  it("name an error by the tag of its reason, else by its own, else not at all", () => {
    for (const [error, tag] of [
      [new Broken(), "Broken"],
      [{ _tag: "CallError", reason: { _tag: "Busy" } }, "Busy"],
      [{ _tag: "CallError", reason: null }, "CallError"],
      [{ _tag: "CallError", reason: { _tag: undefined } }, "CallError"],
      [{ _tag: "odd\n" }, "odd\\u000a"],
      [{ _tag: 5 }, "error"],
      ["text", "error"],
      [null, "error"],
      [undefined, "error"]
    ]) {
      assert.strictEqual(Spans.tagOf(failure(Cause.fail(error))), tag)
    }
    assert.strictEqual(Spans.tagOf(failure(Cause.combine(Cause.interrupt(1), Cause.fail(new Broken())))), "Broken")
    assert.strictEqual(Spans.tagOf(failure(Cause.die(new Broken()))), "error")
  })
})
