/** One call, from its payload to its single outcome. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { SchemaError } from "effect/Schema"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { Deadline } from "../../policy/Deadline.ts"
import type { Policy } from "../../policy/Policy.ts"
import { TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Control from "../../wire/Control.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { CallError, type CallErrorReason } from "../CallError.ts"
import type { CallMetrics } from "../CallMetrics.ts"
import * as Answers from "./answers.ts"
import * as Flow from "./flow.ts"
import { type Inbox, Pending } from "./inbox.ts"
import * as Observed from "./observed.ts"

/** An action as a caller sees it, prepared once. Parts that a contract leaves out, or that has none, are absent. */
export interface Method {
  readonly inbox: Inbox
  readonly service: string
  readonly action: string
  readonly channel: string
  readonly headOfCall: string
  readonly headOfSend: string
  readonly timeoutMillis: number
  readonly annotations: Context.Context<never>
  readonly metrics: CallMetrics
  readonly payload: SchemaCodec.SchemaCodec<any> | undefined
  readonly success: SchemaCodec.SchemaCodec<any> | undefined
  readonly error: SchemaCodec.SchemaCodec<any> | undefined
  readonly progress: SchemaCodec.SchemaCodec<any> | undefined
  /** Items of an action that answers with a stream: its time is the longest silence. */
  readonly items: SchemaCodec.SchemaCodec<any> | undefined
  readonly asks: Answers.Codecs | undefined
}

/** Prepares an action. */
export const method = (
  inbox: Inbox,
  service: string,
  action: string,
  rest: Omit<Method, "inbox" | "service" | "action" | "channel" | "headOfCall" | "headOfSend">
): Method => ({
  inbox,
  service,
  action,
  channel: Channels.service(inbox.transport.prefix, service),
  headOfCall: Envelope.requestHead({ action, service, replyTo: inbox.channel }),
  headOfSend: Envelope.requestHead({ action, service }),
  ...rest
})

/** What a caller may say per call, resolved. */
export interface Settings {
  readonly timeoutMillis: number
  readonly headers: { readonly [name: string]: string } | undefined
  readonly policies: ReadonlyArray<Policy>
  readonly window: number
  readonly answers: Answers.Answers | undefined
  /** Which attempt it is; absent is the first. */
  readonly attempt?: number
  /** The call's own span, where it is traced. */
  readonly span?: Tracer.Span
  /** The span that the request belongs to, as it travels. */
  readonly traceparent?: string | undefined
}

/** How a call ended, its value perhaps still to be decoded. */
export type Outcome = Effect.Effect<any, any>

/** Calls and waits for the result; steps on the way only show that the handler started. */
export const unary = (method: Method, payload: unknown, settings: Settings): Outcome =>
  encoded(method, payload, settings, (json, settings) => withAnswers(once, method, json, settings, undefined))

/** A step, or the result, of a streamed call. */
export type Event<Progress, Success> =
  | { readonly _tag: "Progress"; readonly value: Progress }
  | { readonly _tag: "Success"; readonly value: Success }

/** What takes a call from its encoded payload to its outcome. */
export type Run = (
  method: Method,
  json: unknown,
  settings: Settings,
  flow: Flow.Flow | undefined,
  inquiry: Answers.Inquiry | undefined
) => Outcome

/** Streams steps, then the result; or items, and no result. Ending early forgets the call. */
export const streaming =
  (run: Run) =>
  (method: Method, payload: unknown, settings: Settings): Stream.Stream<any, any> =>
    Flow.stream(
      settings.window,
      (flow) => encoded(method, payload, settings, (json, settings) => withAnswers(run, method, json, settings, flow)),
      (value) => (method.items === undefined ? [{ _tag: "Success", value }] : [])
    )

/** Calls once and streams. */
export const streamed = streaming((...call) => once(...call))

/** Runs a call with the answers to its questions, where the caller gives any. */
export const withAnswers = (
  run: Run,
  method: Method,
  json: unknown,
  settings: Settings,
  flow: Flow.Flow | undefined
): Outcome =>
  settings.answers === undefined || method.asks === undefined
    ? run(method, json, settings, flow, undefined)
    : Answers.answering(method.asks, settings.answers, (inquiry) => run(method, json, settings, flow, inquiry))

const once: Run = (method, json, settings, flow, inquiry) =>
  Effect.callback<any, any>((resume) => {
    const call = new Once(method, settings.timeoutMillis, resume, flow, inquiry)
    method.metrics.begin()
    begin(call, json, settings)
    return Effect.sync(() => call.abandon())
  })

/** Sends without asking for an answer: the receivers count. */
export const oneWay = (method: Method, payload: unknown, settings: Settings): Effect.Effect<number, CallError> =>
  Observed.sent(
    method,
    prepared("producer", method, payload, settings, (json, settings) => sending(method, json, settings))
  )

