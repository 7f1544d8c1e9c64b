/**
 * Long texts behind the JSON instead of in it, for receivers that have said that they take it: what JSON costs for text, it costs per character.
 *
 * A frame is `~[envelope,[bytes,…path],…]`, a line feed, and the texts one after the other, as they are. Where each was there is `""` in the
 * envelope's payload. All of it is text, so that every transport carries it; no JSON begins with `~`. Source: docs/wire.md.
 */
import { Buffer, isAscii, isUtf8 } from "node:buffer"
import type { JsonObject } from "./Codec.ts"

/** The version that is written and read: what a receiver says as `texts`. */
export const version = 1

/** Shorter texts stay where they are, in characters. */
export const minLength = 1_024

/** A payload whose long texts are shorter than this all together stays JSON, in characters. Such frames are never packed either. */
export const minTotal = 8_192

/** Texts that one frame has behind it at most. */
export const maxCount = 64

/** Steps from the payload to a text at most. */
export const maxPath = 8

/** Values that are looked at for long texts, of one payload: what is larger for its many values gains little. */
const maxLooks = 256

/** True for what a receiver says by which it may be sent such frames. */
export const isTaken = (texts: unknown): boolean => Number.isSafeInteger(texts) && (texts as number) >= version

/** A payload, and the texts that are taken out of it. */
export interface Lifted {
  /** The payload with `""` in their places. What was given is not changed. */
  readonly json: unknown
  readonly paths: ReadonlyArray<ReadonlyArray<string | number>>
  readonly texts: ReadonlyArray<string>
}

type Path = Array<string | number>

// What is found is bounded by what is looked at, of both passes.
let looks = 0

const mayHold = (value: unknown): value is string | object =>
  typeof value === "string" ? value.length >= minLength : typeof value === "object" && value !== null

/** Characters of the long texts in a payload, without a copy of anything: most have none. */
const lengthIn = (value: string | object, depth: number): number => {
  if (typeof value === "string") return value.length
  let length = 0
  if (depth >= maxPath) return 0
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && looks++ < maxLooks; i++) {
      if (mayHold(value[i])) length += lengthIn(value[i], depth + 1)
    }
    return length
  }
  for (const key in value) {
    if (looks++ >= maxLooks) break
    const field = (value as JsonObject)[key]
    if (mayHold(field)) length += lengthIn(field, depth + 1)
  }
  return length
}

/** Where they are. */
const find = (value: string | object, path: Path, paths: Array<Path>, texts: Array<string>): void => {
  if (typeof value === "string") {
    // Half a surrogate pair has no UTF-8; JSON escapes it.
    if (texts.length === maxCount || !value.isWellFormed()) return
    paths.push([...path])
    texts.push(value)
  } else if (path.length < maxPath && isPlain(value)) {
    const step = (key: string | number, field: unknown) => {
      if (!mayHold(field)) return
      path.push(key)
      find(field, path, paths, texts)
      path.pop()
    }
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length && looks++ < maxLooks; i++) step(i, value[i])
    } else {
      for (const key in value) {
        if (looks++ >= maxLooks) return
        step(key, (value as JsonObject)[key])
      }
    }
  }
}

/** Takes the long texts out of a payload; nothing where it has none that are worth it. */
export const lift = (payload: unknown): Lifted | undefined => {
  if (!mayHold(payload)) return undefined
  looks = 0
  if (lengthIn(payload, 0) < minTotal) return undefined
  looks = 0
  const paths: Array<Path> = []
  const texts: Array<string> = []
  find(payload, [], paths, texts)
  let length = 0
  for (const text of texts) length += text.length
  if (length < minTotal) return undefined
  const copies = new Set<object>()
  let json: unknown = payload
  for (const path of paths) json = without(json, path, 0, copies)
  return { json, paths, texts }
}

/** Writes `""` at a path, into copies of what is on the way there. */
const without = (value: unknown, path: Path, at: number, copies: Set<object>): unknown => {
  if (at === path.length) return ""
  const copy = copies.has(value as object) ? value : Array.isArray(value) ? [...value] : { ...(value as object) }
  copies.add(copy as object)
  const key = path[at] as string
  // Of a copy, hence its own, whatever its name.
  ;(copy as Record<string, unknown>)[key] = without((copy as JsonObject)[key], path, at + 1, copies)
  return copy
}

