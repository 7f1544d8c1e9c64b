/** One message that is being handled, from its arrival to its final answer. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Tracer from "effect/Tracer"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import type { Transport } from "../../transport/Transport.ts"
import * as Codec from "../../wire/Codec.ts"
import type * as Discards from "../../wire/Discards.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Printable from "../../wire/Printable.ts"
import * as Reason from "../../wire/Reason.ts"
import { explain, type SchemaCodec } from "../../wire/SchemaCodec.ts"
import type { Request } from "../Request.ts"
import * as Response from "../Response.ts"
import type { Entry } from "./entry.ts"

/** What an exchange needs of the process around it. */
export interface Link {
  readonly transport: Transport["Service"]
  readonly wheel: TimerWheel.TimerWheel
  readonly discards: Discards.Discards
  readonly log: (effect: Effect.Effect<void>) => void
  /** False below a test's clock. */
  readonly isRealTime: boolean
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
  /** The final answer is out, or nobody wants one any more. */
  answered = false
  /** What runs for it is being stopped; what comes after is not begun. */
  stopped = false
  /** The handler has begun. */
  begun = false
  /** What runs for it, while something does. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Its own span, where it is traced. */
  span: Tracer.Span | undefined = undefined
  /** What it ended with `RemoteDefect` for. */
  defect: Cause.Cause<unknown> | undefined = undefined
  /** Takes it out of the backlog, while it waits there. */
  forget: ((exchange: Exchange) => void) | undefined = undefined

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
  get remainingMillis() {
    return this.deadline === undefined ? undefined : Math.max(0, this.deadline - this.link.wheel.now())
  }

  /** The deadline has passed: the caller is told, the handler stopped. */
  override expire() {
    const started = this.begun ? "yes" : "no"
    this.refuse(new Reason.DeadlineExceeded({ timeoutMillis: this.envelope.timeoutMillis ?? 0 }), started)
    this.stop()
  }

  /** The caller has gone: no answer is sent any more, and the handler is stopped. */
  cancel() {
    this.answered = true
    this.stop()
  }

  /** Interrupts what runs, or leaves the backlog; what would come after is not begun. */
  stop() {
    this.stopped = true
    if (this.forget === undefined) return this.fiber?.interruptUnsafe()
    this.untrack()
    this.forget(this)
    this.forget = undefined
  }

  /** It takes time: from now on its deadline and its caller can end it. */
  track() {
    const { deadline, link } = this
    if (deadline !== undefined && this.tick < 0) link.wheel.add(this, deadline - link.wheel.now())
    if (this.cancelKey !== undefined) link.cancellable.set(this.cancelKey, this)
  }

  /** It is over. */
  untrack() {
    const { cancelKey, link } = this
    link.wheel.remove(this)
    if (cancelKey !== undefined && link.cancellable.get(cancelKey) === this) link.cancellable.delete(cancelKey)
  }

  private get cancelKey() {
    const { requestId } = this.envelope
    return this.isAwaited && typeof requestId === "string" ? cancelKey(this.replyTo!, requestId) : undefined
  }

  /** Ends with an outcome on the way, unless it was answered. */
  refuse(reason: Reason.Sent, started: Reason.Started) {
    this.fail({ error: reason.message, reason: Reason.encode(reason), started })
  }

  /** Ends with an error reply, unless it was answered. */
  fail(payload: Envelope.ErrorPayload) {
    if (this.isAwaited) this.answer("error", Envelope.writeErrorPayload(payload))
  }

