import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Printable from "../../src/wire/Printable.ts"

const unsafe = /[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/u
// What is drawn is made of nasty pieces.
const Nasty = Schema.Array(
  Schema.Literals([
    "\u001b[2J",
    "\u0000",
    "\n",
    "\r",
    "\u007f",
    "\u009b",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\u{e0041}",
    "é",
    "👩‍👧",
    '"',
    "\\",
    "a b"
  ])
)

describe("Printable", () => {
  it.effect.prop("writes JSON of the same value without a character that acts", [Schema.Json, Nasty], ([json, nasty]) =>
    Effect.sync(() => {
      const value = { json, nasty: nasty.join("") }
      for (const pretty of [false, true]) {
        const text = Printable.json(value, pretty)
        assert.isFalse(unsafe.test(pretty ? text.replaceAll("\n", "") : text))
        assert.strictEqual(JSON.stringify(JSON.parse(text)), JSON.stringify(value))
      }
    })
  )

  it.effect.prop("keeps a line one line and a word one word", [Nasty], ([nasty]) =>
    Effect.sync(() => {
      const text = nasty.join("")
      assert.isFalse(unsafe.test(Printable.line(text)))
      const word = Printable.word(text)
      assert.isFalse(unsafe.test(word))
      assert.isTrue(word.startsWith('"') || !/\s/.test(word))
    })
  )

  it("leaves what is safe as it is, and tells the rest by its numbers", () => {
    assert.strictEqual(Printable.line('é 👩‍👧 "x"\\'), 'é 👩‍👧 "x"\\')
    assert.strictEqual(Printable.line("a\u001b[2J\u{e0041}\n"), "a\\u001b[2J\\udb40\\udc41\\u000a")
    for (const text of ["word", "é-👩‍👧", "a:b"]) assert.strictEqual(Printable.word(text), text)
    for (const [text, word] of [
      ["", '""'],
      ["two words", '"two words"'],
      ['a"b', '"a\\"b"'],
      ["a\nb", '"a\\nb"'],
      ["a\u202eb", '"a\\u202eb"']
    ] as const) {
      assert.strictEqual(Printable.word(text), word)
    }
  })

  it("writes compact JSON, or indented by two spaces, and null for what is none", () => {
    const value = { a: [1, "\u009b"], b: {} }
    assert.strictEqual(Printable.json(value), '{"a":[1,"\\u009b"],"b":{}}')
    assert.strictEqual(Printable.json(value, true), '{\n  "a": [\n    1,\n    "\\u009b"\n  ],\n  "b": {}\n}')
    for (const none of [undefined, Number.NaN, () => 1]) assert.strictEqual(Printable.json(none), "null")
  })

  it("cuts by characters, never through one", () => {
    assert.strictEqual(Printable.cut("abcdef", 4), "abc…")
    assert.strictEqual(Printable.cut("abcd", 4), "abcd")
    assert.strictEqual(Printable.cut("😀😀😀", 3), "😀😀😀")
    assert.strictEqual(Printable.cut("😀😀😀", 2), "😀…")
    assert.strictEqual(Printable.cut("abc", 0), "abc")
  })

  it("hides credentials, also those with an @ or a slash inside", () => {
    assert.strictEqual(Printable.withoutSecrets("to redis://u:p@ss/w@h:1 now"), "to redis://***@h:1 now")
    assert.strictEqual(Printable.withoutSecrets("redis://h:1"), "redis://h:1")
    assert.strictEqual(Printable.withoutSecrets("a://u@h \n\t b://v@i"), "a://***@h \n\t b://***@i")
    assert.strictEqual(Printable.withoutSecrets("u@x://h"), "u@x://h")
    assert.strictEqual(Printable.withoutSecrets("a@b  c://d\n"), "a@b  c://d\n")
  })
})
