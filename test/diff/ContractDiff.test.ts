import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, SchemaTransformation, Stream } from "effect"
import { Action, Broadcast, Caller, Handlers, Listener, Service, Topic } from "fiberbus"
import { ContractDiff, TestBus } from "fiberbus/testing"

type Side = { readonly [part: string]: any }

const action = (parts: Side, annotate: (action: Action.Any) => Action.Any = (same) => same) =>
  Service.make("users", annotate(Action.make("get", parts)))

const found = (report: ContractDiff.Report) =>
  report.findings.map(({ action, of, part, path, severity, who }) =>
    [severity, who, action === undefined ? of : `${of}.${action}`, part, ...path].join(" / ")
  )

interface Case {
  readonly name: string
  readonly old: ContractDiff.Contract
  readonly now: ContractDiff.Contract
  /** All that is to be found, or what is among it. */
  readonly finds: ReadonlyArray<string>
  readonly also?: boolean
  readonly witness?: unknown
}

const many = Array.from({ length: 50 }, (_, index) => `color-${index}`)
const text = (max?: number) => (max === undefined ? Schema.String : Schema.String.check(Schema.isMaxLength(max)))
const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const circle = Schema.TaggedStruct("Circle", { r: Schema.Finite })
const square = Schema.TaggedStruct("Square", { a: Schema.Finite })
const triangle = Schema.TaggedStruct("Triangle", { a: Schema.Finite, b: Schema.Finite })

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.String }) {}
class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", {}) {}

interface Tree {
  readonly name: string
  readonly children: ReadonlyArray<Tree>
}
const tree = (name: Schema.Codec<string>): Schema.Codec<Tree> => {
  const node: Schema.Codec<Tree> = Schema.Struct({ name, children: Schema.Array(Schema.suspend(() => node)) })
  return node
}

/** A change of one part, given as the schemas of before and after. */
const part = (name: string, old: Schema.Codec<any, any>, now: Schema.Codec<any, any>) => ({
  old: action({ [name]: old }),
  now: action({ [name]: now })
})

const oldCallers = (part: string, ...path: ReadonlyArray<string>) =>
  ["breaking", "old callers", "users.get", part, ...path].join(" / ")
const newCallers = (part: string, ...path: ReadonlyArray<string>) =>
  ["breaking", "new callers", "users.get", part, ...path].join(" / ")
const changed = (who: string, part: string, ...path: ReadonlyArray<string>) =>
  ["change", who, "users.get", part, ...path].join(" / ")

