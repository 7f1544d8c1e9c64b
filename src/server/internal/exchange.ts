/** One message that is being handled, from its arrival to its final answer. */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Tracer from "effect/Tracer"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import type { Sent, Transport } from "../../transport/Transport.ts"
import * as Codec from "../../wire/Codec.ts"
import type * as Control from "../../wire/Control.ts"
import type * as Discards from "../../wire/Discards.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as LongTexts from "../../wire/LongTexts.ts"
import * as Printable from "../../wire/Printable.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { AskError } from "../AskError.ts"
import type { Request } from "../Request.ts"
import * as Response from "../Response.ts"
import type { Gate, Place } from "./admission.ts"
import type { Delivery } from "./delivery.ts"
import type { Entry } from "./entry.ts"
import type { Outbox } from "./outbox.ts"
import { Questions } from "./questions.ts"
import { Steps } from "./steps.ts"

/** What an exchange needs of the process around it. */
export interface Link {
  readonly transport: Transport["Service"]
  /** Names this process among those that serve the same. */
  readonly instance: string
  readonly wheel: TimerWheel.TimerWheel
  readonly discards: Discards.Discards
  readonly log: (effect: Effect.Effect<void>) => void
  /** Runs what is the process's own work, on its clock and with its loggers. */
  readonly fork: <A>(effect: Effect.Effect<A>) => Fiber.Fiber<A>
  readonly outbox: Outbox
  /** What metrics are counted in. */
  readonly metrics: Context.Context<never>
  /** What a shutdown goes by. Nothing below `TestClock`, which nobody moves any more when its layers close. */
  readonly shutDownClock: Clock.Clock | undefined
  /** What waits or runs and whose caller may still speak to it: by inbox and request id. */
  readonly cancellable: Map<string, Exchange>
}

/** Writes one message's answers, the final one at most once. */
export class Exchange extends TimerWheel.Entry implements Request {
  readonly service: string
  readonly replyTo: string | undefined
  readonly envelope: Envelope.Request
  readonly entry: Entry
  readonly link: Link
  /** What keeps it, where it is durable. */
  readonly delivery: Delivery | undefined
  /**
   * When it is no longer wanted, on the wheel's clock: for its caller, or for the service where the caller did not say; nothing once a
   * stream has begun, which lasts as long as it is heard of.
   */
  deadline: number | undefined
  /** When it came, on the wheel's clock. */
  readonly arrivedAt: number
  /** The time it had, of which `deadline` is the end. */
  timeoutMillis: number | undefined
  /** Steps to a caller that counts them. */
  readonly steps: Steps | undefined
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
  /** Where it was let through, or waits to be. */
  gate: Gate<Exchange> | undefined = undefined
  /** Nobody else has this very sending of the request: it came to this process alone, or was claimed for it. */
  isAlone = false
  /** Its place in the backlog, while it waits there. */
  place: Place<Exchange> | undefined = undefined
  /** Whether its caller is still to be told that the handler has begun: looked at when half of its time is over. */
  private receipt: "due" | "told" | undefined = undefined
  /** Its caller can reach it. */
  private tracked = false
  /** It took time before it was known whose it is. */
  private waited = false
  /** When a stream's caller was last heard of. */
  private heard = 0
  private questions: Questions | undefined = undefined
  /** The items of a stream on their way: a frame each where the caller does not count them. */
  private apart: Steps | undefined = undefined

