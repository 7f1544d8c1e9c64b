/**
 * What a caller says about a request on its way: that it takes it back, that it has room for more steps, what it answers to a
 * question. Sent on the service's channel, or on that of the process which sends the steps: it is heard there until its last handler ends,
 * also when it takes no more requests.
 *
 * Source: docs/wire.md. These name no action, so Daebus services ignore them.
 */
import type { JsonObject } from "./Codec.ts"
import { isCount } from "./Envelope.ts"

/** Fields of every one of them. */
interface About {
  /** The caller's inbox and the id of its request: by both together a service knows what is meant. */
  readonly replyTo: string
  readonly requestId: string
  /** The process it is for, of several that serve the name; nothing if it is for all. */
  readonly by: string | undefined
}

/** Nobody waits for the answer any more. */
export interface Cancel extends About {
  readonly _tag: "Cancel"
}

/** So many steps in all may be sent, those that were sent before included: one that is lost is made good by the next. */
export interface Credit extends About {
  readonly _tag: "Credit"
  readonly until: number
}

/** The answer to a question, or why there is none. */
export interface Answer extends About {
  readonly _tag: "Answer"
  readonly ask: number
  readonly answer: { readonly json: unknown } | { readonly declined: string }
}

/** @see the file's first line */
export type Control = Cancel | Credit | Answer

/** Longest reason that is read of one who does not answer, in characters. */
const maxDeclinedLength = 1_000

/** Reads a message that names no action; nothing if it is none of these. */
export const read = (raw: JsonObject): Control | undefined => {
  const extension = raw["fiberbus"]
  const replyTo = raw["reply_to"]
  if (typeof extension !== "object" || extension === null || typeof replyTo !== "string") return undefined
  const { answer, ask, by, cancel, credit, declined, until, v } = extension as Record<string, unknown>
  if (v !== 1 || (by !== undefined && typeof by !== "string")) return undefined
  if (typeof cancel === "string") return { _tag: "Cancel", requestId: cancel, replyTo, by }
  if (typeof credit === "string") {
    return isCount(until) ? { _tag: "Credit", requestId: credit, replyTo, by, until } : undefined
  }
  if (typeof answer !== "string" || !isCount(ask)) return undefined
  const given =
    typeof declined === "string" ? { declined: declined.slice(0, maxDeclinedLength) } : { json: raw["payload"] }
  return { _tag: "Answer", requestId: answer, replyTo, by, ask, answer: given }
}

/** Writes one. */
export const write = (control: Control): string => {
  const { by, replyTo, requestId } = control
  switch (control._tag) {
    case "Cancel":
      return JSON.stringify({ reply_to: replyTo, fiberbus: { v: 1, cancel: requestId, by } })
    case "Credit":
      return JSON.stringify({ reply_to: replyTo, fiberbus: { v: 1, credit: requestId, by, until: control.until } })
    case "Answer": {
      const { answer, ask } = control
      return "json" in answer
        ? JSON.stringify({ reply_to: replyTo, payload: answer.json, fiberbus: { v: 1, answer: requestId, by, ask } })
        : JSON.stringify({ reply_to: replyTo, fiberbus: { v: 1, answer: requestId, by, ask, ...answer } })
    }
  }
}
