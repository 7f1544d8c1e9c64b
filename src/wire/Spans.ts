/**
 * How spans are named and described, alike on both sides: OpenTelemetry's words for RPC and messaging, and nothing of what is said.
 *
 * Source: https://opentelemetry.io/docs/specs/semconv/rpc/ and …/messaging/.
 */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import * as Printable from "./Printable.ts"

const system = "fiberbus"

/** Text that is no secret but may be a peer's, fit for a span or a log line: printable, at most so many characters. */
export const label = (text: string, width = 128): string =>
  plain.test(text) && text.length <= width ? text : Printable.line(Printable.cut(text, width))

// What nearly all look like.
const plain = /^[\w:.\-/@#]*$/

/** A call or a one-way message to a service. */
export const request = (
  kind: Tracer.SpanKind,
  service: string,
  action: string
): { readonly name: string } & Tracer.SpanOptionsNoTrace => ({
  name: label(`${service}.${action}`, 257),
  kind,
  attributes: { "rpc.system": system, "rpc.service": label(service), "rpc.method": label(action) }
})

/** A message of a topic; with the pattern it was listened to by, if it was. */
export const message = (
  operation: "publish" | "process",
  channel: string,
  pattern?: string
): { readonly name: string } & Tracer.SpanOptionsNoTrace => ({
  name: `${operation} ${pattern ?? label(channel)}`,
  kind: operation === "publish" ? "producer" : "consumer",
  attributes: {
    "messaging.system": system,
    "messaging.operation.name": operation,
    "messaging.operation.type": operation === "publish" ? "send" : "process",
    "messaging.destination.name": label(channel),
    ...(pattern === undefined ? undefined : { "messaging.destination.template": pattern })
  }
})

/** The attribute that says how something failed: a tag, or one of a few words. */
export const errorType = "error.type"

/** Ends of an effect that are no success, in a word: `error` for a failure of its own. A defect counts more than that. */
export const failureKind = (exit: Exit.Failure<unknown, unknown>): "error" | "defect" | "interrupted" => {
  if (Cause.hasDies(exit.cause)) return "defect"
  return Cause.hasFails(exit.cause) ? "error" : "interrupted"
}

/** What an error calls itself, for {@link errorType}: the tag of its reason, else its own, else `error`. */
export const tagOf = (exit: Exit.Failure<unknown, unknown>): string => {
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error as Tagged | null | undefined
  const tag = error?.reason?._tag ?? error?._tag
  return typeof tag === "string" ? label(tag) : "error"
}

interface Tagged {
  readonly _tag?: unknown
  readonly reason?: { readonly _tag?: unknown } | null
}
