/**
 * Why a call brought neither its success nor a declared error, and how a service writes that down.
 *
 * The classes travel: a service puts one beside Daebus' error text, where Daebus ignores it, and a fiberbus caller reads
 * it back. `started` says whether the handler ran; `no` means that a retry is safe.
 */
import * as Schema from "effect/Schema"
import * as Printable from "./Printable.ts"

/** Did the handler run? */
export const Started = Schema.Literals(["no", "yes", "unknown"])
/** @see {@link Started} */
export type Started = typeof Started.Type

/** Nobody is subscribed to the service's channel. */
export class NoResponders extends Schema.TaggedError<NoResponders>()("NoResponders", {}) {
  override get message() {
    return "nobody listens on the service's channel"
  }
}

/** The service has no such action. */
export class UnknownAction extends Schema.TaggedError<UnknownAction>()("UnknownAction", { action: Schema.String }) {
  override get message() {
    return `unknown action ${Printable.json(this.action)}`
  }
}

/** The payload does not fit the action's schema. Names the first place, never the value. */
export class InvalidPayload extends Schema.TaggedError<InvalidPayload>()("InvalidPayload", {
  path: Schema.Array(Schema.String),
  expected: Schema.String
}) {
  override get message() {
    return `invalid payload${at(this.path)}: ${this.expected}`
  }
}

/** The encoded message is larger than the transport's limit. */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>()("PayloadTooLarge", {
  /** The message that was too large. */
  what: Schema.Literals(["request", "reply", "message"]),
  bytes: Schema.Finite,
  maxBytes: Schema.Finite
}) {
  override get message() {
    return `the ${this.what} has ${this.bytes} bytes, more than ${this.maxBytes}`
  }
}

/** The service has as many requests waiting as it allows; the handler did not start. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { retryAfterMillis: Schema.Finite }) {
  override get message() {
    return `the service is busy, try again in ${this.retryAfterMillis} ms`
  }
}

/** The service is shutting down. */
export class Draining extends Schema.TaggedError<Draining>()("Draining", {}) {
  override get message() {
    return "the service is shutting down"
  }
}

/** The caller's circuit breaker is open: the service failed too often of late, nothing was sent. */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>()("CircuitOpen", {
  /** Time until a call is let through to try it; 0 while one is on its way. */
  retryAfterMillis: Schema.Finite
}) {
  override get message() {
    return `the circuit is open, ${this.retryAfterMillis === 0 ? "one call is trying the service" : `the next try is in ${this.retryAfterMillis} ms`}`
  }
}

/** The caller's own rate limit is reached, nothing was sent. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  /** Time until the limit lets a call through. */
  retryAfterMillis: Schema.Finite
}) {
  override get message() {
    return `the caller's rate limit is reached, try again in ${this.retryAfterMillis} ms`
  }
}

/** No final answer came in time. */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>()("DeadlineExceeded", {
  timeoutMillis: Schema.Finite,
  /** Of a durable action: the request may be kept, and its result can be had by this id. */
  receipt: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return `no answer within ${this.timeoutMillis} ms${this.receipt === undefined ? "" : `, the request may be kept: ${this.receipt}`}`
  }
}

/** Nothing is known of an id: it was never enqueued, or its result is no longer kept. Found by the caller; it never travels. */
export class UnknownReceipt extends Schema.TaggedError<UnknownReceipt>()("UnknownReceipt", { id: Schema.String }) {
  override get message() {
    return `nothing is kept under ${Printable.json(this.id)}: it was never enqueued, or its result is no longer kept`
  }
}

/** The link broke after the request may have left, and its answer cannot arrive any more. Found by the caller; it never travels. */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>()("ConnectionLost", {
  /** What happened to the link, in the words of the transport. */
  detail: Schema.String
}) {
  override get message() {
    return `the link was lost before the answer: ${this.detail}`
  }
}

/** The handler died. The id finds the cause in the service's log; nothing else of it leaves the service. */
export class RemoteDefect extends Schema.TaggedError<RemoteDefect>()("RemoteDefect", { id: Schema.String }) {
  override get message() {
    return `the handler died (${this.id})`
  }
}

/** The service answered with an error that the contract does not declare, as Daebus services do. */
export class RemoteError extends Schema.TaggedError<RemoteError>()("RemoteError", {
  /** The text of the error, at most 1,000 characters. */
  error: Schema.String,
  /** What the service sent with it, as it came; `null` where it sent nothing of use. */
  payload: Schema.Json
}) {
  override get message() {
    return this.error
  }
}

/** The reply does not fit the contract. */
export class ContractMismatch extends Schema.TaggedError<ContractMismatch>()("ContractMismatch", {
  /** The part of the contract that did not fit. */
  part: Schema.Literals(["success", "error", "progress", "items", "reply"]),
  path: Schema.Array(Schema.String),
  expected: Schema.String
}) {
  override get message() {
    return `the reply does not fit the contract's ${this.part}${at(this.path)}: ${this.expected}`
  }
}

/** A path in words, for a message: ` at ["rows"]["0"]`; nothing for the whole. */
export const at = (path: ReadonlyArray<string>) =>
  path.length === 0 ? "" : ` at ${path.map((step) => `[${Printable.json(step)}]`).join("")}`

/** The reasons that a service sends. */
export const Sent = Schema.Union([
  UnknownAction,
  InvalidPayload,
  PayloadTooLarge,
  Busy,
  Draining,
  DeadlineExceeded,
  RemoteDefect
])
/** @see {@link Sent} */
export type Sent = typeof Sent.Type

const json = Schema.toCodecJson(Sent)

/** Writes a reason as JSON. */
export const encode = Schema.encodeSync(json)

/** Reads a reason; nothing if it is none that this version knows. */
export const decode = Schema.decodeUnknownOption(json)
