/** What operators see of the handlers and listeners of a process. Attributes are names of contracts, and outcomes of a fixed set. */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Series from "../wire/Series.ts"

/**
 * Requests and one-way messages by `service`, `action` and `outcome`: `success`, `error` (declared), `defect`, or `interrupted` (by
 * its deadline, its caller or the shutdown). Those whose handler did not begin are in `fiberbus_requests_refused_total`.
 */
export const handled = Metric.counter("fiberbus_handled_total", {
  description: "Requests that were handled, by outcome",
  incremental: true
})

/** Time that handlers ran in milliseconds, by `service` and `action`: without the wait for a slot. */
export const duration = Metric.histogram("fiberbus_handler_duration_milliseconds", {
  description: "Milliseconds that handlers ran",
  boundaries: Series.millisecondBoundaries
})

/** Messages to listeners by `topic` (the channel or pattern as it is listened to) and `outcome`, as for {@link handled}. */
export const heard = Metric.counter("fiberbus_heard_total", {
  description: "Messages that listeners heard, by outcome",
  incremental: true
})

/** The series of one handler or listener. */
export interface HandlerMetrics {
  readonly ended: (outcome: string, millis: number) => void
  /** What was counted so far. Of a listener nothing. */
  readonly read?: () => Counted
}

/** How many ended how, and how long they took. */
export interface Counted {
  readonly outcomes: Readonly<Record<string, number>>
  readonly duration: Metric.HistogramState
}

/** Makes those of a handler, in the registry of the context. */
export const ofAction = (service: string, action: string, context: Context.Context<never>): HandlerMetrics => {
  const attributes = { service, action }
  const histogram = Series.of(duration, attributes, context)
  const outcomes = Series.by(handled, "outcome", attributes, context)
  return {
    ended: (outcome, millis) => {
      histogram.update(millis, context)
      outcomes(outcome).update(1, context)
    },
    read: () => ({
      outcomes: Object.fromEntries(Array.from(outcomes.known, ([name, series]) => [name, series.get(context).count])),
      duration: histogram.get(context)
    })
  }
}

/** Makes those of a listener. */
export const ofTopic = (topic: string, context: Context.Context<never>): HandlerMetrics => {
  const outcomes = Series.by(heard, "outcome", { topic }, context)
  return { ended: (outcome) => outcomes(outcome).update(1, context) }
}
