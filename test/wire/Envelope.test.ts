import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Random from "../hostile/random.ts"

const parse = (frame: string) => Codec.parse(frame, Codec.defaultMaxBytes) as Codec.JsonObject

const request = (fields: Record<string, unknown>): Envelope.Request => {
  const read = Envelope.readRequest({ action: "a", ...fields })
  assert.isObject(read)
  return read as Envelope.Request
}

/** One id of each kind that JSON has. */
const ids = ["", "r-1", "é🚀\u0000\u2028\ud83d", 0, 17, -1.5, 1e21, true, false, null, [], {}, [1, [null]], { a: [1] }]

describe("Envelope", () => {
  describe("a request that was written", () => {
    const texts = Schema.Record(Schema.String, Schema.String)

    it.prop(
      "says the same where it says no more than most calls do",
      [Schema.String, Schema.Json, Schema.Natural, Schema.UndefinedOr(Schema.Natural)],
      ([action, payload, timeout, packs]) => {
        const head = Envelope.requestHead({ action, service: "s", replyTo: "inbox" })
        assert.strictEqual(
          Envelope.writeCall(head, "id-1", payload, timeout, packs),
          Envelope.writeRequest(head, "id-1", payload, { v: 1, timeout_ms: timeout, packs })
        )
      }
    )

    it.prop(
      "is read back",
      [Schema.String, Schema.String, Schema.Json, texts, Schema.Natural],
      ([action, service, payload, headers, timeout]) => {
        const head = Envelope.requestHead({ action: `a${action}`, service, replyTo: "caller:x" })
        const frame = Envelope.writeRequest(head, "id-1", payload, { v: 1, timeout_ms: timeout, headers })
        const raw = parse(frame)
        const read = Envelope.readRequest(raw) as Envelope.Request
        assert.strictEqual(read.action, `a${action}`)
        assert.strictEqual(read.replyTo, "caller:x")
        assert.strictEqual(read.requestId, "id-1")
        assert.strictEqual(read.timeoutMillis, timeout)
        assert.deepStrictEqual({ ...read.headers }, JSON.parse(JSON.stringify(headers)))
        assert.deepStrictEqual(read.payload, JSON.parse(JSON.stringify(payload)))
        assert.strictEqual(raw["service"], service)
        assert.strictEqual(read.raw, raw)
      }
    )

    it("shares its head with other requests", () => {
      const head = Envelope.requestHead({ action: "add", service: "math", replyTo: "caller:1" })
      assert.deepStrictEqual(
        [1, { a: 2 }].map((payload, i) => parse(Envelope.writeRequest(head, `id-${i}`, payload, undefined))),
        [
          { action: "add", service: "math", reply_to: "caller:1", payload: 1, request_id: "id-0" },
          { action: "add", service: "math", reply_to: "caller:1", payload: { a: 2 }, request_id: "id-1" }
        ]
      )
    })

    it("is the same text whether its payload is short or bulky", () => {
      const head = Envelope.requestHead({ action: 'a"', service: "s", replyTo: "caller:1" })
      const [short, long] = ["~~", '"é\u2028'.repeat(20_000)]
      const payload = (text: string) => ({ a: [1, { b: null }], text, c: undefined })
      assert.deepStrictEqual([short, long].map(payload).map(Envelope.isBulky), [false, true])
      for (const id of [undefined, "id-1"]) {
        for (const extension of [undefined, { v: 1, timeout_ms: 5, packs: 64 }, { v: 1, credit: 3 }] as const) {
          const written = Envelope.writeRequest(head, id, payload(short), extension)
          assert.strictEqual(
            Envelope.writeRequest(head, id, payload(long), extension),
            written.replace(JSON.stringify(short), () => JSON.stringify(long))
          )
        }
      }
    })

    it("is bulky where a field of its payload is", () => {
      const long = "x".repeat(40_000)
      for (const payload of [long, [long], { a: [long] }, null, undefined, 1, {}, { a: "x" }]) {
        assert.isFalse(Envelope.isBulky(payload))
      }
      assert.isTrue(Envelope.isBulky({ a: 1, b: long }))
    })

    it("is written as docs/wire.md has it, alike on the short way and on the long one", () => {
      const head = Envelope.requestHead({ action: "a", service: "s" })
      assert.strictEqual(head, '{"action":"a","service":"s"')
      const withReplyTo = Envelope.requestHead({ action: "a", service: "s", replyTo: "c" })
      assert.strictEqual(withReplyTo, '{"action":"a","service":"s","reply_to":"c"')
      for (const [extension, json] of [
        [{ v: 1, timeout_ms: 5 }, '{"v":1,"timeout_ms":5}'],
        [{ v: 1, timeout_ms: 5, traceparent: '0"' }, '{"v":1,"timeout_ms":5,"traceparent":"0\\""}'],
        [{ v: 1, timeout_ms: 5, headers: { a: "b" } }, '{"v":1,"timeout_ms":5,"headers":{"a":"b"}}'],
        [{ v: 1, timeout_ms: 5, attempt: 2 }, '{"v":1,"timeout_ms":5,"attempt":2}'],
        [{ v: 1, timeout_ms: 5, credit: 3 }, '{"v":1,"timeout_ms":5,"credit":3}'],
        [{ v: 1, timeout_ms: 5, answers: true }, '{"v":1,"timeout_ms":5,"answers":true}'],
        [{ v: 1, timeout_ms: 5, route: 2 }, '{"v":1,"timeout_ms":5,"route":2}'],
        [{ v: 1, timeout_ms: 5, id: "m" }, '{"v":1,"timeout_ms":5,"id":"m"}'],
        [{ v: 1, timeout_ms: 5, packs: 8 }, '{"v":1,"timeout_ms":5,"packs":8}'],
        [{ v: 1, traceparent: "0" }, '{"v":1,"traceparent":"0"}'],
        [{ v: 1 }, '{"v":1}']
      ] as const) {
        assert.strictEqual(
          Envelope.writeRequest(head, "i", 1, extension),
          `${head},"payload":1,"request_id":"i","fiberbus":${json}}`
        )
      }
    })

    it("escapes what the head is made of", () => {
      const evil = '","reply_to":"victim","x":"\u0000\n'
      const head = Envelope.requestHead({ action: evil, service: evil, replyTo: evil })
      assert.deepStrictEqual(parse(Envelope.writeRequest(head, "id", null, undefined)), {
        action: evil,
        service: evil,
        reply_to: evil,
        payload: null,
        request_id: "id"
      })
    })

    it("writes text twice, so that Daebus does not parse it away", () => {
      const frame = Envelope.writeRequest(
        Envelope.requestHead({ action: "a", service: "s" }),
        undefined,
        "hello",
        undefined
      )
      assert.strictEqual(frame, '{"action":"a","service":"s","payload":"\\"hello\\""}')
    })

    it("writes null where JSON has no value, and never the three tokens of Python", () => {
      for (const payload of [undefined, Number.NaN, Number.POSITIVE_INFINITY, () => 1, Symbol("x")]) {
        const frame = Envelope.writeRequest(
          Envelope.requestHead({ action: "a", service: "s" }),
          "i",
          payload,
          undefined
        )
        assert.isNull(JSON.parse(frame).payload)
      }
    })
  })

  describe("a request is read as Daebus reads it", () => {
    it("not without an action that is text", () => {
      for (const action of [undefined, null, "", 5, true, [], {}, ["a"]]) {
        assert.strictEqual(Envelope.readRequest({ action, payload: 1 }), "NoAction")
      }
      assert.strictEqual(Envelope.readRequest({}), "NoAction")
      assert.strictEqual(Envelope.readRequest(parse('{"__proto__":{"action":"a"}}')), "NoAction")
    })

    it("absent reply_to, null and an empty one mean a one-way message, other kinds are refused", () => {
      for (const reply_to of [undefined, null, ""]) assert.isUndefined(request({ reply_to }).replyTo)
      for (const reply_to of [5, true, false, 0, [], {}, ["caller:1"], { toString: "x" }]) {
        assert.strictEqual(Envelope.readRequest({ action: "a", reply_to }), "ReplyToNotText")
      }
    })

    it("takes an id of any kind, up to 256 characters", () => {
      for (const id of ids) assert.deepStrictEqual(request({ request_id: id, reply_to: "c" }).requestId, id)
      assert.isNull(request({}).requestId)
      const max = Envelope.maxIdLength
      assert.strictEqual(request({ request_id: "x".repeat(max) }).requestId, "x".repeat(max))
      // Of JSON the text counts.
      const longest = { k: "x".repeat(max - '{"k":""}'.length) }
      assert.strictEqual(request({ request_id: longest }).requestId, longest)
      const tooLong = { k: `${longest.k}x` }
      for (const request_id of ["x".repeat(max + 1), Array.from({ length: max }, () => 1), tooLong]) {
        assert.strictEqual(Envelope.readRequest({ action: "a", request_id }), "IdTooLong")
      }
    })

    it("reads payload text as JSON once more, and keeps it where it is none", () => {
      for (const [payload, expected] of [
        ['{"a": 1}', { a: 1 }],
        ["[1, 2]", [1, 2]],
        ['"quoted"', "quoted"],
        ["12", 12],
        ["null", null],
        ["NaN", Number.NaN],
        [" true ", true],
        // Once only.
        ['"\\"x\\""', '"x"'],
        ["hello", "hello"],
        ["", ""],
        ["[".repeat(65) + "]".repeat(65), "[".repeat(65) + "]".repeat(65)]
      ]) {
        assert.deepStrictEqual(request({ payload, reply_to: "c" }).payload, expected)
      }
      for (const payload of [null, 0, false, [], { a: "[1]" }]) {
        assert.deepStrictEqual(request({ payload }).payload, payload)
      }
    })

    it("without a payload it is an empty object, or the fields beside it in a one-way message", () => {
      const beside = { key: "k", level: 1, service: "s", request_id: "i", fiberbus: { v: 1 } }
      assert.deepStrictEqual(request({ ...beside, reply_to: "c" }).payload, {})
      for (const reply_to of [undefined, null, ""]) {
        assert.deepStrictEqual(request({ ...beside, reply_to }).payload, { key: "k", level: 1 })
      }
      assert.deepStrictEqual(request({}).payload, {})
      const odd = request(parse('{"action":"a","__proto__":{"x":1},"then":2}')).payload as object
      assert.deepStrictEqual(Object.keys(odd), ["__proto__", "then"])
      assert.strictEqual(Object.getPrototypeOf(odd), Object.prototype)
    })
  })

  describe("the extension", () => {
    const read = (fiberbus: unknown) => {
      const { headers, timeoutMillis } = request({ fiberbus })
      return { headers: { ...headers }, timeoutMillis }
    }
    const none = { headers: {}, timeoutMillis: undefined }

    it("is read where it is one of version 1", () => {
      assert.deepStrictEqual(read({ v: 1, timeout_ms: 5, headers: { a: "b" }, other: 1 }), {
        headers: { a: "b" },
        timeoutMillis: 5
      })
      assert.strictEqual(read({ v: 1, timeout_ms: 0 }).timeoutMillis, 0)
    })

    it("tells which attempt of its call a request is, the first where it does not say", () => {
      for (const attempt of [1, 2, 1_000]) assert.strictEqual(request({ fiberbus: { v: 1, attempt } }).attempt, attempt)
      for (const attempt of [undefined, null, 0, -1, 1.5, "2", Number.NaN, 1e300]) {
        assert.strictEqual(request({ fiberbus: { v: 1, attempt } }).attempt, 1)
      }
      assert.strictEqual(request({}).attempt, 1)
      assert.strictEqual(Envelope.readBroadcast({ reply_to: 1 }).attempt, 1)
    })

    it("tells of the caller's span, in any words that are text", () => {
      const traceparent = "anything"
      assert.strictEqual(request({ fiberbus: { v: 1, traceparent } }).traceparent, traceparent)
      for (const other of [undefined, null, 0, true, [], {}]) {
        assert.isUndefined(request({ fiberbus: { v: 1, traceparent: other } }).traceparent)
      }
    })

    it("tells how many steps there is room for, where a time is told as well", () => {
      for (const credit of [1, 256]) {
        assert.strictEqual(request({ fiberbus: { v: 1, timeout_ms: 5, credit } }).credit, credit)
        assert.isUndefined(request({ fiberbus: { v: 1, credit } }).credit)
      }
      for (const credit of [undefined, null, 0, -1, 1.5, "2", true]) {
        assert.isUndefined(request({ fiberbus: { v: 1, timeout_ms: 5, credit } }).credit)
      }
    })

    it("tells whether questions are answered: only by true", () => {
      assert.isTrue(request({ fiberbus: { v: 1, answers: true } }).answers)
      for (const answers of [undefined, null, false, 1, "true", {}]) {
        assert.isFalse(request({ fiberbus: { v: 1, answers } }).answers)
      }
      assert.isFalse(request({}).answers)
    })

    it("is ignored where it is anything else", () => {
      const others = [null, 1, "x", true, [], [1], {}, { v: 2, timeout_ms: 5 }, { v: "1" }, { timeout_ms: 5 }]
      for (const other of others) assert.deepStrictEqual(read(other), none)
    })

    it("is read by parts: one that does not fit is left out", () => {
      for (const timeout_ms of [-1, "5", null, [], Number.NaN]) {
        assert.deepStrictEqual(read({ v: 1, timeout_ms, headers: { a: "b" } }), { ...none, headers: { a: "b" } })
      }
      for (const headers of [null, "x", 1, [], ["a"], { a: 1 }, { a: "b", c: null }]) {
        assert.deepStrictEqual(read({ v: 1, timeout_ms: 5, headers }), { ...none, timeoutMillis: 5 })
      }
    })
  })

  describe("a broadcast", () => {
    it("that can be answered is read like a request without an action", () => {
      const read = Envelope.readBroadcast({ payload: '{"q":1}', reply_to: "c", request_id: 7, action: "x" })
      assert.deepStrictEqual([read.action, read.payload, read.replyTo, read.requestId], ["", { q: 1 }, "c", 7])
    })

    it("that cannot be answered is one all the same", () => {
      for (const fields of [{ reply_to: 5 }, { reply_to: "c", request_id: "x".repeat(257) }]) {
        const raw = { n: 1, payload: 2, ...fields }
        const read = Envelope.readBroadcast(raw)
        assert.strictEqual(read.raw, raw)
        assert.deepStrictEqual({ ...read.headers }, {})
        assert.deepInclude(read, {
          action: "",
          payload: 2,
          replyTo: undefined,
          requestId: null,
          timeoutMillis: undefined,
          attempt: 1,
          traceparent: undefined,
          credit: undefined,
          answers: false,
          packs: false,
          route: 1,
          oneWayId: undefined
        })
        // It is no one-way message, whose fields would be its payload.
        assert.deepStrictEqual(Envelope.readBroadcast({ n: 1, ...fields }).payload, {})
      }
    })
  })

  describe("a reply", () => {
    it("that was written is read back, whatever the id", () => {
      for (const id of ids) {
        for (const final of [true, false]) {
          for (const status of ["success", "error"] as const) {
            const raw = parse(Envelope.writeReply(status, '{"x":1}', id, final))
            assert.deepStrictEqual(raw["request_id"], id)
            assert.deepStrictEqual(Envelope.readReply(raw), {
              ok: status === "success",
              payload: { x: 1 },
              requestId: typeof id === "string" ? id : undefined,
              final,
              extension: undefined
            })
          }
        }
      }
    })

    it("is the same text whether its payload is short or bulky", () => {
      const payload = { text: '"é\u2028'.repeat(20_000), a: [1, { b: null }] }
      for (const id of ids) {
        for (const extension of [undefined, { v: 1, by: "me", seq: 0 }] as const) {
          assert.strictEqual(
            Envelope.writeBulkyReply(payload, id, extension),
            Envelope.writeReply("success", JSON.stringify(payload), id, true, extension)
          )
        }
      }
    })

    it("is valid JSON with exactly Daebus' four fields", () => {
      const frame = Envelope.writeReply("success", "null", null, true)
      assert.strictEqual(frame, '{"status":"success","payload":null,"request_id":null,"final":true}')
    })

    it("carries what a fiberbus service says besides", () => {
      const said = { v: 1, by: "1f-A_9", seq: 0 } as const
      const bare = { packed: undefined, ask: undefined, alive: undefined, attempt: undefined, route: undefined }
      for (const [extension, json] of [
        [said, '{"v":1,"by":"1f-A_9","seq":0}'],
        [{ ...said, seq: 3, packed: true }, '{"v":1,"by":"1f-A_9","seq":3,"packed":true}'],
        [{ ...said, ask: { id: 0, name: "sure" } }, '{"v":1,"by":"1f-A_9","seq":0,"ask":{"id":0,"name":"sure"}}'],
        [{ ...said, alive: true, attempt: 2 }, '{"v":1,"by":"1f-A_9","seq":0,"alive":true,"attempt":2}']
      ] as ReadonlyArray<readonly [Envelope.ReplyExtension, string]>) {
        const frame = Envelope.writeReply("success", "1", "r", false, extension)
        assert.strictEqual(frame, `{"status":"success","payload":1,"request_id":"r","final":false,"fiberbus":${json}}`)
        assert.deepStrictEqual(Envelope.readReply(parse(frame)).extension, { ...bare, ...extension })
      }
    })

    it("is read without it where it does not fit, and without those of its parts that don't", () => {
      const read = (fiberbus: unknown) => Envelope.readReply({ fiberbus }).extension
      const said = { v: 1, by: "x", seq: 1 } as const
      const bare = {
        ...said,
        packed: undefined,
        ask: undefined,
        alive: undefined,
        attempt: undefined,
        route: undefined
      }
      for (const other of [
        undefined,
        null,
        "text",
        1,
        [],
        { ...said, v: 2 },
        { by: "x", seq: 1 },
        ...[undefined, 1, "", "a b", "a:b", " x", "x\n", "x".repeat(65), ["x"]].map((by) => ({ ...said, by })),
        ...[undefined, null, -1, 0.5, "1"].map((seq) => ({ ...said, seq }))
      ]) {
        assert.isUndefined(read(other), JSON.stringify(other))
      }
      assert.strictEqual(read({ ...said, by: "x".repeat(64) })?.by, "x".repeat(64))
      for (const not of [undefined, null, false, 1, "true", {}, []]) {
        assert.deepStrictEqual(read({ ...said, packed: not, alive: not, ask: not }), bare)
      }
      for (const not of [0, -1, 1.5, "2"]) assert.deepStrictEqual(read({ ...said, attempt: not, route: not }), bare)
      for (const ask of [
        "text",
        { id: -1, name: "n" },
        { id: 0.5, name: "n" },
        { id: 0 },
        { name: "n" },
        { id: 0, name: 1 }
      ]) {
        assert.deepStrictEqual(read({ ...said, ask }), bare)
      }
    })

    it("is final by Python's truth", () => {
      const isFinal = (final: unknown) => Envelope.readReply({ final }).final
      for (const final of [false, null, 0, -0, "", [], {}]) assert.isFalse(isFinal(final), JSON.stringify(final))
      for (const final of [undefined, true, 1, -1, 0.5, "false", "0", " ", [0], [[]], { a: 0 }, Number.NaN]) {
        assert.isTrue(isFinal(final), JSON.stringify(final))
      }
      assert.isTrue(Envelope.readReply({}).final)
    })

    it("is an error only by the status error", () => {
      for (const status of [
        undefined,
        null,
        "success",
        "progress",
        "weird",
        "Error",
        "ERROR",
        "error ",
        1,
        ["error"]
      ]) {
        assert.isTrue(Envelope.readReply({ status }).ok)
      }
      assert.isFalse(Envelope.readReply({ status: "error" }).ok)
    })

    it("has an empty object where it has no payload, and keeps null", () => {
      assert.deepStrictEqual(Envelope.readReply({}).payload, {})
      assert.isNull(Envelope.readReply({ payload: null }).payload)
      assert.strictEqual(Envelope.readReply({ payload: '{"a":1}' }).payload, '{"a":1}')
    })
  })

  describe("an error", () => {
    it("has a text whatever the payload is", () => {
      for (const [payload, text] of [
        [{ error: "bad" }, "bad"],
        [{ error: "" }, ""],
        [{ error: null }, "null"],
        [{ error: { code: 7 } }, '{"code":7}'],
        [{ error: [1] }, "[1]"],
        [{ error: false }, "false"],
        [{}, "Unknown error"],
        [null, "Unknown error"],
        [undefined, "Unknown error"],
        [7, "Unknown error"],
        [[], "Unknown error"],
        ["bad", "bad"],
        [{ error: { toJSON: 1, toString: null } }, '{"toJSON":1,"toString":null}']
      ]) {
        assert.strictEqual(Envelope.readErrorText(payload), text as string)
      }
    })

    it("is cut to 1,000 characters, written and read", () => {
      const long = "x".repeat(5_000)
      for (const text of [
        Envelope.cut(long),
        Envelope.readErrorText(long),
        Envelope.readErrorText({ error: long }),
        Envelope.readErrorText({ error: [long] }),
        JSON.parse(Envelope.writeErrorPayload({ error: long, failure: 1 })).error
      ]) {
        assert.strictEqual(text.length, Envelope.maxErrorLength)
        assert.isTrue(text.endsWith("…"))
      }
      const fitting = "x".repeat(Envelope.maxErrorLength)
      assert.strictEqual(Envelope.cut(fitting), fitting)
      assert.strictEqual(Envelope.cut("abcd", 4), "abcd")
      assert.strictEqual(Envelope.cut("abcde", 4), "abc…")
      assert.strictEqual(JSON.parse(Envelope.writeErrorPayload({ error: fitting })).error, fitting)
    })

    it("keeps what stands beside its text", () => {
      const payload = { error: "x".repeat(2_000), failure: { a: 1 }, reason: { _tag: "Busy" }, started: "no" }
      assert.deepStrictEqual(JSON.parse(Envelope.writeErrorPayload(payload)), {
        ...payload,
        error: Envelope.cut(payload.error)
      })
    })
  })

  it.prop("an answer bears any id as it came", [Schema.Json], ([id]) => {
    for (const final of [true, false]) {
      const { final: isFinal, request_id } = JSON.parse(Envelope.writeReply("success", "1", id, final))
      assert.deepStrictEqual([request_id, isFinal], [JSON.parse(JSON.stringify(id)), final])
    }
  })

  it("reads anything: 20,000 objects with any value in any field", () => {
    const fields = ["action", "payload", "reply_to", "request_id", "service", "fiberbus", "status", "final", "x"]
    let requests = 0
    for (let seed = 0; seed < 20_000; seed++) {
      const random = Random.make(seed)
      const raw: Record<string, unknown> = {}
      for (const field of fields) if (random.chance(0.6)) raw[field] = Random.value(random)
      if (random.chance(0.5))
        raw["fiberbus"] = { v: 1, timeout_ms: Random.value(random), headers: Random.value(random) }
      const read = Envelope.readRequest(parse(JSON.stringify(raw)))
      if (typeof read === "object") {
        requests++
        assert.isString(read.action)
        assert.isTrue(read.replyTo === undefined || (typeof read.replyTo === "string" && read.replyTo !== ""))
        assert.isTrue(read.timeoutMillis === undefined || read.timeoutMillis >= 0)
        for (const name of Object.keys(read.headers)) assert.isString(read.headers[name])
        JSON.parse(Envelope.writeReply("success", "1", read.requestId, true))
      }
      assert.strictEqual(Envelope.readBroadcast(raw).action, "")
      const reply = Envelope.readReply(raw)
      assert.isString(Envelope.readErrorText(reply.payload))
      JSON.parse(Envelope.writeErrorPayload({ error: Envelope.readErrorText(reply.payload) }))
    }
    assert.isAbove(requests, 1_000)
  })
})