const breaking: ReadonlyArray<Case> = [
  {
    name: "it is spread over more queues",
    old: action({}, Action.annotate(Action.Delivery, "durable")),
    now: action({}, Action.annotate(Action.Delivery, "durable")).pipe(Service.partitioned(4)),
    finds: ["breaking / new callers / users / partitions", "change / old callers / users / partitions"]
  },
  {
    name: "it is spread over fewer queues",
    old: action({}, Action.annotate(Action.Delivery, "durable")).pipe(Service.partitioned(4)),
    now: action({}, Action.annotate(Action.Delivery, "durable")).pipe(Service.partitioned(2)),
    finds: ["breaking / old callers / users / partitions", "change / new callers / users / partitions"]
  },
  {
    name: "one of fifty literals is taken out of the payload",
    ...part(
      "payload",
      Schema.Struct({ c: Schema.Literals(many) }),
      Schema.Struct({ c: Schema.Literals(many.toSpliced(33, 1)) })
    ),
    finds: [oldCallers("payload", "c")],
    witness: { c: "color-33" }
  },
  {
    name: "a literal is added to the success",
    ...part("success", Schema.Literals(["a", "b"]), Schema.Literals(["a", "b", "c"])),
    finds: [oldCallers("success")],
    witness: "c"
  },
  {
    name: "an item of an enum is taken out, deep inside",
    ...part(
      "payload",
      Schema.Struct({ rows: Schema.Array(Schema.Struct({ kind: Schema.Enum({ A: "a", B: "b", C: "c" }) })) }),
      Schema.Struct({ rows: Schema.Array(Schema.Struct({ kind: Schema.Enum({ A: "a", B: "b" }) })) })
    ),
    finds: [oldCallers("payload", "rows", "0", "kind")],
    witness: { rows: [{ kind: "c" }] }
  },
  {
    name: "a range of numbers is tightened",
    ...part("payload", Schema.Struct({ n: int(0, 1_000_000) }), Schema.Struct({ n: int(0, 999_999) })),
    finds: [oldCallers("payload", "n")],
    witness: { n: 1_000_000 }
  },
  {
    name: "a bound is put to what had none",
    ...part(
      "payload",
      Schema.Struct({ n: Schema.Finite }),
      Schema.Struct({ n: Schema.Finite.check(Schema.isLessThan(1e9)) })
    ),
    finds: [oldCallers("payload", "n")],
    witness: { n: 1e9 }
  },
  {
    name: "a strict bound takes the place of one that is not",
    ...part(
      "payload",
      Schema.Struct({ n: Schema.Finite.check(Schema.isGreaterThanOrEqualTo(12.5)) }),
      Schema.Struct({ n: Schema.Finite.check(Schema.isGreaterThan(12.5)) })
    ),
    finds: [oldCallers("payload", "n")],
    witness: { n: 12.5 }
  },
  {
    name: "fractions are not taken any more",
    ...part("payload", Schema.Struct({ n: Schema.Finite }), Schema.Struct({ n: Schema.Int })),
    finds: [oldCallers("payload", "n")]
  },
  {
    name: "an optional field is required",
    ...part(
      "payload",
      Schema.Struct({ id: Schema.String, at: Schema.optionalKey(Schema.Date) }),
      Schema.Struct({ id: Schema.String, at: Schema.Date })
    ),
    finds: [oldCallers("payload", "at")],
    witness: { id: "" }
  },
  {
    name: "a required field is added to the payload",
    ...part("payload", Schema.Struct({ id: Schema.String }), Schema.Struct({ id: Schema.String, page: Schema.Int })),
    finds: [oldCallers("payload", "page"), changed("new callers", "payload", "page")],
    witness: { id: "" }
  },
  {
    name: "a required field is taken out of the success",
    ...part("success", Schema.Struct({ id: Schema.String, n: Schema.Int }), Schema.Struct({ id: Schema.String })),
    finds: [oldCallers("success", "n"), changed("new callers", "success", "n")],
    witness: { id: "" }
  },
  {
    name: "a field is renamed",
    ...part("payload", Schema.Struct({ userId: Schema.String }), Schema.Struct({ user_id: Schema.String })),
    finds: [oldCallers("payload", "user_id"), newCallers("payload", "userId")]
  },
  {
    name: "a member of a union is taken out",
    ...part("payload", Schema.Union([circle, square, triangle]), Schema.Union([circle, square])),
    finds: [oldCallers("payload")],
    witness: { _tag: "Triangle", a: 0, b: 0 }
  },
  {
    name: "a member is added to the union of the success",
    ...part("success", Schema.Union([circle]), Schema.Union([circle, square])),
    finds: [oldCallers("success")],
    also: true
  },
  {
    name: "a text may be less long",
    ...part("payload", Schema.Struct({ name: text(4_000) }), Schema.Struct({ name: text(3_000) })),
    finds: [oldCallers("payload", "name")],
    witness: { name: "a".repeat(3_001) }
  },
  {
    name: "a text must be longer",
    ...part("payload", Schema.Struct({ name: Schema.String }), Schema.Struct({ name: Schema.NonEmptyString })),
    finds: [oldCallers("payload", "name")],
    witness: { name: "" }
  },
  {
    name: "a text has to have a form",
    ...part(
      "payload",
      Schema.Struct({ id: Schema.String.check(Schema.isPattern(/^[a-z]{2}-\d+$/)) }),
      Schema.Struct({ id: Schema.String.check(Schema.isPattern(/^[a-y]{2}-\d+$/)) })
    ),
    finds: [oldCallers("payload", "id")]
  },
  {
    name: "an array may have fewer items",
    ...part(
      "payload",
      Schema.Struct({ ids: Schema.Array(Schema.String).check(Schema.isMaxLength(500)) }),
      Schema.Struct({ ids: Schema.Array(Schema.String).check(Schema.isMaxLength(400)) })
    ),
    finds: [oldCallers("payload", "ids")],
    witness: { ids: Array.from({ length: 401 }, () => "") }
  },
  ...[Schema.Int, Schema.NumberFromString, Schema.Date, Schema.Struct({ a: int(3, 9) }), Schema.Array(Schema.Int)].map(
    (item: Schema.Codec<any, any>, index) => ({
      name: `an array may have fewer items, of a kind that not all JSON is (${index})`,
      ...part(
        "payload",
        Schema.Struct({ ids: Schema.Array(item).check(Schema.isMaxLength(200)) }),
        Schema.Struct({ ids: Schema.Array(item).check(Schema.isMaxLength(199)) })
      ),
      finds: [oldCallers("payload", "ids")]
    })
  ),
  {
    name: "an array of different items may have fewer of them",
    ...part(
      "payload",
      Schema.Struct({ ids: Schema.Array(Schema.String).check(Schema.isUnique(), Schema.isMaxLength(50)) }),
      Schema.Struct({ ids: Schema.Array(Schema.String).check(Schema.isUnique(), Schema.isMaxLength(49)) })
    ),
    finds: [oldCallers("payload", "ids")]
  },
  {
    name: "a record may have fewer entries",
    ...part(
      "payload",
      Schema.Struct({ m: Schema.Record(Schema.String, Schema.Int).check(Schema.isMaxProperties(40)) }),
      Schema.Struct({ m: Schema.Record(Schema.String, Schema.Int).check(Schema.isMaxProperties(39)) })
    ),
    finds: [oldCallers("payload", "m")]
  },
  {
    name: "null is not taken any more",
    ...part("payload", Schema.Struct({ a: Schema.NullOr(Schema.String) }), Schema.Struct({ a: Schema.String })),
    finds: [oldCallers("payload", "a")],
    witness: { a: null }
  },
  {
    name: "a number becomes a text",
    ...part("success", Schema.Struct({ n: Schema.Finite }), Schema.Struct({ n: Schema.String })),
    finds: [oldCallers("success", "n"), newCallers("success", "n")]
  },
  {
    name: "a date is a number now",
    ...part("progress", Schema.Struct({ at: Schema.Date }), Schema.Struct({ at: Schema.Finite })),
    finds: [oldCallers("progress", "at")],
    also: true
  },
  {
    name: "a result is given where there was none",
    ...part("success", Schema.Int, Schema.Void),
    finds: [oldCallers("success"), changed("new callers", "success")]
  },
  {
    name: "an error is added to those that are declared",
    ...part("error", NotFound, Schema.Union([NotFound, Forbidden])),
    finds: [oldCallers("error", "_tag"), oldCallers("error", "id")],
    witness: { _tag: "Forbidden" }
  },
  {
    name: "the items of a stream are others",
    ...part("items", Schema.Struct({ n: Schema.Int }), Schema.Struct({ n: Schema.NullOr(Schema.Int) })),
    finds: [oldCallers("items", "n")],
    witness: { n: null }
  },
  {
    name: "a stream takes the place of a result",
    old: action({ success: Schema.Array(Schema.Int) }),
    now: action({ items: Schema.Int }),
    finds: [oldCallers("items"), newCallers("items")]
  },
  {
    name: "the values of a record are others",
    ...part(
      "payload",
      Schema.Struct({ m: Schema.Record(Schema.String, Schema.Finite) }),
      Schema.Struct({ m: Schema.Record(Schema.String, Schema.Int) })
    ),
    finds: [oldCallers("payload", "m", "a")],
    also: true
  },
  {
    name: "a name in a tree may be less long",
    ...part("payload", tree(text(50)), tree(text(40))),
    finds: [oldCallers("payload", "name"), oldCallers("payload", "children", "0", "name")],
    also: true
  },
  {
    name: "an action is taken out",
    old: Service.make("users", Action.make("get"), Action.make("list")),
    now: Service.make("users", Action.make("get")),
    finds: ["breaking / old callers / users.list / action"]
  },
  {
    name: "a service has another name",
    old: { Users: Service.make("users", Action.make("get")) },
    now: { Users: Service.make("user_service", Action.make("get")) },
    finds: ["breaking / old callers / users / name", "breaking / new callers / users / name"]
  },
  {
    name: "a service has another name, also as an export, and one of three actions changed",
    old: {
      Users: Service.make(
        "users",
        Action.make("get"),
        Action.make("list"),
        Action.make("add", { success: { id: Schema.String } })
      )
    },
    now: {
      People: Service.make(
        "people",
        Action.make("get"),
        Action.make("list"),
        Action.make("add", { success: { id: Schema.Int } })
      )
    },
    finds: ["breaking / old callers / users / name", "breaking / old callers / users.add / success / id"],
    also: true
  },
  {
    name: "a service is taken out",
    old: { Users: Service.make("users", Action.make("get")), Mail: Service.make("mail", Action.make("post")) },
    now: { Users: Service.make("users", Action.make("get")) },
    finds: ["breaking / old callers / mail / service"]
  },
  {
    name: "an action is idempotent no more",
    old: action({}, Action.annotate(Action.Idempotent, true)),
    now: action({}),
    finds: [oldCallers("idempotent")]
  },
  {
    name: "a question is asked that old callers do not know",
    old: action({ asks: {} }),
    now: action({ asks: { sure: { ask: { why: Schema.String }, answer: { yes: Schema.Boolean } } } }),
    finds: [oldCallers("question sure")]
  },
  {
    name: "a question and its answer are others",
    old: action({ asks: { sure: { ask: { n: Schema.Int }, answer: Schema.Literals(["yes", "no", "later"]) } } }),
    now: action({ asks: { sure: { ask: { n: Schema.Finite }, answer: Schema.Literals(["yes", "no"]) } } }),
    finds: [oldCallers("question sure", "n"), oldCallers("answer to sure")]
  },
  {
    name: "a message has another field",
    old: Topic.make("user.events", { id: Schema.String }),
    now: Topic.make("user.events", { id: Schema.String, by: Schema.String }),
    finds: [
      "breaking / new listeners / user.events / message / by",
      "change / old listeners / user.events / message / by"
    ],
    witness: { id: "" }
  },
  {
    name: "a kind of message is added",
    old: Topic.make("shapes.*", Schema.Union([circle, square])),
    now: Topic.make("shapes.*", Schema.Union([circle, square, triangle])),
    finds: ["breaking / old listeners / shapes.* / message"],
    witness: { _tag: "Triangle", a: 0, b: 0 }
  },
  {
    name: "a topic has another channel",
    old: { Events: Topic.make("events", { id: Schema.String }) },
    now: { Events: Topic.make("user.events", { id: Schema.String }) },
    finds: ["breaking / old listeners / events / channel", "breaking / new listeners / events / channel"]
  },
  {
    name: "a topic is taken out",
    old: { A: Topic.make("a", { id: Schema.String }), B: Topic.make("b", {}) },
    now: { A: Topic.make("a", { id: Schema.String }) },
    finds: ["breaking / old listeners / b / topic", "change / new listeners / b / topic"]
  },
  {
    name: "a default is what new callers count on",
    ...part("success", Schema.Struct({ n: Schema.Int }), Schema.Struct({ n: Schema.optionalKey(Schema.Int) })),
    finds: [oldCallers("success", "n")],
    witness: {}
  }
]

