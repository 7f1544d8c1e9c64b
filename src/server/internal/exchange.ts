/** One message that is being handled, from its arrival to its final answer. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import type { Transport } from "../../transport/Transport.ts"
import * as Codec from "../../wire/Codec.ts"
import type * as Discards from "../../wire/Discards.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Printable from "../../wire/Printable.ts"
import * as Reason from "../../wire/Reason.ts"
import type { SchemaCodec } from "../../wire/SchemaCodec.ts"
import type { Request } from "../Request.ts"
import { AlreadyAnswered } from "../Response.ts"
import type { Entry } from "./entry.ts"

/** What an exchange needs of the process around it. */
export interface Link {
  readonly transport: Transport["Service"]
  readonly wheel: TimerWheel.TimerWheel
  readonly discards: Discards.Discards
  readonly log: (effect: Effect.Effect<void>) => void
  /** What waits or runs and may be taken back, by request id. */
  readonly cancellable: Map<string, Exchange>
}

/** Writes one message's answers, the final one at most once. */
export class Exchange extends TimerWheel.Entry implements Request {
  readonly service: string
  readonly replyTo: string | undefined
  readonly envelope: Envelope.Request
  readonly entry: Entry
  readonly link: Link
  /** When the caller stops waiting, on the wheel's clock. */
  readonly deadline: number | undefined
  answered = false
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined

  constructor(link: Link, entry: Entry, service: string, envelope: Envelope.Request, replyTo: string | undefined) {
    super()
    this.link = link
    this.entry = entry
    this.service = service
    this.envelope = envelope
    this.replyTo = replyTo
    this.deadline = envelope.timeoutMillis === undefined ? undefined : link.wheel.now() + envelope.timeoutMillis
  }

  get id() {
    const { requestId } = this.envelope
    return typeof requestId === "string" ? requestId : requestId === null ? "" : JSON.stringify(requestId)
  }
  get action() {
    return this.envelope.action
  }
  get headers() {
    return this.envelope.headers
  }
  get attempt() {
    return this.envelope.attempt
  }
  get payload() {
    return this.envelope.payload
  }
  get raw() {
    return this.envelope.raw
  }
  /** For logs: what handles it. */
  get label() {
    return this.action === "" ? this.service : `${this.service}.${loggable(this.action)}`
  }
  /** Whether somebody gets to know how it ends. */
  get isAwaited() {
    return this.replyTo !== undefined && this.entry.automatic
  }
  readonly remainingMillis = (): number | undefined =>
    this.deadline === undefined ? undefined : Math.max(0, this.deadline - this.link.wheel.now())

  /** The deadline has passed: the caller is told, the handler stopped. */
  override expire() {
    this.refuse(new Reason.DeadlineExceeded({ timeoutMillis: this.envelope.timeoutMillis ?? 0 }), "yes")
    this.fiber?.interruptUnsafe()
  }

  /** The caller has gone: no answer is sent any more, and the handler is stopped. */
  cancel() {
    this.answered = true
    this.fiber?.interruptUnsafe()
  }

  /** From now on the caller may take it back. */
  await() {
    if (this.isAwaited) this.link.cancellable.set(this.id, this)
  }

  /** It is over. */
  release() {
    if (this.link.cancellable.get(this.id) === this) this.link.cancellable.delete(this.id)
  }

  /** Ends with an outcome on the way, unless it was answered. */
  refuse(reason: Reason.Sent, started: Reason.Started) {
    this.fail({ error: reason.message, reason: Reason.encode(reason), started })
  }

  /** Ends with an error reply, unless it was answered. */
  fail(payload: Envelope.ErrorPayload) {
    if (this.isAwaited) this.answer("error", Envelope.writeErrorPayload(payload))
  }

  /** Ends with what the handler's exit says, unless it was answered by hand. */
  settle(exit: Exit.Exit<unknown, unknown>, sent: unknown) {
    if (exit._tag === "Success") {
      if (exit.value !== sent) return this.answerSuccess(exit.value)
      if (!this.answered) this.fail({ error: "the handler ended without an answer", started: "yes" })
      return
    }
    const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return this.answerFailure(failure.error, exit.cause)
    // Whoever interrupts a handler on purpose has answered before.
    if (!this.answered || !Cause.hasInterruptsOnly(exit.cause)) this.die(exit.cause)
  }

  /** Effect of `Response.send` with a final value. */
  sendSuccess(value: unknown): Effect.Effect<void> {
    return this.byHand(this.entry.success, value, "success", true)
  }

  /** Effect of a progress step. */
  sendProgress(value: unknown): Effect.Effect<void> {
    return this.byHand(this.entry.progress, value, "success", false)
  }

  /** Effect of `Response.error`. */
  sendError(message: string, final: boolean): Effect.Effect<void> {
    return this.byHand(undefined, { error: Envelope.cut(message) }, "error", final)
  }

