/** Every call ends in an answer, never in a defect. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Answered, callErrorOf } from "./Bench.ts"
import { ofCall, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** @see the file's first line */
export const neverDies = ofCall(
  "never dies",
  () => true,
  (bench, call) =>
    Effect.flatMap(bench.call(call), (answered) =>
      died(answered) && !isMisfit(answered.cause)
        ? Effect.fail(new Violation({ because: "the handler died", cameBack: Show.answered(bench.action, answered) }))
        : Effect.void
    )
)

const died = ({ exit }: Answered) => exit !== undefined && callErrorOf(exit)?.reason._tag === "RemoteDefect"

/** True where a handler was well, but what it gave did not fit its contract. */
export const isMisfit = (cause: Cause.Cause<unknown> | undefined): boolean =>
  cause?.reasons.some(
    (reason) => Cause.isFailReason(reason) || (Cause.isDieReason(reason) && Schema.isSchemaError(reason.defect))
  ) ?? false
