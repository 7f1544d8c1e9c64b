/** An action that says so may be asked twice: the second answer is the first. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Action from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { ofCall, Violation } from "./Law.ts"
import * as Same from "./same.ts"
import * as Show from "./show.ts"

/** @see the file's first line */
export const idempotent = ofCall(
  "answers the same twice",
  ({ annotations, items }) => Context.get(annotations, Action.Idempotent) && SchemaCodec.isNever(items),
  (bench, call) =>
    Effect.gen(function* () {
      const { action } = bench
      const first = yield* bench.call(call)
      const second = yield* bench.call(call)
      if (Same.answers(action, first, second)) return
      return yield* new Violation({
        because: "it is annotated as Idempotent, and the second answer is another one",
        cameBack: `first   ${Show.answered(action, first)}\nsecond  ${Show.answered(action, second)}`
      })
    })
)
