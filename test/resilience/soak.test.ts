import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Soak from "./soak.ts"

describe("a short soak", () => {
  it.live(
    "each kind of fault once, in random order, under load: the account balances and nothing is left",
    () =>
      Effect.gen(function* () {
        // Another seed each time: a failure names it.
        const seed = Date.now() % 1_000_000
        const report = yield* Soak.run({ millis: 1, seed, faultMillis: 800 })
        assert.deepStrictEqual(report.problems, [], Soak.table(report))
        assert.isAtLeast(Object.keys(report.faults).length, 12)
        assert.isAbove(report.balance.succeeded, 2_000)
        assert.isAbove(Object.keys(report.balance.failed).length, 0)
        assert.isAbove(report.garbage, 0)
      }),
    120_000
  )
})
