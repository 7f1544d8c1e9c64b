/**
 * Frames to JSON objects: the guard that every byte from outside passes before anything else looks at it.
 *
 * Total: a frame becomes a {@link JsonObject} or a {@link Malformed}, whatever it holds; nothing throws.
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as LongTexts from "./LongTexts.ts"

/** A parsed JSON object. Its keys are data: read it only by own names, never merge it into something else. */
export interface JsonObject {
  readonly [key: string]: unknown
}

/** Why a frame was not read. */
export type MalformedReason = "TooLarge" | "NotUtf8" | "TooDeep" | "NotJson" | "NotAnObject" | "TooMany" | "BadTexts"

/** A frame that is no message. There is one value per reason. */
export class Malformed {
  readonly reason: MalformedReason
  constructor(reason: MalformedReason) {
    this.reason = reason
  }
}

const tooLarge = new Malformed("TooLarge")
const notUtf8 = new Malformed("NotUtf8")
const tooDeep = new Malformed("TooDeep")
const notJson = new Malformed("NotJson")
const tooMany = new Malformed("TooMany")
const notAnObject = new Malformed("NotAnObject")
const badTexts = new Malformed("BadTexts")

/**
 * Deepest nesting of arrays and objects that is read.
 *
 * Source: `JSON.parse` takes a million levels, but `JSON.stringify` and recursive schemas overflow the stack at a few
 * thousand.
 */
export const maxDepth = 64

/** Largest frame in bytes where a transport says nothing else: 1 MiB. */
export const defaultMaxBytes = 1_048_576

/** Length of a text in bytes of UTF-8. */
export const byteLength = (text: string): number => Buffer.byteLength(text)

/** True when a text has more bytes than a limit; counts them only where the number of characters leaves it open. */
export const isLarger = (text: string, maxBytes: number): boolean =>
  text.length > maxBytes || (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes)

/**
 * Reads a frame, also one with `LongTexts` behind its JSON.
 *
 * Bare `NaN`, `Infinity` and `-Infinity`, which Python peers write, become the numbers they name.
 */
export const parse = (frame: string | Uint8Array, maxBytes: number): JsonObject | Malformed => {
  if (LongTexts.isOne(frame)) return parseLongTexts(frame, maxBytes)
  const text = textOf(frame, maxBytes)
  if (typeof text !== "string") return text
  const value = parseText(text)
  return value instanceof Malformed ? value : asObject(value)
}

/**
 * Reads a frame that may be a pack, an array of objects: each of these for itself, or one {@link Malformed} where nothing can be read.
 * At most so many.
 */
export const parseEach = (
  frame: string | Uint8Array,
  maxBytes: number,
  maxCount: number
): JsonObject | Malformed | ReadonlyArray<JsonObject | Malformed> => {
  if (LongTexts.isOne(frame)) return parseLongTexts(frame, maxBytes)
  const text = textOf(frame, maxBytes)
  if (typeof text !== "string") return text
  const value = parseAny(text)
  if (value instanceof Malformed) return value
  if (!Array.isArray(value)) return isTooDeepFor(text, value) ? tooDeep : asObject(value)
  if (value.length === 0) return notAnObject
  if (value.length > maxCount) return tooMany
  for (let i = 0; i < value.length; i++) value[i] = isTooDeepFor(text, value[i]) ? tooDeep : asObject(value[i])
  return value
}

const parseLongTexts = (frame: string | Uint8Array, maxBytes: number): JsonObject | Malformed => {
  if (typeof frame === "string" ? isLarger(frame, maxBytes) : frame.byteLength > maxBytes) return tooLarge
  const parts = LongTexts.split(frame)
  if (typeof parts === "string") return problems[parts]
  const head = parseAny(parts.head)
  if (head instanceof Malformed) return head
  const envelope = LongTexts.place(head, parts.tail)
  if (typeof envelope === "string") return problems[envelope]
  return isTooDeepFor(parts.head, envelope) ? tooDeep : envelope
}

const problems: Record<LongTexts.Problem, Malformed> = { NotUtf8: notUtf8, TooMany: tooMany, BadTexts: badTexts }