const sending = (method: Method, json: unknown, settings: Settings) =>
  Effect.callback<number, CallError>((resume) => {
    const frame = write(method, method.headOfSend, undefined, json, settings)
    if (typeof frame !== "string") return resume(Effect.fail(failure(method, frame, "no")))
    method.inbox.transport.send(method.channel, frame, (error, receivers) =>
      resume(
        error === undefined ? Effect.succeed(receivers) : Effect.fail(failure(method, reasonOf(error), error.sent))
      )
    )
  })

export abstract class Call extends Pending {
  readonly method: Method
  readonly timeoutMillis: number
  /** What the request will be made of, while it waits for the link; nothing once it has been sent. */
  held: { readonly json: unknown; readonly settings: Settings } | undefined
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
      send(Channels.instance(prefix, service, by), frame, (error, receivers) => {
        if (error === undefined && receivers === 0 && capabilities.receivers === "exact" && by === this.by)
          this.onGone()
      })
    }
    return true
  }

  /** Nobody hears what is said to the process that sends the steps. */
  protected onGone() {}

  about() {
    return { replyTo: this.method.inbox.channel, requestId: this.id, by: this.by }
  }

  /** Hands the outcome over; called once. */
  abstract end(outcome: Outcome): void

  /** Nobody waits any more: the service is told, so that it can stop. */
  cancel() {
    if (this.method.inbox.leave(this) && this.held === undefined) this.takeBack()
  }

  /** Tells all that may have begun. */
  takeBack() {
    this.tell({ ...this.about(), _tag: "Cancel", by: undefined })
    // It may hear its service's channel no more, as it shuts down.
    if (this.by !== undefined) this.tell({ ...this.about(), _tag: "Cancel" })
  }

  override onLost(error: TransportError) {
    this.failWith(reasonOf(error), this.didStart())
  }

  override onUp(millis: number) {
    const { held } = this
    if (held === undefined) return
    this.held = undefined
    transmit(this, held.json, { ...held.settings, timeoutMillis: Math.min(millis, held.settings.timeoutMillis) })
  }

  private didStart(): Reason.Started {
    if (this.held !== undefined) return "no"
    return this.started ? "yes" : "unknown"
  }

  failWith(reason: CallErrorReason, started: Reason.Started) {
    this.end(Effect.fail(failure(this.method, reason, started)))
  }

  override expire() {
    this.method.inbox.leave(this)
    this.failWith(new Reason.DeadlineExceeded({ timeoutMillis: this.timeoutMillis }), this.didStart())
  }

  override onSent(error: TransportError | undefined, receivers: number) {
    if (error !== undefined) {
      if (this.method.inbox.leave(this)) this.failWith(reasonOf(error), this.started ? "yes" : error.sent)
    } else if (receivers === 0 && this.method.inbox.transport.capabilities.receivers === "exact") {
      if (this.method.inbox.leave(this)) this.failWith(new Reason.NoResponders({}), "no")
    }
  }

  override onReply(reply: Envelope.Reply) {
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

/** A call that is one attempt. */
class Once extends Waiting {
  private counted = false

  override onReply(reply: Envelope.Reply) {
    // Nobody takes the steps of others that have begun, of several processes of one name.
    const { extension, ok } = reply
    if (this.flow !== undefined && !this.started && !ok && extension !== undefined)
      this.tell({ ...this.about(), _tag: "Cancel" })
    super.onReply(reply)
  }

  override end(outcome: Outcome) {
    if (this.counted) return
    this.counted = true
    super.end(Observed.ended(this, outcome))
  }

  /** Its fiber was interrupted. */
  abandon() {
    this.cancel()
    if (!this.counted) Observed.ended(this, Exit.interrupt())
  }
}

/** The outcome on the way that an answer tells of, if it tells of one. */
export const readReason = (payload: unknown): Option.Option<Reason.Sent> => {
  const reason = typeof payload === "object" && payload !== null ? (payload as Codec.JsonObject)["reason"] : undefined
  return reason === undefined ? Option.none() : Reason.decode(reason)
}

/** Encodes the payload, then goes on with its JSON and with what is left of the time. */
export const encoded = <A, E>(
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> => prepared("client", method, payload, settings, then)

const prepared = <A, E>(
  kind: "client" | "producer",
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> =>
  Effect.withFiber((fiber) =>
    Observed.isTraced(fiber)
      ? Observed.inSpan(kind, method, settings, (settings) => encode(fiber, kind, method, payload, settings, then))
      : encode(fiber, kind, method, payload, Observed.belonging(fiber, settings), then)
  )

const encode = <A, E>(
  fiber: Fiber.Fiber<unknown, unknown>,
  kind: "client" | "producer",
  method: Method,
  payload: unknown,
  settings: Settings,
  then: (json: unknown, settings: Settings) => Effect.Effect<A, E>
): Effect.Effect<A, E | CallError> => {
  const unbegun = <X, E>(effect: Effect.Effect<X, E>) => (kind === "client" ? Observed.unbegun(method, effect) : effect)
  const deadline = fiber.getRef(Deadline)
  if (deadline !== undefined) {
    const left = Math.floor(deadline - method.inbox.now())
    if (left <= 0) {
      return unbegun(Effect.fail(failure(method, new Reason.DeadlineExceeded({ timeoutMillis: 0 }), "no")))
    }
    if (left < settings.timeoutMillis) settings = { ...settings, timeoutMillis: left }
  }
  if (method.payload === undefined) return then(payload, settings)
  const json = method.payload.encode(payload)
  if (Exit.isExit(json) && Exit.isSuccess(json)) return then(json.value, settings)
  const { timeoutMillis } = settings
  const end = method.inbox.now() + timeoutMillis
  const encoding = json.pipe(
    Effect.mapError((error) => failure(method, new Reason.InvalidPayload(SchemaCodec.explain(error)), "no")),
    within(timeoutMillis, () => failure(method, new Reason.DeadlineExceeded({ timeoutMillis }), "no"))
  )
  return Effect.flatMap(unbegun(encoding), (value) =>
    then(value, { ...settings, timeoutMillis: Math.max(0, Math.floor(end - method.inbox.now())) })
  )
}

// A schema that works asynchronously has the call's time, no more.
const within =
  <E2>(millis: number, late: () => E2) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | E2> =>
    Exit.isExit(effect)
      ? effect
      : Effect.timeoutOrElse(effect, { duration: Math.max(0, millis), orElse: () => Effect.fail(late()) })

const ignoreSent = () => {}

/** How long the last frames of a process that has gone may take, in milliseconds. */
const lastWordsMillis = 200

const gone = new Reason.ConnectionLost({ detail: "the process that was answering is gone" })

/** Enters the call, then sends its request, or has it held while the link is down: the answer may be back before the sending is confirmed. */
export const begin = (call: Call, json: unknown, settings: Settings) => {
  const { method } = call
  const full = method.inbox.enter(call, settings.timeoutMillis)
  if (full !== undefined) return call.failWith(full, "no")
  if (!method.inbox.isDown()) return transmit(call, json, settings)
  call.held = { json, settings }
  method.inbox.hold(call)
}

const transmit = (call: Call, json: unknown, settings: Settings) => {
  const { method } = call
  const frame = write(method, method.headOfCall, call, json, settings)
  if (typeof frame === "string") {
    return method.inbox.transport.send(method.channel, frame, (error, receivers) => call.onSent(error, receivers))
  }
  method.inbox.leave(call)
  call.failWith(frame, "no")
}

/** The request's frame, or why it cannot be sent. */
const write = (
  method: Method,
  head: string,
  call: Call | undefined,
  json: unknown,
  settings: Settings
): string | CallErrorReason => {
  const { maxFrameBytes } = method.inbox.transport.capabilities
  // The envelope is one level. Whoever reads it would drop it, and the call would end by its deadline.
  if (Codec.nestsTooDeep(json, 1)) {
    return new Reason.InvalidPayload({ path: [], expected: `a value nested at most ${Codec.maxDepth - 1} deep` })
  }
  const id = call?.id
  let frame: string
  try {
    frame = Envelope.writeRequest(head, id, json, {
      v: 1,
      timeout_ms: id === undefined ? undefined : settings.timeoutMillis,
      headers: settings.headers,
      attempt: settings.attempt === 1 ? undefined : settings.attempt,
      traceparent: settings.traceparent,
      credit: call?.flow?.granted,
      answers: call?.inquiry === undefined ? undefined : true
    })
  } catch {
    return new Reason.InvalidPayload({ path: [], expected: "a value that JSON can carry" })
  }
  if (!Codec.isLarger(frame, maxFrameBytes)) return frame
  return new Reason.PayloadTooLarge({ what: "request", bytes: Codec.byteLength(frame), maxBytes: maxFrameBytes })
}

// One rule for both connections: lost after the request may have left is ConnectionLost, anything else of the transport is its own.
const reasonOf = (error: TransportError): CallErrorReason =>
  error.kind === "ConnectionLost" && error.sent === "unknown"
    ? new Reason.ConnectionLost({ detail: error.detail })
    : error

/** The error that a call ends with. */
export const failure = (method: Method, reason: CallErrorReason, started: Reason.Started) =>
  new CallError({ service: method.service, action: method.action, started, reason })

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
