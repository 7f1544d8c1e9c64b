import * as Schema from "effect/Schema"

/** The kinds a `NatsServerError` comes in. */
export const NatsServerErrorKind = Schema.Literals(["NotFound", "InstallFailed", "StartFailed", "StopFailed"])
/** @see {@link NatsServerErrorKind} */
export type NatsServerErrorKind = typeof NatsServerErrorKind.Type

/** There is no NATS for the tests, or it did not do what it was told. `message` is one line, `hint` included. */
export class NatsServerError extends Schema.TaggedError<NatsServerError>()("NatsServerError", {
  kind: NatsServerErrorKind,
  /** What was tried, e.g. `start /usr/sbin/nats-server`. */
  operation: Schema.String,
  /** What went wrong, in the words of the system or of NATS. */
  detail: Schema.String,
  /** What to do about it. Empty when there is no advice. */
  hint: Schema.String
}) {
  override get message() {
    const text = `${this.operation}: ${this.detail}${this.hint === "" ? "" : `. ${this.hint}`}`
    return text.replace(/\s+/g, " ")
  }
}
