import { assert, it } from "@effect/vitest"
import type { Effect } from "effect"
import { vi } from "vitest"
import * as Thrown from "../../src/transport/internal/thrown.ts"

it("of callbacks that throw, one a second is told", () => {
  const lines: Array<Effect.Effect<void>> = []
  const now = vi.spyOn(performance, "now")
  const threw = Thrown.make((line) => lines.push(line))
  const throwAt = (millis: number) => {
    now.mockReturnValue(millis)
    threw("a", new Error("a bug"))
    return lines.length
  }
  assert.deepStrictEqual([0, 1, 999, 1_000, 1_500, 2_000].map(throwAt), [1, 1, 1, 2, 2, 3])
  now.mockRestore()
})
