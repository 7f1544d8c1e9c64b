/** Stream entries as Redis replies them, their texts as bytes. What has another form is left out. */
import type { DeadLetter, Entry } from "../Durable.ts"

/** One entry of a reply: its fields by name. */
const fieldsOf = (list: unknown): Map<string, Buffer> => {
  const fields = new Map<string, Buffer>()
  if (!Array.isArray(list)) return fields
  for (let i = 0; i + 1 < list.length; i += 2) fields.set(textOf(list[i]), bytesOf(list[i + 1]))
  return fields
}

const bytesOf = (value: unknown): Buffer => (Buffer.isBuffer(value) ? value : Buffer.from(String(value ?? "")))
const textOf = (value: unknown): string => (Buffer.isBuffer(value) ? value.toString() : String(value ?? ""))
const none = Buffer.alloc(0)

const entryOf = (name: unknown, list: unknown, count: number): Entry => {
  const entry = textOf(name)
  const fields = fieldsOf(list)
  const text = (field: string) => fields.get(field)?.toString() ?? ""
  return {
    entry,
    id: text("id"),
    frame: fields.get("frame") ?? none,
    key: text("key"),
    deliveries: whole(text("n")) + count,
    at: whole(text("at")) || whole(entry.slice(0, entry.indexOf("-")))
  }
}

const whole = (text: string) => {
  const number = Number(text)
  return Number.isSafeInteger(number) && number >= 0 ? number : 0
}

/** Of XREADGROUP: delivered for the first time under its name. */
export const read = (reply: unknown): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  for (const stream of Array.isArray(reply) ? reply : []) {
    for (const entry of Array.isArray(stream) && Array.isArray(stream[1]) ? stream[1] : []) {
      if (Array.isArray(entry)) entries.push(entryOf(entry[0], entry[1], 1))
    }
  }
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
    const fields = fieldsOf(list)
    const text = (field: string) => fields.get(field)?.toString() ?? ""
    return {
      letter,
      id: text("id"),
      key: text("key"),
      frame: fields.get("frame") ?? none,
      deliveries: whole(text("n")),
      reason: text("reason"),
      cause: text("cause"),
      action: text("action"),
      appendedAt: whole(text("at")),
      buriedAt: whole(letter.slice(0, letter.indexOf("-")))
    }
  })
