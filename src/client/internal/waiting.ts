/** A call that waits: what arrives for it, and its single outcome. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { SchemaError } from "effect/Schema"
import * as Schema from "effect/Schema"
import { type Sent, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Control from "../../wire/Control.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Pack from "../../wire/Pack.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { CallErrorReason } from "../CallError.ts"
import type * as Answers from "./answers.ts"
import * as Flow from "./flow.ts"
import { Pending } from "./inbox.ts"
import type { Instance } from "./members.ts"
import { failure, type Method, type Outcome, type Settings } from "./method.ts"
import { reasonOf, transmit, within } from "./request.ts"

export abstract class Call extends Pending {
  readonly method: Method
  readonly timeoutMillis: number
  /** What the request is made of, each time that it is sent. */
  json: unknown = undefined
  settings: Settings | undefined = undefined
  /** The request waits for the link: nothing of it has been sent. */
  isHeld = false
  /** Which sending of the attempt it is. */
  route = 1
  /** The last sending was confirmed: somebody has it. */
  private isSent = false
  /** It is in the count of its target. */
  private isCounted = false
  /** Somebody who was shutting down had it, and would have been the last to say why. */
  private wasDeclined = false
  /** Set by the first sign of the handler. */
  started = false
  /** The process whose steps it gets, of several that serve the name. */
  private by: string | undefined
  readonly flow: Flow.Flow | undefined
  readonly inquiry: Answers.Inquiry | undefined

  constructor(
    method: Method,
    timeoutMillis: number,
    flow: Flow.Flow | undefined,
    inquiry: Answers.Inquiry | undefined
  ) {
    super()
    this.method = method
    this.timeoutMillis = timeoutMillis
    this.flow = flow
    this.inquiry = inquiry
  }

  override accepts({ extension, final }: Envelope.Reply) {
    if (extension === undefined || this.by === extension.by) return true
    if (this.by === undefined) {
      if (!final && !extension.alive) this.by = extension.by
      return true
    }
    // The first one to send a step is the one; the others need not go on.
    if (!final) this.tell({ ...this.about(), _tag: "Cancel", by: extension.by })
    return false
  }

  /** Says something about the request: to the process that is named, or to all that serve it. */
  tell(control: Control.Control) {
    const { channel, inbox, service } = this.method
    const { capabilities, prefix, send } = inbox.transport
    const { by } = control
    const frame = Control.write(control)
    if (Codec.isLarger(frame, capabilities.maxFrameBytes)) return false
    if (by === undefined) send(channel, frame, ignoreSent)
    else {
      const sent: Sent = (error, receivers) => {
        if (error === undefined && receivers === 0 && capabilities.receivers === "exact" && by === this.by)
          this.onGone()
      }
      const takes = Pack.isTaken(this.method.members?.find(by)?.pack)
      send(Channels.instance(prefix, service, by), frame, sent, takes)
    }
    return true
  }

  /** Nobody hears what is said to the process that sends the steps. */
  protected onGone() {}

  /** Chooses whom the request goes to. */
  choose(): Instance | undefined {
    const { choose, members } = this.method
    const { avoid, instance, key } = this.settings!
    if (members === undefined) return undefined
    // What is known of its processes was wrong too often: all of them are asked in the end.
    if (instance === undefined && this.route >= maxRoutes) this.target = undefined
    else this.target = instance === undefined ? members.pick(choose, key, avoid) : members.find(instance)
    const { target } = this
    if (target === undefined) return undefined
    this.isCounted = true
    members.router.begun(target)
    return target
  }

  override onLeft() {
    if (!this.isCounted) return
    this.isCounted = false
    this.method.members!.router.ended(this.target!)
  }

  /** Sends the request once more, as nobody has begun it: to another process, or to all. False where its time is over, or its ways. */
  private reroute(): boolean {
    const { inbox } = this.method
    const left = Math.floor((this.deadline > 0 ? this.deadline : this.expiresAt) - inbox.now())
    if (left <= 0 || this.route >= maxRoutes || this.settings?.instance !== undefined) return false
    this.onLeft()
    this.route++
    this.isSent = false
    transmit(this, left)
    return true
  }

  override redirects({ extension, payload }: Envelope.Reply): boolean {
    const { target } = this
    if (extension?.route === undefined || this.started || this.settings === undefined) return false
    // Of an earlier attempt, or an earlier way.
    if (extension.route !== this.route || (extension.attempt ?? 1) !== (this.settings.attempt ?? 1)) return false
    if (!isDraining(payload)) return false
    const { members } = this.method
    if (members === undefined || (target !== undefined && target.by !== extension.by)) return false
    if (target !== undefined) members.router.leaving(target)
    // All who heard it have been asked.
    else if (members.list.length === 0 && this.route > 1) return false
    this.wasDeclined = true
    return this.reroute()
  }

  override onTargetGone(error: TransportError) {
    // Whose sending is not confirmed may yet learn that nobody got it.
    if (this.isSent && this.method.inbox.leave(this)) this.onLost(error)
  }

  about() {
    return { replyTo: this.method.inbox.channel, requestId: this.id, by: this.by }
  }

  /** Hands the outcome over; called once. */
  abstract end(outcome: Outcome): void

  /** Nobody waits any more: the service is told, so that it can stop. */
  cancel() {
    if (this.method.inbox.leave(this) && !this.isHeld) this.takeBack()
  }

  /** Tells all that may have begun. */
  takeBack() {
    if (this.target !== undefined) return void this.tell({ ...this.about(), _tag: "Cancel", by: this.target.by })
    this.tell({ ...this.about(), _tag: "Cancel", by: undefined })
    // It may hear its service's channel no more, as it shuts down.
    if (this.by !== undefined) this.tell({ ...this.about(), _tag: "Cancel" })
  }

  override onLost(error: TransportError) {
    this.failWith(reasonOf(error), this.didStart())
  }

  override onUp(millis: number) {
    if (!this.isHeld) return
    this.isHeld = false
    transmit(this, Math.min(millis, this.settings!.timeoutMillis))
  }

  private didStart(): Reason.Started {
    if (this.isHeld) return "no"
    return this.started ? "yes" : "unknown"
  }

  failWith(reason: CallErrorReason, started: Reason.Started) {
    this.end(Effect.fail(failure(this.method, reason, started)))
  }

  override expire() {
    this.method.inbox.leave(this)
    this.failWith(new Reason.DeadlineExceeded({ timeoutMillis: this.timeoutMillis }), this.didStart())
  }

  /** What became of the last sending. The answer may have come before; then nothing is left to do. */
  onSent(error: TransportError | undefined, receivers: number) {
    const { inbox, members } = this.method
    const { target } = this
    if (error !== undefined) {
      if (inbox.leave(this)) this.failWith(reasonOf(error), this.started ? "yes" : error.sent)
    } else if (receivers > 0 || inbox.transport.capabilities.receivers !== "exact") {
      this.isSent = true
      // Found gone meanwhile.
      if (target?.isDead && inbox.has(this)) members!.router.gone(target)
    } else {
      if (target !== undefined) members!.router.gone(target)
      if (!inbox.has(this) || (target !== undefined && this.reroute())) return
      if (inbox.leave(this))
        this.failWith(this.wasDeclined ? new Reason.Draining({}) : new Reason.NoResponders({}), "no")
    }
  }

  /** Its process lives. */
  protected hearTarget() {
    if (this.target !== undefined) this.method.members!.router.answered(this.target)
  }

  override onReply(reply: Envelope.Reply) {
    this.hearTarget()
    this.end(reply.ok ? this.readSuccess(reply.payload) : this.readError(reply.payload))
  }

  private readSuccess(payload: unknown): Outcome {
    const { success } = this.method
    return success === undefined ? Exit.succeed(payload) : this.fitting("success", success.decode(payload))
  }

  private readError(payload: unknown): Outcome {
    const { method } = this
    const fields = (typeof payload === "object" && payload !== null ? payload : {}) as Codec.JsonObject
    if (fields["failure"] !== undefined && method.error !== undefined) {
      return Effect.flatMap(this.fitting("error", method.error.decode(fields["failure"])), Effect.fail)
    }
    const reason = readReason(payload)
    if (Option.isSome(reason)) {
      // A step has shown a handler, whoever else did not start.
      return Effect.fail(failure(method, reason.value, this.started ? "yes" : readStarted(fields["started"])))
    }
    // A peer that knows no failures of ours: its payload itself may be what the contract declares.
    const remote = Effect.suspend(() =>
      Effect.fail(
        failure(
          method,
          new Reason.RemoteError({ error: Envelope.readErrorText(payload), payload: jsonOf(payload) }),
          "yes"
        )
      )
    )
    if (method.error === undefined) return remote
    return Effect.matchCauseEffect(method.error.decode(payload), { onFailure: () => remote, onSuccess: Effect.fail })
  }

  /** A decoded part of the reply, or the mismatch. */
  protected fitting(part: Part, decoded: Effect.Effect<any, SchemaError>): Outcome {
    if (Exit.isExit(decoded) && Exit.isSuccess(decoded)) return decoded
    const { method, timeoutMillis } = this
    const fitted = Effect.catchCause(decoded, (cause) => Effect.fail(failure(method, mismatch(part, cause), "yes")))
    if (Exit.isExit(decoded)) return fitted
    const late = () => failure(method, new Reason.DeadlineExceeded({ timeoutMillis }), "yes")
    // A stream of items has its time again with each of them.
    const left = method.items === undefined ? this.expiresAt - method.inbox.now() : timeoutMillis
    return within(left, late)(fitted)
  }
}

