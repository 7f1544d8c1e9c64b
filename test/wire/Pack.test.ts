import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Pack from "../../src/wire/Pack.ts"
import * as Reading from "../../src/wire/Reading.ts"
import * as Random from "../hostile/random.ts"

const limit = Codec.defaultMaxBytes

/** What a receiver is given for one frame. */
const received = (frame: string | Uint8Array) => {
  const taken: Array<unknown> = []
  Pack.each(limit, (read, channel) => {
    assert.strictEqual(channel, "here")
    taken.push(read instanceof Codec.Malformed ? read.reason : read)
  })(frame, "here")
  return taken
}

const deep = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`

describe("Pack", () => {
  it("gives a frame that is no pack as Codec.parse reads it", () => {
    for (const frame of ['{"a":1}', "[]", "1", "x", `"${"x".repeat(200)}"`, "", deep(Codec.maxDepth + 1), "\ufeff{}"]) {
      const alone = Codec.parse(frame, limit)
      assert.deepStrictEqual(received(frame), [alone instanceof Codec.Malformed ? alone.reason : alone])
    }
  })

  it("gives the envelopes of a pack one after the other, also from bytes", () => {
    const frame = '[{"a":1},{"a":"ü"},{}]'
    assert.deepStrictEqual(received(frame), [{ a: 1 }, { a: "ü" }, {}])
    assert.deepStrictEqual(received(Buffer.from(frame)), [{ a: 1 }, { a: "ü" }, {}])
  })

  it("lets a bad envelope harm no other", () => {
    const tooDeep = deep(Codec.maxDepth + 1)
    const most = deep(Codec.maxDepth)
    assert.deepStrictEqual(received(`[{"a":1},null,[{"a":2}],${tooDeep},"x",${most},{"a":3}]`), [
      { a: 1 },
      "NotAnObject",
      "NotAnObject",
      "TooDeep",
      "NotAnObject",
      JSON.parse(most),
      { a: 3 }
    ])
  })

  it("takes so many envelopes and no more", () => {
    const of = (count: number) => `[${Array.from({ length: count }, () => "{}").join(",")}]`
    assert.strictEqual(received(of(Pack.maxCount)).length, Pack.maxCount)
    assert.deepStrictEqual(received(of(Pack.maxCount + 1)), ["TooMany"])
  })

  it("gives all, and throws what one receiver threw", () => {
    const taken: Array<unknown> = []
    const receive = Pack.each(limit, (read) => {
      taken.push(read)
      if (taken.length < 3) throw new Error(`${taken.length}`)
    })
    const thrown: Array<unknown> = []
    try {
      receive("[{},{},{}]", "here")
    } catch (defect) {
      thrown.push(defect)
    }
    assert.deepStrictEqual(thrown, [new Error("1")])
    assert.strictEqual(taken.length, 3)
  })

  it.prop("is total on any text in brackets", [Schema.String], ([text]) => {
    received(`[${text}]`)
  })

  it("is total on 5,000 mutated packs, and reads those that are whole", () => {
    let whole = 0
    for (let seed = 0; seed < 5_000; seed++) {
      const random = Random.make(seed)
      const pack = JSON.stringify([{ x: Random.value(random) }, { y: Random.value(random) }])
      const frame = random.chance(0.2) ? pack : Random.mutate(random, pack)
      const taken = received(frame)
      if (frame !== pack || Codec.isTooDeep(pack)) continue
      whole++
      assert.deepStrictEqual(taken, JSON.parse(pack))
    }
    assert.isAbove(whole, 500)
  })

  it("is asked for by a request, in a field that others ignore", () => {
    const head = Envelope.requestHead({ action: "get", service: "users", replyTo: "caller:x" })
    const frame = Envelope.writeRequest(head, "id-1", {}, { v: 1, timeout_ms: 5, packs: Pack.maxCount })
    assert.strictEqual(
      frame,
      '{"action":"get","service":"users","reply_to":"caller:x","payload":{},"request_id":"id-1","fiberbus":{"v":1,"timeout_ms":5,"packs":64}}'
    )
    const packsOf = (packs: unknown) => {
      const read = Envelope.readRequest({ action: "get", fiberbus: { v: 1, packs } })
      return typeof read !== "string" && read.packs
    }
    assert.isTrue(packsOf(Pack.maxCount))
    assert.isTrue(packsOf(1000))
    for (const packs of [undefined, null, true, "64", 0, 1, Pack.maxCount - 1, 64.5, Number.NaN, -64, [64], {}]) {
      assert.isFalse(packsOf(packs))
    }
  })

  it("is shown to a bystander as the messages it holds", () => {
    assert.deepStrictEqual(Reading.split('[{"a":1},{"b":2}]', limit), ['{"a":1}', '{"b":2}'])
    for (const frame of ['{"a":1}', "[", "[]", "[1]", "[{},1]"]) {
      assert.deepStrictEqual(Reading.split(frame, limit), [frame])
      assert.deepStrictEqual(Reading.split(Buffer.from(frame), limit), [Buffer.from(frame)])
    }
  })
})