  /**
   * Ends with what the handler's exit says, unless it was answered by hand. What is returned is still to be run: an answer
   * whose schema works asynchronously.
   */
  settle(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> | undefined {
    if (exit._tag === "Success") {
      if (exit.value !== Response.sent) return this.answerSuccess(exit.value)
      if (!this.answered) this.fail({ error: "the handler ended without an answer", started: "yes" })
      return undefined
    }
    const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return this.answerFailure(failure.error, exit.cause)
    // Whoever interrupts a handler on purpose has answered before.
    if (!this.answered || !Cause.hasInterruptsOnly(exit.cause)) this.die(exit.cause)
    return undefined
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
      if (codec === undefined || this.answered) return this.deliver(status, value, final)
      return Effect.matchEffect(codec.encode(value), {
        onFailure: Effect.die,
        onSuccess: (json) => this.deliver(status, json, final)
      })
    })
  }

  private deliver(status: "success" | "error", json: unknown, final: boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      // Finalizers of a handler that was stopped may send: nobody hears it, and that is no fault of theirs.
      if (this.stopped) return resume(Effect.void)
      if (this.answered) {
        return resume(Effect.die(new Response.AlreadyAnswered({ service: this.service, action: this.action })))
      }
      const text = stringify(json)
      if (final) this.answered = true
      this.write(status, text, final, () => resume(Effect.void))
    })
  }

  private answerSuccess(value: unknown) {
    if (this.answered || !this.isAwaited) return undefined
    return whenEncoded(this.entry.success, value, (encoded) => {
      if (encoded._tag === "Failure") return this.die(encoded.cause, this.misfit(encoded.cause))
      try {
        this.answer("success", stringify(encoded.value))
      } catch (defect) {
        this.die(Cause.die(defect))
      }
    })
  }

  private answerFailure(error: unknown, cause: Cause.Cause<unknown>) {
    if (this.answered || !this.isAwaited) {
      this.link.discards.note("FailedUnheard")
      const late = this.answered ? "after its answer" : "with nobody waiting for an answer"
      this.link.log(Effect.logWarning(`fiberbus: ${this.label} failed ${late}`, cause))
      return undefined
    }
    return whenEncoded(this.entry.error, error, (encoded) => {
      if (encoded._tag === "Failure") return this.die(cause)
      try {
        if (Codec.nestsTooDeep(encoded.value, 2)) throw new TooDeep()
        this.fail({ error: errorText(error, encoded.value), failure: encoded.value })
      } catch (defect) {
        this.die(Cause.die(defect))
      }
    })
  }

  private misfit({ reasons }: Cause.Cause<unknown>) {
    const error = reasons.find(Cause.isFailReason)?.error
    if (!Schema.isSchemaError(error)) return undefined
    const { expected, path } = explain(error)
    return `the result of ${this.label} does not fit its success schema${Reason.at(path)}: ${Printable.line(expected)}`
  }

  /** Ends with `RemoteDefect`, whose id finds the cause in the log. */
  die(cause: Cause.Cause<unknown>, what = `handler of ${this.label} died`) {
    const id = crypto.randomUUID()
    this.defect = cause
    this.link.log(
      Effect.logError(`fiberbus: ${what} (${id})`, cause).pipe(
        Effect.annotateLogs({ ...this.entry.observed.annotations(this), defectId: id })
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
        if (!final) this.cancel()
      }
      then?.()
    })
  }
}

// What a peer chose, fit for a log.
const loggable = (text: string) => Printable.line(Printable.cut(text, 64))

/** By what a caller takes back its request: no other caller can. */
export const cancelKey = (replyTo: string, requestId: string) => `${replyTo}\n${requestId}`

/** A value that its receiver would drop. */
class TooDeep extends Error {
  override readonly message = `an answer nested deeper than ${Codec.maxDepth - 1}, which no caller reads`
}

const stringify = (json: unknown): string => {
  if (Codec.nestsTooDeep(json, 1)) throw new TooDeep()
  return JSON.stringify(json) ?? "null"
}

/** Goes on at once where the schema does, otherwise returns what is still to be run. */
const whenEncoded = (
  codec: SchemaCodec<any> | undefined,
  value: unknown,
  then: (encoded: Exit.Exit<unknown, unknown>) => void
): Effect.Effect<void> | undefined => {
  const encoded = codec === undefined ? Exit.succeed(value) : codec.encode(value)
  if (!Exit.isExit(encoded)) return Effect.flatMap(Effect.exit(encoded), (exit) => Effect.sync(() => then(exit)))
  then(encoded)
  return undefined
}

// A person reads it: what the error says of itself, or its tag with its fields.
const errorText = (error: unknown, encoded: unknown): string => {
  const fields = typeof error === "object" && error !== null ? (error as Record<string, unknown>) : {}
  for (const text of [fields["error"], fields["message"], error]) {
    if (typeof text === "string" && text !== "") return text
  }
  if (typeof encoded !== "object" || encoded === null || !("_tag" in encoded))
    return JSON.stringify(encoded) ?? "undefined"
  const { _tag, ...rest } = encoded
  return `${_tag}${Object.keys(rest).length === 0 ? "" : ` ${JSON.stringify(rest)}`}`
}
