/** Every answer is a success or a declared error of the contract, and so is every step on the way. */
import * as Effect from "effect/Effect"
import type { CallErrorReason } from "../../client/CallError.ts"
import { callErrorOf } from "./Bench.ts"
import { ofCall, Violation } from "./Law.ts"
import { isMisfit } from "./neverDies.ts"
import * as Show from "./show.ts"

/** @see the file's first line */
export const fitsContract = ofCall(
  "fits its contract",
  () => true,
  (bench, call) =>
    Effect.flatMap(bench.call(call), (answered) => {
      const reason = answered.exit === undefined ? undefined : callErrorOf(answered.exit)?.reason
      const because = reason === undefined ? undefined : problem(reason, isMisfit(answered.cause))
      return because === undefined
        ? Effect.void
        : Effect.fail(new Violation({ because, cameBack: Show.answered(bench.action, answered) }))
    })
)

// A deadline, a full backlog and the like are no answers: other laws, and no contract, speak of them.
const problem = (reason: CallErrorReason, misfit: boolean): string | undefined => {
  switch (reason._tag) {
    case "RemoteDefect":
      return misfit ? "what the handler gave does not fit the contract" : undefined
    case "ContractMismatch":
      return `the answer does not fit the contract's ${reason.part}`
    case "RemoteError":
      return "the contract declares no such error"
    case "InvalidPayload":
      return "the contract allows the payload, and yet it is refused"
    case "UnknownAction":
      return "the service does not know the action"
    case "NoResponders":
      return "nobody serves it: put the service's Layer on the TestBus"
    case "PayloadTooLarge":
      return reason.what === "reply" ? "the answer is larger than may be sent" : undefined
    default:
      return undefined
  }
}
