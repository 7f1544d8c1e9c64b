/** The frames that a system under test has sent, and the calls among them that wait for their answer. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { CallError, type CallErrorReason } from "../../client/CallError.ts"
import type * as Action from "../../contract/Action.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Control from "../../wire/Control.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Presence from "../../wire/Presence.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"

/** One frame, as it was given to the transport. */
export interface Frame {
  readonly channel: string
  readonly text: string
  /** Milliseconds of the test's clock. */
  readonly at: number
  /** How many received it; nothing while it is on its way, or when it could not be sent. */
  receivers: number | undefined
}

/** A call that waits for its final answer. */
export interface Open {
  readonly channel: string
  readonly action: string
  readonly replyTo: string
  /** When its caller gives up, on the test's clock; nothing where it did not say. */
  readonly until: number | undefined
}

/** @see {@link make} */
export interface Traffic {
  readonly note: (frame: Frame) => void
  /** A frame that is kept for whoever handles it: nobody can say when its answer comes. */
  readonly noteKept: (frame: Frame) => void
  readonly frames: () => ReadonlyArray<Frame>
  /** Frames that are no longer kept, as there were too many. */
  readonly leftOut: () => number
  readonly clear: () => void
  readonly open: (now: number) => ReadonlyArray<Open>
  /** No call from there waits any more: nobody could hear the answer. */
  readonly inboxClosed: (channel: string) => void
  /** The call of this request frame ended without an answer. */
  readonly ended: (frame: Frame) => void
}

/** Characters of frames that are kept; each has up to three bytes. */
export const maxCharacters = 32 * 1_048_576

/** Calls that are followed; of more, the oldest are taken for ended. */
const maxOpen = 100_000

/** How much later than its time a caller may give up: the resolution of its timer, and the rest of a millisecond. */
const lateMillis = 11

const keyOf = (replyTo: string, requestId: unknown) => `${replyTo}\n${JSON.stringify(requestId)}`

/** Keeps the latest `limit` frames. */
export const make = (limit: number): Traffic => {
  let frames: Array<Frame> = []
  let head = 0
  let characters = 0
  let leftOut = 0
  const open = new Map<string, Open>()

  const trim = () => {
    while (frames.length - head > limit || characters > maxCharacters) {
      characters -= frames[head]!.text.length
      head++
      leftOut++
    }
    if (head <= limit) return
    frames = frames.slice(head)
    head = 0
  }

  const follow = ({ at, channel }: Frame, raw: Codec.JsonObject) => {
    const request = Envelope.readRequest(raw)
    if (typeof request !== "string") {
      const { action, replyTo, requestId, timeoutMillis } = request
      if (replyTo === undefined) return
      const until = timeoutMillis === undefined ? undefined : at + timeoutMillis + lateMillis
      open.set(keyOf(replyTo, requestId), { channel, action, replyTo, until })
      if (open.size > maxOpen) for (const key of open.keys()) return void open.delete(key)
      return
    }
    const said = Control.read(raw)
    if (said?._tag === "Cancel") return void open.delete(keyOf(said.replyTo, said.requestId))
    if ("status" in raw && Envelope.readReply(raw).final) open.delete(keyOf(channel, raw["request_id"]))
  }

  const noteKept = (frame: Frame) => {
    frames.push(frame)
    characters += frame.text.length
    trim()
  }

  return {
    note: (frame) => {
      const raw = Codec.parse(frame.text, Number.POSITIVE_INFINITY)
      const isObject = !(raw instanceof Codec.Malformed)
      // Who is there is none of the system's messages.
      if (isObject && Presence.read(raw) !== undefined) return
      noteKept(frame)
      if (isObject) follow(frame, raw)
    },
    noteKept,
    frames: () => frames.slice(head),
    leftOut: () => leftOut,
    clear: () => {
      frames = []
      head = 0
      characters = 0
      leftOut = 0
    },
    open: (now) => {
      for (const [key, { until }] of open) if (until !== undefined && until <= now) open.delete(key)
      return [...open.values()]
    },
    inboxClosed: (channel) => {
      for (const [key, { replyTo }] of open) if (replyTo === channel) open.delete(key)
    },
    ended: ({ text }) => {
      const raw = Codec.parse(text, Number.POSITIVE_INFINITY)
      if (raw instanceof Codec.Malformed || typeof raw["reply_to"] !== "string") return
      open.delete(keyOf(raw["reply_to"], raw["request_id"]))
    }
  }
}