// What JSON.stringify would ask for another value, or take for one, must not be copied.
const isPlain = (value: object): boolean => {
  if (typeof (value as { readonly toJSON?: unknown }).toJSON === "function") return false
  if (Array.isArray(value)) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Writes a frame of an envelope that was written around `lifted.json`. */
export const write = (envelope: string, { paths, texts }: Lifted): string => {
  let table = ""
  let tail = ""
  for (let i = 0; i < texts.length; i++) {
    table += `,${JSON.stringify([Buffer.byteLength(texts[i]!), ...paths[i]!])}`
    tail += texts[i]
  }
  return `~[${envelope}${table}]\n${tail}`
}

/** The byte that they begin with. */
export const mark = 0x7e
const lineFeed = 0x0a

/** True for frames that begin as one of these. */
export const isOne = (frame: string | Uint8Array): boolean =>
  (typeof frame === "string" ? frame.charCodeAt(0) : frame[0]) === mark

/** Why a frame is none. */
export type Problem = "NotUtf8" | "TooMany" | "BadTexts"

/** A frame's JSON, an array of the envelope and of where its texts belong; and the texts. Or why it has neither. */
export const split = (
  frame: string | Uint8Array
): { readonly head: string; readonly tail: string | Uint8Array } | Problem => {
  if (typeof frame === "string") {
    const end = frame.indexOf("\n")
    return end < 0 ? "BadTexts" : { head: frame.slice(1, end), tail: frame.slice(end + 1) }
  }
  const end = frame.indexOf(lineFeed)
  if (end < 0) return "BadTexts"
  const head = decode(frame, 1, end)
  return head === undefined ? "NotUtf8" : { head, tail: frame.subarray(end + 1) }
}

/** Puts the texts in their places: the envelope, or why they have none. */
export const place = (head: unknown, tail: string | Uint8Array): JsonObject | Problem => {
  if (!Array.isArray(head)) return "BadTexts"
  const [envelope, ...table] = head as ReadonlyArray<unknown>
  if (table.length > maxCount) return "TooMany"
  if (typeof envelope !== "object" || envelope === null || Array.isArray(envelope) || !table.every(isEntry))
    return "BadTexts"
  let total = 0
  for (const [bytes] of table) total += bytes
  // As many characters as bytes: all are ASCII. Otherwise bytes are what is counted.
  const behind = typeof tail === "string" && tail.length !== total ? Buffer.from(tail) : tail
  if (behind.length !== total) return "BadTexts"
  let from = 0
  for (const entry of table) {
    const to = from + entry[0]
    const text = typeof behind === "string" ? behind.slice(from, to) : decode(behind, from, to)
    if (text === undefined) return "NotUtf8"
    if (!put(envelope as JsonObject, entry, text)) return "BadTexts"
    from = to
  }
  return envelope as JsonObject
}

type Entry = readonly [bytes: number, ...path: Path]

const isEntry = (entry: unknown): entry is Entry =>
  Array.isArray(entry) &&
  entry.length <= 1 + maxPath &&
  Number.isSafeInteger(entry[0]) &&
  entry[0] > 0 &&
  entry.every((step) => typeof step === "string" || (Number.isSafeInteger(step) && step >= 0))

/** Puts a text where `""` stands, and nowhere else: a path names own fields only. */
const put = (envelope: JsonObject, entry: Entry, text: string): boolean => {
  let within: unknown = envelope
  let key: string | number = "payload"
  for (let i = 1; i <= entry.length; i++) {
    if (typeof within !== "object" || within === null || !Object.hasOwn(within, key)) return false
    const value: unknown = (within as JsonObject)[key]
    if (i === entry.length) {
      if (value !== "") return false
      ;(within as Record<string, unknown>)[key] = text
      return true
    }
    within = value
    key = entry[i]!
  }
  return false
}

// Each for itself: a text that is ASCII stays at one byte per character, and none keeps the whole frame alive.
const decode = (bytes: Uint8Array, from: number, to: number): string | undefined => {
  const part = Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from)
  if (isAscii(part)) return part.toString("latin1")
  return isUtf8(part) ? part.toString() : undefined
}