/** Nothing breaks; what is said beside it. */
const compatible: ReadonlyArray<Case> = [
  { name: "nothing is different", ...part("payload", tree(text(5)), tree(text(5))), finds: [] },
  {
    name: "an optional field is added to the payload",
    ...part(
      "payload",
      Schema.Struct({ id: Schema.String }),
      Schema.Struct({ id: Schema.String, page: Schema.optionalKey(Schema.Int) })
    ),
    finds: [changed("new callers", "payload", "page")],
    witness: { id: "", page: 0 }
  },
  {
    name: "a field with a default is added to the payload",
    ...part(
      "payload",
      Schema.Struct({ id: Schema.String }),
      Schema.Struct({ id: Schema.String, page: Schema.Int.pipe(Schema.withDecodingDefaultType(Effect.succeed(1))) })
    ),
    finds: [changed("old callers", "payload", "page"), changed("new callers", "payload", "page")]
  },
  {
    name: "a field is added to the success, optional for old services",
    ...part(
      "success",
      Schema.Struct({ id: Schema.String }),
      Schema.Struct({ id: Schema.String, at: Schema.optionalKey(Schema.Date) })
    ),
    finds: [changed("old callers", "success", "at")]
  },
  {
    name: "an action, a service and a topic are added",
    old: { Users: Service.make("users", Action.make("get")) },
    now: {
      Users: Service.make("users", Action.make("get"), Action.make("list")),
      Mail: Service.make("mail", Action.make("post")),
      Events: Topic.make("events", {})
    },
    finds: [
      "change / new callers / users.list / action",
      "change / new callers / mail / service",
      "change / new listeners / events / topic"
    ]
  },
  {
    name: "a number in a text is written by another schema",
    ...part(
      "payload",
      Schema.Struct({ n: Schema.String.check(Schema.isPattern(/^[1-9]\d{0,9}$/)) }),
      Schema.Struct({
        n: Schema.String.check(Schema.isPattern(/^[1-9]\d{0,9}$/)).pipe(
          Schema.decodeTo(Schema.Finite, SchemaTransformation.transform({ decode: Number, encode: String }))
        )
      })
    ),
    finds: []
  },
  {
    name: "a struct becomes a class of the same fields",
    ...part(
      "success",
      Schema.Struct({ id: Schema.String, at: Schema.Date }),
      class User extends Schema.Class<User>("User")({ id: Schema.String, at: Schema.Date }) {}
    ),
    finds: []
  },
  {
    name: "fields are renamed in the program, not on the wire",
    ...part(
      "payload",
      Schema.Struct({ user_id: Schema.String }),
      Schema.Struct({ userId: Schema.String }).pipe(Schema.encodeKeys({ userId: "user_id" }))
    ),
    finds: []
  },
  {
    name: "annotations and limits that concern no one else",
    old: action({ payload: { id: Schema.String } }),
    now: action(
      { payload: { id: Schema.String.annotate({ description: "who" }) } },
      Action.annotate(Action.Concurrency, 2)
    ),
    finds: []
  },
  {
    name: "calls have more time, and may be repeated",
    old: action({}),
    now: action({}, (made) =>
      Action.annotate(Action.annotate(made, Action.Timeout, "1 minute"), Action.Idempotent, true)
    ),
    finds: []
  },
  {
    name: "calls have less time",
    old: action({}),
    now: action({}, Action.annotate(Action.Timeout, "1 second")),
    finds: [changed("new callers", "timeout")]
  },
  {
    name: "calls are delivered otherwise",
    old: action({}),
    now: action({}, Action.annotate(Action.Delivery, "durable")),
    finds: [changed("old callers", "delivery"), changed("new callers", "delivery")]
  },
  {
    name: "what is kept for nobody is spread otherwise",
    old: action({}),
    now: action({}).pipe(Service.partitioned(4)),
    finds: []
  },
  {
    name: "the first declared error, and the first steps",
    old: action({ success: Schema.Int }),
    now: action({ success: Schema.Int, error: NotFound, progress: Schema.Int }),
    finds: [changed("old callers", "progress"), changed("new callers", "progress"), changed("old callers", "error")]
  },
  {
    name: "texts are trimmed when they are read",
    ...part("payload", Schema.Struct({ a: Schema.String }), Schema.Struct({ a: Schema.Trim })),
    finds: [changed("old callers", "payload", "a")]
  }
]

