/** How a command ended, as the number a script sees. Part of the command line's contract: numbers are never reused. */
import * as Context from "effect/Context"
import * as Schema from "effect/Schema"
import type { CallError, CallErrorReason, RemoteError } from "../client/CallError.ts"
import type { TransportError } from "../transport/Transport.ts"
import * as Printable from "../wire/Printable.ts"

/** The numbers, by what they say. */
export const ExitStatus = {
  success: 0,
  /** The service answered with an error of its own. */
  answeredError: 1,
  usage: 2,
  noResponders: 3,
  deadlineExceeded: 4,
  /** Unknown action, invalid payload, too large, busy or draining: the handler did not run, or its answer was too large. */
  refused: 5,
  /** The handler died, or answered what cannot be read. */
  remoteDefect: 6,
  transport: 7,
  /** `contract diff`: something breaks between the two revisions. */
  incompatible: 8,
  /** `contract diff`: nothing is known to break, but not everything could be compared. */
  notCompared: 9,
  /** `health`: a process is not ready, or not live. */
  unhealthy: 10,
  /** A mistake of this program, or its output could not be written. */
  internal: 70,
  /** Ctrl-C. A shell's convention: 128 + SIGINT. */
  interrupted: 130,
  /** Whoever read the output is gone, as `| head -1` does. A shell's convention: 128 + SIGPIPE. */
  outputClosed: 141
} as const

/** The table of `--help`. */
export const help = `Exit status:
    0    success
    1    the service answered an error
    2    usage: nothing was sent
    3    no responders: nobody listens
    4    deadline exceeded
    5    refused by the service: unknown action, invalid payload, too large, busy, draining
    6    remote defect: the handler died
    7    transport failure
    8    contract diff: something breaks
    9    contract diff: not everything could be compared
   10    health: not ready, or not live
   70    internal error
  130    interrupted (tap, top: 0)`

/** A command ended otherwise than well. `text` is one line for people, or nothing where silence is right. */
export class Failed extends Schema.TaggedError<Failed>()("Failed", { status: Schema.Int, text: Schema.String }) {
  override get message() {
    return this.text
  }
}

/** Says what is wrong with the command as it was typed. */
export const usage = (text: string) => new Failed({ status: ExitStatus.usage, text })

/** What an interruption by a signal means: commands that end in no other way set it to success. */
export const WhenInterrupted = Context.Reference<{ status: number }>("fiberbus/cli/ExitStatus/WhenInterrupted", {
  defaultValue: () => ({ status: ExitStatus.interrupted })
})

/** The status of a link that does not work; wrong options are a matter of usage. */
export const fromTransportError = (error: TransportError) =>
  new Failed({
    status: error.kind === "InvalidOptions" ? ExitStatus.usage : ExitStatus.transport,
    text: Printable.withoutSecrets(error.message)
  })

/** The status of a call's error, and one line about it. */
export const fromCallError = (error: CallError): Failed => {
  const { reason, service, action, started } = error
  const message =
    reason._tag === "TransportError" || reason._tag === "ConnectionLost"
      ? Printable.withoutSecrets(reason.message)
      : reason.message
  const known = reason._tag === "RemoteError" ? details(reason) : fates[started]
  return new Failed({
    status: statuses[reason._tag],
    text: `${service}.${action}: ${reason._tag === "RemoteError" ? "" : `${reason._tag}, `}${message}${known}`
  })
}

const statuses: { readonly [Tag in CallErrorReason["_tag"]]: number } = {
  RemoteError: ExitStatus.answeredError,
  NoResponders: ExitStatus.noResponders,
  DeadlineExceeded: ExitStatus.deadlineExceeded,
  UnknownAction: ExitStatus.refused,
  InvalidPayload: ExitStatus.refused,
  PayloadTooLarge: ExitStatus.refused,
  Busy: ExitStatus.refused,
  Draining: ExitStatus.refused,
  CircuitOpen: ExitStatus.refused,
  RateLimited: ExitStatus.refused,
  UnknownReceipt: ExitStatus.refused,
  RemoteDefect: ExitStatus.remoteDefect,
  ContractMismatch: ExitStatus.remoteDefect,
  ConnectionLost: ExitStatus.transport,
  TransportError: ExitStatus.transport
}

const fates = {
  no: " (the handler did not run)",
  yes: " (the handler had started)",
  unknown: " (the handler may have run)"
} as const

// A declared error as its schema wrote it; of other peers whatever came beside the text.
const details = ({ error, payload }: RemoteError): string => {
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) return ""
  const { error: _text, failure, ...beside } = payload as { readonly [key: string]: Schema.Json }
  if (failure !== undefined) return hasNoWords(error, failure) ? "" : ` ${Printable.json(failure)}`
  return Object.keys(beside).length === 0 ? "" : ` ${Printable.json(beside)}`
}

// An error without words of its own comes as its tag and fields already, unless they were cut.
const hasNoWords = (error: string, failure: Schema.Json): boolean =>
  typeof failure === "object" &&
  failure !== null &&
  "_tag" in failure &&
  (error === failure._tag || (error.startsWith(`${failure._tag} {`) && error.endsWith("}")))
