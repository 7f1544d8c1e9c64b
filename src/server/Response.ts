/**
 * Answers sent by hand, as Daebus' handlers do it.
 *
 * A fiberbus handler returns its result and fails with its errors; it needs this only to answer early, or to answer with
 * what its contract does not describe. Everything here works on the request of the current fiber.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Request from "./Request.ts"

declare const SentTypeId: unique symbol

/** Proof that a handler answers by itself: it may be returned in place of a result. */
export interface Sent {
  readonly [SentTypeId]: "Sent"
}

/** Returned in place of a result. If nothing final was sent, the caller gets an error that says so. */
export const sent: Sent = Object.freeze({ sent: true }) as unknown as Sent

/** The request has its final answer, and gets exactly one. A bug of the handler, hence a defect. */
export class AlreadyAnswered extends Data.TaggedError("AlreadyAnswered")<{
  readonly service: string
  readonly action: string
}> {
  override get message() {
    return `${this.service}.${this.action} was answered before: nothing may follow the final answer`
  }
}

/**
 * Sends an answer now. `final: false` makes it progress, of which there may be any number.
 *
 * Shape: the value is written by the contract's success schema, or by its progress schema where it has one; by neither, it
 * must be plain JSON. Succeeds when the transport took it; a one-way message has nobody to answer to, then nothing is sent.
 * Errors: dies with {@link AlreadyAnswered}, `NotInRequest`, or the schema's error when the value does not fit.
 */
export const send = (value: unknown, options?: { readonly final?: boolean }): Effect.Effect<Sent> =>
  Effect.flatMap(Request.exchange("Response.send"), (exchange) =>
    Effect.as((options?.final ?? true) ? exchange.sendSuccess(value) : exchange.sendProgress(value), sent)
  )

/**
 * Sends an error as Daebus writes it: `{"error": message}`. `final: false` makes it a warning on the way.
 *
 * A fiberbus caller gets `RemoteError`, unless the contract's error schema fits `{"error": message}`.
 */
export const error = (message: string, options?: { readonly final?: boolean }): Effect.Effect<Sent> =>
  Effect.flatMap(Request.exchange("Response.error"), (exchange) =>
    Effect.as(exchange.sendError(message, options?.final ?? true), sent)
  )
