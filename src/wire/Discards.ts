/** Counts what had to be dropped, by place and reason, and says so at most once a second. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"

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
 * Its warnings name reasons and numbers, never content. Those within a second of the last one are summed up in the next, a second
 * later or when the Scope closes.
 */
export const make = (where: string): Effect.Effect<Discards, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const counters = new Map<string, Metric.Counter<number>>()
    const runFork = Effect.runForkWith(context)
    let unsaid = new Map<string, number>()
    let quiet: Fiber.Fiber<void> | undefined
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

    const say = () => {
      if (unsaid.size === 0) return Effect.void
      const summary = Array.from(unsaid, ([why, count]) => `${count} × ${why}`).join(", ")
      unsaid = new Map()
      return Effect.logWarning(`fiberbus dropped messages at ${where}: ${summary}`)
    }

    const sayInTurn: Effect.Effect<void> = Effect.whileLoop({
      while: () => unsaid.size > 0,
      body: () => Effect.andThen(say(), Effect.sleep(logIntervalMillis)),
      step: () => {}
    })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        quiet?.interruptUnsafe()
        return say()
      })
    )

    return {
      total: () => total,
      count,
      note: (reason) => {
        count(reason)
        unsaid.set(reason, (unsaid.get(reason) ?? 0) + 1)
        if (quiet === undefined || quiet.pollUnsafe() !== undefined) quiet = runFork(sayInTurn)
      }
    }
  })
