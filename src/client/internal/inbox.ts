/** The process's private inbox on one transport: which calls wait for an answer, and what becomes of what arrives. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as PerTransport from "../../transport/PerTransport.ts"
import { type Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Discards from "../../wire/Discards.ts"
import * as Envelope from "../../wire/Envelope.ts"

/** Calls that one process may have in flight over one transport. */
export const maxPending = 50_000

/** A call that waits for its answers. It is in the table from before its sending until its end. */
export abstract class Pending extends TimerWheel.Entry {
  id = ""
  /** A step on the way. */
  abstract onProgress(payload: unknown): void
  /** The final answer; the call has left the table. */
  abstract onReply(reply: Envelope.Reply): void
  /** What became of the request's own sending. The answer may have come before; then nothing is left to do. */
  abstract onSent(error: TransportError | undefined, receivers: number): void
  /** No answer can come any more; the call has left the table. */
  abstract onLost(error: TransportError): void
}

/** @see {@link inbox} */
export interface Inbox {
  readonly transport: Transport["Service"]
  /** Where answers are sent to. */
  readonly channel: string
  /** Enters a call for so many milliseconds and gives it an id if it has none; nothing when the table is full. */
  readonly enter: (pending: Pending, timeoutMillis: number) => TransportError | undefined
  /** Takes a call out. False if it had left before. */
  readonly leave: (pending: Pending) => boolean
  /** Time on the clock of the deadlines, in milliseconds. */
  readonly now: () => number
  /** Calls that wait. */
  readonly size: () => number
}

const make = Effect.fnUntraced(function* (transport: Transport["Service"]) {
  const wheel = yield* TimerWheel.make
  const discards = yield* Discards.make("inbox")
  const channel = Channels.inbox(transport.prefix)
  const { maxFrameBytes } = transport.capabilities
  const pending = new Map<string, Pending>()
  const idPrefix = `${randomUUID()}-`
  let count = 0
  let closed: TransportError | undefined

  const leave = (call: Pending) => {
    if (!pending.delete(call.id)) return false
    wheel.remove(call)
    return true
  }

  // Whoever still waits when the last caller's Scope closes is told so: no answer can come any more.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = inboxClosed
      for (const call of [...pending.values()]) if (leave(call)) call.onLost(inboxClosed)
    })
  )

  // Before the first call can be made: an answer may be faster than the confirmation of its request.
  yield* transport.subscribe({ _tag: "Channel", channel }, (frame) => {
    const raw = Codec.parse(frame, maxFrameBytes)
    if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
    const reply = Envelope.readReply(raw)
    const call = reply.requestId === undefined ? undefined : pending.get(reply.requestId)
    if (call === undefined) {
      // Late ones are usual: of calls that timed out, of replicas that answered second.
      return reply.requestId?.startsWith(idPrefix) ? discards.count("LateReply") : discards.note("UnknownReply")
    }
    if (!reply.final) return call.onProgress(reply.payload)
    leave(call)
    call.onReply(reply)
  })

  const inbox: Inbox = {
    transport,
    channel,
    size: () => pending.size,
    now: wheel.now,
    leave,
    enter: (call, timeoutMillis) => {
      if (closed !== undefined) return closed
      if (pending.size >= maxPending) return tooMany
      // One that has an id is a further attempt of a call.
      if (call.id === "") call.id = idPrefix + (++count).toString(36)
      pending.set(call.id, call)
      wheel.add(call, timeoutMillis)
      return undefined
    }
  }
  return inbox
})

/** The inbox that all callers of the transport share; it lives as long as one of them. */
export const inbox = PerTransport.make(make)

const inboxClosed = new TransportError({
  kind: "Closed",
  operation: "call",
  detail: "the Scope of the caller is closed",
  hint: "Keep the Scope of Caller.make open for as long as calls are made",
  sent: "unknown"
})

const tooMany = new TransportError({
  kind: "Overloaded",
  operation: "call",
  detail: `${maxPending} calls are waiting for their answers`,
  hint: "Bound the calls that run at once, e.g. with Effect.forEach's concurrency",
  sent: "no"
})
