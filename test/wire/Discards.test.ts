import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import { TestClock } from "effect/testing"
import * as Discards from "../../src/wire/Discards.ts"

/** An account whose lines are kept, on a clock that stands until it is moved. */
const make = Effect.gen(function* () {
  const lines: Array<string> = []
  const discards = yield* Discards.make("a place").pipe(
    Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )
  return { discards, lines, pass: TestClock.adjust }
})

describe("Discards", () => {
  it.effect("says the first at once", () =>
    Effect.gen(function* () {
      const { discards, lines } = yield* make
      discards.note("NotJson")
      assert.deepStrictEqual(lines, ["fiberbus dropped messages at a place: 1 × NotJson"])
    })
  )

  it.effect("says at most one line a second, and sums up what it kept back", () =>
    Effect.gen(function* () {
      const { discards, lines, pass } = yield* make
      for (let i = 0; i < 10_000; i++) {
        discards.note("NotJson")
        if (i % 100 === 0) discards.note("TooDeep")
      }
      assert.strictEqual(lines.length, 1)
      yield* pass(Discards.logIntervalMillis - 1)
      discards.note("NotUtf8")
      assert.strictEqual(lines.length, 1)
      // The next line comes by itself, also when nothing more is dropped.
      yield* pass(1)
      assert.deepStrictEqual(lines.slice(1), [
        "fiberbus dropped messages at a place: 100 × TooDeep, 9999 × NotJson, 1 × NotUtf8"
      ])
      yield* pass(Discards.logIntervalMillis)
      discards.note("NotUtf8")
      assert.strictEqual(lines[2], "fiberbus dropped messages at a place: 1 × NotUtf8")
    })
  )

  it.effect("says what it kept back when its Scope closes", () =>
    Effect.gen(function* () {
      const lines = yield* Effect.scoped(
        Effect.gen(function* () {
          const { discards, lines } = yield* make
          discards.note("NotJson")
          discards.note("TooDeep")
          return lines
        })
      )
      assert.deepStrictEqual(lines.slice(1), ["fiberbus dropped messages at a place: 1 × TooDeep"])
    })
  )

  it.effect("writes a number of lines that depends on the time alone, however many there are", () =>
    Effect.gen(function* () {
      const { discards, lines, pass } = yield* make
      for (let tenth = 0; tenth < 100; tenth++) {
        for (let i = 0; i < 1_000; i++) discards.note("NotJson")
        yield* pass(100)
      }
      // The last of them sums up the tenth second.
      assert.strictEqual(lines.length, 11)
      assert.strictEqual(discards.total(), 100_000)
    })
  )

  it.effect("counts without a word what is nothing to worry about", () =>
    Effect.gen(function* () {
      const { discards, lines } = yield* make
      discards.count("LateReply")
      assert.deepStrictEqual(lines, [])
      assert.strictEqual(discards.total(), 1)
    })
  )

  it.effect("counts by place and reason in the metric", () =>
    Effect.gen(function* () {
      const discards = yield* Discards.make("here")
      for (let i = 0; i < 3; i++) discards.count("NotJson")
      discards.count("TooDeep")
      assert.strictEqual(Discards.discarded.id, "fiberbus_discarded_total")
      assert.strictEqual((yield* Metric.MetricRegistry).size, 2)
      assert.isTrue((yield* Metric.value(Discards.discarded)).incremental)
      const value = (where: string, reason: string) =>
        Effect.map(Metric.value(Metric.withAttributes(Discards.discarded, { where, reason })), ({ count }) => count)
      assert.strictEqual(yield* value("here", "NotJson"), 3)
      assert.strictEqual(yield* value("here", "TooDeep"), 1)
      assert.strictEqual(yield* value("there", "NotJson"), 0)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("is quiet at its end where it has said everything", () =>
    Effect.gen(function* () {
      const lines = yield* Effect.scoped(
        Effect.gen(function* () {
          const { discards, lines } = yield* make
          discards.note("NotJson")
          discards.count("LateReply")
          return lines
        })
      )
      assert.strictEqual(lines.length, 1)
    })
  )

  it.effect("keeps two places apart", () =>
    Effect.gen(function* () {
      const { discards, lines } = yield* make
      const other = yield* Discards.make("elsewhere")
      discards.note("NotJson")
      assert.deepStrictEqual([discards.total(), other.total(), lines.length], [1, 0, 1])
    })
  )
})
