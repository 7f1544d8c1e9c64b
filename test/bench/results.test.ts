import { readdirSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Capacity from "../../bench/Capacity.ts"
import * as Goals from "../../bench/Goals.ts"
import * as Lab from "../../bench/Lab.ts"
import * as Payload from "../../bench/Payload.ts"
import * as Peers from "../../bench/Peers.ts"
import * as Plot from "../../bench/Plot.ts"
import * as Readme from "../../bench/Readme.ts"
import * as Reasons from "../../bench/Reasons.ts"
import * as Report from "../../bench/Report.ts"
import * as Results from "../../bench/Results.ts"
import * as Rows from "../../bench/Rows.ts"
import * as Tables from "../../bench/Tables.ts"

const sample = (peer: string, round: number, values: Readonly<Record<string, number>>, row = "calls") => ({
  row,
  case: "100 in flight",
  peer,
  round,
  values
})
const results = (
  samples: ReadonlyArray<Results.Sample>,
  failures: ReadonlyArray<Results.Failure> = []
): Results.Results => ({
  at: "2026-01-02T03:04:05.000Z",
  machine: "2 shared cores",
  load: 0.1,
  options: { rounds: 3, seconds: 1, quick: false },
  samples,
  failures
})
const calls = Rows.all.find(({ key }) => key === "calls")!
const rate = { row: "calls", case: "100 in flight", metric: "rate" }

// A machine that is ten times slower in one round, for both alike.
const slowRound = results([
  sample("floor", 0, { rate: 1_000 }),
  sample("fiberbus", 0, { rate: 2_000 }),
  sample("fiberbus", 1, { rate: 180 }),
  sample("floor", 1, { rate: 100 }),
  sample("floor", 2, { rate: 1_000 }),
  sample("fiberbus", 2, { rate: 2_200 })
])

describe("results", () => {
  it("are compared within their rounds", () => {
    assert.deepStrictEqual(
      Results.ratios(slowRound, { ...rate, peer: "fiberbus" }, { ...rate, peer: "floor" }),
      [2, 1.8, 2.2]
    )
  })

  it("are compared only where both were measured", () => {
    const one = results(slowRound.samples.filter(({ peer, round }) => peer === "fiberbus" || round === 2))
    assert.deepStrictEqual(Results.ratios(one, { ...rate, peer: "fiberbus" }, { ...rate, peer: "floor" }), [2.2])
    assert.deepStrictEqual(Results.ratios(one, { ...rate, peer: "fiberbus" }, { ...rate, peer: "nats" }), [])
  })

  it("have a median and its spread", () => {
    assert.deepStrictEqual(Results.spread([3, 1, 2, 10]), { min: 1, median: 2.5, max: 10, rounds: 4 })
    assert.isUndefined(Results.spread([]))
  })

  it("of a later file replace whole rows of an earlier one", () => {
    const later = results([sample("floor", 0, { rate: 7 })])
    const latency = sample("floor", 0, { rate: 9 }, "latency")
    assert.deepStrictEqual(Results.merge([results([...slowRound.samples, latency]), later]).samples, [
      latency,
      ...later.samples
    ])
  })
})

describe("goals", () => {
  const goal: Goals.Goal = { ...rate, what: "calls/s", peer: "fiberbus", to: "floor", atLeast: 2 }

  it("are judged by the median of the ratios", () => {
    const found = Goals.measured(slowRound, goal)!
    assert.deepStrictEqual(found, { min: 1.8, median: 2, max: 2.2, rounds: 3 })
    assert.isTrue(Goals.isMet(goal, found))
    assert.isFalse(Goals.isMet({ ...goal, atLeast: 2.01 }, found))
    const { atLeast: _, ...bare } = goal
    assert.isTrue(Goals.isMet({ ...bare, atMost: 2 }, found))
    assert.isFalse(Goals.isMet({ ...bare, atMost: 1.99 }, found))
  })

  it("are not said to be met where nothing was measured", () => {
    for (const line of Goals.table(results([])).split("\n").slice(2)) assert.match(line, /not measured \| +– \|$/)
  })

  it("are told apart by their ids, and every reason is one of a goal", () => {
    const ids = Goals.goals.map(Goals.idOf)
    assert.lengthOf(new Set(ids), ids.length)
    assert.deepStrictEqual(
      Object.keys(Reasons.reasons).filter((id) => !ids.includes(id)),
      []
    )
  })

  it("have their reason on the page where they are missed, and only there", () => {
    const at = (ours: number, theirs: number) =>
      results([sample("fiberbus", 0, { rate: ours }), sample("moleculer", 0, { rate: theirs })])
    assert.match(
      Reasons.list(at(4, 1)),
      /^- \*calls\/s, packed: ≥ 5 × Moleculer\*, 100 in flight\. Each call is encoded/
    )
    assert.include(Report.page(at(4, 1)), "### Those that were missed")
    assert.strictEqual(Reasons.list(at(5, 1)), "")
    const both = [...at(4, 1).samples, sample("nats", 0, { rate: 1 })]
    assert.match(
      Reasons.list(results(both)),
      /^- \*[^*]+× Moleculer\*, 100 in flight; \*[^*]+× nats\.js\*, 100 in flight\. Each [^\n]+$/
    )
    assert.notInclude(Report.page(at(5, 1)), "### Those that were missed")
  })

  it("concern rows and metrics that exist", () => {
    for (const { metric, row } of Goals.goals) {
      const of = Rows.all.find(({ key }) => key === row)!
      assert.include(
        of.metrics.map(({ key }) => key),
        metric
      )
    }
  })
})

describe("peers", () => {
  it("are a file each, and every row knows its own", () => {
    const files = readdirSync(resolve(import.meta.dirname, "../../bench/peers"))
    const known = Peers.all([])
    assert.deepStrictEqual([...new Set(known.map(({ file }) => `${file}.ts`))].sort(), files.sort())
    for (const { peers } of Rows.all) {
      for (const key of peers)
        assert.isTrue(
          known.some((entry) => entry.key === key),
          key
        )
    }
  })

  it("of another build are measured beside ours", () => {
    const entry = Peers.all([join("some", "old")]).find(({ key }) => key === "fiberbus@old")!
    assert.strictEqual(Peers.keyOf(entry), "fiberbus")
    assert.strictEqual(entry.build, join("some", "old"))
  })
})

describe("payloads", () => {
  it("are about 150 bytes, and differ", () => {
    assert.closeTo(JSON.stringify(Payload.make(1_234)).length, 150, 20)
    assert.isTrue(Payload.same(Payload.make(3), Payload.make(3)))
    assert.isFalse(Payload.same(Payload.make(3), Payload.make(4)))
  })

  it("that are not answered but given back are no answer", () => {
    const payload = Payload.make(1)
    assert.isFalse(Payload.same(payload, payload))
  })

  it("have texts of the length asked for", () => {
    for (const bytes of [0, 1, 65_536]) assert.strictEqual(Buffer.byteLength(Payload.text(bytes)), bytes)
  })
})

describe("turns", () => {
  const lab = (peers: ReadonlyArray<Peers.Entry>) =>
    Lab.make({
      rounds: 2,
      millis: 1,
      warmUpMillis: 1,
      quick: true,
      profiles: undefined,
      peers,
      build: "",
      millions: 1,
      brokers: {
        redis: { url: "redis://127.0.0.1:1", version: "0", pid: 0 },
        nats: undefined,
        subscriberBuffers: () => Effect.void
      }
    })
  const of = (...keys: ReadonlyArray<string>) => Peers.all([]).filter(({ key }) => keys.includes(key))

  it.effect("go on without a peer that fails, and say so", () =>
    Effect.gen(function* () {
      const here = lab(of("floor", "moleculer", "nats", "fiberbus"))
      const seen: Array<string> = []
      yield* Lab.turns(here, calls, "100 in flight", {
        start: ({ key }) => (key === "moleculer" ? Effect.fail(new Error("does not start")) : Effect.succeed(key)),
        turn: (key) =>
          Effect.suspend(() => {
            seen.push(key)
            return key === "fiberbus" ? Effect.fail(new Error("a wrong answer")) : Effect.succeed({ rate: 1 })
          })
      })
      // Every other round begins at the other end.
      assert.deepStrictEqual(seen, ["floor", "fiberbus", "floor"])
      assert.deepStrictEqual(
        here.samples.map(({ peer, round }) => [peer, round]),
        [
          ["floor", 0],
          ["floor", 1]
        ]
      )
      assert.deepStrictEqual(
        here.failures.map(({ peer, skipped }) => [peer, skipped]),
        [
          ["nats", true],
          ["moleculer", false],
          ["fiberbus", false]
        ]
      )
      assert.include(here.failures[1]!.why, "does not start")
    })
  )
})

describe("the page", () => {
  const skipped = {
    row: "calls",
    case: "100 in flight",
    peer: "nats",
    why: "nats-server is not installed",
    skipped: true
  }
  const page = Report.page(results(slowRound.samples, [skipped]))

  it("tells of spread, ratios, and who was left out", () => {
    assert.match(page, /\| fiberbus +\| +2,000 \(180–2,200\) \|/)
    assert.match(page, /\| ioredis by hand +\| +1,000 \(100–1,000\) .*\| +2\.00 \(1\.80–2\.20\) \|/)
    assert.include(page, "nats.js, 100 in flight: left out, nats-server is not installed")
    assert.notInclude(page, "One call at a time\n")
  })

  it("warns of figures from a busy machine, also where only one of its files is", () => {
    const warning = /Don't rely on these figures: the machine was busy/
    assert.notMatch(page, warning)
    const busy = { ...results([sample("floor", 0, { rate: 1 }, "latency")]), load: 2 }
    assert.match(Report.page(Results.merge([busy, slowRound])), warning)
    const few = { ...busy, load: 0, options: { ...busy.options, rounds: 1 } }
    assert.match(Report.page(Results.merge([few, slowRound])), /Don't rely on these figures: fewer than three rounds/)
  })

  it("shows outcomes other than answers", () => {
    const burst = Rows.all.find(({ key }) => key === "burst")!
    const refused = results([
      {
        row: "burst",
        case: "many",
        peer: "fiberbus",
        round: 0,
        values: { answered: 0.5, "outcome:answered": 5, "outcome:Busy": 5 }
      },
      {
        row: "burst",
        case: "many",
        peer: "floor",
        round: 0,
        values: { answered: 1, millis: 3, "outcome:answered": 10 }
      }
    ])
    assert.deepStrictEqual(Tables.outcomes(refused, burst, "many"), ["- fiberbus, many: 5 answered, 5 Busy"])
  })

  it("draws a bar for each peer, with its spread", () => {
    const metric = calls.metrics.find(({ key }) => key === "rate")!
    const svg = Plot.svg(slowRound, calls, metric)!
    assert.lengthOf(svg.match(/<rect [^>]*rx="2"/g)!, 2)
    assert.lengthOf(svg.match(/<path /g)!, 2)
    assert.include(svg, "2,000 (180–2,200)")
    assert.include(svg, "2 shared cores")
    assert.isUndefined(Plot.svg(results([]), calls, metric))
  })
})

describe("the capacity page", () => {
  const listening = (step: string, cpuBroker: number) => ({
    row: "capacity",
    case: `listeners: ${step}`,
    peer: "fiberbus",
    round: 0,
    values: { cpuBroker }
  })
  const measured = results([
    { ...sample("fiberbus", 0, { cpuBroker: 20 }, "latency"), case: "1 in flight" },
    sample("fiberbus", 0, { cpu: 10, cpuClient: 5, cpuServer: 4, cpuBroker: 1 }),
    sample("fiberbus-single", 0, { cpuClient: 5, cpuServer: 4, cpuBroker: 2 }),
    // An event costs 3 µs, and 0.5 more for each process that hears it.
    listening("1", 3.5),
    listening("4", 5),
    listening("16", 11)
  ])

  it("feeds its model with what was measured", () => {
    const found = Capacity.inputs(measured)
    assert.deepStrictEqual(found, { lone: 20, single: 2, packed: 1, ends: 9, publish: 3, deliver: 0.5 })
    // 70 % of a core each.
    assert.strictEqual(Capacity.carried(1, 2), 350_000)
    assert.closeTo(Capacity.carried(6, 2), 2_100_000, 1)
    assert.closeTo(Capacity.events(found!, 8), 100_000, 1)
    const page = Capacity.page(measured, [])
    assert.match(page, /\| 6 +\| +210,000 \| +2,100,000 \| +4,200,000 \| +27 \|/)
    assert.match(
      page,
      /\| calls, `one`, packed \(the default\) +\| +10\.0 \|.*\| +200,000 \| +250,000 \| +1,000,000 \|/
    )
  })

  it("has no model where an input is missing", () => {
    assert.isUndefined(Capacity.inputs(slowRound))
    assert.include(Capacity.page(slowRound, []), "did not measure what the model needs")
  })
})

describe("the README", () => {
  it("is given the block between its comments, and nothing else changes", () => {
    const readme = "a\n<!-- measured: written by npm run bench:report -->\nold\n<!-- measured: end -->\nb\n"
    const written = Readme.replace(readme, "new")
    assert.strictEqual(written, readme.replace("old", "new"))
    assert.strictEqual(Readme.replace(written, "new"), written)
    assert.throws(() => Readme.replace("without comments", "new"), /README.md lacks/)
  })
})
