/**
 * The request that the current fiber handles: there anywhere below a handler without being passed along, inherited by the
 * fibers it forks, invisible to every other request.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Exchange } from "./internal/exchange.ts"

/** What a handler may know of the message it handles. */
export interface Request {
  /** The id the caller gave, as text; empty where it gave none. */
  readonly id: string
  /** The name of the service, or of the listener's topic. */
  readonly service: string
  /** The name of the action; empty below a listener. */
  readonly action: string
  /** Where the answer goes; nothing for a one-way message. */
  readonly replyTo: string | undefined
  /** What the caller sent along, by name. */
  readonly headers: { readonly [name: string]: string }
  /** Which attempt of its call this is, from 1 on. The attempts of a call share their id, so that a repeat can be recognised. */
  readonly attempt: number
  /** How often the message of a durable action was delivered, this time included: 2 and more after a failure or a crash. Otherwise 1. */
  readonly deliveries: number
  /**
   * Milliseconds until the caller stops waiting. Where it did not say, as Daebus callers don't: until `handlerTimeout` is over, or
   * nothing without one.
   */
  readonly remainingMillis: number | undefined
  /** The payload as JSON, before the contract's schema read it. */
  readonly payload: unknown
  /** The whole message as it came. Data from outside: read it with care. */
  readonly raw: { readonly [field: string]: unknown }
}

/** There is no request here: the effect runs outside of a handler. A bug of the program, hence a defect. */
export class NotInRequest extends Data.TaggedError("NotInRequest")<{ readonly operation: string }> {
  override get message() {
    return `${this.operation} was used outside of a request. It works in a handler and in what the handler runs or forks`
  }
}

/** The fiber-local slot. Empty outside of a request. @internal */
export const Slot = Context.Reference<Exchange | undefined>("fiberbus/server/Request", {
  defaultValue: () => undefined
})

/** The exchange of the current fiber, or the defect {@link NotInRequest}. @internal */
export const exchange = (operation: string): Effect.Effect<Exchange> =>
  Effect.withFiber((fiber) => {
    const found = fiber.getRef(Slot)
    return found === undefined ? Effect.die(new NotInRequest({ operation })) : Effect.succeed(found)
  })

/** The request being handled. Dies with {@link NotInRequest} where there is none. */
export const current: Effect.Effect<Request> = exchange("Request.current")

/** The request being handled, for code that also runs outside of one. */
export const option: Effect.Effect<Option.Option<Request>> = Effect.withFiber((fiber) =>
  Effect.succeed(Option.fromUndefinedOr<Request | undefined>(fiber.getRef(Slot)))
)
