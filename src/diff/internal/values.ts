/**
 * Guesses at what a schema may write: every branch, literal and optional field of it at least once, and what lies at bounds.
 * One thing is varied at a time. A guess may be wrong: the schema itself has the last word.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as Ast from "./ast.ts"
import { type Hint, type Hints, maxItems, maxText } from "./hints.ts"
import type { Samples } from "./samples.ts"

/** Most guesses for one schema. */
export const maxGuesses = 20_000

/** Values of each field that are tried also where optional fields are left out. */
const someValues = 8

/** Longest of the values that are repeated for the sake of a length, as JSON. */
const smallLength = 200

/** @see the file's first lines */
export interface Guesses {
  readonly values: ReadonlyArray<unknown>
  /** Why some of what should have been tried is not among them. */
  readonly missing: string | undefined
}

/** Guesses from the wire's side of a codec. */
export const guess = (codec: SchemaAST.AST, hints: Hints, samples: Samples): Guesses => {
  const guard = Ast.depthGuard()
  let missing: string | undefined
  const noHint: Hint = { numbers: new Set(), lengths: new Set(), texts: new Set() }
  const hintAt = (place: Ast.Place) => hints.get(Ast.keyOf(place)) ?? noHint
  const ownAt = (place: Ast.Place) => samples.get(Ast.keyOf(place))?.own ?? []
  const samplesAt = (place: Ast.Place) => [...ownAt(place), ...(samples.get(Ast.keyOf(place))?.targets ?? [])]

  const lengthsAt = (place: Ast.Place, most: number) => [...hintAt(place).lengths].filter((length) => length <= most)

  const make = (node: SchemaAST.AST, place: Ast.Place): ReadonlyArray<unknown> =>
    guard(
      node,
      () => {
        const made = unique(makeOnce(node, place))
        if (made.length > maxGuesses) missing = `only ${maxGuesses} of ${made.length} values are tried`
        return made.slice(0, maxGuesses)
      },
      () => []
    )

  const makeOnce = (node: SchemaAST.AST, place: Ast.Place): ReadonlyArray<unknown> => {
    switch (node._tag) {
      case "Literal":
        return [node.literal]
      case "Enum":
        return node.enums.map(([, value]) => value)
      case "Null":
      case "Void":
      case "Undefined":
        return [null]
      case "Boolean":
        return [false, true]
      case "Number":
        return [...samplesAt(place).filter((value) => typeof value === "number"), ...numbers(hintAt(place))]
      case "String":
      case "TemplateLiteral": {
        const sampled = samplesAt(place).filter((value) => typeof value === "string")
        return [...sampled, ...texts(hintAt(place), sampled, lengthsAt(place, maxText))]
      }
      case "Objects":
        return objects(node, place)
      case "Arrays":
        return arrays(node, place)
      case "Union":
        return node.types.flatMap((member) => make(member, place))
      case "Suspend":
        return make(node.thunk(), place)
      case "Never":
        return []
      default:
        return [...samplesAt(place), ...anything]
    }
  }

  const objects = (node: SchemaAST.Objects, place: Ast.Place): ReadonlyArray<unknown> => {
    const fields = node.propertySignatures.map(({ name, type }) => ({
      name: String(name),
      optional: SchemaAST.isOptional(type),
      values: make(type, [...place, String(name)])
    }))
    // Of a recursive type there is nothing more to be said here.
    if (fields.some(({ optional, values }) => !optional && values.length === 0)) return samplesAt(place).slice(0, 1)
    const fits = Schema.is(Schema.make<Schema.Codec<any, any>>(node))
    const required = fields.filter(({ optional }) => !optional)
    const least = record(required.map(({ name, values }) => [name, values[0]]))
    const whole = samplesAt(place).filter((value): value is Fields => isRecord(value) && fits(value))
    const base = whole[0] ?? least
    const valueOf = (name: string, values: ReadonlyArray<unknown>) =>
      whole.find((value) => Object.hasOwn(value, name))?.[name] ?? values[0]
    const full: Fields = {
      ...record(fields.flatMap(({ name, values }) => (values.length === 0 ? [] : [[name, valueOf(name, values)]]))),
      ...base
    }
    const made: Array<unknown> = [least, base, full]
    for (const { name, optional, values } of fields) {
      // A field that is missing hides nothing of the others there; but it may be one of two that exclude each other.
      for (const value of values) made.push({ ...full, ...record([[name, value]]) })
      const some = same(full, base) ? [] : values.slice(0, someValues)
      for (const value of some) made.push({ ...base, ...record([[name, value]]) })
      if (optional) made.push(record(Object.entries(full).filter(([key]) => key !== name)))
    }
    for (const { type } of node.indexSignatures) {
      const values = make(type, [...place, Ast.any])
      const keys = new Set([
        "a",
        "0",
        ...samplesAt(place).flatMap((value) => (isRecord(value) ? Object.keys(value) : []))
      ])
      for (const key of keys) {
        if (values.length > 0) made.push({ ...base, ...record([[key, values[0]]]) })
      }
      for (const value of values) {
        const key = [...keys].find((key) => fits({ ...base, ...record([[key, value]]) })) ?? "a"
        made.push({ ...base, ...record([[key, value]]) })
      }
      for (const length of lengthsAt(place, maxItems)) {
        for (const items of several(type, [...place, Ast.any], values, length))
          made.push(record(items.map((value, index) => [`k${index}`, value])))
      }
    }
    return made
  }

  /** So many values that fit, none of them large: the same few again and again, and all different ones where that is easy. */
  const several = (node: SchemaAST.AST, place: Ast.Place, values: ReadonlyArray<unknown>, length: number) => {
    const fits = Schema.is(Schema.make<Schema.Codec<any, any>>(node))
    const small = (value: unknown) => fits(value) && JSON.stringify(value).length <= smallLength
    // What was generated fits also where the schema of the wire says less than its type.
    const [sampled, made] = [ownAt(place).filter(small), values.filter(small)]
    const some = sampled.length > 0 ? sampled : made.length > 0 ? made : values.slice(0, 1)
    if (some.length === 0) return []
    const different = [(index: number) => index, (index: number) => `a${index}`].filter((make) => fits(make(0)))
    return [
      Array.from({ length }, (_, index) => some[index % some.length]),
      ...different.map((make) => Array.from({ length }, (_, index) => make(index)))
    ]
  }

  const arrays = (node: SchemaAST.Arrays, place: Ast.Place): ReadonlyArray<unknown> => {
    const inside = [...place, Ast.any]
    const elements = node.elements.map((type, index) => ({
      optional: SchemaAST.isOptional(type),
      values: make(type, [...place, String(index)])
    }))
    const required = elements.filter(({ optional }) => !optional)
    if (required.some(({ values }) => values.length === 0)) return samplesAt(place).slice(0, 1)
    const least = required.map(({ values }) => values[0])
    const all = elements.map(({ values }) => values[0])
    const made: Array<unknown> = [least, all]
    elements.forEach(({ values }, index) => {
      for (const value of values) made.push([...all.slice(0, index), value, ...least.slice(index + 1)])
    })
    const [rest] = node.rest
    if (rest === undefined) return made
    const values = make(rest, inside)
    if (values.length === 0) return made
    for (const length of new Set([1, 2, ...lengthsAt(place, maxItems)])) {
      for (const items of several(rest, inside, values, Math.max(0, length - all.length))) made.push([...all, ...items])
    }
    const sampled = samplesAt(place).find((value) => Array.isArray(value) && value.length > all.length)
    for (const value of values) {
      made.push([...all, value])
      // Where one item is not enough.
      if (Array.isArray(sampled)) made.push(sampled.with(sampled.length - 1, value))
    }
    return made
  }

  return { values: make(SchemaAST.toEncoded(codec), []), missing }
}

