/** How a call ends when neither its success nor a declared error came. */
import * as Schema from "effect/Schema"
import { TransportError } from "../transport/Transport.ts"
import * as Reason from "../wire/Reason.ts"

export { TransportError } from "../transport/Transport.ts"
export {
  Busy,
  CircuitOpen,
  ConnectionLost,
  ContractMismatch,
  DeadlineExceeded,
  Draining,
  InvalidPayload,
  NoResponders,
  PayloadTooLarge,
  RateLimited,
  RemoteDefect,
  RemoteError,
  type Started,
  UnknownAction,
  UnknownReceipt
} from "../wire/Reason.ts"

/**
 * Why a call brought no answer of its own; an action's declared error is not one of these.
 *
 * Catch one reason with `Effect.catchReason("CallError", "NoResponders", …)`, or all with `Effect.catchTag("CallError", …)`.
 */
export class CallError extends Schema.TaggedError<CallError>()("CallError", {
  service: Schema.String,
  action: Schema.String,
  /** Did the handler run? `no` means that a retry is safe. */
  started: Reason.Started,
  reason: Schema.Union([
    Reason.NoResponders,
    Reason.Busy,
    Reason.Draining,
    Reason.UnknownAction,
    Reason.InvalidPayload,
    Reason.PayloadTooLarge,
    Reason.CircuitOpen,
    Reason.RateLimited,
    Reason.DeadlineExceeded,
    Reason.UnknownReceipt,
    Reason.ConnectionLost,
    Reason.RemoteDefect,
    Reason.RemoteError,
    Reason.ContractMismatch,
    TransportError
  ])
}) {
  override get message() {
    return `${this.service}.${this.action}: ${this.reason._tag}, ${this.reason.message}`
  }
}

/** All reasons there are. */
export type CallErrorReason = CallError["reason"]
