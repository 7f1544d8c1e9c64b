/** One question to many processes: the answers that come within a time, as long as more are to be expected. */
import * as Effect from "effect/Effect"
import type { TransportError } from "../../transport/Transport.ts"
import * as Envelope from "../../wire/Envelope.ts"
import { type Inbox, Pending } from "./inbox.ts"

/** Answers that are kept at most; with the last of them the gathering ends. */
export const maxAnswers = 4_096

/** What is asked, and when it is enough. */
export interface Question<A> {
  readonly inbox: Inbox
  readonly question: string
  /** The service; nothing for all. */
  readonly service: string
  readonly payload: unknown
  /** Where it is sent: to the next one where the transport says that the one before reached nobody; to all where it cannot say that. */
  readonly channels: ReadonlyArray<string>
  readonly millis: number
  /** What an answer says; nothing for one that is none. */
  readonly read: (payload: unknown) => A | undefined
  /** Whose it is: the first one of each counts. */
  readonly keyOf: (answer: A) => string
  /** Those that are there: it ends when all of them have answered. */
  readonly expected: ReadonlySet<string> | undefined
  /** So many answers are all that are wanted. */
  readonly wanted: number | undefined
}

/** What came. */
export interface Gathered<A> {
  readonly answers: ReadonlyArray<A>
  /** Subscribers that were reached; nothing where that cannot be told. */
  readonly listeners: number | undefined
  readonly begunAt: Date
  readonly waitedMillis: number
}

/** Asks, and waits. Errors: `TransportError` when the question cannot be sent, or the link is lost meanwhile. */
export const gather = <A>(question: Question<A>): Effect.Effect<Gathered<A>, TransportError> =>
  Effect.flatMap(
    Effect.clockWith((clock) => clock.currentTimeMillis),
    (now) =>
      Effect.callback((resume) => {
        const { inbox, millis } = question
        const gathering = new Gathering(question, new Date(now), resume)
        const full = inbox.enter(gathering, millis)
        if (full !== undefined) return resume(Effect.fail(full))
        gathering.ask(0)
        return Effect.sync(() => inbox.leave(gathering))
      })
  )

class Gathering<A> extends Pending {
  private readonly question: Question<A>
  private readonly begunAt: Date
  private readonly resume: (effect: Effect.Effect<Gathered<A>, TransportError>) => void
  private readonly answers = new Map<string, A>()
  private listeners: number | undefined = undefined
  /** Processes that have said all they have to say. */
  private done = 0

  constructor(
    question: Question<A>,
    begunAt: Date,
    resume: (effect: Effect.Effect<Gathered<A>, TransportError>) => void
  ) {
    super()
    this.question = question
    this.begunAt = begunAt
    this.resume = resume
    this.gathers = true
  }

  ask(index: number) {
    const { channels, inbox, millis, payload, question, service } = this.question
    const { capabilities } = inbox.transport
    const head = Envelope.requestHead({ action: question, service, replyTo: inbox.channel })
    const frame = Envelope.writeRequest(head, this.id, payload, { v: 1, timeout_ms: millis, packs: inbox.packs })
    const isExact = capabilities.receivers === "exact"
    inbox.transport.send(channels[index]!, frame, (error, receivers) => {
      if (error !== undefined) {
        // What the first way brings is enough.
        if (index === 0 && inbox.leave(this)) this.resume(Effect.fail(error))
        return
      }
      const isLast = index === channels.length - 1
      if (!isExact) {
        if (!isLast && inbox.has(this)) this.ask(index + 1)
        return
      }
      if (receivers === 0 && !isLast && inbox.has(this)) return this.ask(index + 1)
      this.listeners = receivers
      this.look()
    })
  }

  override accepts() {
    return true
  }
  override onStep({ final, ok, payload }: Envelope.Reply) {
    const answer = ok ? this.question.read(payload) : undefined
    if (answer !== undefined) {
      const key = this.question.keyOf(answer)
      if (!this.answers.has(key)) this.answers.set(key, answer)
    }
    if (final) this.done++
    this.look()
  }

  /** Is it enough? */
  private look() {
    const { expected, wanted } = this.question
    const { answers, listeners } = this
    const isAll = listeners !== undefined && this.done >= listeners
    const isExpected =
      expected !== undefined && answers.size >= expected.size && [...expected].every((key) => answers.has(key))
    if (isAll || isExpected || answers.size >= (wanted ?? maxAnswers)) this.finish()
  }

  private finish() {
    const { begunAt, listeners, question } = this
    if (question.inbox.leave(this)) this.succeed(begunAt, listeners)
  }

  private succeed(begunAt: Date, listeners: number | undefined) {
    const { millis } = this.question
    this.resume(Effect.succeed({ answers: [...this.answers.values()], listeners, begunAt, waitedMillis: millis }))
  }

  override expire() {
    this.finish()
  }
  override onReply() {}
  override redirects() {
    return false
  }
  override onLeft() {}
  override onTargetGone() {}
  override onLost(error: TransportError) {
    this.resume(Effect.fail(error))
  }
  override onUp() {}
}
