/** One delivery of a message that is kept, from when it is in hand until the store has its end. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Action from "../../contract/Action.ts"
import type * as Durable from "../../transport/Durable.ts"
import type { TransportError } from "../../transport/Transport.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Printable from "../../wire/Printable.ts"
import * as Reason from "../../wire/Reason.ts"
import type { DurableMetrics } from "../DurableMetrics.ts"
import type { Exchange, Link } from "./exchange.ts"

/** What deliveries of one queue have in common. */
export interface Source {
  readonly link: Link
  /** For logs: the service or the topic. */
  readonly name: string
  readonly consumer: Durable.Consumer
  /** The store publishes answers itself. */
  readonly publishes: boolean
  readonly redelivery: Required<Action.Redelivery>
  readonly metrics: DurableMetrics
  /** Those whose end the store does not have yet, by the name of the delivery. */
  readonly inHand: Map<string, Delivery>
  /** Another one may be taken. */
  readonly freed: () => void
  /** No more is read. */
  closing: boolean
}

/** Why a message ends without a result of its handler. */
export interface End {
  readonly reason: string
  readonly cause: string
  readonly action: string
  /** What its caller gets; nothing where it is a message without one. */
  readonly frame: string | undefined
  readonly replyTo: string | undefined
}

/** Waits before the store is told once more, in milliseconds. */
const firstAgainMillis = 50
const longestAgainMillis = 5_000

/** Waits before a message that found no room is delivered again, in milliseconds. */
const longestBusyMillis = 5_000

/** @see the file's first line */
export class Delivery {
  readonly source: Source
  readonly entry: Durable.Entry
  readonly redelivery: Action.Redelivery | undefined
  /** What handles it; nothing where it is none to be handled. */
  exchange: Exchange | undefined = undefined

  constructor(source: Source, entry: Durable.Entry, redelivery: Action.Redelivery | undefined) {
    this.source = source
    this.entry = entry
    this.redelivery = redelivery
    source.inHand.set(entry.entry, this)
  }

  get deliveries() {
    return this.entry.deliveries
  }

  get mostDeliveries() {
    return this.redelivery?.deliveries ?? this.source.redelivery.deliveries
  }

  /** It was handled: this is its answer. `then` is called when it has left, or is wanted by nobody any more. */
  settle(frame: string, replyTo: string | undefined, then?: () => void) {
    const { consumer, publishes } = this.source
    this.tell(
      "settled",
      (done) => consumer.settle(this.entry, { frame, replyTo: publishes ? (replyTo ?? "") : "" }, done),
      publishes ? undefined : replyTo,
      frame,
      then
    )
  }

  /** Its listener has ended. */
  ended(exchange: Exchange, exit: Exit.Exit<unknown, unknown>) {
    if (exit._tag === "Success") return this.settle("{}", undefined)
    const { link } = this.source
    const reason = Cause.hasFails(exit.cause) ? "Failed" : "Defect"
    link.log(
      Effect.logWarning(
        `fiberbus: a durable listener to ${exchange.label} failed in delivery ${this.deliveries} of at most ${this.mostDeliveries}`,
        exit.cause
      )
    )
    this.failed({ reason, cause: Cause.pretty(exit.cause), action: "", frame: undefined, replyTo: undefined })
  }

  /** It was not handled. */
  refused(exchange: Exchange, reason: Reason.Sent, started: Reason.Started) {
    switch (reason._tag) {
      case "Draining":
        return this.again(0, exchange.begun)
      case "Busy":
        return this.again(Math.min(reason.retryAfterMillis, longestBusyMillis), false)
      default: {
        const end: End = {
          reason: reason._tag === "RemoteDefect" ? "Defect" : reason._tag,
          cause: exchange.defect === undefined ? reason.message : Cause.pretty(exchange.defect),
          action: exchange.action,
          replyTo: exchange.replyTo,
          frame: answerOf(exchange.envelope.requestId, reason, started)
        }
        if (reason._tag === "RemoteDefect" || reason._tag === "DeadlineExceeded") this.failed(end)
        else this.bury(end)
      }
    }
  }

