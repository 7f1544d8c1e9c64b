/**
 * The numbers of a topic's messages, and what publishers and listeners say to each other about them.
 *
 * `ask`, `last` and `refill` travel on a channel beside the topic's own (`Channels.numbers`), `refilled` to the inbox of the listener that
 * asked. Source: docs/wire.md. None names an action, so Daebus services ignore them.
 */
import type { JsonObject } from "./Codec.ts"
import { isCount, isInstance } from "./Envelope.ts"

/** Which message it is: the how-manieth, from 1, that one publisher published on its channel. */
export interface Number {
  readonly from: string
  readonly seq: number
}

/** Reads the number of a message; nothing where it has none. */
export const read = (raw: JsonObject): Number | undefined => {
  const extension = extensionOf(raw)
  if (extension === undefined || extension["numbers"] !== undefined) return undefined
  const { from, seq } = extension
  return isInstance(from) && isCount(seq) && seq > 0 ? { from, seq } : undefined
}

/** The message without its number, as its publisher gave it. */
export const strip = (raw: JsonObject): JsonObject => {
  if (raw["fiberbus"] === undefined || read(raw) === undefined) return raw
  const { fiberbus: _, ...message } = raw
  return message
}

/** Adds its number to the text of a message, a JSON object without a field `fiberbus`. */
export const write = (message: string, { from, seq }: Number): string =>
  `${message.slice(0, -1)}${message === "{}" ? "" : ","}"fiberbus":{"v":1,"from":"${from}","seq":${seq}}}`

/** Asks the publishers of a topic for their last numbers. */
export interface Ask {
  readonly _tag: "Ask"
}

/** What a publisher says of itself: to everyone who listens for numbers. */
export interface Last {
  readonly _tag: "Last"
  readonly from: string
  readonly seq: number
  /** How long ago it published its first message. No clocks are compared. */
  readonly ageMillis: number
}

/** Asks one publisher for messages that were missed, both ends included. */
export interface Refill {
  readonly _tag: "Refill"
  readonly replyTo: string
  readonly from: string
  readonly first: number
  readonly last: number
}

/** Some of them, in order, each the text of its frame: a run from `first` on, of which those are left out that the publisher has no more. */
export interface Refilled {
  readonly _tag: "Refilled"
  readonly channel: string
  readonly from: string
  /** The first that was asked for. */
  readonly first: number
  /** The last that the publisher has looked for; what is missing up to it is gone. */
  readonly until: number
  readonly messages: ReadonlyArray<string>
}

/** @see the file's first line */
export type Said = Ask | Last | Refill | Refilled

/** Messages in one answer, and the length of their texts all together, unless the first alone is longer. */
export const maxRefilled = 64
/** @see {@link maxRefilled} */
export const maxRefilledLength = 32_768

/** Reads what is said about numbers; nothing for messages and all else. */
export const readSaid = (raw: JsonObject): Said | undefined => {
  const extension = extensionOf(raw)
  if (extension === undefined) return undefined
  const { age_ms, channel, first, from, last, numbers, seq, until } = extension
  if (numbers === "ask") return { _tag: "Ask" }
  if (!isInstance(from)) return undefined
  if (numbers === "last") {
    return isCount(seq) && typeof age_ms === "number" && age_ms >= 0
      ? { _tag: "Last", from, seq, ageMillis: age_ms }
      : undefined
  }
  if (!isCount(first)) return undefined
  if (numbers === "refill") {
    const replyTo = raw["reply_to"]
    return isCount(last) && typeof replyTo === "string" ? { _tag: "Refill", replyTo, from, first, last } : undefined
  }
  const messages = raw["messages"]
  return numbers === "refilled" && typeof channel === "string" && isCount(until) && areTexts(messages)
    ? { _tag: "Refilled", channel, from, first, until, messages }
    : undefined
}

/** True for what {@link readSaid} reads and for what later versions may say: no message in any case. */
export const isSaid = (raw: JsonObject): boolean => typeof extensionOf(raw)?.["numbers"] === "string"

/** Writes one. */
export const writeSaid = (said: Said): string => {
  switch (said._tag) {
    case "Ask":
      return JSON.stringify({ fiberbus: { v: 1, numbers: "ask" } })
    case "Last":
      return JSON.stringify({
        fiberbus: { v: 1, numbers: "last", from: said.from, seq: said.seq, age_ms: said.ageMillis }
      })
    case "Refill": {
      const { first, from, last, replyTo } = said
      return JSON.stringify({ reply_to: replyTo, fiberbus: { v: 1, numbers: "refill", from, first, last } })
    }
    case "Refilled": {
      const { channel, first, from, messages, until } = said
      return JSON.stringify({ fiberbus: { v: 1, numbers: "refilled", channel, from, first, until }, messages })
    }
  }
}

const extensionOf = (raw: JsonObject): Record<string, unknown> | undefined => {
  const extension = raw["fiberbus"]
  return typeof extension === "object" && extension !== null && (extension as Record<string, unknown>)["v"] === 1
    ? (extension as Record<string, unknown>)
    : undefined
}

const areTexts = (value: unknown): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.length <= maxRefilled && value.every((text) => typeof text === "string")
