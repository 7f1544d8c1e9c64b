import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Codec from "../../src/wire/Codec.ts"
import * as LongTexts from "../../src/wire/LongTexts.ts"
import * as Pack from "../../src/wire/Pack.ts"
import * as Reading from "../../src/wire/Reading.ts"
import * as Random from "../hostile/random.ts"

const limit = Codec.defaultMaxBytes

const parse = (frame: string | Uint8Array, maxBytes = limit) => {
  const read = Codec.parse(frame, maxBytes)
  const each = Codec.parseEach(frame, maxBytes, Pack.maxCount)
  assert.deepStrictEqual(each, read)
  return read instanceof Codec.Malformed ? read.reason : read
}

/** The frame of an envelope with this payload, as a sender writes it; nothing where it stays JSON. */
const write = (payload: unknown): string | undefined => {
  const lifted = LongTexts.lift(payload)
  return lifted && LongTexts.write(JSON.stringify({ payload: lifted.json, request_id: "r1" }), lifted)
}

/** Text and bytes of a frame are read as JSON would have been. */
const travels = (payload: unknown) => {
  const frame = write(payload)
  assert.isDefined(frame)
  const expected = JSON.parse(JSON.stringify({ payload, request_id: "r1" }))
  assert.deepStrictEqual(parse(frame), expected)
  assert.deepStrictEqual(parse(Buffer.from(frame)), expected)
  // A part of something larger, as it comes from a socket.
  assert.deepStrictEqual(parse(Buffer.from(`xx${frame}yy`).subarray(2, -2)), expected)
}

const long = "x".repeat(LongTexts.minTotal)

