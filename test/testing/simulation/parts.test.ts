import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Dice from "../../../src/testing/simulation/Dice.ts"
import * as Fault from "../../../src/testing/simulation/Fault.ts"
import { shrink } from "../../../src/testing/simulation/Shrink.ts"
import * as World from "../../../src/testing/simulation/World.ts"

const seeds = Array.from({ length: 2_000 }, (_, seed) => seed)

describe("Dice", () => {
  it("give the same number to the same question, and others to others", () => {
    assert.strictEqual(Dice.roll(1, "a", 2), Dice.roll(1, "a", 2))
    assert.strictEqual(new Set(seeds.map((n) => Dice.roll(1, "a", n))).size, seeds.length)
    assert.strictEqual(new Set(seeds.map((seed) => Dice.roll(seed, "a"))).size, seeds.length)
  })

  it("spread evenly over questions that differ by one", () => {
    const tenths = new Map<number, number>()
    for (const n of seeds) {
      const tenth = Math.floor(Dice.roll(7, "frame", n) * 10)
      tenths.set(tenth, (tenths.get(tenth) ?? 0) + 1)
    }
    assert.strictEqual(tenths.size, 10)
    for (const count of tenths.values()) assert.isTrue(count > 140 && count < 260, `${count} of 2000`)
    assert.deepStrictEqual(new Set(seeds.map((n) => Dice.between(3, 5, Dice.roll(1, n)))), new Set([3, 4, 5]))
  })
})

describe("World", () => {
  it.live("does things in the order of their time, and of their asking within one moment", () =>
    Effect.promise(async () => {
      const world = World.make()
      const done: Array<string> = []
      const note = (what: string) => () => void done.push(`${world.now()} ${what}`)
      for (const [at, what] of [
        [30, "c"],
        [10, "a"],
        [30, "d"],
        [20, "b"]
      ] as const) {
        world.at(at, note(what))
      }
      world.at(20, () => {
        note("now")()
        world.soon(note("soon"))
        setImmediate(note("by the event loop"))
        // The past is now.
        world.at(5, note("at once"))
      })
      const cancel = world.at(15, note("cancelled"))
      cancel()
      assert.strictEqual(await world.run(30, () => false), "idle")
      assert.deepStrictEqual(done, [
        "10 a",
        "20 b",
        "20 now",
        "20 soon",
        "20 by the event loop",
        "20 at once",
        "30 c",
        "30 d"
      ])
    })
  )

  it.live("notices that time does not pass", () =>
    Effect.promise(async () => {
      const world = World.make()
      const round = () => world.soon(round)
      world.at(5, round)
      assert.strictEqual(await world.run(100, () => false), "stuck")
      assert.strictEqual(world.now(), 5)
    })
  )

  it.live("stops at a time, and when it is told to", () =>
    Effect.promise(async () => {
      const world = World.make()
      let count = 0
      const tick = () => {
        count++
        world.at(world.now() + 10, tick)
      }
      world.at(0, tick)
      assert.strictEqual(await world.run(95, () => false), "late")
      assert.deepStrictEqual([count, world.now()], [10, 90])
      assert.strictEqual(await world.run(1_000, () => count === 50), "over")
      assert.deepStrictEqual([count, world.now()], [50, 490])
    })
  )
})

describe("Shrinking", () => {
  const all = Array.from({ length: 40 }, (_, n) => n)
  const needing = (...needed: ReadonlyArray<number>) => {
    let trials = 0
    return {
      fails: async (some: ReadonlyArray<number>) => {
        trials++
        return needed.every((n) => some.includes(n))
      },
      trials: () => trials
    }
  }

  it.live("finds exactly what is needed, in order", () =>
    Effect.promise(async () => {
      for (const needed of [[], [0], [39], [3, 4], [0, 20, 39], [5, 6, 7, 30]]) {
        const { fails, trials } = needing(...needed)
        assert.deepStrictEqual(await shrink(all, fails, 1_000), needed)
        assert.isBelow(trials(), 150)
      }
    })
  )

  it.live("stops after so many trials, with something that fails", () =>
    Effect.promise(async () => {
      const { fails, trials } = needing(3, 30)
      const left = await shrink(all, fails, 6)
      assert.strictEqual(trials(), 6)
      assert.includeMembers([...left], [3, 30])
    })
  )
})

describe("Faults of a mix", () => {
  const who = { services: ["shop"], processes: ["shop", "ann"] }

  it("come as often as they may, and are over in time", () => {
    let most = 0
    for (const seed of seeds) {
      const faults = Fault.overTime({ cuts: 3, stops: 1 }, seed, who, 5_000)
      most = Math.max(most, faults.length)
      for (const fault of faults) {
        assert.isTrue(fault.at >= 0 && fault.millis >= 1 && fault.at + fault.millis <= 5_000, Fault.text(fault))
        if (fault._tag === "Stop") assert.strictEqual(fault.process, "shop")
      }
    }
    assert.strictEqual(most, 4)
  })

  it("hit as many frames as they should, and none where there is no chance", () => {
    const hit = seeds.filter((n) => Fault.ofFrame({ lost: 0.1 }, 1, "ann", n) !== undefined).length
    assert.isTrue(hit > 140 && hit < 260, `${hit} of 2000`)
    assert.isTrue(seeds.every((n) => Fault.ofFrame({}, 1, "ann", n) === undefined))
    assert.isTrue(seeds.every((n) => Fault.ofFrame({ twice: 1 }, 1, "ann", n)?._tag === "Twice"))
  })

  it("are told in words, each in its own", () => {
    const at = { at: 10, millis: 20 }
    const frame = { process: "ann", frame: 3 }
    const all: ReadonlyArray<Fault.Fault> = [
      { _tag: "Lost", ...frame },
      { _tag: "Twice", ...frame },
      { _tag: "Unconfirmed", ...frame },
      { _tag: "Refused", ...frame },
      { _tag: "Late", ...frame, millis: 5 },
      { _tag: "Overtaken", ...frame, millis: 5 },
      { _tag: "Cut", process: "ann", connections: "both", ...at },
      { _tag: "Cut", process: "ann", connections: "publisher", ...at },
      { _tag: "Partition", process: "ann", ...at },
      { _tag: "Outage", ...at },
      { _tag: "Crash", process: "ann", ...at },
      { _tag: "Stop", process: "ann", ...at },
      { _tag: "Freeze", process: "ann", ...at }
    ]
    assert.strictEqual(new Set(all.map(Fault.text)).size, all.length)
  })
})
