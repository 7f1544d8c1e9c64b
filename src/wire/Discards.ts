/** Counts what had to be dropped, by place and reason, and says so at most once a second. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** Frames and replies that were dropped: attributes `where` (a ring's part) and `reason`. */
export const discarded = Metric.counter("fiberbus_discarded_total", {
  description: "Messages that were dropped, by place and reason",
  incremental: true
})

/** Shortest time between two log lines of one place, in milliseconds. */
export const logIntervalMillis = 1_000

/** @see {@link make} */
export interface Discards {
  /** Counts one and says so. `reason` is one of a fixed set: it becomes a metric's attribute. */
  readonly note: (reason: string) => void
  /** Counts one that is nothing to worry about, without a word. */
  readonly count: (reason: string) => void
  /** All that were counted here. */
  readonly total: () => number
}

/**
 * Makes the account of one place.
 *
 * Its warnings name reasons and numbers, never content. Those within a second of the last one are summed up in the next.
 */
export const make = (where: string): Effect.Effect<Discards> =>
  Effect.map(Effect.context<never>(), (context) => {
    const counters = new Map<string, Metric.Counter<number>>()
    const runFork = Effect.runForkWith(context)
    let unsaid = new Map<string, number>()
    let lastLine = Number.NEGATIVE_INFINITY
    let total = 0
    const count = (reason: string) => {
      total++
      let counter = counters.get(reason)
      if (counter === undefined) {
        counter = Metric.withAttributes(discarded, { where, reason })
        counters.set(reason, counter)
      }
      counter.updateUnsafe(1, context)
    }
    return {
      total: () => total,
      count,
      note: (reason) => {
        count(reason)
        unsaid.set(reason, (unsaid.get(reason) ?? 0) + 1)
        const now = performance.now()
        if (now - lastLine < logIntervalMillis) return
        lastLine = now
        const summary = Array.from(unsaid, ([why, count]) => `${count} × ${why}`).join(", ")
        unsaid = new Map()
        runFork(Effect.logWarning(`fiberbus dropped messages at ${where}: ${summary}`))
      }
    }
  })