const compare = (one: Case, options?: ContractDiff.Options) => ContractDiff.compare(one.old, one.now, options)

describe("a change that breaks:", () => {
  it("are many", () => assert.isAbove(breaking.length, 20))

  for (const one of breaking) {
    it.effect(one.name, () =>
      Effect.gen(function* () {
        const report = yield* compare(one)
        const said = found(report)
        if (one.also) for (const expected of one.finds) assert.include(said, expected)
        else assert.sameMembers(said, [...one.finds])
        assert.isFalse(ContractDiff.isCompatible(report))
        if ("witness" in one) {
          assert.deepInclude(
            report.findings.map(({ witness }) => witness),
            one.witness as any
          )
        }
      })
    )

    it.effect(`${one.name}: also without random values`, () =>
      Effect.gen(function* () {
        if (one.name.includes("has to have a form")) return
        const said = found(yield* compare(one, { runs: 0 }))
        for (const expected of one.finds) assert.include(said, expected)
      })
    )
  }
})

describe("a change that breaks nothing:", () => {
  it("are many", () => assert.isAbove(compatible.length, 10))

  for (const one of compatible) {
    it.effect(one.name, () =>
      Effect.gen(function* () {
        const report = yield* compare(one)
        assert.sameMembers(found(report), [...one.finds])
        assert.isTrue(ContractDiff.isCompatible(report))
        if ("witness" in one) {
          assert.deepInclude(
            report.findings.map(({ witness }) => witness),
            one.witness as any
          )
        }
      })
    )
  }
})

