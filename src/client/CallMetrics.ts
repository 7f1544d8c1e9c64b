/**
 * What operators see of the calls of a process. Attributes `service` and `action` are the contract's names; both are `*` for callers
 * without a contract (`Caller.dynamic`), which may name anything.
 */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Series from "../wire/Series.ts"

/** Calls that have begun and not ended, waits between attempts and streams included. */
export const inFlight = Metric.gauge("fiberbus_calls_in_flight", {
  description: "Calls that have begun and not ended"
})

/**
 * Calls that have ended; attribute `outcome` is `success`, `error` (declared), the reason of a `CallError`, `interrupted` by the
 * caller's own fiber, or `defect` (the caller's own program died while encoding or decoding).
 */
export const calls = Metric.counter("fiberbus_calls_total", {
  description: "Calls that have ended, by outcome",
  incremental: true
})

/** Time from the start of a call to its outcome in milliseconds, all attempts and whatever outcome together. */
export const duration = Metric.histogram("fiberbus_call_duration_milliseconds", {
  description: "Milliseconds from the start of a call to its outcome",
  boundaries: Series.millisecondBoundaries
})

/** One-way messages (`send`) by `outcome`: `success` when the transport took it, else as for {@link calls}. */
export const sends = Metric.counter("fiberbus_sends_total", {
  description: "One-way messages to services, by outcome",
  incremental: true
})

/** The series of one action, or of all that have no contract. */
export interface CallMetrics {
  readonly begin: () => void
  readonly end: (outcome: string, millis: number) => void
  /** Ended before it had begun: nothing could be sent. */
  readonly refused: (outcome: string) => void
  readonly sent: (outcome: string) => void
}

/** Makes them in the registry of the context. Outcomes are given from a fixed set. */
export const make = (service: string, action: string, context: Context.Context<never>): CallMetrics => {
  const attributes = { service, action }
  const gauge = Series.of(inFlight, attributes, context)
  const histogram = Series.of(duration, attributes, context)
  const ended = Series.by(calls, "outcome", attributes, context)
  const sent = Series.by(sends, "outcome", attributes, context)
  return {
    begin: () => gauge.modify(1, context),
    end: (outcome, millis) => {
      gauge.modify(-1, context)
      histogram.update(millis, context)
      ended(outcome).update(1, context)
    },
    refused: (outcome) => ended(outcome).update(1, context),
    sent: (outcome) => sent(outcome).update(1, context)
  }
}