/** A call whose fiber waits for the outcome, and whose steps go to a stream where it has one. */
export class Waiting extends Call {
  readonly resume: (outcome: Outcome) => void
  /** When the service was last heard of. */
  private heard = 0
  /** Questions so far. */
  private asked = 0
  private isGone = false

  constructor(
    method: Method,
    timeoutMillis: number,
    resume: (outcome: Outcome) => void,
    flow: Flow.Flow | undefined,
    inquiry: Answers.Inquiry | undefined
  ) {
    super(method, timeoutMillis, flow, inquiry)
    this.resume = resume
  }

  override end(outcome: Outcome) {
    // What the consumer still takes makes room for nothing.
    this.flow?.forget()
    this.resume(outcome)
  }

  override onStep(reply: Envelope.Reply) {
    const { extension } = reply
    this.hear(extension !== undefined)
    const { flow } = this
    if (flow !== undefined && extension !== undefined) {
      if (extension.seq > flow.next) return this.onGap(extension.seq)
      // A frame that comes twice; what is no step has no number of its own.
      if (extension.seq < flow.next) return
    }
    if (extension?.alive) {
      // A stream of items speaks by itself; for what has a deadline this is the one sign that a word about room was lost.
      if (this.method.items === undefined) flow?.remind()
      return
    }
    if (extension?.ask !== undefined) return this.onAsk(extension.ask, reply.payload)
    if (flow === undefined) return
    const steps: ReadonlyArray<unknown> =
      extension?.packed && Array.isArray(reply.payload) ? reply.payload : [reply.payload]
    // A warning on the way has no number of its own.
    if (reply.ok) flow.next += steps.length
    this.offer(flow, steps)
  }

