/** Stream entries as Redis replies them, their texts as bytes or, where these are plain ASCII, text. What has another form is left out. */

import type { DeadLetter, Entry } from "../Durable.ts"
import type { Frame } from "../Transport.ts"

const frameOf = (value: unknown): Frame => (Buffer.isBuffer(value) ? value : textOf(value))
const textOf = (value: unknown): string =>
  typeof value === "string" ? value : Buffer.isBuffer(value) ? value.toString() : String(value ?? "")

const entryOf = (name: unknown, list: unknown, count: number, claimed = false): Entry => {
  const entry = textOf(name)
  let id = ""
  let frame: Frame = ""
  let key = ""
  let before = 0
  let at = 0
  const fields = Array.isArray(list) ? list : []
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const value: unknown = fields[i + 1]
    switch (textOf(fields[i])) {
      case "id":
        id = textOf(value)
        break
      case "frame":
        frame = frameOf(value)
        break
      case "key":
        key = textOf(value)
        break
      case "n":
        before = whole(textOf(value))
        break
      case "at":
        at = whole(textOf(value))
    }
  }
  at ||= whole(entry.slice(0, entry.indexOf("-")))
  return { entry, id, frame, key, deliveries: before + count, at, claimed }
}

const whole = (text: string) => {
  const number = Number(text)
  return Number.isSafeInteger(number) && number >= 0 ? number : 0
}

/**
 * Of XREADGROUP: delivered for the first time under its name. With CLAIM, which adds for how long each was silent and how often it had been
 * delivered, those that are taken over too.
 */
export const read = (reply: unknown): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  const add = (list: unknown) => {
    for (const entry of Array.isArray(list) ? list : []) {
      if (!Array.isArray(entry)) continue
      const before = whole(textOf(entry[3]))
      entries.push(entryOf(entry[0], entry[1], before + 1, before > 0))
    }
  }
  // A list of streams with their entries; in RESP3 a map, whose keys and values come in turn.
  const streams: ReadonlyArray<unknown> = Array.isArray(reply) ? reply : []
  if (Array.isArray(streams[0])) for (const stream of streams) add(Array.isArray(stream) ? stream[1] : undefined)
  else for (let i = 1; i < streams.length; i += 2) add(streams[i])
  return entries
}

/** Of the library's `claim` and `own`. */
export const deliveries = (reply: unknown): { readonly entries: ReadonlyArray<Entry>; readonly lost: number } => {
  const [lost, list] = Array.isArray(reply) ? reply : []
  const entries = (Array.isArray(list) ? list : []).map(([name, count, fields]) =>
    entryOf(name, fields, whole(textOf(count)))
  )
  return { entries, lost: whole(textOf(lost)) }
}

/** Of XRANGE over dead letters. */
export const letters = (reply: unknown): ReadonlyArray<DeadLetter> =>
  (Array.isArray(reply) ? reply : []).map(([name, list]) => {
    const letter = textOf(name)
    const fields = new Map<string, unknown>()
    if (Array.isArray(list)) for (let i = 0; i + 1 < list.length; i += 2) fields.set(textOf(list[i]), list[i + 1])
    const text = (field: string) => textOf(fields.get(field))
    return {
      letter,
      id: text("id"),
      key: text("key"),
      frame: frameOf(fields.get("frame")),
      deliveries: whole(text("n")),
      reason: text("reason"),
      cause: text("cause"),
      action: text("action"),
      appendedAt: whole(text("at")),
      buriedAt: whole(letter.slice(0, letter.indexOf("-")))
    }
  })
