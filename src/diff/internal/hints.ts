/** What the checks of a schema tell about values that are worth trying: bounds, lengths and literals, by their places. */
import type * as SchemaAST from "effect/SchemaAST"
import * as Ast from "./ast.ts"

/** Longest text and longest array that are made for the sake of a bound. */
export const maxText = 100_000
export const maxItems = 1_000

/** What is known of one place. */
export interface Hint {
  readonly numbers: Set<number>
  readonly lengths: Set<number>
  readonly texts: Set<string>
}

/** By {@link Ast.keyOf}. */
export type Hints = ReadonlyMap<string, Hint>

/**
 * Where the two schemas have other bounds, and these are longer than anything that is made: nothing is known of values between them.
 */
export const beyond = (one: SchemaAST.AST, other: SchemaAST.AST): string | undefined => {
  const [first, second] = [longOf(one), longOf(other)]
  for (const place of new Set([...first.keys(), ...second.keys()])) {
    const [here, there] = [first.get(place) ?? [], second.get(place) ?? []].map((lengths) =>
      [...new Set(lengths)].sort()
    )
    if (String(here) !== String(there))
      return `nothing longer than ${maxText} characters or ${maxItems} items is tried, and a bound is ${[...here!, ...there!][0]}`
  }
  return undefined
}

const longOf = (root: SchemaAST.AST): ReadonlyMap<string, ReadonlyArray<number>> => {
  const long = new Map<string, ReadonlyArray<number>>()
  Ast.walk(root, (node, place) => {
    const most = node._tag === "String" ? maxText : maxItems
    const lengths = (node.checks ?? []).flatMap(lengthsOf).filter((length) => length >= most)
    if (lengths.length > 0) long.set(Ast.keyOf(place), [...(long.get(Ast.keyOf(place)) ?? []), ...lengths])
  })
  return long
}

/** Gathers from several schemas: a bound of the reader is a value that the writer may be beyond. */
export const gather = (roots: ReadonlyArray<SchemaAST.AST>): Hints => {
  const hints = new Map<string, Hint>()
  for (const root of roots) {
    Ast.walk(root, (node, place) => {
      const key = Ast.keyOf(place)
      const hint = hints.get(key) ?? { numbers: new Set(), lengths: new Set(), texts: new Set() }
      hints.set(key, hint)
      if (node._tag === "Literal") literal(hint, node.literal)
      if (node._tag === "Enum") for (const [, value] of node.enums) literal(hint, value)
      for (const check of node.checks ?? []) read(hint, check)
    })
  }
  return hints
}

const literal = (hint: Hint, value: SchemaAST.LiteralValue) => {
  if (typeof value === "number") hint.numbers.add(value)
  else hint.texts.add(String(value))
}

const read = (hint: Hint, check: SchemaAST.Check<any>): void => {
  if (check._tag === "FilterGroup") for (const inner of check.checks) read(hint, inner)
  const constraint = check.annotations?.arbitraryConstraint
  if (constraint !== undefined) {
    for (const bound of [constraint.minimum, constraint.maximum]) around(hint, bound)
  }
  for (const length of lengthsOf(check)) {
    for (const near of [length - 1, length, length + 1]) if (near >= 0) hint.lengths.add(near)
  }
  // Checks that generate nothing by themselves, multiples for one, tell their numbers there.
  for (const number of numbersIn(check.annotations?.["representation"], 4)) {
    for (const multiple of [number, 2 * number, 3 * number]) if (Number.isFinite(multiple)) hint.numbers.add(multiple)
  }
}

const lengthsOf = (check: SchemaAST.Check<any>): ReadonlyArray<number> => {
  const inner = check._tag === "FilterGroup" ? check.checks.flatMap(lengthsOf) : []
  const { maxCodePoints, maxLength, maxProperties, maxSize, minCodePoints, minLength, minProperties, minSize } =
    check.annotations?.arbitraryConstraint ?? {}
  const all = [minLength, maxLength, minCodePoints, maxCodePoints, minSize, maxSize, minProperties, maxProperties]
  return [...inner, ...all.filter((length) => length !== undefined && Number.isSafeInteger(length))] as Array<number>
}

const around = (hint: Hint, bound: unknown) => {
  if (typeof bound === "number" && Number.isFinite(bound)) for (const step of [-1, 0, 1]) hint.numbers.add(bound + step)
  if (typeof bound === "bigint") for (const step of [-1n, 0n, 1n]) hint.texts.add(String(bound + step))
  if (bound instanceof Date && !Number.isNaN(bound.getTime())) {
    for (const step of [-1, 0, 1]) {
      const near = new Date(bound.getTime() + step)
      if (!Number.isNaN(near.getTime())) hint.texts.add(near.toISOString())
    }
  }
}

const numbersIn = (value: unknown, depth: number): ReadonlyArray<number> => {
  if (typeof value === "number") return [value]
  if (typeof value !== "object" || value === null || depth === 0) return []
  return Object.values(value).flatMap((inner) => numbersIn(inner, depth - 1))
}
