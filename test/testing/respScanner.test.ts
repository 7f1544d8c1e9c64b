import { assert, describe, it } from "@effect/vitest"
import * as RespScanner from "../../src/testing/internal/respScanner.ts"

/** What a scanner finds in a text that comes in pieces of a size: the units' ends in the whole text. */
const scanned = (from: "client" | "server", text: string, size = text.length) => {
  const scan = RespScanner.make(from)
  const bytes = Buffer.from(text)
  const units: Array<RespScanner.Unit> = []
  for (let at = 0; at < bytes.length; at += size) {
    for (const unit of scan(bytes.subarray(at, at + size))) units.push({ ...unit, end: unit.end + at })
  }
  return units
}

const commands = [
  ["*1\r\n$4\r\nPING\r\n", "PING", 1],
  ["*3\r\n$7\r\npublish\r\n$1\r\na\r\n$4\r\n\r\n*1\r\n", "PUBLISH", 3],
  ["*2\r\n$9\r\nSUBSCRIBE\r\n$0\r\n\r\n", "SUBSCRIBE", 2],
  ["ping one\r\n", "PING", 2]
] as const

const replies = [
  ["+OK\r\n", "+", "OK"],
  ["-NOPERM this user has no permissions to run the whole command\r\n", "-", "NOPERM"],
  [":12\r\n", ":", "12"],
  ["_\r\n", "_", ""],
  ["$-1\r\n", "$", ""],
  ["*-1\r\n", "*", ""],
  ["*0\r\n", "*", ""],
  ["$6\r\n+OK\r\n:\r\n", "$", "+OK\r\n:"],
  ["*2\r\n*2\r\n$1\r\na\r\n:1\r\n*0\r\n", "*", "A"],
  ["%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n+proto\r\n:3\r\n", "%", "SERVER"],
  [">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n", ">", "MESSAGE"],
  ["|1\r\n+ttl\r\n:1\r\n#t\r\n", "#", "T"],
  ["=7\r\ntxt:one\r\n", "=", "TXT:ONE"]
] as const

/** Where each of some texts ends when they stand one after the other. */
const ends = (texts: ReadonlyArray<readonly [string, ...ReadonlyArray<unknown>]>) =>
  texts.map(
    (_, i) =>
      texts
        .slice(0, i + 1)
        .map(([text]) => text)
        .join("").length
  )

describe("the scanner of Redis' protocol", () => {
  it("finds the end of each command, whatever the pieces", () => {
    const text = commands.map(([command]) => command).join("")
    for (let size = 1; size <= text.length; size++) {
      const expected = commands.map(([command, word, size], i) => ({
        end: ends(commands)[i]!,
        type: command[0]!,
        word,
        size
      }))
      assert.deepStrictEqual(scanned("client", text, size), expected)
    }
  })

  it("finds the end of each reply of RESP2 and RESP3, whatever the pieces", () => {
    const text = replies.map(([reply]) => reply).join("")
    for (let size = 1; size <= text.length; size++) {
      const expected = replies.map(([, type, word], i) => ({ end: ends(replies)[i]!, type, word }))
      assert.deepStrictEqual(
        scanned("server", text, size).map(({ end, type, word }) => ({ end, type, word })),
        expected
      )
    }
  })

  it("keeps no text, however long it is", () => {
    const [unit] = scanned("server", `$100000\r\n${"x".repeat(100_000)}\r\n`, 1_000)
    assert.strictEqual(unit!.word, "X".repeat(32))
  })

  it("gives nothing any more after what is no Redis", () => {
    for (const text of [
      "\u0016\u0003\u0001",
      "*x\r\n",
      "$1e400\r\n",
      "*99999999999999999999999999\r\n",
      "*1\r\n".repeat(40)
    ]) {
      assert.deepStrictEqual(scanned("client", text + commands[0][0].repeat(3)), [], text)
    }
  })
})
