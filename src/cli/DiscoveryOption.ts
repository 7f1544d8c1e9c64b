/** What the commands that ask about services have in common. */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { NotDiscoverable } from "../client/Discovery.ts"
import * as Name from "../contract/Name.ts"
import type { TransportError } from "../transport/Transport.ts"
import { isInstance } from "../wire/Envelope.ts"
import { ExitStatus, Failed, fromTransportError, usage } from "./ExitStatus.ts"

/** `SERVICE`. */
export const service = Argument.String("service").pipe(Argument.withDescription("The service, e.g. user_service"))

/** `--instance`. */
export const instance = Flag.String("instance").pipe(
  Flag.withMetavar("id"),
  Flag.withDescription("Only this process, as ls names it. Default all"),
  Flag.filter(
    (text) => isInstance(text),
    () => "the id of a process, as ls prints it"
  ),
  Flag.optional
)

/** `--json`. */
export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print everything as JSON, for programs"),
  Flag.withDefault(false)
)

/** The options of a question. */
export const toOptions = (instance: Option.Option<string>): { readonly instance?: string } =>
  Option.isSome(instance) ? { instance: instance.value } : {}

/** Checks the service's name. */
export const checkName = (service: string): Effect.Effect<void, Failed> => {
  const why = Name.problem("service", service)
  return why === undefined
    ? Effect.void
    : Effect.fail(usage(`the service name ${JSON.stringify(service)} cannot be used: ${why}`))
}

/** The status where nobody answers: no responders if nobody listens, else that of a deadline. */
export const fromError = (error: NotDiscoverable | TransportError): Failed =>
  error._tag === "TransportError"
    ? fromTransportError(error)
    : new Failed({
        status: error.listeners === 0 ? ExitStatus.noResponders : ExitStatus.deadlineExceeded,
        text: error.message
      })
