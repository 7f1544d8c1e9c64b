/** Calls at the same time are answered like each of them alone: none sees anything of another. */
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Action from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Answered } from "./Bench.ts"
import { type Call, type Law, Violation } from "./Law.ts"
import * as Same from "./same.ts"
import * as Show from "./show.ts"

const together = { minLength: 2, maxLength: 5 }

/**
 * It concerns actions that are annotated as `Idempotent`, and those that the option `isolated` names: of others an answer may well depend
 * on what came before. Where answers differ from one round of single calls to the next, nothing is said.
 */
export const isolated: Law = {
  name: "keeps requests apart",
  applies: ({ annotations, items, name }, { settings }) =>
    SchemaCodec.isNever(items) && (Context.get(annotations, Action.Idempotent) || settings.isolated.includes(name)),
  prepare: (subject) => ({
    inputs: Arbitrary.array(subject.calls, together),
    holds: (bench, calls: ReadonlyArray<Call>) =>
      Effect.gen(function* () {
        const { action } = bench
        const alone = yield* Effect.forEach(calls, bench.call)
        const again = yield* Effect.forEach(calls, bench.call)
        const same = (one: ReadonlyArray<Answered>, other: ReadonlyArray<Answered>) =>
          one.findIndex((answered, index) => !Same.answers(action, answered, other[index]!))
        if (same(alone, again) !== -1) return
        const answered = yield* bench.finish(yield* Effect.forEach(calls, bench.begin))
        const other = same(alone, answered)
        if (other === -1) return
        return yield* new Violation({
          because: `call ${other + 1} of ${calls.length} at the same time got another answer than alone`,
          cameBack: `alone     ${Show.answered(action, alone[other]!)}\ntogether  ${Show.answered(action, answered[other]!)}`
        })
      }),
    show: (calls: ReadonlyArray<Call>) =>
      calls.map((call, index) => `${index + 1}  ${Show.call(subject.action, call)}`).join("\n")
  })
}
