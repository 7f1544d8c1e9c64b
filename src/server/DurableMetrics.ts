/** What operators see of the messages that are kept for the services and listeners of a process. Attribute `queue` is the service's name, or the topic's. */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Series from "../wire/Series.ts"

/**
 * Deliveries that have ended; attribute `outcome`: `settled` (handled and answered), `retried` (failed, to be delivered again), `returned`
 * (not begun, to be delivered again), `late` (somebody else was first), `stolen` (taken over while it was worked on here).
 */
export const deliveries = Metric.counter("fiberbus_durable_deliveries_total", {
  description: "Deliveries of kept messages that have ended, by outcome",
  incremental: true
})

/** Messages that were set aside; attribute `reason`. */
export const deadLetters = Metric.counter("fiberbus_dead_letters_total", {
  description: "Messages that were set aside, by reason",
  incremental: true
})

/** Deliveries that were taken over from consumers that had gone silent. */
export const claimed = Metric.counter("fiberbus_durable_claimed_total", {
  description: "Deliveries taken over from silent consumers",
  incremental: true
})

/** Messages that had gone from the store before they were handled: trimmed or deleted by somebody. */
export const lost = Metric.counter("fiberbus_durable_lost_total", {
  description: "Messages that had gone before they were handled",
  incremental: true
})

/** Messages in the queue that nobody has begun, delayed ones and those behind others of their key included. Looked at now and then. */
export const waiting = Metric.gauge("fiberbus_durable_waiting", {
  description: "Kept messages that nobody has begun"
})

/** The series of one queue. @internal */
export interface DurableMetrics {
  readonly ended: (outcome: string) => void
  readonly buried: (reason: string) => void
  readonly claimed: (count: number) => void
  readonly lost: (count: number) => void
  readonly waiting: (count: number) => void
}

/** Makes them in the registry of the context. @internal */
export const make = (queue: string, context: Context.Context<never>): DurableMetrics => {
  const attributes = { queue }
  const ended = Series.by(deliveries, "outcome", attributes, context)
  const buried = Series.by(deadLetters, "reason", attributes, context)
  const taken = Series.of(claimed, attributes, context)
  const gone = Series.of(lost, attributes, context)
  const left = Series.of(waiting, attributes, context)
  return {
    ended: (outcome) => ended(outcome).update(1, context),
    buried: (reason) => buried(reason).update(1, context),
    claimed: (count) => taken.update(count, context),
    lost: (count) => gone.update(count, context),
    waiting: (count) => left.update(count, context)
  }
}
