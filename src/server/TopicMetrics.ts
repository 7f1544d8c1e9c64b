/** What operators see of messages that listeners missed: of topics with numbers. Attribute `topic` is the channel or pattern listened to. */
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import * as Series from "../wire/Series.ts"

/** Messages that were missed for good: those of `Gap` notices. */
export const missed = Metric.counter("fiberbus_messages_missed_total", {
  description: "Messages of numbered topics that a listener missed",
  incremental: true
})

/** Messages that were missed at first, and had from their publishers' histories. */
export const backfilled = Metric.counter("fiberbus_messages_backfilled_total", {
  description: "Messages that a listener missed and got from a publisher's history",
  incremental: true
})

/** Those of one listener. @internal */
export const make = (topic: string, context: Context.Context<never>) => {
  const series = {
    missed: Series.of(missed, { topic }, context),
    backfilled: Series.of(backfilled, { topic }, context)
  }
  return {
    missed: (count: number) => series.missed.update(count, context),
    backfilled: (count: number) => series.backfilled.update(count, context)
  }
}
