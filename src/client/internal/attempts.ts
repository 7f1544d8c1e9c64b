/**
 * One call under policies: attempts that come one after the other, and are one request with one id and one deadline.
 *
 * Its place in the inbox' table is never empty until it ends. While no attempt waits, a {@link Late} is there, for the answer to an
 * earlier attempt and for the deadline: both end the call, whatever its policies are doing.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Action from "../../contract/Action.ts"
import * as Deadline from "../../policy/Deadline.ts"
import * as Policy from "../../policy/Policy.ts"
import type { TransportError } from "../../transport/Transport.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import { CallError, type CallErrorReason } from "../CallError.ts"
import type { Inquiry } from "./answers.ts"
import * as Call from "./call.ts"
import type { Flow } from "./flow.ts"
import { failure, type Method, type Outcome, type Settings } from "./method.ts"
import * as Observed from "./observed.ts"
import { begin, encoded } from "./request.ts"
import { readReason, Waiting } from "./waiting.ts"

/** Calls under the settings' policies and waits for the result. */
export const unary = (method: Method, payload: unknown, settings: Settings): Outcome =>
  encoded(method, payload, settings, (json, settings) =>
    Call.withAnswers(attempting, method, json, settings, undefined)
  )

const attempting: Call.Run = (...call) => {
  const attempts = new Attempts(...call)
  return Observed.counted(attempts.method, run(attempts))
}

/** Calls under the settings' policies and streams the steps, then the result. */
export const streamed = Call.streaming(attempting)

const run = (attempts: Attempts): Outcome =>
  Effect.suspend(() => {
    const full = attempts.listen()
    if (full !== undefined) return Effect.fail(attempts.failure(full, "no"))
    const { settings, subject } = attempts
    return Effect.raceFirst(
      Deferred.await(attempts.over),
      Policy.around(settings.policies, attempts.next, subject)
    ).pipe(
      Effect.onExit((exit) => Effect.sync(() => attempts.close(exit))),
      Effect.provideService(Deadline.Deadline, attempts.deadline)
    )
  })

class Attempts {
  readonly method: Method
  readonly json: unknown
  readonly settings: Settings
  readonly flow: Flow | undefined
  readonly inquiry: Inquiry | undefined
  /** On the clock of the inbox. */
  readonly deadline: number
  /** Ends the call without its policies. */
  readonly over = Deferred.makeUnsafe<any, any>()
  id = ""
  /** Attempts so far. */
  number = 0
  /** Did a handler run in one of them? */
  started: Reason.Started = "no"
  /** Set by an answer that no further attempt could better. */
  answered = false
  private waiting = false
  private closed = false
  private late: Late | undefined = undefined
  private last: Attempt | undefined = undefined

  constructor(...[method, json, settings, flow, inquiry]: Parameters<Call.Run>) {
    this.method = method
    this.json = json
    this.settings = settings
    this.flow = flow
    this.inquiry = inquiry
    this.deadline = method.inbox.now() + settings.timeoutMillis
  }

  get subject(): Policy.Subject<any> {
    const { action, annotations, service } = this.method
    return {
      service,
      action,
      annotations,
      kind: this.flow === undefined ? "call" : "stream",
      // What was asked and answered cannot be taken back.
      idempotent: this.inquiry === undefined && Context.get(annotations, Action.Idempotent),
      refuse: (reason) => Effect.suspend(() => Effect.fail(this.failure(reason, "no"))),
      failureOf: (error) => (this.isFailure(error) ? error : undefined)
    }
  }

  /** Makes one attempt, with the time that is left. */
  readonly next: Outcome = Effect.withFiber((fiber): Outcome => {
    if (this.waiting) return Effect.die(new Error("a policy began an attempt while another one of the call waited"))
    // A process that was slower than the one that refused has begun: its stream is the call's.
    if (this.late?.isStreaming) return Effect.never
    const left = Math.floor(this.deadline - this.method.inbox.now())
    if (left <= 0) return Effect.fail(this.failure(this.timeout(), "no"))
    this.deafen()
    // Those that have begun with a stream count their steps each for itself: only the next attempt's are taken.
    if (this.flow !== undefined) this.last?.takeBack()
    this.answered = false
    this.waiting = true
    this.number++
    if (this.number > 1) Observed.retried(this.settings, this.number, fiber)
    const outcome = Effect.callback<any, any>((resume) => {
      const attempt = new Attempt(this, resume)
      const avoid = this.last?.target
      this.last = attempt
      begin(attempt, this.json, { ...this.settings, timeoutMillis: left, attempt: this.number, avoid })
      return Effect.sync(() => this.abandon(attempt))
    })
    const patience = fiber.getRef(Deadline.AttemptTimeout)
    if (patience === undefined || patience >= left) return outcome
    // The service is given all the time that is left, as its answer counts even then.
    return Effect.timeoutOrElse(outcome, {
      duration: patience,
      orElse: () => Effect.fail(this.failure(new Reason.DeadlineExceeded({ timeoutMillis: patience }), "unknown"))
    })
  }).pipe(Effect.mapError((error) => this.known(error)))

