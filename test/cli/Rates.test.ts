import { assert, describe, it } from "@effect/vitest"
import * as Rates from "../../src/cli/Rates.ts"
import * as Shape from "../../src/cli/Shape.ts"
import type { Discovery } from "../../src/index.ts"

const stats = (over: Partial<Discovery.Stats>): typeof Discovery.Stats.Type => ({
  service: "orders",
  instance: "a",
  startedAt: new Date(0),
  uptimeMillis: 1_000,
  draining: false,
  running: 0,
  waiting: 0,
  link: "Ready",
  actions: [],
  refused: {},
  discarded: {},
  memory: { rssBytes: 0, heapUsedBytes: 0 },
  ...over
})

const action = (upTo2: number, upTo4: number, outcomes: Record<string, number>) => ({
  name: "place",
  outcomes,
  latency: {
    count: upTo4,
    maxMillis: 4,
    buckets: [
      [2, upTo2],
      [4, upTo4]
    ] as const
  }
})

describe("Rates", () => {
  it("are those between two looks, by the clock of the process", () => {
    const before = stats({ actions: [action(10, 10, { success: 10 })], refused: { Busy: 1 } })
    const now = stats({
      uptimeMillis: 3_000,
      running: 2,
      waiting: 3,
      actions: [action(10, 30, { success: 28, error: 2 })],
      refused: { Busy: 5 }
    })
    assert.deepStrictEqual(Rates.between(before, now), {
      service: "orders",
      instance: "a",
      calls: 10,
      errors: 3,
      running: 2,
      waiting: 3,
      p50Millis: 3,
      p99Millis: 3.98,
      state: "Ready"
    })
  })

  it("begin anew with a process that does, and say nothing of times where nothing ended", () => {
    const before = stats({ uptimeMillis: 60_000, actions: [action(1_000, 1_000, { success: 1_000 })] })
    const now = stats({ uptimeMillis: 2_000, draining: true, actions: [action(4, 4, { success: 4 })] })
    assert.deepInclude(Rates.between(before, now), { calls: 2, errors: 0, state: "draining" })
    const idle = Rates.between(now, { ...now, uptimeMillis: 3_000 })
    assert.deepInclude(idle, { calls: 0, p50Millis: undefined, p99Millis: undefined })
  })
})

describe("Shape", () => {
  it("says what a schema says, in few words", () => {
    const shape = (schema: Record<string, unknown>) => Shape.toText(schema)
    assert.strictEqual(shape({ type: "string", format: "uuid" }), "string (format uuid)")
    assert.strictEqual(
      shape({ type: "array", items: { anyOf: [{ type: "string" }, { type: "null" }] } }),
      "(string | null)[]"
    )
    assert.strictEqual(
      shape({ type: "array", prefixItems: [{ type: "string" }, { type: "number" }], items: false }),
      "[string, number]"
    )
    assert.strictEqual(shape({ type: "object", additionalProperties: { type: "number" } }), "{ [name]: number }")
    assert.strictEqual(shape({}), "unknown")
    assert.strictEqual(shape({ type: "string\u001b[2J" }), "string\\u001b[2J")
    assert.strictEqual(shape({ const: "\u202e" }), '"\\u202e"')
  })

  it("ends, whatever refers to what", () => {
    const tree = {
      $ref: "#/$defs/Tree",
      $defs: {
        Tree: { type: "object", properties: { leaves: { type: "array", items: { $ref: "#/$defs/Tree" } } } }
      }
    }
    assert.strictEqual(Shape.toText(tree), "{ leaves?: Tree[] }")
    assert.strictEqual(Shape.toText({ $ref: "#/$defs/Nowhere" }), "unknown")
    const wide = { anyOf: Array.from({ length: 5_000 }, () => ({ type: "string" })) }
    assert.isAtMost(Shape.toText(wide).length, 2_000)
    let deep: Record<string, unknown> = { type: "string" }
    for (let i = 0; i < 100; i++) deep = { type: "array", items: deep }
    assert.include(Shape.toText(deep), "…")
  })
})
