/** When two answers count as the same. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { CallError } from "../../client/CallError.ts"
import type * as Action from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Answered } from "./Bench.ts"

/** Equal successes or declared errors, by their schemas; outcomes on the way that have the same reason. Steps are not compared. */
export const answers = (action: Action.Any, { exit: one }: Answered, { exit: other }: Answered): boolean => {
  if (one === undefined || other === undefined) return one === other
  if (Exit.isSuccess(one) && Exit.isSuccess(other)) return equal(action.success, one.value, other.value)
  const [first, second] = [failureOf(one), failureOf(other)]
  if (first === undefined || second === undefined) return false
  if (first instanceof CallError || second instanceof CallError) {
    return first instanceof CallError && second instanceof CallError && first.reason._tag === second.reason._tag
  }
  return equal(action.error, first, second)
}

const equal = (schema: Action.AnySchema, one: unknown, other: unknown) =>
  SchemaCodec.isVoid(schema) || Schema.toEquivalence(schema)(one, other)

const failureOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