/** A request as it was sent. */
export interface SentRequest {
  readonly frame: Frame
  readonly request: Envelope.Request
  /** Its first final answer. */
  readonly reply: Envelope.Reply | undefined
}

/** Finds the requests to an action, sent to a channel or kept in one of some queues, and their answers. */
export const requests = (
  frames: ReadonlyArray<Frame>,
  { channel, queues }: { readonly channel: string; readonly queues: ReadonlySet<string> },
  action: string
): ReadonlyArray<SentRequest> => {
  const found: Array<{ -readonly [Field in keyof SentRequest]: SentRequest[Field] }> = []
  const waiting = new Map<string, (typeof found)[number]>()
  for (const frame of frames) {
    const raw = Codec.parse(frame.text, Number.POSITIVE_INFINITY)
    if (raw instanceof Codec.Malformed) continue
    const request = Envelope.readRequest(raw)
    if (typeof request === "string") {
      const call = waiting.get(keyOf(frame.channel, raw["request_id"]))
      const reply = call === undefined ? undefined : Envelope.readReply(raw)
      if (call !== undefined && reply?.final) call.reply ??= reply
    } else if ((queues.has(frame.channel) || Channels.leadsTo(frame.channel, channel)) && request.action === action) {
      const before = request.route > 1 ? waiting.get(keyOf(request.replyTo ?? "", request.requestId)) : undefined
      if (before !== undefined) {
        // The same once more, as nobody had begun it.
        before.frame = frame
        before.request = request
        before.reply = undefined
        continue
      }
      const call = { frame, request, reply: undefined }
      found.push(call)
      // Attempts of one call share their id: the answer is the last one's.
      if (request.replyTo !== undefined) waiting.set(keyOf(request.replyTo, request.requestId), call)
    }
  }
  return found
}

/** What a caller makes of an answer, by the contract. */
export const outcome = (
  service: string,
  action: Action.Any,
  reply: Envelope.Reply
): Effect.Effect<Exit.Exit<unknown, unknown>> => {
  const failed = (reason: CallErrorReason, started: Reason.Started) =>
    new CallError({ service, action: action.name, started, reason })
  const misfit = (part: Reason.ContractMismatch["part"]) => (error: Parameters<typeof SchemaCodec.explain>[0]) =>
    failed(new Reason.ContractMismatch({ part, ...SchemaCodec.explain(error) }), "yes")
  const { ok, payload } = reply
  if (ok) return Effect.exit(Effect.mapError(SchemaCodec.make(action.success).decode(payload), misfit("success")))
  const fields = (typeof payload === "object" && payload !== null ? payload : {}) as Codec.JsonObject
  if (fields["failure"] !== undefined && !SchemaCodec.isNever(action.error)) {
    const declared = Effect.mapError(SchemaCodec.make(action.error).decode(fields["failure"]), misfit("error"))
    return Effect.exit(Effect.flatMap(declared, Effect.fail))
  }
  const reason = Option.getOrUndefined(Reason.decode(fields["reason"]))
  const { started } = fields
  return Effect.succeed(
    Exit.fail(
      reason === undefined
        ? failed(new Reason.RemoteError({ error: Envelope.readErrorText(payload), payload: null }), "yes")
        : failed(reason, started === "no" || started === "yes" ? started : "unknown")
    )
  )
}
