/** A call ends by its deadline, and its handler soon after. */
import * as Effect from "effect/Effect"
import * as Action from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { slackMillis } from "./Bench.ts"
import { ofCall, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** Time that an interrupted handler's finalizers may take. */
const finalizersMillis = 1_000

/** @see the file's first line */
export const keepsDeadline = ofCall(
  "keeps its deadline",
  // The time of a stream of items is that of silence.
  // What is durable is handled to its end, whoever waits.
  (action) => SchemaCodec.isNever(action.items) && !Action.isDurable(action),
  (bench, call) =>
    Effect.gen(function* () {
      const { action, timeoutMillis } = bench
      const answered = yield* bench.call(call)
      const cameBack = Show.answered(action, answered)
      if (answered.exit === undefined || answered.millis > timeoutMillis + slackMillis) {
        return yield* new Violation({ because: `the call had not ended after ${timeoutMillis} ms`, cameBack })
      }
      const runs = () => bench.left().handlers.some(({ handling }) => handling)
      yield* bench.advance(finalizersMillis, () => !runs())
      if (!runs()) return
      return yield* new Violation({
        because: `its handler still runs ${finalizersMillis} ms after the call has ended`,
        cameBack
      })
    })
)