  /** Whether a handler is known to run for this stream, so that no other one may be begun. */
  get isStreaming() {
    return this.flow !== undefined && this.started
  }

  override onReply(reply: Envelope.Reply) {
    const { extension, ok } = reply
    if (ok && this.flow !== undefined && extension !== undefined && extension.seq > this.flow.next) {
      return this.failWith(this.missing(extension.seq), "yes")
    }
    super.onReply(reply)
  }

  /** The handler runs. A stream's time begins again with every word of its service, which hears of us as often. */
  private hear(counts: boolean) {
    const { inbox, items } = this.method
    this.hearTarget()
    this.heard = inbox.now()
    this.isGone = false
    if (this.started) return
    this.started = true
    if (items !== undefined) inbox.renew(this, this.timeoutMillis / 3)
    if (counts && this.flow !== undefined) {
      this.flow.grant = (until) => void this.tell({ ...this.about(), _tag: "Credit", until })
    }
  }

  // Its last words may still be on their way.
  protected override onGone() {
    const { inbox } = this.method
    if (this.isGone || !inbox.has(this)) return
    this.isGone = true
    inbox.renew(this, Math.min(lastWordsMillis, Math.max(0, this.expiresAt - inbox.now())))
  }

  override expire() {
    const { inbox, items } = this.method
    if (this.isGone) {
      inbox.leave(this)
      return this.failWith(gone, "yes")
    }
    const lasts = items !== undefined && this.started
    const left = (lasts ? this.heard + this.timeoutMillis : this.deadline) - inbox.now()
    if (left <= 0) return super.expire()
    inbox.renew(this, lasts ? Math.min(left, this.timeoutMillis / 3) : left)
    if (lasts) this.flow?.grant(this.flow.granted)
  }

