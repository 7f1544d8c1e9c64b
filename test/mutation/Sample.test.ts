import { assert, describe, it } from "vitest"
import { draw, interval } from "../../mutation/Sample.ts"

const mutants = Array.from({ length: 200 }, (_, id) => ({
  id,
  fileName: `src/${id % 7}.ts`,
  location: { start: { line: id >> 2, column: 0 }, end: { line: id >> 2, column: 9 } },
  mutatorName: "EqualityOperator",
  replacement: ["<", "<=", ">", ">="][id % 4]!
}))
const ids = (drawn: ReadonlyArray<{ readonly id: number }>) => drawn.map(({ id }) => id).toSorted((a, b) => a - b)

describe("A sample of mutants", () => {
  it("has as many as asked for, each once, and all where there are no more", () => {
    assert.strictEqual(new Set(ids(draw(mutants, 60, "1"))).size, 60)
    assert.deepStrictEqual(ids(draw(mutants, 200, "1")), ids(mutants))
    assert.deepStrictEqual(ids(draw(mutants, 1000, "1")), ids(mutants))
  })

  it("is the same for a seed, whatever the order of all, and another one for another seed", () => {
    assert.deepStrictEqual(ids(draw(mutants.toReversed(), 60, "1")), ids(draw(mutants, 60, "1")))
    assert.notDeepEqual(ids(draw(mutants, 60, "2")), ids(draw(mutants, 60, "1")))
  })

  it("is part of a larger one of the same seed", () => {
    const larger = new Set(ids(draw(mutants, 90, "1")))
    assert.isTrue(ids(draw(mutants, 60, "1")).every((id) => larger.has(id)))
  })

  it("gives each mutant the same chance", () => {
    const seeds = 400
    const times = mutants.map(() => 0)
    for (let seed = 0; seed < seeds; seed++) for (const { id } of draw(mutants, 50, `${seed}`)) times[id]!++
    // A quarter of 400, with a deviation of 8.7: none of 200 is further away than five of these.
    assert.isAbove(Math.min(...times), 100 - 44)
    assert.isBelow(Math.max(...times), 100 + 44)
  })
})

describe("The interval of a share", () => {
  const of = (found: number, tried: number) => {
    const { from, to } = interval(found, tried)
    return [from.toFixed(4), to.toFixed(4)]
  }

  it("is that of published tables", () => {
    // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert.deepStrictEqual(of(81, 263), ["0.2553", "0.3662"])
    assert.deepStrictEqual(of(15, 148), ["0.0624", "0.1605"])
    assert.deepStrictEqual(of(0, 20), ["0.0000", "0.1611"])
    assert.deepStrictEqual(of(1, 29), ["0.0061", "0.1718"])
  })

  it("stays between none and all, and says nothing where nothing was tried", () => {
    assert.deepStrictEqual(of(29, 29)[1], "1.0000")
    assert.deepStrictEqual(interval(0, 0), { from: 0, to: 1 })
  })
})