  /** Delivers it again when its schedule says so, or sets it aside. */
  failed(end: End) {
    if (this.deliveries >= this.mostDeliveries) return this.bury(end)
    const schedule = this.redelivery?.retry ?? this.source.redelivery.retry
    this.source.link.fork(
      Effect.map(waitAfter(schedule, this.deliveries, this.source.link.wheel.now(), end.cause), (millis) =>
        millis === undefined ? this.bury(end) : this.again(millis, true)
      )
    )
  }

  /** Sets it aside. */
  bury({ action, cause, frame, reason, replyTo }: End) {
    const { consumer, link, metrics, name, publishes } = this.source
    const { entry } = this
    metrics.buried(reason)
    // What nobody could read may come in floods: it is summed up.
    if (this.exchange === undefined && reason !== "Crashed") link.discards.note(`SetAside:${reason}`)
    else {
      const where = action === "" ? name : `${name}.${Printable.line(Printable.cut(action, 64))}`
      const times = `${entry.deliveries} ${entry.deliveries === 1 ? "delivery" : "deliveries"}`
      link.log(Effect.logError(`fiberbus: a message to ${where} is set aside after ${times}: ${reason}`))
    }
    const settlement = frame === undefined ? undefined : { frame, replyTo: publishes ? (replyTo ?? "") : "" }
    this.tell(
      undefined,
      (done) => consumer.bury(entry, { reason, cause, action: action.slice(0, 128) }, settlement, done),
      publishes ? undefined : replyTo,
      frame,
      undefined
    )
  }

  /** Gives it back, to be delivered again. */
  again(millis: number, counts: boolean) {
    this.tell(
      counts ? "retried" : "returned",
      (done) => this.source.consumer.retry(this.entry, millis, counts, done),
      undefined,
      undefined,
      undefined
    )
  }

  /** It is somebody else's now: what is going on here may end, and counts only if it is the first to. */
  lost() {
    this.source.metrics.ended("stolen")
  }

  /** Tells the store until it has heard, then the caller. The link may be down: the message stays in hand. */
  private tell(
    outcome: string | undefined,
    operation: (done: Durable.Done) => void,
    replyTo: string | undefined,
    frame: string | undefined,
    then: (() => void) | undefined
  ) {
    const { inHand, link, metrics } = this.source
    let wait = firstAgainMillis
    const leave = () => {
      link.outbox.confirm()
      then?.()
    }
    const done = (error: TransportError | undefined, settled: boolean) => {
      if (error !== undefined && error.kind !== "Closed") {
        link.discards.note(`NotSettled:${error.kind}`)
        const millis = wait
        wait = Math.min(wait * 2, longestAgainMillis)
        return void link.fork(
          Effect.andThen(
            Effect.sleep(millis),
            Effect.sync(() => operation(done))
          )
        )
      }
      inHand.delete(this.entry.entry)
      this.source.freed()
      if (!settled) metrics.ended("late")
      else if (outcome !== undefined) metrics.ended(outcome)
      if (!settled || replyTo === undefined || frame === undefined) return leave()
      link.transport.send(replyTo, frame, (error) => {
        if (error !== undefined) link.discards.note(`ReplyNotSent:${error.kind}`)
        leave()
      })
    }
    link.outbox.send()
    operation(done)
  }
}

/** The reply that tells of an outcome on the way. */
export const answerOf = (requestId: unknown, reason: Reason.Sent, started: Reason.Started) =>
  Envelope.writeReply(
    "error",
    Envelope.writeErrorPayload({ error: reason.message, reason: Reason.encode(reason), started }),
    requestId,
    true
  )

/** The wait after so many deliveries, or nothing where the schedule has ended by then: others may have stepped it before. */
const waitAfter = (
  schedule: Schedule.Schedule<unknown, unknown>,
  deliveries: number,
  now: number,
  input: unknown
): Effect.Effect<number | undefined> =>
  Effect.map(
    Effect.exit(
      Effect.gen(function* () {
        const step = yield* Schedule.toStep(schedule)
        let millis = 0
        for (let delivery = 0; delivery < deliveries; delivery++) {
          millis = Duration.toMillis((yield* step(now, input))[1])
        }
        return millis
      })
    ),
    (exit) => (Exit.isSuccess(exit) ? exit.value : undefined)
  )