describe("LongTexts", () => {
  it("are written byte by byte so", () => {
    const a = `${"a\n".repeat(4_096)}`
    const b = "é".repeat(1_024)
    assert.strictEqual(
      write({ id: 1, text: a, rows: [{ note: "short" }, { note: b }] }),
      `~[{"payload":{"id":1,"text":"","rows":[{"note":"short"},{"note":""}]},"request_id":"r1"},[8192,"text"],[2048,"rows",1,"note"]]\n${a}${b}`
    )
    assert.strictEqual(write(long), `~[{"payload":"","request_id":"r1"},[8192]]\n${long}`)
  })

  it("come back as they were, whatever characters they have", () => {
    for (const text of [
      long,
      '"\\\n\r\n\u0000~['.repeat(2_000),
      "ü".repeat(9_000),
      "Привет, мир ".repeat(1_000),
      "👩‍👩‍👧‍👦\u2028".repeat(2_000),
      `\ufeff${long}`
    ]) {
      travels(text)
      travels({ text })
      travels([["", text], { a: { b: [null, text, "é".repeat(2_000)] } }])
    }
  })

  it("leave what was given as it was", () => {
    const payload = Object.freeze({ a: Object.freeze([long, Object.freeze({ b: long })]), c: 1 })
    travels(payload)
    assert.strictEqual(payload.a[0], long)
  })

  it("are put back where `__proto__` and the like are names of fields", () => {
    const payload = JSON.parse(
      `{"__proto__":{"polluted":"${long}"},"constructor":"${long}","0":"${long}","":"${long}"}`
    )
    travels(payload)
    assert.isUndefined(({} as Record<string, unknown>)["polluted"])
  })

  it("stay JSON where they are short, few, or no text that UTF-8 has", () => {
    const half = "\ud83e"
    for (const payload of [
      undefined,
      null,
      1,
      "",
      {},
      [],
      "x".repeat(LongTexts.minTotal - 1),
      Array.from({ length: 100 }, () => "x".repeat(LongTexts.minLength - 1)),
      Array.from({ length: 7 }, () => "x".repeat(LongTexts.minLength)),
      long + half,
      { text: long + half, other: "x".repeat(LongTexts.minLength) }
    ]) {
      assert.isUndefined(write(payload), JSON.stringify(payload)?.slice(0, 40))
    }
    assert.isDefined(write(Array.from({ length: 8 }, () => "x".repeat(LongTexts.minLength))))
    // Its neighbours do not suffer for it.
    travels({ a: long + half, b: long })
  })

  it("stay JSON inside of what says its JSON itself", () => {
    class Document {
      readonly text = long
    }
    const says = { text: long, toJSON: () => ({ said: 1 }) }
    for (const payload of [new Document(), says, { inner: says }, new Map([["text", long]]), [new Document()]]) {
      assert.isUndefined(write(payload))
    }
    travels(Object.assign(Object.create(null), { text: long }))
  })

  it("are so many in one frame at most, the others stay JSON", () => {
    const many = Array.from({ length: LongTexts.maxCount + 5 }, (_, n) => `${n}`.padEnd(LongTexts.minLength))
    assert.strictEqual(LongTexts.lift(many)?.texts.length, LongTexts.maxCount)
    travels(many)
  })

  it("are not looked for without end", () => {
    const endless: Record<string, unknown> = {}
    endless["again"] = endless
    assert.isUndefined(LongTexts.lift(endless))
    const late = [...Array.from({ length: 1_000 }, () => 1), long]
    assert.isUndefined(LongTexts.lift(late))
    let deep: unknown = long
    for (let i = 0; i < LongTexts.maxPath; i++) deep = [deep]
    travels(deep)
    assert.isUndefined(LongTexts.lift([deep]))
    const wide: Array<unknown> = []
    for (let i = 0; i < 64; i++) wide.push(wide)
    assert.isUndefined(LongTexts.lift(wide))
  })

  it("are never packed", () => {
    assert.isAtLeast(LongTexts.minTotal, Pack.maxFrameLength)
  })

  describe("from a hostile peer", () => {
    it("are refused where they and their table do not agree", () => {
      for (const frame of [
        "~",
        "~[]\n",
        "~{}\n",
        "~1\n",
        "~[1]\n",
        "~[[]]\n",
        "~[null]\n",
        '~{"payload":""}\nx',
        // Too many, too few, none.
        '~[{"payload":""},[1]]\n',
        '~[{"payload":""},[1]]\nxx',
        '~[{"payload":""},[1]]',
        '~[{"payload":""}]\nx',
        '~[{"payload":""},[0]]\n',
        '~[{"payload":""},[-1]]\n',
        '~[{"payload":""},[2],[-1]]\nx',
        '~[{"payload":""},[1e300]]\nx',
        '~[{"payload":""},[1.5]]\nx',
        '~[{"payload":""},["1"]]\nx',
        '~[{"payload":""},[NaN]]\nx',
        '~[{"payload":""},[]]\nx',
        '~[{"payload":""},1]\nx',
        '~[{"payload":""},null]\nx',
        // No place, or one that is taken.
        "~[{},[1]]\nx",
        '~[{"payload":null},[1]]\nx',
        '~[{"payload":"y"},[1]]\nx',
        '~[{"payload":{}},[1,"a"]]\nx',
        '~[{"payload":{"a":""}},[1,"b"]]\nx',
        '~[{"payload":{"a":""}},[1,"a","length"]]\nx',
        '~[{"payload":{"a":""}},[1,"a",0]]\nx',
        '~[{"payload":[""]},[1,1]]\nx',
        '~[{"payload":[""]},[1,"length"]]\nx',
        '~[{"payload":[""]},[1,-1]]\nx',
        '~[{"payload":{"a":""}},[1,null]]\nx',
        '~[{"payload":{"a":""}},[1,["a"]]]\nx',
        '~[{"payload":{"a":""}},[1,"a"],[1,"a"]]\nxx',
        '~[{"payload":{}},[1,"__proto__"]]\nx',
        '~[{"payload":{}},[1,"constructor","name"]]\nx',
        '~[{"payload":{}},[1,"__proto__","polluted"]]\nx',
        `~[{"payload":""},[1${',"a"'.repeat(LongTexts.maxPath + 1)}]]\nx`
      ]) {
        assert.strictEqual(parse(frame), "BadTexts", frame)
        assert.strictEqual(parse(Buffer.from(frame)), "BadTexts", frame)
      }
      assert.isUndefined(({} as Record<string, unknown>)["polluted"])
    })

    it("are refused for what any frame is refused for", () => {
      const entries = (count: number) => Array.from({ length: count }, (_, n) => `,[1,${n}]`).join("")
      const holes = (count: number) => Array.from({ length: count }, () => '""').join(",")
      const of = (count: number) => `~[{"payload":[${holes(count)}]}${entries(count)}]\n${"x".repeat(count)}`
      assert.isObject(parse(of(LongTexts.maxCount)))
      assert.strictEqual(parse(of(LongTexts.maxCount + 1)), "TooMany")
      const nested = (depth: number) => `~[{"a":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)},"payload":""},[1]]\nx`
      assert.isObject(parse(nested(Codec.maxDepth)))
      assert.strictEqual(parse(nested(Codec.maxDepth + 1)), "TooDeep")
      assert.strictEqual(parse(nested(100_000)), "TooDeep")
      assert.strictEqual(parse("~\n"), "NotJson")
      assert.strictEqual(parse("~x\ny"), "NotJson")
      assert.strictEqual(parse('~[{"payload":""},[1]\nx'), "NotJson")
      const frame = '~[{"payload":""},[2]]\né'
      assert.isObject(parse(frame, Codec.byteLength(frame)))
      assert.strictEqual(parse(frame, Codec.byteLength(frame) - 1), "TooLarge")
      assert.strictEqual(parse(Buffer.from(frame), Codec.byteLength(frame) - 1), "TooLarge")
    })

    it("are refused where they are no UTF-8, or cut in the middle of a character", () => {
      const bytes = (head: string, ...tail: ReadonlyArray<number>) =>
        Buffer.concat([Buffer.from(head), Buffer.from(tail)])
      assert.strictEqual(parse(bytes('~[{"payload":""},[1]]\n', 0xff)), "NotUtf8")
      assert.strictEqual(parse(bytes("~[\xff]\n").fill(0xff, 2, 3)), "NotUtf8")
      const cut = '~[{"payload":["",""]},[1,0],[1,1]]\né'
      assert.strictEqual(parse(cut), "NotUtf8")
      assert.strictEqual(parse(Buffer.from(cut)), "NotUtf8")
    })

    it("never throw, and are read alike from text and from bytes, on 5,000 mutated frames", () => {
      let read = 0
      for (let seed = 0; seed < 5_000; seed++) {
        const random = Random.make(seed)
        const original = write({ a: "é\n".repeat(4_096), b: [Random.value(random), long] })!
        const head = original.indexOf("\n")
        const frame = random.chance(0.1)
          ? original
          : random.chance(0.5)
            ? Random.mutate(random, original)
            : `${Random.mutate(random, original.slice(0, head))}${original.slice(head)}`
        const outcome = parse(frame)
        if (typeof outcome === "object") read++
        parse(Random.bytes(random, frame))
        if (frame.isWellFormed()) assert.deepStrictEqual(parse(Buffer.from(frame)), outcome, `seed ${seed}`)
      }
      assert.isAbove(read, 500)
    })
  })

  it("are read by a bystander", () => {
    const lifted = LongTexts.lift({ text: long })!
    const frame = LongTexts.write(JSON.stringify({ action: "store", payload: lifted.json, request_id: "r1" }), lifted)
    assert.deepStrictEqual(Reading.split(frame, limit), [frame])
    const { id, kind, payload, what } = Reading.read(frame, limit)
    assert.deepStrictEqual(
      { id, kind, payload, what },
      { id: "r1", kind: "request", what: "store", payload: { text: long } }
    )
    const { kind: bad, what: why } = Reading.read("~[]\n", limit)
    assert.deepStrictEqual([bad, why], ["garbage", "BadTexts"])
  })
})