/** A contract at random, drawn by numbers: the same numbers, the same contract. */
class Draw {
  private state: number
  constructor(seed: number) {
    this.state = seed + 1
  }
  upTo(most: number): number {
    this.state = (Math.imul(this.state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((this.state / 2 ** 32) * (most + 1))
  }
}

const leaves: ReadonlyArray<(draw: Draw) => Schema.Codec<any, any>> = [
  () => Schema.String,
  () => Schema.Int,
  () => Schema.Number,
  () => Schema.Boolean,
  () => Schema.Date,
  () => Schema.BigInt,
  () => Schema.Duration,
  () => Schema.Null,
  () => Schema.Unknown,
  () => Schema.Trim,
  () => Schema.NumberFromString,
  () => Schema.Uint8Array,
  () => Schema.TemplateLiteral(["u-", Schema.Int]),
  (draw) => Schema.Literals(many.slice(0, 1 + draw.upTo(20))),
  (draw) => text(draw.upTo(40)),
  (draw) => int(-draw.upTo(1_000), draw.upTo(1_000)),
  () => Schema.String.check(Schema.isUUID()),
  () => tree(text(9)),
  () => NotFound
]

const nodes: ReadonlyArray<(draw: Draw, depth: number) => Schema.Codec<any, any>> = [
  (draw, depth) =>
    Schema.Struct({
      a: schema(draw, depth),
      b: Schema.optionalKey(schema(draw, depth)),
      c: Schema.optional(schema(draw, depth)),
      d: Schema.Int.pipe(Schema.withDecodingDefaultType(Effect.succeed(1)))
    }),
  (draw, depth) => Schema.Array(schema(draw, depth)).check(Schema.isMaxLength(1 + draw.upTo(5))),
  (draw, depth) => Schema.NonEmptyArray(schema(draw, depth)),
  (draw, depth) => Schema.Tuple([schema(draw, depth), schema(draw, depth)]),
  (draw, depth) => Schema.Union([schema(draw, depth), schema(draw, depth)]),
  (draw, depth) => Schema.Record(Schema.String, schema(draw, depth)),
  (draw, depth) => Schema.NullOr(schema(draw, depth)),
  (draw, depth) => Schema.Option(schema(draw, depth)),
  (draw, depth) => Schema.ReadonlyMap(Schema.String, schema(draw, depth)),
  (draw, depth) => Schema.Struct({ e: schema(draw, depth) }).pipe(Schema.encodeKeys({ e: "f" }))
]

const schema = (draw: Draw, depth: number): Schema.Codec<any, any> =>
  depth === 0 || draw.upTo(2) === 0
    ? leaves[draw.upTo(leaves.length - 1)]!(draw)
    : nodes[draw.upTo(nodes.length - 1)]!(draw, depth - 1)

/** Where in a contract something is put. */
const wrappers: ReadonlyArray<
  (inner: Schema.Codec<any, any>, beside: () => Schema.Codec<any, any>) => Schema.Codec<any, any>
> = [
  (inner) => inner,
  (inner, beside) => Schema.Struct({ x: inner, y: beside() }),
  (inner, beside) => Schema.Struct({ x: Schema.optionalKey(inner), y: Schema.optionalKey(beside()) }),
  (inner) => Schema.Array(inner),
  (inner) => Schema.Record(Schema.String, inner),
  (inner, beside) =>
    Schema.Union([Schema.TaggedStruct("Inner", { inner }), Schema.TaggedStruct("Beside", { beside: beside() })]),
  (inner) => Schema.NullOr(inner),
  (inner) => Schema.Option(inner),
  (inner) => Schema.Tuple([Schema.Int, inner])
]

const breaks: ReadonlyArray<(draw: Draw) => readonly [Schema.Codec<any, any>, Schema.Codec<any, any>]> = [
  (draw) => [Schema.Literals(many), Schema.Literals(many.toSpliced(draw.upTo(49), 1))],
  (draw) => {
    const maximum = draw.upTo(1e9)
    return [int(-1, maximum), int(-1, maximum - 1)]
  },
  (draw) => {
    const maximum = 1 + draw.upTo(5_000)
    return [text(maximum), text(maximum - 1)]
  },
  () => [Schema.Struct({ o: Schema.optionalKey(Schema.String) }), Schema.Struct({ o: Schema.String })],
  () => [Schema.Union([circle, square, triangle]), Schema.Union([circle, triangle])],
  (draw) => {
    const maximum = 1 + draw.upTo(300)
    const items = (most: number) => Schema.Array(Schema.Boolean).check(Schema.isMaxLength(most))
    return [items(maximum), items(maximum - 1)]
  },
  (draw) => {
    const maximum = 1 + draw.upTo(30)
    const kind = leaves[draw.upTo(leaves.length - 1)]!(draw)
    const items = (most: number) => Schema.Array(kind).check(Schema.isMaxLength(most))
    return [items(maximum), items(maximum - 1)]
  },
  () => [Schema.Struct({ r: Schema.Date }), Schema.Struct({ r: Schema.Date, s: Schema.Date })]
]

/** The break is planted below so many things that are the same on both sides. */
const planted = (seed: number) => {
  const draw = new Draw(seed)
  let [one, other] = breaks[draw.upTo(breaks.length - 1)]!(draw)
  const depth = draw.upTo(3)
  for (let level = 0; level < depth; level++) {
    const wrap = wrappers[draw.upTo(wrappers.length - 1)]!
    const beside = draw.upTo(1e6)
    const same = () => schema(new Draw(beside), 1)
    one = wrap(one, same)
    other = wrap(other, same)
  }
  return [one, other] as const
}

const seeds = Array.from({ length: 30 }, (_, seed) => seed)

describe("contracts at random", () => {
  it.effect("have no findings against themselves", () =>
    Effect.gen(function* () {
      for (const seed of seeds) {
        const make = () => {
          const draw = new Draw(seed)
          const parts = {
            payload: schema(draw, 2),
            success: schema(draw, 2),
            error: schema(draw, 1),
            progress: schema(draw, 1),
            asks: { q: { ask: schema(draw, 1), answer: schema(draw, 1) } }
          }
          return {
            users: action(parts),
            items: Service.make("items", Action.make("all", { items: schema(draw, 2) })),
            topic: Topic.make("events", { event: schema(draw, 2) })
          }
        }
        // Made twice, as by two modules: nothing is the same by being the same object.
        const report = yield* ContractDiff.compare(make(), make(), { seed, runs: 20 })
        assert.deepStrictEqual(report.findings, [], `seed ${seed}: ${ContractDiff.format(report)}`)
        assert.isAbove(report.tried, 7)
      }
    })
  )

  it.effect("show a break that is planted in them, with a value that the one side writes and the other refuses", () =>
    Effect.gen(function* () {
      for (const seed of [...seeds, ...seeds.map((seed) => seed + 1_000)]) {
        const [one, other] = planted(seed)
        // The bounds are what finds it, not luck.
        const report = yield* ContractDiff.compare(action({ payload: one }), action({ payload: other }), { runs: 0 })
        const breaking = report.findings.filter(({ severity, who }) => severity === "breaking" && who === "old callers")
        assert.isNotEmpty(breaking, `seed ${seed}: ${ContractDiff.format(report)}`)
        for (const { witness } of breaking) {
          assert.isTrue(Schema.decodeUnknownExit(Schema.toCodecJson(one))(witness)._tag === "Success", `seed ${seed}`)
          assert.isTrue(Schema.decodeUnknownExit(Schema.toCodecJson(other))(witness)._tag === "Failure", `seed ${seed}`)
        }
      }
    })
  )
})

/** What is said of callers and services happens to them. */
describe("a finding comes true:", () => {
  const witnessOf = (old: ContractDiff.Contract, now: ContractDiff.Contract, who: ContractDiff.Who) =>
    Effect.map(ContractDiff.compare(old, now, { who: [who] }), ({ findings }) => {
      const [finding] = findings.filter(({ severity }) => severity === "breaking")
      return {
        finding: finding!,
        value: <S extends Schema.Codec<any, any>>(schema: S): S["Type"] =>
          Schema.decodeUnknownSync(Schema.toCodecJson(schema))(finding!.witness)
      }
    })

  it.effect("a payload of old callers is refused by the new service", () =>
    Effect.gen(function* () {
      const payload = Schema.Struct({ n: Schema.Int })
      const Old = Service.make("users", Action.make("get", { payload }))
      const Now = Service.make("users", Action.make("get", { payload: { n: int(0, 9) } }))
      const { finding, value } = yield* witnessOf(Old, Now, "old callers")
      const call = Effect.gen(function* () {
        const users = yield* Caller.make(Old)
        return yield* Effect.flip(users.get(value(payload)))
      }).pipe(Effect.provide(TestBus.layer(Handlers.layer(Now, { get: () => Effect.void }))))
      const { reason, started } = yield* call
      assert.strictEqual(started, "no")
      assert.deepInclude(reason, { _tag: "InvalidPayload", path: finding.path, expected: finding.expected! })
    })
  )

  it.effect("a success, an error and a step of the new service end an old caller's call", () =>
    Effect.gen(function* () {
      const parts = (n: Schema.Codec<number, any>) => ({
        success: Schema.Struct({ n }),
        error: Schema.TaggedStruct("Wrong", { n }),
        progress: Schema.Struct({ n })
      })
      for (const part of ["success", "error", "progress"] as const) {
        const make = (n: Schema.Codec<number, any>) =>
          Service.make("users", Action.make("get", { ...parts(Schema.Int), [part]: parts(n)[part] }))
        const [Old, Now] = [make(Schema.Int), make(Schema.Finite)]
        const { finding, value } = yield* witnessOf(Old, Now, "old callers")
        assert.strictEqual(finding.part, part)
        const given: any = value(parts(Schema.Finite)[part])
        const live = Handlers.layer(Now, {
          get: (_, { progress }) =>
            Effect.gen(function* () {
              if (part === "progress") yield* progress(given)
              if (part === "error") return yield* Effect.fail(given)
              return part === "success" ? given : { n: 0 }
            })
        })
        const call = Effect.gen(function* () {
          const users = yield* Caller.make(Old)
          return yield* Effect.flip(Stream.runDrain(users.get.stream()))
        }).pipe(Effect.provide(TestBus.layer(live)))
        const error: any = yield* call
        assert.deepInclude(error.reason, {
          _tag: "ContractMismatch",
          part,
          path: finding.path,
          expected: finding.expected
        })
      }
    })
  )

  it.effect("a first declared error comes to old callers as a RemoteError", () =>
    Effect.gen(function* () {
      const [Old, Now] = [
        Service.make("users", Action.make("get")),
        Service.make("users", Action.make("get", { error: NotFound }))
      ]
      const { findings } = yield* ContractDiff.compare(Old, Now, { who: ["old callers"] })
      assert.include(findings[0]!.because, "RemoteError")
      const call = Effect.gen(function* () {
        const users = yield* Caller.make(Old)
        return yield* Effect.flip(users.get())
      }).pipe(Effect.provide(TestBus.layer(Handlers.layer(Now, { get: () => Effect.fail(new NotFound({ id: "1" })) }))))
      assert.strictEqual((yield* call).reason._tag, "RemoteError")
    })
  )

  it.effect("a question that old callers do not know is none that they answer", () =>
    Effect.gen(function* () {
      const sure = { ask: Schema.String, answer: Schema.Boolean }
      const Old = Service.make("users", Action.make("get", { success: Schema.String, asks: { other: sure } }))
      const Now = Service.make("users", Action.make("get", { success: Schema.String, asks: { other: sure, sure } }))
      const { finding } = yield* witnessOf(Old, Now, "old callers")
      assert.include(finding.because, "AskError")
      const live = Handlers.layer(Now, {
        get: (_, { ask }) =>
          ask("sure", "really?").pipe(
            Effect.map(String),
            Effect.catch(({ _tag, reason }) => Effect.succeed(`${_tag} ${reason}`))
          )
      })
      const call = Effect.gen(function* () {
        const users = yield* Caller.make(Old)
        return yield* users.get({ answers: { other: () => Effect.succeed(true) } })
      }).pipe(Effect.provide(TestBus.layer(live)))
      assert.strictEqual(yield* call, "AskError Declined")
    })
  )

  it.effect("a message of old publishers is dropped by new listeners", () =>
    Effect.gen(function* () {
      const message = Schema.Struct({ id: Schema.String })
      const Old = Topic.make("events", message)
      const Now = Topic.make("events", { id: Schema.NonEmptyString })
      const { value } = yield* witnessOf(Old, Now, "new listeners")
      const heard: Array<string> = []
      const listening = Listener.layer(Now, ({ id }) => Effect.sync(() => heard.push(id)))
      yield* Effect.gen(function* () {
        yield* Broadcast.publish(Old, value(message))
        yield* Broadcast.publish(Old, { id: "fits" })
        yield* TestBus.settled
      }).pipe(Effect.provide(TestBus.layer(Layer.mergeAll(listening))))
      assert.deepStrictEqual(heard, ["fits"])
    })
  )
})

const isUrl = (value: unknown): value is URL => value instanceof URL

describe("ContractDiff", () => {
  it.effect("tells the same with the same seed", () =>
    Effect.gen(function* () {
      const [one] = breaking
      assert.deepStrictEqual(yield* compare(one!, { seed: 3 }), yield* compare(one!, { seed: 3 }))
      assert.strictEqual((yield* compare(one!, { seed: 3 })).seed, 3)
    })
  )

  it.effect("finds by random values what a filter's own code refuses", () =>
    Effect.gen(function* () {
      const odd = Schema.Int.check(Schema.makeFilter((n) => n % 7 !== 3 || "not this one"))
      const pair = part("payload", Schema.Struct({ n: Schema.Int }), Schema.Struct({ n: odd }))
      const report = yield* ContractDiff.compare(pair.old, pair.now, { seed: 1 })
      assert.deepStrictEqual(found(report), [oldCallers("payload", "n")])
      assert.deepStrictEqual(report.findings[0]!.witness, { n: 3 })
    })
  )

  it.effect("concerns only whom it is asked for", () =>
    Effect.gen(function* () {
      const { now, old } = breaking.find(({ name }) => name === "a field is renamed")!
      const of = (who: ReadonlyArray<ContractDiff.Who>) =>
        Effect.map(ContractDiff.compare(old, now, { who }), (report) => report.findings.map(({ who }) => who))
      assert.deepStrictEqual(yield* of(["old callers"]), ["old callers"])
      assert.deepStrictEqual(yield* of(["new callers"]), ["new callers"])
      assert.deepStrictEqual(yield* of(["old listeners", "new listeners"]), [])
    })
  )

  it.effect("does not call compatible what it could not compare", () =>
    Effect.gen(function* () {
      const opaque = () => part("payload", Schema.declare(isUrl), Schema.declare(isUrl))
      const report = yield* ContractDiff.compare(opaque().old, opaque().now)
      assert.deepStrictEqual(found(report), [
        "unknown / old callers / users.get / payload",
        "unknown / new callers / users.get / payload"
      ])
      assert.include(report.findings[0]!.because, "no value of it was found that its own schema can write and read")
      assert.isFalse(ContractDiff.isCompatible(report))

      // Longer than anything that is made for the sake of a bound.
      const long = part("payload", text(2_000_000), text(1_000_000))
      const unknown = yield* ContractDiff.compare(long.old, long.now, { who: ["old callers"] })
      assert.deepStrictEqual(found(unknown), ["unknown / old callers / users.get / payload"])
      assert.include(unknown.findings[0]!.because, "nothing longer than 100000 characters")
      assert.deepStrictEqual((yield* ContractDiff.compare(long.old, long.old)).findings, [])
    })
  )

  it.effect("stays within its limits where bounds are large and stand in each other", () =>
    Effect.gen(function* () {
      const large = (most: number) =>
        Schema.Array(Schema.Array(text(100_000)).check(Schema.isMaxLength(900))).check(Schema.isMaxLength(most))
      const pair = part("payload", Schema.Struct({ rows: large(900) }), Schema.Struct({ rows: large(899) }))
      const report = yield* ContractDiff.compare(pair.old, pair.now, { runs: 5, who: ["old callers"] })
      assert.deepStrictEqual(found(report), [oldCallers("payload", "rows")])
    })
  )

  it.effect("survives schemas that throw", () =>
    Effect.gen(function* () {
      const throwing = Schema.String.pipe(
        Schema.decodeTo(
          Schema.String,
          SchemaTransformation.transform({
            decode: (text: string): string => {
              if (text === "a") throw new Error("secret")
              return text
            },
            encode: (text) => text
          })
        )
      )
      const pair = part("payload", Schema.Struct({ n: Schema.String }), Schema.Struct({ n: throwing }))
      const report = yield* ContractDiff.compare(pair.old, pair.now)
      assert.deepStrictEqual(found(report), [oldCallers("payload")])
      assert.deepStrictEqual(report.findings[0]!.witness, { n: "a" })
      assert.notInclude(ContractDiff.format(report), "secret")
    })
  )

  it.effect("refuses what has no contract", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ContractDiff.compare({ a: 1 }, Service.make("users", Action.make("get"))))
      assert.strictEqual(error.message, "The old revision has no service and no topic")
    })
  )

