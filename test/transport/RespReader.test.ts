import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { vi } from "vitest"
import { RespReader } from "../../src/transport/internal/RespReader.ts"
import * as redisReplies from "../../src/transport/internal/redisReplies.ts"

const message = (channel: string, payload: string | Buffer, type = ">", kind = "message") => {
  const bytes = Buffer.from(payload)
  return Buffer.concat([
    Buffer.from(
      `${type}3\r\n$${kind.length}\r\n${kind}\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n$${bytes.length}\r\n`
    ),
    bytes,
    Buffer.from("\r\n")
  ])
}

interface Options {
  /** Places among the replies; `number`: those of numbers, as PUBLISH has them. */
  readonly ours?: ReadonlyArray<number> | "all"
  readonly number?: ReadonlyArray<number>
  readonly listens?: boolean
}

/** What a reader made of chunks, in words; bytes that were handed on one after the other are one entry. */
const read = (chunks: ReadonlyArray<Buffer>, { listens, number = [], ours = number }: Options = {}) => {
  let place = 0
  const seen: Array<string> = []
  const frames: Array<string | Uint8Array> = []
  const replies: Array<unknown> = []
  const reader = new RespReader({
    isOurs: () => ours === "all" || ours.includes(place),
    isNumber: () => number.includes(place),
    answered: (reply, error) => {
      place++
      replies.push(reply)
      seen.push(error === undefined ? `answered ${shown(reply)}` : `refused ${error}`)
    },
    message:
      listens === false
        ? undefined
        : (channel, frame, bytes) => {
            assert.strictEqual(Buffer.byteLength(Buffer.from(frame)), bytes)
            frames.push(frame)
            seen.push(`message ${channel} ${Buffer.from(frame).toString("base64")}`)
          },
    other: (bytes, isReply) => {
      if (isReply) place++
      const text = bytes.toString("latin1")
      if (seen.at(-1)?.startsWith("other ")) seen[seen.length - 1] += text
      else seen.push(`other ${text}`)
    },
    lost: () => seen.push("lost")
  })
  for (const chunk of chunks) reader.read(Buffer.from(chunk))
  // Whoever was given one may keep it.
  assert.deepStrictEqual(
    frames.map((frame) => Buffer.from(frame).toString("base64")),
    seen.filter((one) => one.startsWith("message ")).map((one) => one.slice(one.lastIndexOf(" ") + 1))
  )
  return { frames, replies, seen }
}

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`

/** An array as Redis writes it. */
const list = (...items: ReadonlyArray<string>) => `*${items.length}\r\n${items.join("")}`

const piecesOf = (bytes: Buffer, size: number) =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))

/** Texts are the same whether they are bytes or not. */
const shown = (reply: unknown) =>
  JSON.stringify(asText(reply), (_, value) =>
    typeof value === "number" && !Number.isFinite(value) ? `${value}` : value
  )
const asText = (reply: unknown): unknown =>
  Array.isArray(reply) ? reply.map(asText) : Buffer.isBuffer(reply) ? reply.toString() : reply

const base64 = (text: string) => Buffer.from(text).toString("base64")

const everything = Buffer.concat([
  Buffer.from("+OK\r\n%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
  Buffer.from(":1\r\n:12345\r\n-NOPERM no rights: é\r\n"),
  Buffer.from("_\r\n#t\r\n,1.5\r\n(123\r\n$-1\r\n*-1\r\n*0\r\n~1\r\n+a\r\n=7\r\ntxt:abc\r\n!5\r\nERR x\r\n"),
  message("users", `{"a":"b\r\n"}`),
  message("users", "", "*"),
  message("größe", "ünï\u0000", ">", "smessage"),
  message("users", Buffer.from([0xff, 0xfe])),
  Buffer.from(
    ">4\r\n$8\r\npmessage\r\n$2\r\nu*\r\n$5\r\nusers\r\n$2\r\nhi\r\n>3\r\n$9\r\nsubscribe\r\n$5\r\nusers\r\n:1\r\n"
  ),
  message("users", "x".repeat(70_000)),
  message("größe", "ü".repeat(20_000)),
  message("groß", "y".repeat(16_384), "*"),
  message("groß", "ö".repeat(8_200)),
  message("users", "z".repeat(40_000)),
  Buffer.from("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
])

/** Replies of all kinds, and their values. */
const kinds: ReadonlyArray<readonly [string, unknown]> = [
  [":0\r\n", 0],
  [":-17\r\n", -17],
  [":9007199254740991\r\n", Number.MAX_SAFE_INTEGER],
  ["+OK\r\n", "OK"],
  ["$-1\r\n", null],
  ["*-1\r\n", null],
  ["_\r\n", null],
  ["$0\r\n\r\n", ""],
  ["$5\r\na\r\nb\n\r\n", "a\r\nb\n"],
  ["*0\r\n", []],
  ["*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n$-1\r\n", [1, ["a", null], null]],
  ["*1\r\n-ERR x\r\n", ["ERR x"]],
  ["%2\r\n$1\r\na\r\n:1\r\n+b\r\n*1\r\n:2\r\n", ["a", 1, "b", [2]]],
  ["~2\r\n+a\r\n+b\r\n", ["a", "b"]],
  ["#t\r\n", true],
  ["#f\r\n", false],
  [",1.5\r\n", 1.5],
  [",-inf\r\n", Number.NEGATIVE_INFINITY],
  ["(12345678901234567890\r\n", "12345678901234567890"],
  ["=7\r\ntxt:abc\r\n", "abc"]
]

describe("RespReader", () => {
  it("gives frames with long texts as bytes, in whatever pieces they come, and others as text", () => {
    const long = `~[{"payload":""},[20000]]\n${"x".repeat(20_000)}`
    const all = Buffer.concat([message("users", "{}"), message("users", long), message("users", "[]")])
    const pieces = Array.from({ length: Math.ceil(all.length / 777) }, (_, i) => all.subarray(i * 777, (i + 1) * 777))
    for (const chunks of [[all], pieces]) {
      const { frames, seen } = read(chunks)
      assert.deepStrictEqual(seen, [
        `message users ${base64("{}")}`,
        `message users ${base64(long)}`,
        `message users ${base64("[]")}`
      ])
      assert.deepStrictEqual(
        frames.map((frame) => typeof frame),
        ["string", "object", "string"]
      )
    }
  })

  it("reads messages, its own replies, and hands on the rest as whole frames", () => {
    const { frames, seen } = read([everything], { number: [2, 3, 4] })
    assert.deepStrictEqual(seen.slice(0, 4), [
      "other +OK\r\n%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n",
      "answered 1",
      "answered 12345",
      "refused NOPERM no rights: é"
    ])
    assert.deepStrictEqual(seen.slice(5, 9), [
      `message users ${base64(`{"a":"b\r\n"}`)}`,
      "message users ",
      `message größe ${base64("ünï\u0000")}`,
      `message users ${Buffer.from([0xff, 0xfe]).toString("base64")}`
    ])
    assert.match(seen[4]!, /^other _\r\n.*ERR x\r\n$/s)
    assert.match(seen[9]!, /^other >4\r\n.*:1\r\n$/s)
    assert.strictEqual(frames.length, 9)
    assert.strictEqual(seen.length, 16)
  })

  it.effect.prop(
    "finds the same wherever the stream of bytes is cut",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: everything.length })))],
    ([places]) =>
      Effect.sync(() => {
        const cuts = [0, ...[...places].sort((a, b) => a - b), everything.length]
        const chunks = cuts.slice(1).map((cut, i) => everything.subarray(cuts[i], cut))
        assert.deepStrictEqual(read(chunks, { number: [2, 3, 4] }).seen, read([everything], { number: [2, 3, 4] }).seen)
      })
  )

  it("reads replies of any kind", () => {
    const { replies, seen } = read([Buffer.from(kinds.map(([reply]) => reply).join(""))], { ours: "all" })
    assert.deepStrictEqual(
      replies,
      kinds.map(([, value]) => value)
    )
    assert.strictEqual(seen.length, kinds.length)
  })

  it("takes an error for one in either form", () => {
    const { seen } = read([Buffer.from("-NOPERM no rights\r\n!8\r\nERR a\r\nb\r\n:1\r\n")], { ours: "all" })
    assert.deepStrictEqual(seen, ["refused NOPERM no rights", "refused ERR a\r\nb", "answered 1"])
  })

  it.effect.prop(
    "reads the same replies wherever the stream of bytes is cut",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 })))],
    ([places]) =>
      Effect.sync(() => {
        const bytes = Buffer.from(`${kinds.map(([reply]) => reply).join("")}$4\r\nzwö\r\n+OK\r\n`)
        const cuts = [0, ...[...places].sort((a, b) => a - b).filter((place) => place < bytes.length), bytes.length]
        const chunks = cuts.slice(1).map((cut, i) => bytes.subarray(cuts[i], cut))
        const options = { ours: kinds.map((_, i) => i) }
        assert.deepStrictEqual(read(chunks, options).seen, read([bytes], options).seen)
      })
  )

  it("gives the texts of a reply as text for plain ASCII, and as bytes for what is not", () => {
    const plain = read([Buffer.from("*2\r\n$3\r\none\r\n$3\r\ntwo\r\n")], { ours: "all" })
    assert.deepStrictEqual(plain.replies, [["one", "two"]])
    const other = read([Buffer.from("*2\r\n$3\r\none\r\n$4\r\nzwö\r\n")], { ours: "all" })
    assert.deepStrictEqual(other.replies, [[Buffer.from("one"), Buffer.from("zwö")]])
  })

  it("takes no push for a reply of its own", () => {
    const bytes = Buffer.concat([
      Buffer.from(">2\r\n$10\r\ninvalidate\r\n_\r\n"),
      message("users", "hi"),
      Buffer.from(":1\r\n")
    ])
    assert.deepStrictEqual(read([bytes], { ours: "all" }).seen, [
      "other >2\r\n$10\r\ninvalidate\r\n_\r\n",
      `message users ${base64("hi")}`,
      "answered 1"
    ])
  })

  it("finds the same byte by byte", () => {
    const short = everything.subarray(0, everything.length - 185_000)
    const chunks = Array.from(short, (byte) => Buffer.from([byte]))
    assert.deepStrictEqual(read(chunks, { number: [2, 3, 4] }).seen, read([short], { number: [2, 3, 4] }).seen)
    const replies = Array.from(Buffer.from(kinds.map(([reply]) => reply).join("")), (byte) => Buffer.from([byte]))
    assert.deepStrictEqual(
      read(replies, { ours: "all" }).replies,
      kinds.map(([, value]) => value)
    )
  })

  for (const ours of [0, 1])
    it(`looks at each item of a long reply ${ours === 1 ? "of its own " : ""}once, however many chunks it comes in`, () => {
      const items = 2_000
      const reply = Buffer.from(`*${items}\r\n${"*2\r\n+a\r\n$1\r\nb\r\n".repeat(items)}`)
      const { indexOf } = Buffer.prototype
      let looks = 0
      Buffer.prototype.indexOf = function (this: Buffer, ...args: any) {
        looks++
        return Reflect.apply(indexOf, this, args)
      } as never
      try {
        const chunks = Array.from({ length: Math.ceil(reply.length / 100) }, (_, i) =>
          reply.subarray(i * 100, i * 100 + 100)
        )
        assert.deepStrictEqual(read([...chunks, message("users", "hi")], { ours: ours === 1 ? "all" : [] }).seen, [
          ours === 1
            ? `answered ${JSON.stringify(Array(items).fill(["a", "b"]))}`
            : `other ${reply.toString("latin1")}`,
          `message users ${base64("hi")}`
        ])
      } finally {
        Buffer.prototype.indexOf = indexOf
      }
      // Each of its items, and one more for each chunk that ended within one.
      assert.isBelow(looks, items * (3 + ours) + reply.length / 100 + 100)
    })

  it("makes one text of a long reply of its own when all of it is there, and not with each chunk", () => {
    const texts = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(1_000, "x"))
    const { toString } = Buffer.prototype
    let made = 0
    Buffer.prototype.toString = function (this: Buffer, ...args: any) {
      if (args.length === 1 && args[0] === "latin1") made++
      return Reflect.apply(toString, this, args)
    } as never
    try {
      const chunks = piecesOf(Buffer.from(list(...texts.map(bulk))), 500)
      assert.deepStrictEqual(read(chunks, { ours: "all" }).replies, [texts])
    } finally {
      Buffer.prototype.toString = toString
    }
    // Its beginning might have been all of it.
    assert.strictEqual(made, 2)
  })

  it("gives the texts of what is too large to be one text as bytes, of which messages are read all the same", () => {
    const entries = Array.from({ length: 17 }, (_, i) => ({ name: `${i + 1}-0`, frame: `${i}`.padEnd(1_048_576, "x") }))
    const reply = (frames: ReadonlyArray<(typeof entries)[number]>) =>
      list(
        list(
          bulk("{q}.requests"),
          list(
            ...frames.map(({ frame, name }) =>
              list(bulk(name), list(...["id", `of ${name}`, "n", "2", "key", "k", "frame", frame].map(bulk)))
            )
          )
        )
      )
    const bytes = Buffer.concat([Buffer.from(reply(entries)), message("users", "hi")])
    assert.isAbove(bytes.length, 16_777_216)
    const { frames, replies, seen } = read(piecesOf(bytes, 4_000_000), { ours: "all" })
    assert.lengthOf(replies, 1)
    assert.deepStrictEqual([seen.length, seen[1]], [2, `message users ${base64("hi")}`])
    assert.isTrue(Buffer.isBuffer(frames[0]))
    const found = redisReplies.read(replies[0])
    assert.deepStrictEqual(
      found.map(({ frame: _, ...entry }) => entry),
      entries.map(({ name }, i) => ({
        entry: name,
        id: `of ${name}`,
        key: "k",
        deliveries: 3,
        at: i + 1,
        claimed: false
      }))
    )
    found.forEach(({ frame }, i) => {
      assert.isTrue(Buffer.isBuffer(frame) && frame.equals(Buffer.from(entries[i]!.frame)))
    })
    // One of them alone is text.
    const [small] = redisReplies.read(
      read(piecesOf(Buffer.from(reply(entries.slice(0, 1))), 4_000_000), { ours: "all" }).replies[0]
    )
    assert.isTrue(small!.frame === entries[0]!.frame)
  })

  it("puts large messages together where the last one was, and not where one was given out as bytes", () => {
    const allocated = vi.spyOn(Buffer, "allocUnsafeSlow")
    const messages = [
      "x".repeat(50_000),
      "y".repeat(40_000),
      "ü".repeat(20_000),
      "z".repeat(50_000),
      "z".repeat(20_000)
    ]
    const chunks = messages.flatMap((text) => {
      const bytes = message("users", text)
      return [bytes.subarray(0, 1000), bytes.subarray(1000)]
    })
    assert.deepStrictEqual(
      read(chunks).seen,
      messages.map((text) => `message users ${base64(text)}`)
    )
    // With the end of the line; others are the test's own.
    assert.deepStrictEqual(
      allocated.mock.calls.flatMap(([length]) => (length % 10 === 2 ? [length] : [])),
      [50_002, 50_002]
    )
    allocated.mockRestore()
  })

  it("makes no room for a length that may be a mistake", () => {
    const allocated = vi.spyOn(Buffer, "allocUnsafeSlow")
    for (const length of [16_777_217, 999_999_999_999]) {
      const head = Buffer.from(`>3\r\n$7\r\nmessage\r\n$5\r\nusers\r\n$${length}\r\nx`)
      assert.deepStrictEqual(read([head, Buffer.from("y")]).seen, [])
    }
    assert.isTrue(allocated.mock.calls.every(([length]) => length < 100))
    allocated.mockRestore()
    const bytes = message("users", "x".repeat(16_777_217))
    assert.lengthOf(read([bytes.subarray(0, 1000), bytes.subarray(1000)]).frames, 1)
  })

  it("keeps no memory for the largest ones", () => {
    const allocated = vi.spyOn(Buffer, "allocUnsafeSlow")
    const bytes = message("users", "x".repeat(2_097_152))
    read([bytes.subarray(0, 1000), bytes.subarray(1000), bytes.subarray(0, 1000), bytes.subarray(1000)])
    assert.lengthOf(
      allocated.mock.calls.filter(([length]) => length === 2_097_154),
      2
    )
    allocated.mockRestore()
  })

  it("gives text for plain ASCII, and bytes for what is not", () => {
    const plain = read([Buffer.concat([message("a", "one"), message("b", "two")])])
    assert.deepStrictEqual(plain.frames, ["one", "two"])
    const other = read([Buffer.concat([message("a", "one"), message("b", "zwö")])])
    assert.isTrue(other.frames.every((frame) => Buffer.isBuffer(frame)))
    assert.deepStrictEqual(other.seen, [`message a ${base64("one")}`, `message b ${base64("zwö")}`])
  })

  for (const foreign of ["+OK\r\n", "$-1\r\n", "$100000000\r\n", "*0\r\n", "_\r\n", ":-1\r\n"]) {
    it(`understands nothing any more after ${JSON.stringify(foreign)} where PUBLISH should be answered`, () => {
      const { seen } = read([Buffer.from(`:1\r\n${foreign}:2\r\n`), Buffer.from(":3\r\n")], { number: [0, 1, 2, 3] })
      assert.deepStrictEqual(seen, ["answered 1", "lost", `other ${foreign}:2\r\n:3\r\n`])
    })
  }

  it("tells replies from what RESP3 pushes", () => {
    const replies: Array<string> = []
    const reader = new RespReader({
      isOurs: () => false,
      isNumber: () => false,
      answered: () => {},
      message: () => {},
      other: (bytes, isReply) => {
        if (isReply) replies.push(bytes.toString())
      },
      lost: () => {}
    })
    const push = ">2\r\n+invalidate\r\n*1\r\n+key\r\n"
    reader.read(
      Buffer.concat([Buffer.from(`+a\r\n${push}*1\r\n:1\r\n`), message("users", "hi"), Buffer.from(":2\r\n")])
    )
    assert.deepStrictEqual(replies, ["+a\r\n", "*1\r\n:1\r\n", ":2\r\n"])
  })

  it("reads messages of both kinds, and no third", () => {
    const chunks = ["message", "smessage", "xmessage", "qessage"].map((kind) => message("a", kind, "*", kind))
    assert.deepStrictEqual(read(chunks).seen, [
      `message a ${base64("message")}`,
      `message a ${base64("smessage")}`,
      `other ${chunks[2]}${chunks[3]}`
    ])
  })

  it("leaves replies alone that are not its own, and messages that nobody has asked for", () => {
    const bytes = Buffer.concat([Buffer.from(":1\r\n-ERR x\r\n"), message("users", "hi")])
    assert.deepStrictEqual(read([bytes], { listens: false }).seen, [`other ${bytes.toString("latin1")}`])
  })

  for (const foreign of [
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "\u0015\u0003\u0001",
    ":1x\r\n",
    "$x\r\n",
    "$-2\r\n",
    "*99999999999999999\r\n",
    ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n",
    `+${"x".repeat(70_000)}`,
    "*1\r\n".repeat(20)
  ]) {
    it(`hands on ${JSON.stringify(foreign.slice(0, 24))} as it came, and everything after it`, () => {
      const chunks = [Buffer.concat([Buffer.from(":1\r\n"), Buffer.from(foreign)]), Buffer.from(":2\r\n+OK\r\n")]
      const { seen } = read(chunks, { ours: foreign.startsWith(":") ? [0, 1] : [0] })
      assert.strictEqual(seen[0], "answered 1")
      assert.deepStrictEqual(seen.slice(1), ["lost", `other ${foreign}:2\r\n+OK\r\n`])
    })
  }
})
