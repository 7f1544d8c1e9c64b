/** Values of every part of a schema as Effect's generators make them, on the wire, by their places. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as Ast from "./ast.ts"

/** Values of each part. */
const perNode = 4

/** By {@link Ast.keyOf}. */
export type Samples = ReadonlyMap<string, There>

/** Values of one place, smallest first. */
export interface There {
  /** Of what the schema says is there. */
  readonly own: ReadonlyArray<unknown>
  /** Of what that is encoded to: not all of them are its own. */
  readonly targets: ReadonlyArray<unknown>
}

/** Gathers them. Parts of which no values can be generated, or not in time, have none. */
export const gather = (root: SchemaAST.AST, seed: string | number): Effect.Effect<Samples> =>
  Effect.gen(function* () {
    const nodes: Array<readonly [SchemaAST.AST, string, boolean]> = []
    Ast.walk(root, (node, place, isTarget) => nodes.push([node, Ast.keyOf(place), isTarget]))
    const samples = new Map<string, { readonly own: Array<unknown>; readonly targets: Array<unknown> }>()
    const known = new Map<SchemaAST.AST, ReadonlyArray<unknown>>()
    for (const [node, key, isTarget] of nodes) {
      const values = known.get(node) ?? (yield* sample(node, seed))
      known.set(node, values)
      const there = samples.get(key) ?? { own: [], targets: [] }
      there[isTarget ? "targets" : "own"].push(...values)
      samples.set(key, there)
    }
    for (const there of samples.values())
      for (const values of Object.values(there)) values.sort((one, other) => sizeOf(one) - sizeOf(other))
    return samples
  })

const sample = (node: SchemaAST.AST, seed: string | number): Effect.Effect<ReadonlyArray<unknown>> => {
  const schema = Schema.make<Schema.Codec<any, any>>(node)
  return random(schema, { count: perNode, size: 3, seed }).pipe(
    Effect.map((values) => {
      const encode = Schema.encodeUnknownExit(schema)
      return values.flatMap((value) => {
        try {
          const exit = encode(value)
          // Half way between two transformations a value may be none of JSON.
          return Exit.isSuccess(exit) && JSON.stringify(exit.value) !== undefined ? [exit.value] : []
        } catch {
          return []
        }
      })
    }),
    Effect.catch(() => Effect.succeed([]))
  )
}

/** Generates values; fails with the reason where that is not possible. */
export const random = (
  schema: Schema.Codec<any, any>,
  options: Arbitrary.SampleOptions
): Effect.Effect<ReadonlyArray<unknown>, string> =>
  Effect.suspend(() => Arbitrary.sampleEffect(Arbitrary.schema(schema), options)).pipe(
    Effect.mapError(({ generated }) => `only ${generated} of the generated values fit the schema`),
    Effect.catchDefect((defect) => Effect.fail(defect instanceof Error ? defect.message : String(defect)))
  )

const sizeOf = (value: unknown) => JSON.stringify(value).length