  private byHand(codec: SchemaCodec<any> | undefined, value: unknown, status: "success" | "error", final: boolean) {
    return Effect.suspend((): Effect.Effect<void> => {
      if (this.answered) {
        return Effect.die(new AlreadyAnswered({ service: this.service, action: this.action }))
      }
      if (codec === undefined) return this.deliver(status, value, final)
      return Effect.matchEffect(codec.encode(value), {
        onFailure: Effect.die,
        onSuccess: (json) => this.deliver(status, json, final)
      })
    })
  }

  private deliver(status: "success" | "error", json: unknown, final: boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const text = JSON.stringify(json) ?? "null"
      if (final) this.answered = true
      this.write(status, text, final, () => resume(Effect.void))
    })
  }

  private answerSuccess(value: unknown) {
    if (this.answered || !this.isAwaited) return
    whenDone(
      this.link,
      this.entry.success === undefined ? undefined : this.entry.success.encode(value),
      value,
      (encoded) => {
        if (encoded._tag === "Failure") return this.die(encoded.cause)
        let text: string
        try {
          text = JSON.stringify(encoded.value) ?? "null"
        } catch (defect) {
          return this.die(Cause.die(defect))
        }
        this.answer("success", text)
      }
    )
  }

  private answerFailure(error: unknown, cause: Cause.Cause<unknown>) {
    if (this.answered || !this.isAwaited) {
      this.link.discards.note("FailedUnheard")
      const late = this.answered ? "after its answer" : "with nobody waiting for an answer"
      return this.link.log(Effect.logWarning(`fiberbus: ${this.label} failed ${late}`, cause))
    }
    whenDone(this.link, this.entry.error?.encode(error), error, (encoded) => {
      if (encoded._tag === "Failure") return this.die(cause)
      this.fail({ error: errorText(error, encoded.value), failure: encoded.value })
    })
  }

  private die(cause: Cause.Cause<unknown>) {
    const id = crypto.randomUUID()
    this.link.log(
      Effect.logError(`fiberbus: handler of ${this.label} died (${id})`, cause).pipe(
        Effect.annotateLogs({ defectId: id, requestId: loggable(this.id) })
      )
    )
    this.refuse(new Reason.RemoteDefect({ id }), "yes")
  }

  private answer(status: "success" | "error", payload: string) {
    if (this.answered) return
    this.answered = true
    this.write(status, payload, true, undefined)
  }

  private write(status: "success" | "error", payload: string, final: boolean, then: (() => void) | undefined) {
    const { replyTo, link } = this
    if (replyTo === undefined) return then?.()
    let frame = Envelope.writeReply(status, payload, this.envelope.requestId, final)
    const { maxFrameBytes } = link.transport.capabilities
    if (Codec.isLarger(frame, maxFrameBytes)) {
      const reason = new Reason.PayloadTooLarge({
        what: "reply",
        bytes: Codec.byteLength(frame),
        maxBytes: maxFrameBytes
      })
      link.log(Effect.logWarning(`fiberbus: ${this.label}: ${reason.message}`))
      // Progress that cannot be sent ends the call: a caller must not take what is left for the whole.
      this.answered = true
      frame = Envelope.writeReply(
        "error",
        Envelope.writeErrorPayload({ error: reason.message, reason: Reason.encode(reason), started: "yes" }),
        this.envelope.requestId,
        true
      )
    }
    link.transport.send(replyTo, frame, (error, receivers) => {
      if (error !== undefined) link.discards.note(`ReplyNotSent:${error.kind}`)
      else if (receivers === 0 && link.transport.capabilities.receivers === "exact") {
        // Its inbox has gone: a stream to nobody must not go on.
        link.discards.count("NobodyWaits")
        if (!final) return this.cancel()
      }
      then?.()
    })
  }
}

// What a peer chose, fit for a log.
const loggable = (text: string) => Printable.line(Printable.cut(text, 64))

/** Goes on at once where nothing asynchronous is to be done, otherwise on a fiber of its own. */
export const whenDone = <A, E>(
  link: Link,
  effect: Effect.Effect<A, E> | undefined,
  otherwise: A,
  then: (exit: Exit.Exit<A, E>) => void
): void => {
  if (effect === undefined) return then(Exit.succeed(otherwise))
  if (Exit.isExit(effect)) return then(effect as Exit.Exit<A, E>)
  link.log(Effect.flatMap(Effect.exit(effect), (exit) => Effect.sync(() => then(exit))))
}

// A person reads it: what the error says of itself, or its tag with its fields.
const errorText = (error: unknown, encoded: unknown): string => {
  const fields = typeof error === "object" && error !== null ? (error as Record<string, unknown>) : {}
  for (const text of [fields["error"], fields["message"], error]) {
    if (typeof text === "string" && text !== "") return text
  }
  if (typeof encoded !== "object" || encoded === null || !("_tag" in encoded)) return JSON.stringify(encoded)
  const { _tag, ...rest } = encoded
  return `${_tag}${Object.keys(rest).length === 0 ? "" : ` ${JSON.stringify(rest)}`}`
}
