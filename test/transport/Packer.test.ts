import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import { Packer } from "../../src/transport/internal/Packer.ts"
import { TransportError } from "../../src/transport/Transport.ts"
import * as Pack from "../../src/wire/Pack.ts"

/** A packer, what it published, and a way to say how that ended. */
const make = () => {
  const published: Array<{
    channel: string
    frame: string
    end: (error: TransportError | undefined, n: number) => void
  }> = []
  const threw: Array<unknown> = []
  const packer = new Packer(
    (channel, frame, bytes, sent) => {
      assert.strictEqual(Buffer.byteLength(frame), bytes)
      published.push({ channel, frame, end: sent })
    },
    (_, defect) => threw.push(defect)
  )
  return { packer, published, threw, texts: () => published.map(({ channel, frame }) => `${channel} ${frame}`) }
}

const nothing = () => {}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

describe("Packer", () => {
  it("lets the frames of a turn and channel leave as one, at its end", async () => {
    const { packer, texts } = make()
    packer.add("a", "{1}", nothing)
    packer.add("b", "{2}", nothing)
    packer.add("a", "{3}", nothing)
    assert.deepStrictEqual(texts(), [])
    await turn()
    assert.deepStrictEqual(texts(), ["a [{1},{3}]", "b {2}"])
    assert.strictEqual(packer.length, 0)
    packer.add("a", "{4}", nothing)
    await turn()
    assert.deepStrictEqual(texts().slice(2), ["a {4}"])
  })

  it("keeps the order with what is no part of a pack", () => {
    const { packer, texts } = make()
    packer.add("a", "{1}", nothing)
    packer.add("b", "{2}", nothing)
    packer.before("a")
    packer.before("c")
    assert.deepStrictEqual(texts(), ["a {1}"])
    packer.flush()
    assert.deepStrictEqual(texts(), ["a {1}", "b {2}"])
  })

  it("keeps the order between channels that share a hash tag", () => {
    const { packer, texts } = make()
    packer.add("a{t}", "{1}", nothing)
    packer.add("b", "{2}", nothing)
    packer.add("{t}b", "{3}", nothing)
    packer.add("{t}b", "{4}", nothing)
    packer.add("a{t}", "{5}", nothing)
    packer.before("c{t}")
    assert.deepStrictEqual(texts(), ["a{t} {1}", "{t}b [{3},{4}]", "a{t} {5}"])
    assert.strictEqual(packer.length, 3)
  })

  it("tells each once how the sending of all has ended, whatever another does", () => {
    const { packer, published, threw } = make()
    const told: Array<unknown> = []
    packer.add("a", "{1}", (error, receivers) => told.push(error ?? receivers))
    packer.add("a", "{2}", () => {
      throw "on purpose"
    })
    packer.add("a", "{3}", (error, receivers) => told.push(error ?? receivers))
    packer.flush()
    published[0]!.end(undefined, 2)
    assert.deepStrictEqual(told, [2, 2])
    assert.deepStrictEqual(threw, ["on purpose"])
    const error = new TransportError({ kind: "Timeout", operation: "", detail: "", hint: "", sent: "unknown" })
    packer.add("a", "{4}", (error) => told.push(error))
    packer.add("a", "{5}", (error) => told.push(error))
    packer.flush()
    published[1]!.end(error, 0)
    assert.deepStrictEqual(told.slice(2), [error, error])
  })

  it("keeps to the number and the bytes of a pack", () => {
    const { packer, published } = make()
    for (let i = 0; i < Pack.maxCount + 1; i++) packer.add("a", "{}", nothing)
    packer.flush()
    assert.deepStrictEqual(
      published.map(({ frame }) => (frame.startsWith("[") ? JSON.parse(frame).length : 1)),
      [Pack.maxCount, 1]
    )
    const large = `{"a":"${"x".repeat(Pack.maxFrameLength - 8)}"}`
    assert.strictEqual(large.length, Pack.maxFrameLength)
    published.length = 0
    for (let i = 0; i < 9; i++) packer.add("a", large, nothing)
    packer.flush()
    assert.deepStrictEqual(
      published.map(({ frame }) => (frame.startsWith("[") ? JSON.parse(frame).length : 1)),
      [3, 3, 3]
    )
    assert.isTrue(published.every(({ frame }) => Buffer.byteLength(frame) <= Pack.maxBytes))
  })

  it("sends frames for themselves whose characters have too many bytes together", () => {
    const { packer, published } = make()
    const wide = `{"a":"${"語".repeat(8_000)}"}`
    for (let i = 0; i < 4; i++) packer.add("a", wide, nothing)
    packer.flush()
    assert.deepStrictEqual(
      published.map(({ frame }) => frame),
      [wide, wide, wide, wide]
    )
    assert.strictEqual(packer.length, 0)
  })

  it("gathers for so many channels and no more", () => {
    const { packer, published } = make()
    for (let i = 0; i < 65; i++) packer.add(`c${i}`, "{}", nothing)
    assert.deepStrictEqual(
      published.map(({ channel }) => channel),
      ["c0"]
    )
    packer.flush()
    assert.strictEqual(published.length, 65)
  })
})