  private onAsk({ id, name }: { readonly id: number; readonly name: string }, json: unknown) {
    if (this.inquiry === undefined || id < this.asked) return
    this.asked = id + 1
    const about = this.about()
    const say = (answer: Control.Answer["answer"]) => this.tell({ ...about, _tag: "Answer", ask: id, answer })
    const reply = (answer: Control.Answer["answer"]) => {
      if (!say(answer)) say({ declined: "the answer is too large" })
    }
    if (!Queue.offerUnsafe(this.inquiry, { name, json, reply })) reply({ declined: "too many questions wait" })
  }

  private missing(next: number) {
    return new Reason.ConnectionLost({ detail: `steps ${this.flow!.next + 1} to ${next} of the stream are missing` })
  }

  private onGap(next: number) {
    this.cancel()
    this.failWith(this.missing(next), "yes")
  }

  // Decoded by the consumer where its schema takes time, so that steps and result keep their order.
  private offer(flow: Flow.Flow, steps: ReadonlyArray<unknown>) {
    const { items, progress } = this.method
    const codec = items ?? progress
    const toEvent = (value: unknown) => (items === undefined ? { _tag: "Progress", value } : value)
    let events: Array<unknown> = []
    const ready = () => {
      const batch = events
      events = []
      return batch.length === 0 || flow.offer(batch.length, Exit.succeed(batch))
    }
    let fits = true
    for (const step of steps) {
      const decoded = codec === undefined ? Exit.succeed(step) : codec.decode(step)
      const value = this.fitting(items === undefined ? "progress" : "items", decoded)
      if (Exit.isExit(value) && Exit.isSuccess(value)) events.push(toEvent(value.value))
      // It is how the call ends, unless those before it are too many.
      else if (Exit.isExit(decoded) && ready()) {
        this.cancel()
        return this.end(value)
      } else
        fits &&=
          ready() &&
          flow.offer(
            1,
            Effect.map(value, (value) => [toEvent(value)])
          )
    }
    if (ready() && fits) return
    this.cancel()
    this.end(Effect.fail(failure(this.method, tooSlow(flow), "yes")))
  }
}

/** The outcome on the way that an answer tells of, if it tells of one. */
export const readReason = (payload: unknown): Option.Option<Reason.Sent> => {
  const reason = typeof payload === "object" && payload !== null ? (payload as Codec.JsonObject)["reason"] : undefined
  return reason === undefined ? Option.none() : Reason.decode(reason)
}

const isDraining = (payload: unknown) => Option.getOrUndefined(readReason(payload))?._tag === "Draining"

const ignoreSent = () => {}

/** Sendings of one attempt at most: each but the last reached nobody who would begin it, and the last goes to all. */
export const maxRoutes = 16

/** How long the last frames of a process that has gone may take, in milliseconds. */
const lastWordsMillis = 200

const gone = new Reason.ConnectionLost({ detail: "the process that was answering is gone" })

type Part = Reason.ContractMismatch["part"]

const mismatch = (part: Part, cause: Cause.Cause<SchemaError>) => {
  const found = cause.reasons.find(Cause.isFailReason)
  return new Reason.ContractMismatch({
    part,
    ...(found === undefined
      ? { path: [], expected: "a value that the schema can read without dying" }
      : SchemaCodec.explain(found.error))
  })
}

const readStarted = (value: unknown): Reason.Started => (value === "no" || value === "yes" ? value : "unknown")

// A payload that came as JSON; NaN and the infinities, which Python peers write, are none and are left out.
const jsonOf = (payload: unknown) => (isJson(payload) ? payload : null)

const isJson = Schema.is(Schema.Json)

const tooSlow = (flow: Flow.Flow) =>
  new TransportError({
    kind: "Overloaded",
    operation: "stream",
    detail: `${Math.max(Flow.uncounted, flow.window)} steps wait for the stream's consumer`,
    hint: "Consume faster, or let the service send fewer steps",
    sent: "unknown"
  })
