import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Control from "../../src/wire/Control.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Presence from "../../src/wire/Presence.ts"

const parse = (frame: string) => Codec.parse(frame, Codec.defaultMaxBytes) as Codec.JsonObject

const by = "0b5c1f2e-77a1"

/** As docs/wire.md has them. */
const golden: ReadonlyArray<readonly [Presence.Presence, string]> = [
  [
    { _tag: "Here", by, actions: ["get_user", "import_users"], pack: undefined, texts: undefined },
    `{"fiberbus":{"v":1,"here":"${by}","actions":["get_user","import_users"]}}`
  ],
  [
    { _tag: "Here", by, actions: undefined, pack: 64, texts: 1 },
    `{"fiberbus":{"v":1,"here":"${by}","pack":64,"texts":1}}`
  ],
  [{ _tag: "Gone", by }, `{"fiberbus":{"v":1,"gone":"${by}"}}`],
  [{ _tag: "Who" }, '{"fiberbus":{"v":1,"who":true}}'],
  [{ _tag: "Probe", replyTo: "caller:1" }, '{"reply_to":"caller:1","fiberbus":{"v":1,"probe":true}}'],
  [{ _tag: "Up", by }, `{"fiberbus":{"v":1,"up":"${by}"}}`]
]

describe("Presence", () => {
  it("is written byte by byte so, and read again", () => {
    for (const [presence, frame] of golden) {
      assert.strictEqual(Presence.write(presence), frame)
      assert.deepStrictEqual(Presence.read(parse(frame)), presence)
      // Who knows nothing of it takes it for no request, and for no word about one.
      assert.strictEqual(Envelope.readRequest(parse(frame)), "NoAction")
      assert.isUndefined(Control.read(parse(frame)))
    }
  })

  it("names no actions where there are too many", () => {
    for (const actions of [
      Array.from({ length: Presence.maxActions + 1 }, (_, n) => `a${n}`),
      Array.from({ length: 100 }, () => "x".repeat(100))
    ]) {
      assert.strictEqual(Presence.write({ _tag: "Here", by, actions }), `{"fiberbus":{"v":1,"here":"${by}"}}`)
      // Nor are so many kept of one who names them all the same.
      const named = Presence.read({ fiberbus: { v: 1, here: by, actions } })
      assert.deepStrictEqual(named, { _tag: "Here", by, actions: undefined, pack: undefined, texts: undefined })
    }
  })

  it("names as many actions as there may be", () => {
    for (const actions of [
      Array.from({ length: Presence.maxActions }, (_, n) => `a${n}`),
      // 8,192 characters together.
      Array.from({ length: 128 }, () => "x".repeat(64))
    ]) {
      const frame = Presence.write({ _tag: "Here", by, actions })
      assert.deepStrictEqual(Presence.read(parse(frame)), {
        _tag: "Here",
        by,
        actions,
        pack: undefined,
        texts: undefined
      })
    }
    assert.notInclude(
      Presence.write({ _tag: "Here", by, actions: [...Array.from({ length: 128 }, () => "x".repeat(64)), "x"] }),
      "actions"
    )
  })

  const hereOf = (fields: object) => Presence.read({ fiberbus: { v: 1, here: by, ...fields } } as never)

  it("is of a process that takes all actions where those it names cannot be believed", () => {
    for (const actions of [
      Array.from({ length: Presence.maxActions + 1 }, (_, n) => `a${n}`),
      ["get_user", 1],
      [null],
      "get_user",
      { length: 0 }
    ]) {
      assert.deepStrictEqual(hereOf({ actions }), {
        _tag: "Here",
        by,
        actions: undefined,
        pack: undefined,
        texts: undefined
      })
    }
  })

  it("is of a process that takes one message in a frame unless it says how many more", () => {
    for (const pack of [undefined, null, 0, 1, -64, 1.5, "64", [64], true]) {
      assert.deepStrictEqual(hereOf({ pack }), {
        _tag: "Here",
        by,
        actions: undefined,
        pack: undefined,
        texts: undefined
      })
    }
    assert.deepStrictEqual(hereOf({ pack: 2 }), { _tag: "Here", by, actions: undefined, pack: 2, texts: undefined })
  })

  it("is of a process that takes no long texts behind the JSON unless it says in which version", () => {
    for (const texts of [undefined, null, 0, -1, 1.5, "1", [1], true]) {
      assert.deepStrictEqual(hereOf({ texts }), {
        _tag: "Here",
        by,
        actions: undefined,
        pack: undefined,
        texts: undefined
      })
    }
    assert.deepStrictEqual(hereOf({ texts: 2 }), { _tag: "Here", by, actions: undefined, pack: undefined, texts: 2 })
  })

  it("is nothing in another version, or where nothing is asked", () => {
    for (const v of [undefined, 0, 2, "1"]) {
      for (const said of [{ here: by }, { gone: by }, { up: by }, { who: true }, { probe: true }]) {
        assert.isUndefined(Presence.read({ reply_to: "caller:1", fiberbus: { v, ...said } } as never))
      }
    }
    for (const said of [{}, { probe: false }, { probe: 1 }, { who: false }, { who: 1 }]) {
      assert.isUndefined(Presence.read({ reply_to: "caller:1", fiberbus: { v: 1, ...said } } as never))
    }
  })

  it.prop("is nothing where a field is of another kind", [Schema.Json, Schema.Json], ([value, other]) => {
    for (const name of ["here", "gone", "up", "who", "probe"]) {
      const read = Presence.read({
        reply_to: other,
        fiberbus: { v: 1, [name]: value, actions: other, pack: other }
      } as never)
      if (read === undefined) continue
      if ("by" in read) assert.match(read.by, /^[\w-]{1,64}$/)
      if (read._tag === "Here") assert.isTrue(read.actions?.every((action) => typeof action === "string") ?? true)
      if (read._tag === "Probe") assert.isString(read.replyTo)
    }
    assert.isUndefined(Presence.read({ fiberbus: value } as never)?._tag)
    assert.isUndefined(Presence.read({ status: "success", fiberbus: { v: 1, here: by } }))
  })
})
