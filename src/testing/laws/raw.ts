/** Frames that no caller would send, and what is answered to them. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Transport } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Control from "../../wire/Control.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import type { Violation } from "./Law.ts"

/** The final answer to a frame, or the first step of a stream. */
export interface Answer {
  readonly ok: boolean
  readonly reason: Reason.Sent | undefined
  /** Whether the handler ran, as the service says. */
  readonly started: unknown
  /** For people. */
  readonly text: string
}

/** Adds to a message where the answer goes, sends it to the service that it names, and waits; nothing is no answer. */
export const send = (
  transport: Transport["Service"],
  scope: Scope.Scope,
  message: object,
  text: string | undefined,
  until: (isDone: () => boolean) => Effect.Effect<void, Violation>
): Effect.Effect<Answer | undefined, Violation> =>
  Effect.gen(function* () {
    const replyTo = Channels.inbox(transport.prefix)
    const channel = Channels.service(transport.prefix, (message as { readonly service: string }).service)
    let answer: Answer | undefined
    yield* Effect.orDie(
      Scope.provide(
        transport.subscribe({ _tag: "Channel", channel: replyTo }, (frame) => {
          answer ??= read(frame)
        }),
        scope
      )
    )
    transport.send(channel, text ?? JSON.stringify({ ...message, reply_to: replyTo, request_id: "laws" }), () => {})
    yield* until(() => answer !== undefined)
    // What still runs for it is of no interest any more.
    transport.send(channel, Control.write({ _tag: "Cancel", replyTo, requestId: "laws", by: undefined }), () => {})
    yield* until(() => true)
    return answer
  })

const read = (frame: string | Uint8Array): Answer | undefined => {
  const raw = Codec.parse(frame, Number.POSITIVE_INFINITY)
  if (raw instanceof Codec.Malformed) return undefined
  const { extension, final, ok, payload } = Envelope.readReply(raw)
  if (!final && (extension?.alive || extension?.ask !== undefined)) return undefined
  const fields = (typeof payload === "object" && payload !== null ? payload : {}) as Codec.JsonObject
  return {
    ok,
    reason: ok ? undefined : Option.getOrUndefined(Reason.decode(fields["reason"])),
    started: fields["started"],
    text: `${final ? (ok ? "success" : "error") : "step"} ${JSON.stringify(payload)}`
  }
}
