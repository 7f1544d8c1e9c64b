/** Why a question to the caller brought no answer. A handler decides what that means for its action. */
import * as Schema from "effect/Schema"

/**
 * - `NobodyAnswers`: the caller takes no questions (a Daebus caller, one without a contract, a one-way message), or waits no more: the
 *   request is over, and what asks could not be interrupted or outlives it.
 * - `Declined`: the caller answers that it does not answer; `detail` is its word.
 * - `TimedOut`: no answer within the question's own time. When the whole call's time is over the handler is interrupted instead.
 * - `InvalidAnswer`: the answer does not fit its schema; `detail` says where.
 * - `TooMany`: 64 questions of the request are open.
 */
export class AskError extends Schema.TaggedError<AskError>()("AskError", {
  question: Schema.String,
  reason: Schema.Literals(["NobodyAnswers", "Declined", "TimedOut", "InvalidAnswer", "TooMany"]),
  detail: Schema.String
}) {
  override get message() {
    return `${this.question}: ${this.reason}${this.detail === "" ? "" : `, ${this.detail}`}`
  }
}
