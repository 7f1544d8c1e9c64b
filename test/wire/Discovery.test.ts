import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Discovery from "../../src/wire/Discovery.ts"
import { version } from "../../src/wire/Version.ts"

const bounds = [1, 2, 4, 8, 16]

const histogram = (millis: ReadonlyArray<number>) => ({
  count: millis.length,
  buckets: bounds.map((to) => [to, millis.filter((one) => one <= to).length] as const)
})

describe("quantile", () => {
  it.prop(
    "is within the bucket of the true one, and no more than the largest",
    {
      millis: Schema.NonEmptyArray(Schema.Natural),
      percent: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 }))
    },
    ({ millis, percent }) => {
      const values = millis.map((one) => one % 20)
      const sorted = [...values].sort((one, other) => one - other)
      const most = sorted.at(-1)!
      const share = percent / 100
      const exact = sorted[Math.ceil(share * sorted.length - 1e-9) - 1]!
      const estimated = Discovery.quantile(histogram(values), share, most)!
      const to = bounds.find((bound) => exact <= bound) ?? most
      const from = bounds.filter((bound) => bound < exact).at(-1) ?? 0
      assert.isAtMost(estimated, most)
      assert.isAtLeast(estimated, Math.min(from, most))
      assert.isAtMost(estimated, Math.max(to, exact))
    }
  )

  it("is nothing of nothing", () => {
    assert.isUndefined(Discovery.quantile(histogram([]), 0.5, 0))
  })
})

describe("the version", () => {
  it("is the package's", () => {
    const text = readFileSync(resolve(import.meta.dirname, "../../package.json"), "utf8")
    assert.strictEqual(version, JSON.parse(text).version)
  })
})
