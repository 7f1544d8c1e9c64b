import { assert, describe, it } from "@effect/vitest"
import * as redisReplies from "../../src/transport/internal/redisReplies.ts"

/** The same with bytes for texts, as they come where not all is plain ASCII, or all is very long. */
const inBytes = (reply: unknown): unknown =>
  Array.isArray(reply) ? reply.map(inBytes) : typeof reply === "string" ? Buffer.from(reply) : reply

const fields = ["id", "a", "frame", "{}", "n", "2", "at", "7", "key", "k"]
const entry = { entry: "5-0", id: "a", frame: "{}", key: "k", deliveries: 3, at: 7, claimed: false }

describe("replies of Redis", () => {
  for (const [form, to, frame] of [
    ["text", (reply: unknown) => reply, "{}"],
    ["bytes", inBytes, Buffer.from("{}")]
  ] as const) {
    it(`are read in either version of the protocol where they are ${form}`, () => {
      const entries = [
        ["5-0", fields],
        ["6-0", ["id", "b", "frame", "{}"]]
      ]
      const expected = [
        { ...entry, frame },
        { entry: "6-0", id: "b", frame, key: "", deliveries: 1, at: 6, claimed: false }
      ]
      assert.deepStrictEqual(redisReplies.read(to([["{q}.requests", entries]])), expected)
      assert.deepStrictEqual(redisReplies.read(to(["{q}.requests", entries])), expected)
    })

    it(`say which were silent elsewhere, for how long and how often delivered, where they are ${form}`, () => {
      const entries = [
        ["5-0", fields, 31_000, 4],
        ["6-0", ["id", "b", "frame", "{}"], 0, 0]
      ]
      assert.deepStrictEqual(redisReplies.read(to([["{q}.requests", entries]])), [
        { ...entry, frame, deliveries: 7, claimed: true },
        { entry: "6-0", id: "b", frame, key: "", deliveries: 1, at: 6, claimed: false }
      ])
    })

    it(`say what was claimed, and how often it was delivered, where they are ${form}`, () => {
      assert.deepStrictEqual(redisReplies.deliveries(to([2, [["5-0", 1, fields]]])), {
        entries: [{ ...entry, frame }],
        lost: 2
      })
    })

    it(`tell of dead letters where they are ${form}`, () => {
      const more = ["reason", "Defect", "cause", "it broke", "action", "charge"]
      assert.deepStrictEqual(redisReplies.letters(to([["9-1", [...fields, ...more]]])), [
        {
          letter: "9-1",
          id: "a",
          key: "k",
          frame,
          deliveries: 2,
          reason: "Defect",
          cause: "it broke",
          action: "charge",
          appendedAt: 7,
          buriedAt: 9
        }
      ])
    })
  }

  it("are nothing where there is nothing", () => {
    assert.deepStrictEqual(redisReplies.read(null), [])
    assert.deepStrictEqual(redisReplies.deliveries(null), { entries: [], lost: 0 })
    assert.deepStrictEqual(redisReplies.letters(null), [])
  })
})