  it.effect("reports so that a person can read it, and as the message of an assertion", () =>
    Effect.gen(function* () {
      const old = action({
        payload: { id: Schema.String, page: Schema.optionalKey(Schema.Int) },
        success: { n: Schema.Int }
      })
      const now = action({ payload: { id: text(20), page: Schema.Int }, success: { n: Schema.Int, m: Schema.Int } })
      const error = yield* Effect.flip(ContractDiff.assertCompatible(old, now, { who: ["old callers"] }))
      assert.instanceOf(error, ContractDiff.Incompatible)
      assert.strictEqual(
        error.message.replace(/\d+ values tried/, "N values tried"),
        `breaks old callers against the new service: users.get, payload
  value      {"id":""}
  at         ["page"]
  expected   Missing key
  so         the service refuses the call with InvalidPayload; its handler does not run

breaks old callers against the new service: users.get, payload
  value      {"id":"aaaaaaaaaaaaaaaaaaaaa","page":0}
  at         ["id"]
  expected   a value with a length of at most 20
  so         the service refuses the call with InvalidPayload; its handler does not run

changes for old callers against the new service: users.get, success
  value      {"n":0,"m":0}
  at         ["m"]
  so         it is read without this

2 breaking, 1 other change (N values tried, seed "fiberbus")`
      )
      const report = yield* ContractDiff.assertCompatible(old, old)
      assert.match(ContractDiff.format(report), /^no differences were found \(\d+ values tried, seed "fiberbus"\)$/)
    })
  )
})
