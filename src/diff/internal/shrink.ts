/** Makes a value on the wire smaller, as long as it stays what it is an example of. */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { isRecord } from "./values.ts"

/** Smaller values that are tried. */
export const maxTries = 1_000

/** The smallest found. `keep` gives a candidate back, as its schema writes it, where it still is an example; else nothing. */
export const shrink = (
  value: Schema.Json,
  keep: (candidate: unknown) => Effect.Effect<Schema.Json | undefined>
): Effect.Effect<Schema.Json> =>
  Effect.gen(function* () {
    let best = value
    let tries = 0
    const seen = new Set<string>([JSON.stringify(value)])
    for (let better = true; better; ) {
      better = false
      for (const candidate of smaller(best)) {
        const text = JSON.stringify(candidate)
        if (seen.has(text)) continue
        seen.add(text)
        if (tries++ >= maxTries) return best
        const kept = yield* keep(candidate)
        if (kept === undefined || !isSimpler(kept, best)) continue
        best = kept
        better = true
        break
      }
    }
    return best
  })

const isSimpler = (one: Schema.Json, other: Schema.Json): boolean => {
  const [first, second] = [weigh(one), weigh(other)]
  return first === second ? JSON.stringify(one) < JSON.stringify(other) : first < second
}

// What stays the same length gets simpler: letters an `a`, then numbers lower. 1e21 is a long number.
const weigh = (value: Schema.Json): number => {
  const text = JSON.stringify(value).replaceAll(/\de[+-]?(\d+)/g, (_, zeros: string) => "9".repeat(Number(zeros)))
  let simple = 0
  for (const char of text) simple += /[a0-9]/.test(char) ? 0 : 1
  return text.length * 1_000_000 + Math.min(simple, 999_999)
}

function* smaller(value: unknown): Generator<unknown> {
  if (typeof value === "string") return yield* texts(value)
  if (typeof value === "number") return yield* numbers(value)
  if (value === true) return yield false
  if (Array.isArray(value)) {
    yield []
    for (let size = Math.floor(value.length / 2); size >= 1; size = Math.floor(size / 2)) {
      // Of a long one not every piece is worth a try.
      const step = Math.max(size, Math.ceil(value.length / 16))
      for (let index = 0; index < value.length; index += step) yield value.toSpliced(index, size)
    }
    // The items of a long one are rarely what it is about.
    const [least] = [...value].sort((one, other) => JSON.stringify(one).length - JSON.stringify(other).length)
    if (value.length > 1) yield value.map(() => least)
    for (const [index, item] of value.entries()) for (const less of smaller(item)) yield value.with(index, less)
    return
  }
  if (!isRecord(value)) return
  const entries = Object.entries(value)
  if (entries.length > 1) yield Object.fromEntries(entries.slice(0, Math.floor(entries.length / 2)))
  for (const [key] of entries) yield Object.fromEntries(entries.filter(([other]) => other !== key))
  for (const [key, inner] of entries) {
    for (const less of smaller(inner)) {
      yield Object.fromEntries(entries.map(([other, item]) => [other, other === key ? less : item]))
    }
  }
}

function* texts(text: string): Generator<string> {
  if (text === "") return
  yield ""
  yield "a"
  for (let cut = Math.floor(text.length / 2); cut >= 1; cut = Math.floor(cut / 2)) {
    yield text.slice(0, -cut)
    yield text.slice(cut)
  }
  yield "a".repeat(text.length)
}

function* numbers(number: number): Generator<number> {
  if (number === 0) return
  yield 0
  yield 1
  if (number < 0) yield -number
  for (let power = 10; power < Math.abs(number) && power < 1e22; power *= 10) yield Math.sign(number) * power
  if (!Number.isInteger(number)) yield Math.trunc(number)
  for (let step = Math.trunc(number / 2); Math.abs(step) >= 1; step = Math.trunc(step / 2)) yield number - step
}
