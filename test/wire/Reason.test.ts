import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
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

  it("covers every class that a service sends", () => {
    assert.strictEqual(sent.length, Reason.Sent.members.length)
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
