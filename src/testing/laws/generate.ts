/** Calls that a contract allows, as they are generated. */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import type * as Action from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Call } from "./Law.ts"

/** Where values come from: a narrower schema, or a generator of one's own. */
export type Source<A> = Arbitrary.Arbitrary<A> | Schema.Codec<A, any>

/** Answers that are generated for each question of a call. */
const maxAnswers = 3

/** Generates values; throws where that cannot be derived of the schema. */
export const values = (source: Source<any>): Arbitrary.Arbitrary<any> =>
  Arbitrary.isArbitrary(source)
    ? source
    : SchemaCodec.isVoid(source as Action.AnySchema)
      ? Arbitrary.Constant(undefined)
      : Arbitrary.schema(source as Action.AnySchema)

/** Generates calls of an action, their payloads from another source where one is given. */
export const calls = (action: Action.Any, payload: Source<any> | undefined): Arbitrary.Arbitrary<Call> => {
  const answers: Record<string, Arbitrary.Arbitrary<ReadonlyArray<unknown>>> = {}
  for (const [name, { answer }] of Object.entries(action.asks)) {
    answers[name] = Arbitrary.array(values(answer), { minLength: 1, maxLength: maxAnswers })
  }
  return Arbitrary.all({ payload: values(payload ?? action.payload), answers: Arbitrary.all(answers) })
}

/** Small whole numbers from 0 on. */
export const upTo = (maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum })))