  /** An attempt has ended; its outcome goes to the policies. */
  ended() {
    this.waiting = false
    if (!this.answered) this.listen()
  }

  /** A policy waits for this attempt no longer. The service may go on: its answer is still welcome. */
  private abandon(attempt: Attempt) {
    if (!this.method.inbox.leave(attempt)) return
    this.note(attempt.started ? "yes" : "unknown")
    this.ended()
  }

  /** Puts someone into the table for as long as no attempt is there. */
  listen(): TransportError | undefined {
    const { inbox } = this.method
    if (this.closed) return undefined
    const late = new Late(this)
    late.id = this.id
    const full = inbox.enter(late, Math.max(0, this.deadline - inbox.now()))
    if (full !== undefined) return full
    this.id = late.id
    this.late = late
    return undefined
  }

  private deafen() {
    if (this.late !== undefined) this.method.inbox.leave(this.late)
    this.late = undefined
  }

  finish(outcome: Outcome) {
    Deferred.doneUnsafe(this.over, outcome)
  }

  /** Takes the call out of the table. The service is told where the caller has gone. */
  close(exit: Exit.Exit<unknown, unknown>) {
    this.closed = true
    const call = this.late?.isStreaming ? this.late : this.last
    this.deafen()
    if (this.answered) return
    if (this.flow !== undefined || Exit.hasInterrupts(exit)) call?.takeBack()
  }

  /** A stream's steps are those of its last attempt. */
  accepts({ extension }: Envelope.Reply) {
    return this.flow === undefined || extension === undefined || (extension.attempt ?? 1) === this.number
  }

  timeout() {
    return new Reason.DeadlineExceeded({ timeoutMillis: this.settings.timeoutMillis })
  }

  /** The error for what came last. It says `no` only if no attempt reached a handler. */
  failure(reason: CallErrorReason, started: Reason.Started) {
    this.note(started)
    return failure(this.method, reason, this.started)
  }

  /** Remembers what is known of the handlers. Once begun is begun. */
  note(started: Reason.Started) {
    if (started === "yes" || this.started === "no") this.started = started
  }

  private known(error: unknown): unknown {
    if (!this.isFailure(error)) return error
    this.note(error.started)
    return error.started === this.started ? error : failure(this.method, error.reason, this.started)
  }

  // A declared error may be a CallError as well, that of a call which the handler made.
  private isFailure(error: unknown): error is CallError {
    const { action, service } = this.method
    return error instanceof CallError && error.service === service && error.action === action
  }
}

const isRefusal = (reply: Envelope.Reply) => !reply.ok && Option.isSome(readReason(reply.payload))

/** The attempt that waits. */
class Attempt extends Waiting {
  readonly attempts: Attempts
  constructor(attempts: Attempts, resume: (outcome: Outcome) => void) {
    super(attempts.method, attempts.settings.timeoutMillis, resume, attempts.flow, attempts.inquiry)
    this.attempts = attempts
    this.id = attempts.id
  }
  override accepts(reply: Envelope.Reply) {
    return this.attempts.accepts(reply) && super.accepts(reply)
  }
  override onReply(reply: Envelope.Reply) {
    this.attempts.answered = !isRefusal(reply)
    super.onReply(reply)
  }
  override end(outcome: Outcome) {
    this.attempts.ended()
    super.end(outcome)
  }
}

/** Is in the table while no attempt waits. */
class Late extends Waiting {
  readonly attempts: Attempts
  constructor(attempts: Attempts) {
    const { flow, inquiry, method, settings } = attempts
    super(method, settings.timeoutMillis, (outcome) => attempts.finish(outcome), flow, inquiry)
    this.attempts = attempts
  }
  override accepts(reply: Envelope.Reply) {
    return this.attempts.accepts(reply) && super.accepts(reply)
  }
  override onReply(reply: Envelope.Reply) {
    // What an earlier attempt was refused for says nothing about the next one.
    if (isRefusal(reply) && !this.isStreaming) return void this.attempts.listen()
    this.attempts.answered = true
    super.onReply(reply)
  }
  override onStep(reply: Envelope.Reply) {
    this.attempts.note("yes")
    super.onStep(reply)
  }
  override onLost(error: TransportError) {
    if (this.isStreaming) super.onLost(error)
    else if (error.kind === "Closed") this.failWith(error, this.attempts.started)
    else this.attempts.listen()
  }
  override expire() {
    if (this.isStreaming) return super.expire()
    this.method.inbox.leave(this)
    this.end(Effect.fail(this.attempts.failure(this.attempts.timeout(), "no")))
  }
}