  constructor(
    link: Link,
    entry: Entry,
    service: string,
    envelope: Envelope.Request,
    replyTo: string | undefined,
    delivery?: Delivery
  ) {
    super()
    this.delivery = delivery
    this.link = link
    this.entry = entry
    this.service = service
    this.envelope = envelope
    this.replyTo = replyTo
    this.timeoutMillis = envelope.timeoutMillis
    this.arrivedAt = link.wheel.now()
    this.deadline = envelope.timeoutMillis === undefined ? undefined : this.arrivedAt + envelope.timeoutMillis
    this.steps =
      envelope.credit === undefined || this.cancelKey === undefined
        ? undefined
        : new Steps(
            (payload, packed, seq, confirmed) => this.writeStep(payload, packed, seq, confirmed),
            envelope.credit,
            link.transport.capabilities.maxFrameBytes
          )
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
  get deliveries() {
    return this.delivery?.deliveries ?? 1
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
    return (this.replyTo !== undefined || this.delivery !== undefined) && this.entry.automatic
  }
  get remainingMillis() {
    return this.deadline === undefined ? undefined : Math.max(0, this.deadline - this.link.wheel.now())
  }

  /** The time on the wheel's clock; that of its arrival while nothing of it has taken any. */
  now(): number {
    return this.tracked || this.waited ? this.link.wheel.now() : this.arrivedAt
  }

  /** The handler begins. From now on a stream's time is that without a word from its caller, who hears as often of us. */
  begin() {
    this.begun = true
    if (!this.lasts) return
    this.deadline = undefined
    this.heard = this.link.wheel.now()
    this.link.wheel.remove(this)
    this.link.wheel.add(this, this.patience / 3)
  }

  private get lasts() {
    return this.entry.items !== undefined && this.steps !== undefined && this.envelope.timeoutMillis !== undefined
  }
  private get patience() {
    return this.envelope.timeoutMillis ?? 0
  }

  /** The caller has said something about the request. */
  control(control: Control.Control) {
    this.heard = this.link.wheel.now()
    if (control._tag === "Cancel") this.cancel()
    else if (control._tag === "Credit") this.steps?.grant(control.until)
    else this.questions?.answer(control.ask, control.answer)
  }

  /** Half of the time is over, or all of it: then the caller is told, and the handler stopped. */
  override expire() {
    const now = this.link.wheel.now()
    if (this.begun && this.lasts && this.heard + this.patience > now) {
      this.link.wheel.add(this, this.patience / 3)
      return this.tellAlive()
    }
    if (this.deadline !== undefined && this.deadline > now) {
      this.link.wheel.add(this, this.deadline - now)
      if (this.begun) return this.tellAlive()
      this.receipt = "due"
      return
    }
    if (!this.begun) this.gate?.admission.refused("DeadlineExceeded")
    if (!this.isAwaited) this.link.discards.note("DeadlineExceeded")
    this.refuse(new Reason.DeadlineExceeded({ timeoutMillis: this.timeoutMillis ?? 0 }), this.begun ? "yes" : "no")
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
    if (this.place === undefined) {
      this.fiber?.interruptUnsafe()
      // After it: who could not be interrupted must not wait for ever.
      return this.release()
    }
    this.untrack()
    this.place.leave()
  }

  /** It is not known yet whose the request is: its caller may take it back meanwhile. */
  awaitClaim() {
    const { cancelKey, link } = this
    this.isAlone = true
    this.waited = true
    this.tracked = true
    if (cancelKey !== undefined) link.cancellable.set(cancelKey, this)
  }

  /** It takes time: from now on its deadline and its caller can end it. */
  track() {
    const { cancelKey, deadline, link } = this
    if (deadline !== undefined && this.tick < 0) {
      const left = deadline - link.wheel.now()
      // A first look at half of it, for the receipt: of use to callers that have a timeout, and known to them.
      const isTimed = this.envelope.timeoutMillis !== undefined
      const halves = isTimed && cancelKey !== undefined && this.receipt === undefined && left >= minReceiptMillis
      link.wheel.add(this, halves ? left / 2 : left)
    }
    this.tracked = true
    if (cancelKey !== undefined) link.cancellable.set(cancelKey, this)
    if (this.receipt === "due" && this.begun) this.tellAlive()
  }

  /** Tells the caller that the handler has begun: only where its time may run out, never on the fast path. */
  private tellAlive() {
    this.receipt = "told"
    if (this.answered || this.stopped) return
    this.steps?.flush()
    this.write("success", "null", false, undefined, { alive: true })
  }

  /** It is over. */
  untrack() {
    const { link } = this
    link.wheel.remove(this)
    if (!this.tracked) return
    this.tracked = false
    const { cancelKey } = this
    if (cancelKey !== undefined && link.cancellable.get(cancelKey) === this) link.cancellable.delete(cancelKey)
  }

  /** Its handler has ended. What that left running waits for nothing of the caller's any more. */
  end() {
    this.untrack()
    this.release()
  }

  private release() {
    this.steps?.close()
    this.apart?.close()
    this.questions?.close()
  }

  private get cancelKey() {
    const { requestId } = this.envelope
    // What is kept is done, whoever goes away.
    return this.isAwaited && this.delivery === undefined && typeof requestId === "string"
      ? cancelKey(this.replyTo!, requestId)
      : undefined
  }

  /** Ends with an outcome on the way, unless it was answered. */
  refuse(reason: Reason.Sent, started: Reason.Started) {
    if (this.delivery !== undefined) {
      if (this.answered) return
      this.answered = true
      return this.delivery.refused(this, reason, started)
    }
    // Told to those who can go elsewhere with it, which callers of Daebus cannot.
    const { attempt, route, timeoutMillis } = this.envelope
    const isFree = this.isAlone && started === "no" && reason._tag === "Draining" && timeoutMillis !== undefined
    this.fail(
      { error: reason.message, reason: Reason.encode(reason), started },
      isFree ? { route, ...(attempt > 1 ? { attempt } : undefined) } : undefined
    )
  }

  /** Ends with an error reply, unless it was answered. */
  fail(payload: Envelope.ErrorPayload, besides?: Partial<Envelope.ReplyExtension>) {
    if (this.isAwaited) this.answer("error", Envelope.writeErrorPayload(payload), besides)
  }

  /**
   * Ends with what the handler's exit says, unless it was answered by hand. What is returned is still to be run: an answer
   * whose schema works asynchronously.
   */
  settle(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> | undefined {
    if (this.delivery !== undefined && !this.entry.automatic) {
      if (!this.answered) this.delivery.ended(this, exit)
      this.answered = true
      return undefined
    }
    if (exit._tag === "Success") {
      if (exit.value !== Response.sent) return this.answerSuccess(exit.value)
      if (!this.answered) this.fail({ error: "the handler ended without an answer", started: "yes" })
      return undefined
    }
    const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return this.answerFailure(failure.error, exit.cause)
    // Whoever stops a handler on purpose has said so before.
    if (!(this.answered || this.stopped) || !Cause.hasInterruptsOnly(exit.cause)) this.die(exit.cause)
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

  private byHand(
    codec: SchemaCodec.SchemaCodec<any> | undefined,
    value: unknown,
    status: "success" | "error",
    final: boolean
  ) {
    return Effect.suspend((): Effect.Effect<void> => {
      if (codec === undefined || this.answered) return this.deliver(status, value, final)
      return Effect.matchEffect(codec.encode(value), {
        onFailure: Effect.die,
        onSuccess: (json) => this.deliver(status, json, final)
      })
    })
  }

  private deliver(status: "success" | "error", json: unknown, final: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      // Finalizers of a handler that was stopped may send: nobody hears it, and that is no fault of theirs.
      if (this.stopped) return Effect.void
      if (this.answered) return Effect.die(this.alreadyAnswered())
      const text = stringify(json)
      if (this.steps !== undefined && status === "success" && !final) return this.steps.write([text])
      this.steps?.flush()
      if (this.stopped) return Effect.void
      if (final) this.answered = true
      return Effect.callback<void>((resume) => this.write(status, text, final, () => resume(Effect.void)))
    })
  }

  private alreadyAnswered() {
    return new Response.AlreadyAnswered({ service: this.service, action: this.action })
  }

  /** Effect of items of a stream. Succeeds when all have their place among those on their way. */
  sendItems(items: ReadonlyArray<unknown>): Effect.Effect<void> {
    const codec = this.entry.items!
    const texts: Array<string> = []
    for (const item of items) {
      const encoded = codec.encode(item)
      if (!Exit.isExit(encoded) || Exit.isFailure(encoded)) {
        return Effect.forEach(items, (item) => this.byHand(codec, item, "success", false), { discard: true })
      }
      texts.push(stringify(encoded.value, codec))
    }
    if (this.answered && !this.stopped) return this.deliver("success", null, false)
    this.apart ??= this.steps ?? new Steps((text, _, __, left) => this.writeApart(text, left), Infinity, 0)
    return this.apart.write(texts)
  }

  /** One item to a caller that does not count them. */
  private writeApart(text: string, left: () => void) {
    // One before it was too large, or is heard by nobody.
    if (this.stopped || this.answered) return left()
    this.write("success", text, false, left)
  }

  /** Effect of a question to the caller. */
  ask(name: string, question: unknown, timeout: Duration.Input | undefined): Effect.Effect<unknown, AskError> {
    const failed = (reason: AskError["reason"], detail = "") => new AskError({ question: name, reason, detail })
    const { answer, ask } = this.entry.asks.get(name)!
    const questions = this.questions ?? new Questions()
    this.questions = questions
    const asked = Effect.suspend((): Effect.Effect<unknown, AskError> => {
      if (!this.envelope.answers || this.cancelKey === undefined) return Effect.fail(failed("NobodyAnswers"))
      return Effect.flatMap(Effect.orDie(ask.encode(question)), (json) => {
        const text = stringify(json)
        this.steps?.flush()
        if (this.stopped) return Effect.fail(failed("NobodyAnswers", over))
        if (this.answered) return Effect.die(this.alreadyAnswered())
        const send = (id: number) => this.write("success", text, false, undefined, { ask: { id, name } })
        return Effect.flatMap(
          questions.ask(send) ?? Effect.fail(failed("TooMany")),
          (given): Effect.Effect<unknown, AskError> => {
            if (given === undefined) return Effect.fail(failed("NobodyAnswers", over))
            if ("declined" in given) return Effect.fail(failed("Declined", given.declined))
            return Effect.mapError(answer.decode(given.json), (error) => {
              const { expected, path } = SchemaCodec.explain(error)
              return failed("InvalidAnswer", `${path.length === 0 ? "" : `at ${JSON.stringify(path)}: `}${expected}`)
            })
          }
        )
      })
    })
    return timeout === undefined
      ? asked
      : Effect.timeoutOrElse(asked, { duration: timeout, orElse: () => Effect.fail(failed("TimedOut")) })
  }

  private answerSuccess(value: unknown) {
    if (this.answered || !this.isAwaited) return undefined
    const { success } = this.entry
    const encoded = success === undefined ? Exit.succeed(value) : success.encode(value)
    if (Exit.isExit(encoded)) return this.writeSuccess(encoded)
    return Effect.flatMap(Effect.exit(encoded), (exit) => Effect.sync(() => this.writeSuccess(exit)))
  }

  private writeSuccess(encoded: Exit.Exit<unknown, unknown>): undefined {
    if (encoded._tag === "Failure") return void this.die(encoded.cause, this.misfit(encoded.cause))
    try {
      const { value: json } = encoded
      if (this.answerLifted(json)) return
      if (this.steps === undefined && !this.envelope.texts && Envelope.isBulky(json)) this.answerBulky(json)
      else this.answer("success", stringify(json, this.entry.success))
    } catch (defect) {
      this.die(Cause.die(defect))
    }
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
    const { expected, path } = SchemaCodec.explain(error)
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
    this.refuse(new Reason.RemoteDefect({ id }), this.begun ? "yes" : "no")
  }

  private answer(status: "success" | "error", payload: string, besides?: Partial<Envelope.ReplyExtension>) {
    if (this.answered) return
    this.steps?.flush()
    // What is flushed may be too large, and then it was answered with that.
    if (this.answered) return
    this.answered = true
    this.write(status, payload, true, undefined, besides)
  }

  /** Answers with long texts behind the JSON, where there are any and the caller takes them so. */
  private answerLifted(json: unknown): boolean {
    const { requestId, texts } = this.envelope
    if (!texts || this.steps !== undefined || this.delivery !== undefined) return false
    const lifted = LongTexts.lift(json)
    if (lifted === undefined) return false
    const envelope = Envelope.writeReply(
      "success",
      stringify(lifted.json, this.entry.success),
      requestId,
      true,
      this.extension()
    )
    this.answered = true
    this.post(LongTexts.write(envelope, lifted), true, undefined)
    return true
  }

  private answerBulky(json: Codec.JsonObject) {
    if (SchemaCodec.nestsTooDeep(this.entry.success, json, 1)) throw new TooDeep()
    const frame = Envelope.writeBulkyReply(json, this.envelope.requestId, this.extension())
    this.answered = true
    this.post(frame, true, undefined)
  }

  private writeStep(payload: string, packed: boolean, seq: number, confirmed: () => void) {
    if (this.answered || this.stopped) return confirmed()
    this.write("success", payload, false, confirmed, packed ? { packed, seq } : { seq })
  }

  private extension(besides?: Partial<Envelope.ReplyExtension>): Envelope.ReplyExtension | undefined {
    const { answers, attempt, credit } = this.envelope
    if (credit === undefined && !answers && !besides?.alive && besides?.route === undefined) return undefined
    const which = attempt > 1 ? { attempt } : undefined
    return { v: 1, by: this.link.instance, seq: this.steps?.total ?? 0, ...which, ...besides }
  }

  private write(
    status: "success" | "error",
    payload: string,
    final: boolean,
    then: (() => void) | undefined,
    besides?: Partial<Envelope.ReplyExtension>
  ) {
    if (this.replyTo === undefined && !(final && this.delivery !== undefined)) return then?.()
    this.post(
      Envelope.writeReply(status, payload, this.envelope.requestId, final, this.extension(besides)),
      final,
      then
    )
  }

  /** Sends a frame, where there is somebody to send it to, or ends what is kept with it. */
  private post(frame: string, final: boolean, then: (() => void) | undefined) {
    const { replyTo, link } = this
    const { maxFrameBytes } = link.transport.capabilities
    let ends = final
    if (Codec.isLarger(frame, maxFrameBytes)) {
      ends = true
      const reason = new Reason.PayloadTooLarge({
        what: "reply",
        bytes: Codec.byteLength(frame),
        maxBytes: maxFrameBytes
      })
      link.log(Effect.logWarning(`fiberbus: ${this.label}: ${reason.message}`))
      // Progress that cannot be sent ends the call: a caller must not take what is left for the whole. Its handler goes on to no
      // purpose, and may be what runs right now: it is stopped as soon as it lets go.
      if (!final) {
        this.stopped = true
        queueMicrotask(() => this.stop())
      }
      this.answered = true
      frame = Envelope.writeReply(
        "error",
        Envelope.writeErrorPayload({ error: reason.message, reason: Reason.encode(reason), started: "yes" }),
        this.envelope.requestId,
        true,
        this.extension()
      )
    }
    if (ends && this.delivery !== undefined) return this.delivery.settle(frame, replyTo, then)
    link.outbox.send()
    const sent: Sent =
      final && then === undefined
        ? link.outbox.sent
        : (error, receivers) => {
            // Its inbox has gone: a stream to nobody must not go on.
            if (link.outbox.left(error, receivers) && !final) this.cancel()
            then?.()
          }
    link.transport.send(replyTo!, frame, sent, this.envelope.packs)
  }
}

/** What a question is told that has no answer because its request is over. */
const over = "the request is over"

/** Calls with less time than this get no receipt, in milliseconds. */
const minReceiptMillis = 200

// What a peer chose, fit for a log.
const loggable = (text: string) => Printable.line(Printable.cut(text, 64))

/** By what a caller takes back its request: no other caller can. */
export const cancelKey = (replyTo: string, requestId: string) => `${replyTo}\n${requestId}`

/** A value that its receiver would drop. */
class TooDeep extends Error {
  override readonly message = `an answer nested deeper than ${Codec.maxDepth - 1}, which no caller reads`
}

const stringify = (json: unknown, codec?: SchemaCodec.SchemaCodec<any>): string => {
  if (SchemaCodec.nestsTooDeep(codec, json, 1)) throw new TooDeep()
  return JSON.stringify(json) ?? "null"
}

/** Goes on at once where the schema does, otherwise returns what is still to be run. */
const whenEncoded = (
  codec: SchemaCodec.SchemaCodec<any> | undefined,
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
