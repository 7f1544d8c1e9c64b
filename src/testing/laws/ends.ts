/** After its steps comes one result, in time; and a stream of items is over when it ends, or nobody takes more. */
import * as Effect from "effect/Effect"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { callErrorOf } from "./Bench.ts"
import { ofCall, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** @see the file's first line */
export const ends = ofCall(
  "ends",
  ({ items, progress }) => !SchemaCodec.isNever(progress) || !SchemaCodec.isNever(items),
  (bench, call) =>
    Effect.gen(function* () {
      const { action, timeoutMillis } = bench
      const answered = yield* bench.call(call)
      const { exit } = answered
      const isStream = !SchemaCodec.isNever(action.items)
      const late = exit === undefined ? !isStream : callErrorOf(exit)?.reason._tag === "DeadlineExceeded"
      const cameBack = Show.answered(action, answered)
      if (late) {
        return yield* new Violation({ because: `it had not ended after ${timeoutMillis} ms`, cameBack })
      }
      if (!isStream) return
      const goesOn = () => bench.left().handlers.some(({ handling }) => handling)
      yield* bench.advance(timeoutMillis, () => !goesOn())
      if (goesOn()) {
        return yield* new Violation({ because: "its producer goes on, and nobody takes more", cameBack })
      }
    })
)
