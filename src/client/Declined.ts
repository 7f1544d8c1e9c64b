/** A caller's word that it does not answer a question. */
import * as Schema from "effect/Schema"

/** Fail with it in an answer: the handler that asked gets an `AskError` with reason `Declined` and this text. */
export class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {
  override get message() {
    return this.why
  }
}
