/** Random frames from a seed: the same seed brings the same frames, so a failing run is named by its number. */

/** @see {@link make} */
export interface Random {
  /** An integer from 0 to below a limit. */
  readonly below: (limit: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(items: ReadonlyArray<A>) => A
}

/** Makes a generator (mulberry32). */
export const make = (seed: number): Random => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    below: (limit) => Math.floor(next() * limit),
    chance: (probability) => next() < probability,
    pick: (items) => items[Math.floor(next() * items.length)]!
  }
}

/** Names that mean something to JavaScript or to Effect. */
export const treacherousKeys = [
  "__proto__",
  "constructor",
  "prototype",
  "then",
  "toJSON",
  "toString",
  "valueOf",
  "hasOwnProperty",
  "length",
  "_tag",
  "_id",
  "~effect/Effect",
  "~effect/Effect/args",
  "~effect/Exit",
  "~effect/Cause",
  "~effect/Stream",
  "~effect/Hash",
  "~effect/Equal",
  "~effect/Option",
  "Symbol.iterator",
  ""
]

/** Texts that are easily mistaken for something else. */
export const treacherousTexts = [
  ...treacherousKeys,
  "fx",
  "caller:x",
  "caller:*",
  "caller:\u0000",
  "caller:\n\r",
  "caller:\u202e",
  "echo",
  "null",
  "NaN",
  "[[[[[[[[",
  '"',
  "\\",
  '{"a":1}',
  "\ud83d",
  "\udc00\ud83d",
  "é你🚀",
  "\u0000\u0007\u001b[31m\u2028",
  "x".repeat(300),
  "Success",
  "Failure"
]

const scalars: ReadonlyArray<unknown> = [null, true, false, 0, -0, 1, -1, 0.1, 1e308, -1e308, 2 ** 53, 5e-324, 17]

/** Any JSON value, with treacherous names and texts in it. */
export const value = (random: Random, depth = 4): unknown => {
  const kind = random.below(depth === 0 ? 4 : 8)
  if (kind < 2) return random.pick(scalars)
  if (kind < 4) return random.pick(treacherousTexts)
  if (kind < 6) return Array.from({ length: random.below(4) }, () => value(random, depth - 1))
  const entries = Array.from({ length: random.below(5) }, (): [string, unknown] => [
    random.pick(treacherousTexts),
    value(random, depth - 1)
  ])
  return Object.fromEntries(entries)
}

const noise = [
  '"',
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  "\\",
  "NaN",
  "Infinity",
  "-Infinity",
  "1e999",
  "\u0000",
  "\ufeff",
  "\ud83d",
  '"reply_to":"fx"',
  '"__proto__":{"action":"echo"}'
]

/** Changes a text at a few places: cut, doubled, replaced, with brackets, quotes and tokens thrown in. */
export const mutate = (random: Random, text: string): string => {
  let mutated = text
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    const at = random.below(mutated.length + 1)
    const to = Math.min(mutated.length, at + random.below(12))
    const middle = random.pick([
      () => "",
      () => random.pick(noise),
      () => random.pick(noise).repeat(random.below(80)),
      () => mutated.slice(at, to) + mutated.slice(at, to),
      () => String.fromCharCode(random.below(65_536)),
      () => JSON.stringify(value(random, 2))
    ])()
    mutated = mutated.slice(0, at) + middle + mutated.slice(to)
  }
  return mutated
}

/** Any bytes, or the bytes of a text with some of them changed. */
export const bytes = (random: Random, text: string): Uint8Array => {
  if (random.chance(0.3)) return Uint8Array.from({ length: random.below(200) }, () => random.below(256))
  const changed = Uint8Array.from(Buffer.from(text))
  for (let changes = 1 + random.below(3); changes > 0 && changed.length > 0; changes--) {
    changed[random.below(changed.length)] = random.below(256)
  }
  return changed
}