const textOf = (frame: string | Uint8Array, maxBytes: number): string | Malformed => {
  if (typeof frame === "string") return isLarger(frame, maxBytes) ? tooLarge : frame
  if (frame.byteLength > maxBytes) return tooLarge
  if (!isUtf8(frame)) return notUtf8
  return (Buffer.isBuffer(frame) ? frame : Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)).toString()
}

const asObject = (value: unknown): JsonObject | Malformed =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : notAnObject

// The parser needs no stack, and a walk over values takes a fraction of one over the text.
const isTooDeepFor = (text: string, value: unknown): boolean => text.length > 2 * maxDepth && nestsTooDeep(value)

/** Reads JSON text of any kind, with the same limit of nesting and the same three tokens. */
export const parseText = (text: string): unknown => {
  const value = parseAny(text)
  return !(value instanceof Malformed) && isTooDeepFor(text, value) ? tooDeep : value
}

const parseAny = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    if (isTooDeep(text)) return tooDeep
    return text.includes("NaN") || text.includes("Infinity") ? parseLenient(text) : notJson
  }
}

const tokens = new Map([
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY]
])
const marker = `\u0000fiberbus-${Math.random()}-`
const marked = new Map(Array.from(tokens, ([token, number]) => [marker + token, number]))

// Outside of strings the three tokens become texts that nothing else holds. Text is no JSON beside a digit or a letter, so
// only a token that stands for a whole value is read. A loop, because a regular expression over strings of any length
// overflows its stack, or takes the square of their length where they don't end.
const parseLenient = (text: string): unknown => {
  let strict = ""
  let copied = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 34) i = endOfString(text, i)
    else if (code === 78 || code === 73) {
      const token = code === 78 ? "NaN" : text.charCodeAt(i - 1) === 45 ? "-Infinity" : "Infinity"
      const end = i + (code === 78 ? 3 : 8)
      if (!text.startsWith(token, end - token.length)) return notJson
      strict += text.slice(copied, end - token.length) + JSON.stringify(marker + token)
      copied = end
      i = end - 1
    }
  }
  try {
    return JSON.parse(strict + text.slice(copied), (key, value) => {
      if (marked.has(key)) throw notJson
      return typeof value === "string" ? (marked.get(value) ?? value) : value
    })
  } catch {
    return notJson
  }
}

/** Where the quote is that ends a string; the end of the text if there is none. */
const endOfString = (text: string, quote: number): number => {
  for (let i = quote + 1; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 92) i++
    else if (code === 34) return i
  }
  return text.length
}

/** True when brackets outside of strings nest deeper than {@link maxDepth}. */
export const isTooDeep = (text: string): boolean => {
  // Most frames have few brackets at all; only the others are worth telling strings from structure.
  return text.length > maxDepth && hasManyBrackets(text) && scanDepth(text)
}

const hasManyBrackets = (text: string): boolean => {
  let opening = 0
  for (let i = text.indexOf("{"); i !== -1; i = text.indexOf("{", i + 1)) if (++opening > maxDepth) return true
  for (let i = text.indexOf("["); i !== -1; i = text.indexOf("[", i + 1)) if (++opening > maxDepth) return true
  return false
}

const scanDepth = (text: string): boolean => {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inString) {
      if (code === 92) i++
      else if (code === 34) inString = false
    } else if (code === 34) inString = true
    else if (code === 123 || code === 91) {
      if (++depth > maxDepth) return true
    } else if (code === 125 || code === 93) depth--
  }
  return false
}

/**
 * True when a value nests deeper than {@link maxDepth}, counting `depth` levels around it. Looks at values, not at text, so that long
 * texts cost nothing; a cycle is deeper than any limit.
 */
export const nestsTooDeep = (value: unknown, depth = 0): boolean => {
  if (typeof value !== "object" || value === null) return false
  if (depth >= maxDepth) return true
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === "object" && nestsTooDeep(item, depth + 1)) return true
    return false
  }
  for (const key in value) {
    const field = (value as JsonObject)[key]
    if (typeof field === "object" && nestsTooDeep(field, depth + 1)) return true
  }
  return false
}
