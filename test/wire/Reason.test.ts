import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Reason from "../../src/wire/Reason.ts"
import * as Random from "../hostile/random.ts"

const evil = '"\u0000\n\u001b[31m'

const sent: ReadonlyArray<Reason.Sent> = [
  new Reason.UnknownAction({ action: evil }),
  new Reason.InvalidPayload({ path: ["a", "0", evil], expected: "Expected string" }),
  new Reason.PayloadTooLarge({ what: "reply", bytes: 2, maxBytes: 1 }),
  new Reason.Busy({ retryAfterMillis: 10 }),
  new Reason.Draining({}),
  new Reason.DeadlineExceeded({ timeoutMillis: 5_000 }),
  new Reason.RemoteDefect({ id: "d-1" })
]

describe("Reason", () => {
  for (const reason of sent) {
    it(`${reason._tag} travels as plain JSON and keeps its class`, () => {
      const json = JSON.parse(JSON.stringify(Reason.encode(reason)))
      assert.strictEqual(json._tag, reason._tag)
      const back = Option.getOrThrow(Reason.decode(json))
      assert.strictEqual(back.constructor, reason.constructor)
      assert.deepStrictEqual(JSON.parse(JSON.stringify(back)), JSON.parse(JSON.stringify(reason)))
      assert.strictEqual(back.message, reason.message)
    })
  }

  it("is written as docs/wire.md has it", () => {
    assert.deepStrictEqual(
      sent.map((reason) => JSON.parse(JSON.stringify(Reason.encode(reason)))),
      [
        { _tag: "UnknownAction", action: evil },
        { _tag: "InvalidPayload", path: ["a", "0", evil], expected: "Expected string" },
        { _tag: "PayloadTooLarge", what: "reply", bytes: 2, maxBytes: 1 },
        { _tag: "Busy", retryAfterMillis: 10 },
        { _tag: "Draining" },
        { _tag: "DeadlineExceeded", timeoutMillis: 5_000 },
        { _tag: "RemoteDefect", id: "d-1" }
      ]
    )
    for (const what of ["request", "reply", "message"]) {
      const json = { _tag: "PayloadTooLarge", what, bytes: 2, maxBytes: 1 }
      assert.deepInclude(Option.getOrThrow(Reason.decode(json)), json as Reason.PayloadTooLarge)
    }
  })

  it("has a tag of its own, which programs catch it by", () => {
    assert.strictEqual(new Reason.NoResponders({})._tag, "NoResponders")
    assert.strictEqual(new Reason.CircuitOpen({ retryAfterMillis: 0 })._tag, "CircuitOpen")
    assert.strictEqual(new Reason.RateLimited({ retryAfterMillis: 0 })._tag, "RateLimited")
    assert.strictEqual(new Reason.ConnectionLost({ detail: "" })._tag, "ConnectionLost")
    assert.strictEqual(new Reason.RemoteError({ error: "", payload: null })._tag, "RemoteError")
    for (const part of ["success", "error", "progress", "items", "reply"] as const) {
      const mismatch = new Reason.ContractMismatch({ part, path: [], expected: "" })
      assert.deepInclude(mismatch, { _tag: "ContractMismatch", part })
    }
  })

  it("says of a handler that it ran, did not, or that nobody knows", () => {
    const isStarted = Schema.is(Reason.Started)
    for (const started of ["no", "yes", "unknown"]) assert.isTrue(isStarted(started), started)
    for (const other of ["", "No", "maybe", true, null]) assert.isFalse(isStarted(other))
  })

  it("covers every class that a service sends", () => {
    assert.strictEqual(sent.length, Reason.Sent.members.length)
  })

  // Daebus shows these words to whoever called.
  it("says in words what happened", () => {
    for (const [reason, words] of [
      [new Reason.NoResponders({}), "nobody listens on the service's channel"],
      [new Reason.UnknownAction({ action: "sum\n" }), 'unknown action "sum\\n"'],
      [new Reason.InvalidPayload({ path: [], expected: "Expected string" }), "invalid payload: Expected string"],
      [
        new Reason.InvalidPayload({ path: ["rows", "0"], expected: "Expected string" }),
        'invalid payload at ["rows"]["0"]: Expected string'
      ],
      [new Reason.PayloadTooLarge({ what: "reply", bytes: 2, maxBytes: 1 }), "the reply has 2 bytes, more than 1"],
      [new Reason.Busy({ retryAfterMillis: 10 }), "the service is busy, try again in 10 ms"],
      [new Reason.Draining({}), "the service is shutting down"],
      [new Reason.CircuitOpen({ retryAfterMillis: 0 }), "the circuit is open, one call is trying the service"],
      [new Reason.CircuitOpen({ retryAfterMillis: 5 }), "the circuit is open, the next try is in 5 ms"],
      [new Reason.RateLimited({ retryAfterMillis: 5 }), "the caller's rate limit is reached, try again in 5 ms"],
      [new Reason.DeadlineExceeded({ timeoutMillis: 5_000 }), "no answer within 5000 ms"],
      [new Reason.ConnectionLost({ detail: "gone" }), "the link was lost before the answer: gone"],
      [new Reason.RemoteDefect({ id: "d-1" }), "the handler died (d-1)"],
      [new Reason.RemoteError({ error: "too late", payload: null }), "too late"],
      [
        new Reason.ContractMismatch({ part: "success", path: ["a"], expected: "Expected string" }),
        'the reply does not fit the contract\'s success at ["a"]: Expected string'
      ]
    ] as const) {
      assert.strictEqual(reason.message, words)
    }
  })

  it("escapes names of a peer in its texts", () => {
    for (const { message } of sent) assert.match(message, /^[^\p{Cc}]+$/u)
  })

  it("reads what is none, or not one of this version, as nothing", () => {
    const almost = [
      { _tag: "Busy" },
      { _tag: "Busy", retryAfterMillis: "soon" },
      { _tag: "Busy", retryAfterMillis: null },
      { _tag: "NoResponders" },
      { _tag: "RemoteError", error: "x", payload: null },
      { _tag: "Later", retryAfterMillis: 1 },
      { _tag: ["Busy"], retryAfterMillis: 1 },
      { retryAfterMillis: 1 }
    ]
    for (const json of [...almost, undefined, null, 0, "Busy", [], [{ _tag: "Draining" }]]) {
      assert.isTrue(Option.isNone(Reason.decode(json)), JSON.stringify(json))
    }
  })

  it("reads 10,000 values of any kind without a throw", () => {
    for (let seed = 0; seed < 10_000; seed++) {
      const random = Random.make(seed)
      const json = random.chance(0.5)
        ? Random.value(random)
        : Object.fromEntries([
            ["_tag", random.pick(sent)._tag],
            ...["action", "path", "expected", "what", "bytes", "maxBytes", "retryAfterMillis", "id"].map((field) => [
              field,
              Random.value(random, 2)
            ])
          ])
      const read = Reason.decode(json)
      if (Option.isSome(read)) assert.isString(read.value.message)
    }
  })
})
