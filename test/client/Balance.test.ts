import { assert, describe, it } from "vitest"
import * as Balance from "../../src/client/Balance.ts"

const of = (...pending: ReadonlyArray<number>): ReadonlyArray<Balance.Candidate> =>
  pending.map((count, at) => ({ by: `replica-${at}`, pending: count }))

/** Numbers that lie evenly between 0 and 1. */
const evenly = (count: number) => Array.from({ length: count }, (_, n) => (n + 0.5) / count)

describe("Balance", () => {
  it("of two by chance compares each pair equally often, and takes the one with less to do", () => {
    const pairs = new Map<string, number>()
    for (const roll of evenly(1_200)) {
      const seen = new Set<number>()
      const candidates = of(0, 1, 2, 3).map(({ by, pending }, at) => ({
        by,
        get pending() {
          seen.add(at)
          return pending
        }
      }))
      const chosen = Balance.twoRandom.begin(() => roll)(candidates, undefined)
      const pair = [...seen].toSorted()
      assert.strictEqual(chosen, pair[0])
      pairs.set(pair.join(), (pairs.get(pair.join()) ?? 0) + 1)
    }
    assert.deepStrictEqual(Object.fromEntries(pairs), {
      "0,1": 200,
      "0,2": 200,
      "0,3": 200,
      "1,2": 200,
      "1,3": 200,
      "2,3": 200
    })
  })

  it("of two by chance takes each of equals equally often", () => {
    const times = [0, 0, 0]
    for (const roll of evenly(300)) times[Balance.twoRandom.begin(() => roll)(of(5, 5, 5), undefined)]!++
    assert.deepStrictEqual(times, [100, 100, 100])
  })

  it("by turns takes one after the other, also where one of them goes", () => {
    const choose = Balance.roundRobin.begin(Math.random)
    assert.deepStrictEqual(
      [1, 2, 3, 4].map(() => choose(of(9, 0, 0), undefined)),
      [0, 1, 2, 0]
    )
    assert.strictEqual(choose(of(9, 0), undefined), 1)
  })

  it("by the fewest waiting takes the least of all, and equals by turns", () => {
    const choose = Balance.leastPending.begin(Math.random)
    const some = of(3, 1, 2, 1)
    assert.deepStrictEqual(
      [1, 2, 3, 4].map(() => choose(some, undefined)),
      [1, 1, 3, 3]
    )
    assert.deepStrictEqual(
      [1, 2, 3].map(() => choose(of(4, 4, 4), undefined)),
      [1, 2, 0]
    )
  })

  it("by key takes the same for a key, in whatever order they stand, and by chance for none", () => {
    const choose = Balance.byKey.begin(() => 0)
    const some = of(0, 0, 7)
    const turned = some.toReversed()
    for (let key = 0; key < 50; key++) {
      assert.strictEqual(turned[choose(turned, `${key}`)]!.by, some[choose(some, `${key}`)]!.by)
    }
    assert.strictEqual(choose(of(1, 0, 7), undefined), 1)
  })
})