const anything: ReadonlyArray<unknown> = [null, true, 0, 1.5, "", "text", [], [0], {}, { a: 1 }]

const someNumbers = [0, 1, -1, 0.5, -0.5, 2, 1e21, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]

// Between two bounds there may be room for one schema and not for the other.
const numbers = (hint: Hint): ReadonlyArray<number> => {
  const bounds = [...hint.numbers].sort((one, other) => one - other)
  const between = bounds.slice(1).map((bound, index) => (bound + bounds[index]!) / 2)
  return [...someNumbers, ...bounds, ...between]
}

const someTexts = ["", "a", "A", "0", " ", " a", "é", "a b", "😀", "1.5"]

const texts = (hint: Hint, sampled: ReadonlyArray<unknown>, lengths: ReadonlyArray<number>): ReadonlyArray<string> => {
  const longest = String(sampled.at(-1) ?? "")
  const padded = lengths.flatMap((length) => [
    ...["a", "A", "0"].map((char) => char.repeat(length)),
    longest.slice(0, length).padEnd(length, longest.at(-1) ?? "a")
  ])
  return [...someTexts, ...hint.texts, ...padded]
}

type Fields = { readonly [key: string]: unknown }

/** True for objects that are no arrays. */
export const isRecord = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const same = (one: Fields, other: Fields) => Object.keys(one).length === Object.keys(other).length

// `__proto__` is a key like any other.
const record = (entries: ReadonlyArray<readonly [string, unknown]>): Fields => Object.fromEntries(entries)

const unique = (values: ReadonlyArray<unknown>): ReadonlyArray<unknown> => {
  const seen = new Map<string, unknown>()
  for (const value of values) {
    const text = JSON.stringify(value) ?? "null"
    if (!seen.has(text)) seen.set(text, value)
  }
  return [...seen.values()]
}
