import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import * as DurableMetrics from "../../src/server/DurableMetrics.ts"
import * as HandlerMetrics from "../../src/server/HandlerMetrics.ts"
import * as ServerMetrics from "../../src/server/ServerMetrics.ts"
import * as TaskMetrics from "../../src/server/TaskMetrics.ts"
import * as TopicMetrics from "../../src/server/TopicMetrics.ts"

const metrics = [DurableMetrics, HandlerMetrics, ServerMetrics, TaskMetrics, TopicMetrics]
  .flatMap((module): Array<unknown> => Object.values(module))
  .filter((value): value is Metric.Metric<unknown, unknown> => Metric.isMetric(value))
const idsOf = (type: string) =>
  metrics
    .filter((metric) => metric.type === type)
    .map(({ id }) => id)
    .toSorted()

// Dashboards and alerts know them by these.
describe("a metric of the server", () => {
  it("has a name and a kind that stay", () => {
    assert.deepStrictEqual(idsOf("Counter"), [
      "fiberbus_background_runs_total",
      "fiberbus_background_skipped_total",
      "fiberbus_daemon_restarts_total",
      "fiberbus_dead_letters_total",
      "fiberbus_durable_claimed_total",
      "fiberbus_durable_deliveries_total",
      "fiberbus_durable_lost_total",
      "fiberbus_handled_total",
      "fiberbus_heard_total",
      "fiberbus_messages_backfilled_total",
      "fiberbus_messages_missed_total",
      "fiberbus_pool_restarts_total",
      "fiberbus_requests_refused_total"
    ])
    assert.deepStrictEqual(idsOf("Gauge"), [
      "fiberbus_backlog",
      "fiberbus_daemon_state",
      "fiberbus_durable_waiting",
      "fiberbus_handlers_running",
      "fiberbus_lifecycle_ready"
    ])
    assert.deepStrictEqual(idsOf("Histogram"), [
      "fiberbus_background_duration_milliseconds",
      "fiberbus_handler_duration_milliseconds"
    ])
  })

  it.effect("only grows where it counts", () =>
    Effect.gen(function* () {
      for (const metric of metrics.filter(({ type }) => type === "Counter")) {
        const { incremental } = (yield* Metric.value(metric)) as Metric.CounterState<number>
        assert.isTrue(incremental, metric.id)
      }
    })
  )

  it.effect(
    "tells handlers apart from a quarter of a millisecond to 8 seconds, runs in the background from 1 ms to 17 minutes",
    () =>
      Effect.gen(function* () {
        const stepsOf = (histogram: Metric.Histogram<number>) =>
          Effect.map(Metric.value(histogram), ({ buckets }) => buckets.map(([upTo]) => upTo))
        const powers = (base: number, from: number, to: number) => [
          ...Array.from({ length: to - from + 1 }, (_, n) => base ** (from + n)),
          Number.POSITIVE_INFINITY
        ]
        assert.deepStrictEqual(yield* stepsOf(HandlerMetrics.duration), powers(2, -2, 13))
        assert.deepStrictEqual(yield* stepsOf(TaskMetrics.duration), powers(4, 0, 10))
      })
  )
})
