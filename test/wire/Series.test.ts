import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import * as Series from "../../src/wire/Series.ts"

const counted = Metric.counter("series_test_total")

const inRegistry = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const valueOf = (attributes: Record<string, string>) =>
  Effect.map(Metric.value(Metric.withAttributes(counted, attributes)), ({ count }) => count)

describe("Series", () => {
  it.effect("is the series that is found by its name and attributes, whoever made it first", () =>
    inRegistry(
      Effect.gen(function* () {
        yield* Metric.update(Metric.withAttributes(counted, { a: "1" }), 2)
        const context = yield* Effect.context<never>()
        const ours = Series.of(counted, { a: "1" }, context)
        const same = Series.of(counted, { a: "1" }, context)
        assert.strictEqual(ours, same)
        ours.update(3, context)
        assert.strictEqual(yield* valueOf({ a: "1" }), 5)
        assert.strictEqual(yield* valueOf({ a: "2" }), 0)
      })
    )
  )

  it.effect("has the attributes of the context as well", () =>
    inRegistry(
      Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        Series.of(counted, { a: "1" }, context).update(1, context)
        assert.strictEqual(yield* valueOf({ a: "1" }), 1)
      }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, { host: "h" }))
    )
  )

  it.effect("is of one registry alone", () =>
    Effect.gen(function* () {
      const update = Effect.map(Effect.context<never>(), (context) =>
        Series.of(counted, { a: "1" }, context).update(1, context)
      )
      yield* inRegistry(update)
      assert.strictEqual(yield* inRegistry(Effect.andThen(update, valueOf({ a: "1" }))), 1)
    })
  )

  it.effect("is made when its value first occurs, beside those that were", () =>
    inRegistry(
      Effect.gen(function* () {
        const context = yield* Effect.context<never>()
        const registry = yield* Metric.MetricRegistry
        const by = Series.by(counted, "reason", { a: "1" }, context)
        assert.strictEqual(registry.size, 0)
        by("Busy").update(1, context)
        assert.strictEqual(registry.size, 1)
        by("Busy").update(1, context)
        by("Draining").update(1, context)
        assert.strictEqual(registry.size, 2)
        assert.strictEqual(by("Busy"), by("Busy"))
        assert.strictEqual(yield* valueOf({ a: "1", reason: "Busy" }), 2)
        assert.strictEqual(yield* valueOf({ a: "1", reason: "Draining" }), 1)
      })
    )
  )

  it("holds no look-up in a registry for a value that it knows", () => {
    const registry = new Map()
    const known = Effect.runSync(
      Effect.map(Effect.context<never>(), (context) => Series.by(counted, "reason", {}, context)).pipe(
        Effect.provideService(Metric.MetricRegistry, registry)
      )
    )
    const first = known("Busy")
    registry.clear()
    assert.strictEqual(known("Busy"), first)
  })

  it("of times ends at 0.25 milliseconds, doubling to 8 seconds", () => {
    const doubling = Array.from({ length: 16 }, (_, i) => 0.25 * 2 ** i)
    assert.deepStrictEqual(Series.millisecondBoundaries, [...doubling, Number.POSITIVE_INFINITY])
  })
})
