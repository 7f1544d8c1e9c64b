import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/wire/Codec.ts"
import * as Random from "../hostile/random.ts"

const limit = Codec.defaultMaxBytes

const reasonOf = (frame: string | Uint8Array, maxBytes = limit) => {
  const parsed = Codec.parse(frame, maxBytes)
  return parsed instanceof Codec.Malformed ? parsed.reason : undefined
}

const nested = (depth: number, open = "[", close = "]") => `{"a":${open.repeat(depth - 1)}1${close.repeat(depth - 1)}}`

describe("Codec", () => {
  describe("is total", () => {
    it.prop("on any text", [Schema.String], ([text]) => {
      Codec.parse(text, limit)
    })

    it.prop("on any bytes", [Schema.Array(Schema.Literals(Array.from({ length: 256 }, (_, i) => i)))], ([bytes]) => {
      Codec.parse(Uint8Array.from(bytes), limit)
    })

    it("on 20,000 mutated frames, and agrees with JSON.parse about every frame that is strict JSON", () => {
      let objects = 0
      for (let seed = 0; seed < 20_000; seed++) {
        const random = Random.make(seed)
        const original = JSON.stringify(Object.assign({ x: Random.value(random) }))
        const frame = random.chance(0.1) ? original : Random.mutate(random, original)
        const read = Codec.parse(frame, limit)
        let strict: unknown
        try {
          strict = JSON.parse(frame)
        } catch {
          strict = undefined
        }
        const isObject = typeof strict === "object" && strict !== null && !Array.isArray(strict)
        if (isObject && !Codec.isTooDeep(frame)) {
          objects++
          assert.deepStrictEqual(read, strict as Codec.JsonObject, `seed ${seed}`)
        } else if (!(read instanceof Codec.Malformed)) {
          assert.match(frame, /NaN|Infinity/, `seed ${seed}: ${frame}`)
        }
        Codec.parse(Random.bytes(random, frame), limit)
      }
      assert.isAbove(objects, 2_000)
    })

    it("on bytes and text alike: both read the same", () => {
      for (let seed = 0; seed < 2_000; seed++) {
        const random = Random.make(seed)
        const frame = Random.mutate(random, JSON.stringify({ x: Random.value(random) }))
        // Text from a socket has no lone surrogates; where this one has, its bytes say something else.
        if (!frame.isWellFormed()) continue
        assert.deepStrictEqual(Codec.parse(Buffer.from(frame), limit), Codec.parse(frame, limit), `seed ${seed}`)
      }
    })
  })

  describe("reads objects only", () => {
    it("refuses all other JSON", () => {
      for (const frame of ["[1]", "[]", '"text"', "null", "true", "0", "NaN", "-Infinity", "[NaN]"]) {
        assert.strictEqual(reasonOf(frame), "NotAnObject", frame)
      }
    })

    it("refuses what is no JSON", () => {
      for (const frame of [
        "",
        " ",
        "not json",
        "{",
        '{"a":1',
        "{'a':1}",
        '{"a":1,}',
        '{"a":01}',
        "{}{}",
        "undefined"
      ]) {
        assert.strictEqual(reasonOf(frame), "NotJson", frame)
      }
    })

    it("takes white space around it, and the last of doubled keys", () => {
      assert.deepStrictEqual(Codec.parse(' \r\n\t{"a":1,"a":2} \n', limit), { a: 2 })
    })

    it("refuses a byte order mark, as text and as bytes", () => {
      assert.strictEqual(reasonOf('\ufeff{"a":1}'), "NotJson")
      assert.strictEqual(reasonOf(Buffer.from('\ufeff{"a":1}')), "NotJson")
      assert.strictEqual(reasonOf('\ufeff{"a":NaN}'), "NotJson")
    })

    it("keeps lone surrogates that travel as escapes", () => {
      const read = Codec.parse('{"t":"\\ud83d x \\udc00"}', limit) as Codec.JsonObject
      assert.strictEqual(read["t"], "\ud83d x \udc00")
      assert.strictEqual(JSON.stringify(read), '{"t":"\\ud83d x \\udc00"}')
    })

    it("reads keys that JavaScript gives a meaning as own data", () => {
      for (const token of ["1", "NaN"]) {
        const frame = `{"__proto__":{"action":"x"},"constructor":${token},"toString":null,"hasOwnProperty":0}`
        const read = Codec.parse(frame, limit) as Codec.JsonObject
        assert.strictEqual(Object.getPrototypeOf(read), Object.prototype)
        assert.deepStrictEqual(Object.keys(read), ["__proto__", "constructor", "toString", "hasOwnProperty"])
        assert.isUndefined(read["action"])
      }
      assert.isUndefined(({} as Record<string, unknown>)["action"])
    })
  })

  describe("refuses bytes that are not UTF-8", () => {
    const invalid: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
      ["a byte that never occurs", [0xff]],
      ["the end of a character alone", [0x80]],
      ["a cut character", [0xe2, 0x82]],
      ["a character in too many bytes", [0xc0, 0xaf]],
      ["a surrogate", [0xed, 0xa0, 0xbd]],
      ["a character beyond the last", [0xf4, 0x90, 0x80, 0x80]]
    ]
    for (const [what, bytes] of invalid) {
      it(what, () => {
        const frame = Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')])
        assert.strictEqual(reasonOf(frame), "NotUtf8")
        assert.strictEqual(reasonOf(Buffer.from(bytes)), "NotUtf8")
      })
    }

    it("and reads those of a part of a larger buffer", () => {
      const whole = Uint8Array.from(Buffer.from('\u00ff{"a":"é🚀"}\u00ff'))
      assert.deepStrictEqual(Codec.parse(whole.subarray(2, whole.length - 2), limit), { a: "é🚀" })
    })
  })

  describe("limits the size to the byte", () => {
    const frames = [
      ["ASCII", "x"],
      ["two bytes", "é"],
      ["three bytes", "你"],
      ["four bytes", "🚀"]
    ] as const
    for (const [what, char] of frames) {
      it(what, () => {
        const frame = `{"a":"${char.repeat(50)}"}`
        const size = Buffer.byteLength(frame)
        assert.isUndefined(reasonOf(frame, size))
        assert.isUndefined(reasonOf(Buffer.from(frame), size))
        assert.strictEqual(reasonOf(frame, size - 1), "TooLarge")
        assert.strictEqual(reasonOf(Buffer.from(frame), size - 1), "TooLarge")
      })
    }

    it.prop("isLarger is what counting the bytes says", [Schema.String, Schema.Natural], ([text, n]) => {
      const size = Buffer.byteLength(text)
      for (const max of [0, size - 1, size, size + 1, n % 100]) {
        assert.strictEqual(Codec.isLarger(text, max), size > max)
      }
      assert.strictEqual(Codec.byteLength(text), size)
    })

    it("drops a larger frame unparsed: even one that would be refused for another reason", () => {
      assert.strictEqual(reasonOf("[".repeat(100), 99), "TooLarge")
      assert.strictEqual(reasonOf(new Uint8Array(100).fill(255), 99), "TooLarge")
    })
  })

  describe("limits the nesting", () => {
    for (const [open, close] of [
      ["[", "]"],
      ['{"a":', "}"]
    ] as const) {
      it(`of ${open} to exactly 64`, () => {
        assert.isUndefined(reasonOf(nested(Codec.maxDepth, open, close)))
        assert.strictEqual(reasonOf(nested(Codec.maxDepth + 1, open, close)), "TooDeep")
        assert.strictEqual(reasonOf(nested(300_000, open, close), 1e7), "TooDeep")
      })
    }

    it("where brackets are never closed, or closed before they are opened", () => {
      assert.strictEqual(reasonOf("[".repeat(1_000_000)), "TooDeep")
      assert.strictEqual(reasonOf("]".repeat(500) + "[".repeat(500)), "NotJson")
      assert.strictEqual(reasonOf('{"a":[' + "]".repeat(500) + "[".repeat(400) + "]}"), "NotJson")
    })

    it("whatever strings hold", () => {
      const brackets = "[".repeat(200) + "{".repeat(200)
      for (const text of [brackets, `\\"${brackets}`, `${brackets}\\\\`, `\\\\\\"${brackets}`, `\\u005b${brackets}`]) {
        assert.isUndefined(reasonOf(`{"${text}":"${text}"}`), text)
        assert.strictEqual(reasonOf(`{"${text}":"${text}","b":${"[".repeat(64)}${"]".repeat(64)}}`), "TooDeep", text)
      }
    })

    it("not the number of brackets", () => {
      assert.isUndefined(reasonOf(`{"a":[${"[],{},".repeat(10_000)}1]}`))
    })

    it("of the deepest part alone, whatever stands beside it", () => {
      for (const [open, close] of [
        ["[", "]"],
        ['{"a":', "}"]
      ] as const) {
        const deepest = `${open.repeat(63)}1${close.repeat(63)}`
        assert.isUndefined(reasonOf(`{"x":[],"y":${deepest},"z":{"n":[]}}`))
        assert.strictEqual(reasonOf(`{"x":[],"y":[${deepest}],"z":{"n":[]}}`), "TooDeep")
      }
    })

    it("in text that a payload holds as well", () => {
      assert.instanceOf(Codec.parseText("[".repeat(65) + "]".repeat(65)), Codec.Malformed)
      assert.isArray(Codec.parseText("[".repeat(64) + "]".repeat(64)))
    })

    it("for a reason: without the limit, a frame that JSON.parse takes kills whoever walks it", () => {
      const frame = nested(100_000)
      const unguarded = JSON.parse(frame)
      const walk = (value: unknown): number => (Array.isArray(value) ? 1 + walk(value[0]) : 0)
      assert.throws(() => walk(unguarded.a), RangeError)
      assert.strictEqual(reasonOf(frame), "TooDeep")
    })
  })

  describe("tells whether a value nests deeper than 64", () => {
    const wrap = (value: unknown, depth: number, around: (inner: unknown) => unknown) => {
      for (let i = 0; i < depth; i++) value = around(value)
      return value
    }
    for (const [what, around] of [
      ["arrays", (inner: unknown) => [1, null, "x", inner]],
      ["objects", (inner: unknown) => ({ a: 1, b: null, c: "x", inner })]
    ] as const) {
      it(`of ${what}`, () => {
        assert.isFalse(Codec.nestsTooDeep(wrap(1, 64, around)))
        assert.isFalse(Codec.nestsTooDeep(wrap(null, 64, around)))
        assert.isTrue(Codec.nestsTooDeep(wrap([], 64, around)))
        assert.isTrue(Codec.nestsTooDeep(wrap({}, 64, around)))
        assert.isFalse(Codec.nestsTooDeep(wrap(1, 63, around), 1))
        assert.isTrue(Codec.nestsTooDeep(wrap({}, 63, around), 1))
      })
    }

    it("as the text of it would", () => {
      for (const depth of [1, 63, 64, 65, 66]) {
        const value = wrap(1, depth, (inner) => [inner])
        assert.strictEqual(Codec.nestsTooDeep(value), Codec.isTooDeep(JSON.stringify(value)), `${depth}`)
      }
    })

    it("of what is no object: never", () => {
      for (const value of [undefined, null, 0, "[".repeat(100), true, () => 1]) {
        assert.isFalse(Codec.nestsTooDeep(value))
        assert.isFalse(Codec.nestsTooDeep(value, Codec.maxDepth))
      }
      for (const value of [[], {}]) {
        assert.isFalse(Codec.nestsTooDeep(value, Codec.maxDepth - 1))
        assert.isTrue(Codec.nestsTooDeep(value, Codec.maxDepth))
      }
    })

    it("of a cycle: always", () => {
      const cycle: Record<string, unknown> = {}
      cycle["again"] = [cycle]
      assert.isTrue(Codec.nestsTooDeep(cycle))
    })

    it("of any one of its parts, the others being flat", () => {
      const deep = wrap(1, 64, (inner) => [inner])
      assert.isTrue(Codec.nestsTooDeep([[], deep, {}]))
      assert.isTrue(Codec.nestsTooDeep({ a: [], deep, z: {} }))
      assert.isFalse(Codec.nestsTooDeep(Array.from({ length: 1_000 }, () => [[{}]])))
    })
  })

  describe("reads the three tokens of Python", () => {
    const tokens = [
      ["NaN", Number.NaN],
      ["Infinity", Number.POSITIVE_INFINITY],
      ["-Infinity", Number.NEGATIVE_INFINITY]
    ] as const

    for (const [token, number] of tokens) {
      it(`${token} wherever a value may be`, () => {
        for (const [frame, expected] of [
          [`{"a":${token}}`, { a: number }],
          [`{"a": ${token} ,"b":1}`, { a: number, b: 1 }],
          [`{"a":[${token},${token}\n,1]}`, { a: [number, number, 1] }],
          [`{"a":{"b":{"c":${token}}}}`, { a: { b: { c: number } } }],
          [`{"é":${token}}`, { é: number }]
        ] as const) {
          assert.deepStrictEqual(Codec.parse(frame, limit), expected as any, frame)
        }
      })

      it(`${token} in texts and as the text of a key stays text`, () => {
        for (const text of [token, `a${token}`, `\\"${token}`, `${token}\\\\`, `: ${token},`, `\\\\\\" ${token} \\n`]) {
          const frame = `{"a":"${text}","${text}":1,"b":${token}}`
          const plain = JSON.parse(`{"a":"${text}","${text}":1,"b":0}`)
          assert.deepStrictEqual(Codec.parse(frame, limit), { ...plain, b: number }, frame)
        }
      })

      it(`${token} is refused as a key, as part of a number or word, and beside another value`, () => {
        for (const text of [
          `{${token}:1}`,
          `{"a":1${token}}`,
          `{"a":1.${token}}`,
          `{"a":-1.${token}}`,
          `{"a":1e${token}}`,
          `{"a":${token}1}`,
          `{"a":${token}.5}`,
          `{"a":${token}e5}`,
          `{"a":-${token === "-Infinity" ? token : "NaN"}}`,
          `{"a":+${token}}`,
          `{"a":x${token}}`,
          `{"a":é${token}}`,
          `{"a":_${token}}`,
          `{"a":${token}x}`,
          `{"a":${token}${token}}`,
          `{"a":"x"${token}}`,
          `{"a":${token}"x"}`,
          `{"a":1 ${token}}`,
          `{"a":${token.toLowerCase()}, "b":"${token}"}`,
          `${token}{}`,
          `{"a":"${token}`,
          `{"a":${token}`,
          `{"a":"x\\`,
          `{"a":"${token}\\\n","b":${token}}`
        ]) {
          assert.strictEqual(reasonOf(text), "NotJson", text)
        }
      })
    }

    it("takes no other word of their length for one of them", () => {
      for (const word of ["Nan", "Nil", "INF", "Infinite", "-Infinite", "-NaN"]) {
        assert.strictEqual(reasonOf(`{"a":${word},"b":NaN,"c":Infinity}`), "NotJson", word)
      }
    })

    it("keeps __proto__ as data on the lenient way too", () => {
      const read = Codec.parse('{"__proto__":{"a":NaN}}', limit) as Codec.JsonObject
      assert.deepStrictEqual(Object.keys(read), ["__proto__"])
      assert.strictEqual(Object.getPrototypeOf(read), Object.prototype)
    })

    it("reads what overflows a number as JSON.parse does", () => {
      assert.deepStrictEqual(Codec.parse('{"a":1e400,"b":-1e400}', limit), {
        a: Number.POSITIVE_INFINITY,
        b: Number.NEGATIVE_INFINITY
      })
      assert.deepStrictEqual(Codec.parse('{"a":9007199254740993}', limit), { a: 9007199254740992 })
    })

    it("beside a text of any length", () => {
      const text = "x".repeat(32 * 1_048_576)
      const read = Codec.parse(`{"a":NaN,"b":"${text}"}`, 64 * 1_048_576)
      assert.deepStrictEqual(Object.keys(read), ["a", "b"])
    })

    // Were every quote in here tried as the start of a text, this would take hours: the test would end by its timeout.
    it("in time that grows with the frame, not with its square", () => {
      const size = 1_048_000
      assert.strictEqual(reasonOf(`{"a":NaN,"b":"${'\\"'.repeat(size / 2 - 100)}`), "NotJson")
      assert.strictEqual(reasonOf(`{"a":NaN,"b":${'"'.repeat(size - 100)}`), "NotJson")
      assert.strictEqual(reasonOf(`{"a":${"-".repeat(size - 100)}NaN}`), "NotJson")
      assert.strictEqual(reasonOf(`{"a":${"NaN".repeat(size / 3 - 100)}}`), "NotJson")
      assert.isUndefined(reasonOf(`{"a":[${"NaN,".repeat(size / 4 - 100)}0]}`))
    })
  })
})
