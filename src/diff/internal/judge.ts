/** What becomes of a value that one schema wrote when another one reads it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type { AnySchema } from "../../contract/Action.ts"
import * as Codec from "../../wire/Codec.ts"
import { cut } from "../../wire/Envelope.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Place } from "./ast.ts"
import { isRecord } from "./values.ts"

/** How a value fares. */
export type Kind = "refused" | "dropped" | "defaulted" | "changed"

/** One thing that becomes of a value. */
export interface Remark {
  readonly kind: Kind
  readonly path: Place
  /** What the reader expected; of what is read, what it reads instead. */
  readonly expected: string
}

/** Two schemas of one part. */
export interface Pair {
  readonly writer: AnySchema
  /** What the writer would send for a value that it might have read; nothing where it is none of its own. */
  readonly written: (guess: unknown) => Effect.Effect<Schema.Json | undefined>
  /** What becomes of what was written. */
  readonly read: (json: Schema.Json) => Effect.Effect<ReadonlyArray<Remark>>
}

/** Prepares a pair. */
export const make = (writer: AnySchema, reader: AnySchema): Pair => {
  const own = SchemaCodec.make(writer)
  const other = SchemaCodec.make(reader)
  const problems = Schema.decodeUnknownEffect(Schema.toCodecJson(reader), { errors: "all" })

  const written = (guess: unknown) =>
    Effect.gen(function* () {
      const first = yield* again(own, guess)
      if (first === undefined) return undefined
      // What it cannot read itself says nothing about the other.
      return (yield* again(own, first)) === undefined ? undefined : first
    })

  const read = (json: Schema.Json): Effect.Effect<ReadonlyArray<Remark>> =>
    Effect.gen(function* () {
      const decoded = yield* Effect.exit(other.decode(json))
      if (Exit.isFailure(decoded)) {
        const all = yield* Effect.exit(Effect.suspend(() => problems(json)))
        const error = Exit.isFailure(all) ? all.cause.reasons.find(Cause.isFailReason)?.error : undefined
        return error === undefined ? [died] : refusals(error)
      }
      // A writer that writes the same in two ways would differ from itself.
      const stable = yield* again(own, json)
      if (stable === undefined || !same(stable, json)) return []
      const back = yield* Effect.exit(Effect.suspend(() => other.encode(decoded.value)))
      if (Exit.isFailure(back)) return []
      const differing: Array<Remark> = []
      differences(json, transit(back.value) ?? null, [], differing)
      return differing
    })

  return { writer, written, read }
}

const died: Remark = { kind: "refused", path: [], expected: "a value that the schema can read without dying" }

/** Decodes, encodes, and crosses the wire; nothing where that is not possible. */
const again = (codec: SchemaCodec.SchemaCodec<any>, json: unknown): Effect.Effect<Schema.Json | undefined> =>
  Effect.gen(function* () {
    const decoded = yield* Effect.exit(codec.decode(json))
    if (Exit.isFailure(decoded)) return undefined
    const encoded = yield* Effect.exit(Effect.suspend(() => codec.encode(decoded.value)))
    if (Exit.isFailure(encoded)) return undefined
    return transit(encoded.value)
  })

const transit = (value: unknown): Schema.Json | undefined => {
  try {
    const json: Schema.Json = JSON.parse(JSON.stringify(value) ?? "null")
    return Codec.nestsTooDeep(json, 2) ? undefined : json
  } catch {
    return undefined
  }
}

/** Longest step of a path, in characters. */
const maxStep = 64

const format = SchemaIssue.makeFormatterStandardSchemaV1()

const refusals = (error: Schema.SchemaError): ReadonlyArray<Remark> => {
  const { issues } = format(error.issue)
  if (issues.length === 0) return [{ kind: "refused", path: [], expected: "a valid value" }]
  return issues.map(({ message, path = [] }) => ({
    kind: "refused",
    path: path.map((step) => cut(String(typeof step === "object" ? step.key : step), maxStep)),
    expected: cut(message)
  }))
}

const differences = (one: unknown, other: unknown, path: Place, found: Array<Remark>): void => {
  if (same(one, other)) return
  if (Array.isArray(one) && Array.isArray(other) && one.length === other.length) {
    one.forEach((item, index) => {
      differences(item, other[index], [...path, String(index)], found)
    })
    return
  }
  if (isRecord(one) && isRecord(other)) {
    for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
      const at = [...path, cut(key, maxStep)]
      if (!Object.hasOwn(other, key)) found.push({ kind: "dropped", path: at, expected: "" })
      else if (!Object.hasOwn(one, key)) found.push({ kind: "defaulted", path: at, expected: text(other[key]) })
      else differences(one[key], other[key], at, found)
    }
    return
  }
  // Read as nothing at all.
  if (other === null) found.push({ kind: "dropped", path, expected: "" })
  else found.push({ kind: "changed", path, expected: text(other) })
}

const text = (value: unknown) => cut(JSON.stringify(value) ?? "null", 100)

/** Equal as JSON; the order of fields does not count. */
export const same = (one: unknown, other: unknown): boolean => {
  if (one === other) return true
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, index) => same(item, other[index]))
  }
  if (!isRecord(one) || !isRecord(other)) return false
  const keys = Object.keys(one)
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && same(one[key], other[key]))
  )
}
