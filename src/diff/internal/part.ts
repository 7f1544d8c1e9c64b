/** Compares one part of a contract in one direction: what one schema writes, the other reads. */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { AnySchema } from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import * as Ast from "./ast.ts"
import * as Hints from "./hints.ts"
import * as Judge from "./judge.ts"
import * as Samples from "./samples.ts"
import { shrink } from "./shrink.ts"
import * as Values from "./values.ts"

/** How values are made. */
export interface Settings {
  readonly runs: number
  readonly size: number
  readonly seed: string | number
}

/** Something that becomes of some values. */
export interface Problem extends Judge.Remark {
  /** The smallest value found, as it is on the wire. */
  readonly witness: Schema.Json
}

/** What is known after a comparison. */
export interface Compared {
  readonly problems: ReadonlyArray<Problem>
  /** Values that were tried. */
  readonly tried: number
  /** Why what is known is not all; nothing where it is. */
  readonly missing: string | undefined
}

/** Most kinds of problems of one part. */
const maxProblems = 30

/** Compares. A part that was left out writes nothing, and reads whatever comes. */
export const compare = (writer: AnySchema, reader: AnySchema, settings: Settings): Effect.Effect<Compared> =>
  Effect.gen(function* () {
    const pair = Judge.make(writer, reader)
    const [codec, other] = [Ast.codecOf(writer), Ast.codecOf(reader)]
    const names = new Set([...Ast.fieldNames(codec), ...Ast.fieldNames(other)])
    const guesses = Values.guess(codec, Hints.gather([codec, other]), yield* Samples.gather(codec, settings.seed))
    let missing = guesses.missing ?? Hints.beyond(codec, other)
    const random = yield* Effect.catch(randomOf(writer, settings), (why) => {
      missing ??= `no values can be made at random: ${why}`
      return Effect.succeed([])
    })

    const examples = new Map<string, Example>()
    const tried = new Set<string>()
    const own = SchemaCodec.make(writer)
    const consider = function* (guess: unknown) {
      const json = yield* pair.written(guess)
      if (json === undefined) return
      const text = JSON.stringify(json)
      if (tried.has(text)) return
      tried.add(text)
      const remarks = yield* pair.read(json)
      for (const remark of remarks) {
        const key = keyOf(remark, names)
        const known = examples.get(key)
        const example = { json, length: text.length, remarks: remarks.length }
        if (known === undefined && examples.size >= maxProblems) missing = `more than ${maxProblems} kinds of problems`
        else if (known === undefined || isClearer(example, known)) examples.set(key, example)
      }
    }
    for (const guess of guesses.values) yield* consider(guess)
    for (const value of random) {
      const encoded = yield* Effect.exit(Effect.suspend(() => own.encode(value)))
      if (encoded._tag === "Success") yield* consider(encoded.value)
    }

    const problems: Array<Problem> = []
    for (const [key, { json, remarks: most }] of examples) {
      let found: Judge.Remark | undefined
      const keep = (candidate: unknown) =>
        Effect.gen(function* () {
          const written = yield* pair.written(candidate)
          if (written === undefined) return undefined
          const remarks = yield* pair.read(written)
          if (remarks.length > most) return undefined
          return remarks.some((remark) => keyOf(remark, names) === key) ? written : undefined
        })
      const witness = yield* shrink(json, keep)
      for (const remark of yield* pair.read(witness)) if (keyOf(remark, names) === key) found ??= remark
      problems.push({ ...found!, witness })
    }
    if (tried.size === 0)
      missing = `no value of it was found that its own schema can write and read${missing === undefined ? "" : ` (${missing})`}`
    return { problems, tried: tried.size, missing }
  })

const randomOf = (writer: AnySchema, { runs, seed, size }: Settings): Effect.Effect<ReadonlyArray<unknown>, string> =>
  SchemaCodec.isVoid(writer) || runs === 0 ? Effect.succeed([]) : Samples.random(writer, { count: runs, size, seed })

interface Example {
  readonly json: Schema.Json
  readonly length: number
  /** What else is wrong with it is counted as well. */
  readonly remarks: number
}

/** One that shows nothing else, or a shorter one. */
const isClearer = (one: Example, other: Example) =>
  one.remarks === other.remarks ? one.length < other.length : one.remarks < other.remarks

/** Items and keys of records are one place; what stands instead of a value does not make another problem. */
const keyOf = ({ expected, kind, path }: Judge.Remark, names: ReadonlySet<string>): string =>
  JSON.stringify([kind, path.map((step) => (names.has(step) ? step : Ast.any)), kind === "refused" ? expected : ""])
