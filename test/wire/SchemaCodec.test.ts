import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as SchemaCodec from "../../src/wire/SchemaCodec.ts"

const explained = (schema: Schema.Codec<any, any>, json: unknown) =>
  Effect.map(Effect.flip(SchemaCodec.make(schema).decode(json)), SchemaCodec.explain)

describe("SchemaCodec", () => {
  it("is compiled once per schema", () => {
    const schema = Schema.Struct({ a: Schema.String })
    assert.strictEqual(SchemaCodec.make(schema), SchemaCodec.make(schema))
    assert.notStrictEqual(SchemaCodec.make(schema), SchemaCodec.make(Schema.Struct({ a: Schema.String })))
  })

  it("knows how deep values nest where the schema tells, and looks at them where it does not", () => {
    interface Tree {
      readonly children: ReadonlyArray<Tree>
    }
    const Tree: Schema.Codec<Tree> = Schema.Struct({ children: Schema.Array(Schema.suspend(() => Tree)) })
    const A = Schema.Struct({
      a: Schema.String,
      b: Schema.optionalKey(Schema.Array(Schema.Struct({ c: Schema.Date })))
    })
    const depths: ReadonlyArray<readonly [Schema.Codec<any, any>, number]> = [
      [Schema.String, 0],
      [Schema.Struct({}), 1],
      [A, 3],
      [Schema.NullOr(A), 3],
      [Schema.Tuple([Schema.Finite, A]), 4],
      [Schema.Record(Schema.String, Schema.Array(Schema.Finite)), 2],
      [Schema.HashMap(Schema.String, Schema.Finite), 2],
      [Tree, Number.POSITIVE_INFINITY],
      [Schema.Unknown, Number.POSITIVE_INFINITY],
      [Schema.Struct({ a: Schema.Json }), Number.POSITIVE_INFINITY]
    ]
    for (const [schema, depth] of depths) assert.strictEqual(SchemaCodec.make(schema).depth, depth)
    const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)])
    const unknown = SchemaCodec.make(Schema.Unknown)
    for (const codec of [unknown, undefined, { depth: 63 }, {}]) {
      assert.isTrue(SchemaCodec.nestsTooDeep(codec, deep(64), codec?.depth === 63 ? 2 : 1))
      assert.isFalse(SchemaCodec.nestsTooDeep(codec, deep(62), codec?.depth === 63 ? 2 : 1))
    }
  })

  it("answers at once where a schema does nothing asynchronous", () => {
    const codec = SchemaCodec.make(Schema.Struct({ at: Schema.Date, n: Schema.BigInt }))
    const decoded = codec.decode({ at: "1970-01-01T00:00:00.000Z", n: "12" })
    assert.deepStrictEqual(decoded, Exit.succeed({ at: new Date(0), n: 12n }))
    assert.deepStrictEqual(
      codec.encode({ at: new Date(0), n: 12n }),
      Exit.succeed({ at: "1970-01-01T00:00:00.000Z", n: "12" })
    )
    assert.isTrue(Exit.isExit(codec.decode(1)))
  })

  describe("Void", () => {
    it("reads whatever comes as nothing and writes null", () => {
      for (const schema of [Schema.Void, Schema.Void.annotate({ title: "nothing" })]) {
        assert.isTrue(SchemaCodec.isVoid(schema))
        const codec = SchemaCodec.make(schema)
        for (const json of [null, undefined, {}, [], 0, "", "x", { toJSON: 1 }]) {
          assert.deepStrictEqual(codec.decode(json), Exit.void)
        }
        assert.deepStrictEqual(codec.encode(undefined), Exit.succeed(null))
      }
    })

    it("is not what Null, Any and an empty struct are", () => {
      assert.isTrue(SchemaCodec.isVoid(Schema.Undefined))
      for (const schema of [Schema.Null, Schema.Any, Schema.Struct({})]) {
        assert.isFalse(SchemaCodec.isVoid(schema))
      }
    })
  })

  it("knows Never, which reads and writes nothing", () => {
    assert.isTrue(SchemaCodec.isNever(Schema.Never))
    assert.isFalse(SchemaCodec.isNever(Schema.Void))
    for (const json of [null, undefined, {}, 0]) {
      assert.isTrue(Exit.isFailure(SchemaCodec.make(Schema.Never).decode(json) as Exit.Exit<never>))
    }
  })

  it.effect("waits for a schema that works asynchronously", () =>
    Effect.gen(function* () {
      const Slow = Schema.String.pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.yieldNow, text.toUpperCase())),
          encode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.yieldNow, text.toLowerCase()))
        })
      )
      const codec = SchemaCodec.make(Slow)
      const decoding = codec.decode("abc")
      assert.isFalse(Exit.isExit(decoding))
      assert.strictEqual(yield* decoding, "ABC")
      assert.strictEqual(yield* codec.encode("ABC"), "abc")
      assert.deepStrictEqual((yield* Effect.flip(codec.decode(1)))._tag, "SchemaError")
    })
  )

  it.effect("makes a transformation that throws a defect of its value alone", () =>
    Effect.gen(function* () {
      const boom = new Error("boom")
      const Throwing = Schema.String.pipe(
        Schema.decodeTo(
          Schema.String,
          SchemaTransformation.transform({
            decode: (text) => {
              if (text === "bad") throw boom
              return text
            },
            encode: (text) => {
              if (text === "bad") throw boom
              return text
            }
          })
        )
      )
      const codec = SchemaCodec.make(Schema.Struct({ a: Throwing }))
      for (const run of [codec.decode, codec.encode]) {
        const exit = yield* Effect.exit(run({ a: "bad" }))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.deepStrictEqual(yield* run({ a: "good" }), { a: "good" })
      }
    })
  )

  it.effect("makes a schema that throws while it is looked at a defect, not a throw", () =>
    Effect.gen(function* () {
      const Broken: Schema.Codec<any, any> = Schema.suspend(() => {
        throw new Error("boom")
      })
      const codec = SchemaCodec.make(Broken)
      for (const run of [codec.decode, codec.encode]) {
        let ended: Effect.Effect<unknown, unknown> | undefined
        assert.doesNotThrow(() => {
          ended = run({ a: 1 })
        })
        const exit = yield* Effect.exit(ended!)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      }
    })
  )

  describe("explain", () => {
    it.effect("names the first place and what was expected, without the value", () =>
      Effect.gen(function* () {
        const schema = Schema.Struct({ users: Schema.Array(Schema.Struct({ age: Schema.Finite })) })
        const { expected, path } = yield* explained(schema, { users: [{ age: 1 }, { age: "hunter2" }, { age: "x" }] })
        assert.deepStrictEqual(path, ["users", "1", "age"])
        assert.notInclude(expected, "hunter2")
        assert.deepStrictEqual((yield* explained(schema, "hunter2")).path, [])
        assert.deepStrictEqual((yield* explained(schema, {})).path, ["users"])
      })
    )

    it.effect("stays short, however long the keys and texts of a peer are", () =>
      Effect.gen(function* () {
        const huge = "k".repeat(1_000_000)
        const nested: Schema.Codec<any, any> = Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.Finite))
        const key = yield* explained(nested, { [huge]: { [huge]: "x" } })
        assert.isBelow(JSON.stringify(key).length, 1_000)
        const text = yield* explained(Schema.Struct({ a: Schema.Literals(["x", "y"]) }), { a: huge })
        assert.isBelow(JSON.stringify(text).length, 1_000)
      })
    )

    it.effect("stays short for a payload that is wrong a hundred thousand times, and as deep as can be", () =>
      Effect.gen(function* () {
        const many = Array.from({ length: 100_000 }, () => "x")
        const { path } = yield* explained(Schema.Array(Schema.Finite), many)
        assert.deepStrictEqual(path, ["0"])
        interface Tree {
          readonly next?: Tree | undefined
        }
        const Tree: Schema.Codec<Tree> = Schema.Struct({
          next: Schema.optionalKey(Schema.suspend((): Schema.Codec<Tree> => Tree))
        })
        let deep: unknown = 1
        for (let i = 0; i < 64; i++) deep = { next: deep }
        assert.strictEqual((yield* explained(Tree, deep)).path.length, 64)
      })
    )
  })

  it.effect("treats values with the marks of Effect, Promise and JSON as data", () =>
    Effect.gen(function* () {
      for (const key of ["then", "toJSON", "_tag", "~effect/Effect", "~effect/Exit", "~effect/Hash", "~effect/Equal"]) {
        const json = { [key]: { [key]: 1 } }
        for (const schema of [Schema.Any, Schema.Unknown, Schema.Json, Schema.Record(Schema.String, Schema.Any)]) {
          const decoded = yield* SchemaCodec.make(schema).decode(json)
          assert.deepStrictEqual(decoded, json)
          assert.deepStrictEqual(yield* SchemaCodec.make(schema).encode(decoded), json)
        }
      }
    })
  )
})
