/** The part of README.md that shows what was measured: headline ratios and two plots, between two comments. */
import type { Row } from "./Lab.ts"
import * as Plot from "./Plot.ts"
import * as Results from "./Results.ts"
import * as Rows from "./Rows.ts"
import * as Tables from "./Tables.ts"

const begin = "<!-- measured: written by npm run bench:report -->"
const end = "<!-- measured: end -->"

const hundred = "100 in flight"
const calls = Rows.all.find(({ key }) => key === "calls")!

/** Who is shown, and what of fiberbus stands beside it. */
const beside = [
  { peer: "moleculer", ours: "fiberbus" },
  { peer: "nest", ours: "fiberbus" },
  { peer: "nats", ours: "fiberbus" },
  { peer: "effect-rpc-jit", ours: "fiberbus" },
  { peer: "floor", ours: "fiberbus" },
  { peer: "bullmq", ours: "fiberbus-durable" }
]

const columns = [
  { title: "calls/s", row: "calls", of: hundred, metric: "rate" },
  { title: "CPU per call", row: "calls", of: hundred, metric: "cpu" },
  { title: "p50, one at a time", row: "latency", of: "1 in flight", metric: "p50" },
  { title: "events/s to 10 processes", row: "fanout", of: "in 10 processes", metric: "rate" },
  { title: "items/s of a stream", row: "streaming", of: "10,000 items", metric: "rate" }
]

const table = (results: Results.Results) =>
  Tables.markdown([
    ["fiberbus' to that of", ...columns.map(({ title }) => title)],
    ...beside.map(({ ours, peer }) => [
      ours === "fiberbus" ? Tables.nameOf(peer) : `${Tables.nameOf(peer)} (to \`durable\`)`,
      ...columns.map(({ metric, of, row }) => {
        const point = { row, case: of, metric, peer: ours }
        const found = Results.spread(Results.ratios(results, point, { ...point, peer }))
        return found === undefined ? "–" : `${Tables.number(found.median, 2)} ×`
      })
    ])
  ])

/** The plots, as name and content. */
export const figures = (results: Results.Results): ReadonlyArray<readonly [name: string, content: string]> =>
  ["rate", "cpu"].flatMap((key) => {
    const metric = calls.metrics.find((metric) => metric.key === key)!
    const about = `An echo of about 150 bytes over the wire, ${hundred}, schemas checked on both sides where there are any.`
    const row: Row = { ...calls, about }
    const peers = [...beside.map(({ peer }) => peer), "fiberbus-single", "fiberbus-durable", "fiberbus"]
    const content = Plot.svg(results, row, metric, { cases: [hundred], peers })
    return content === undefined ? [] : [[`headline-${key}.svg`, content] as const]
  })

/** What stands between the comments. */
export const block = (results: Results.Results, warning: string | undefined): string =>
  [
    "Medians of ratios that were taken within each round, defaults of each library as its users get them, every answer compared with what was sent. More is better for what is per second, less for CPU and p50.",
    ...(warning === undefined ? [] : [warning]),
    table(results),
    ...figures(results).map(
      ([name]) => `![${name.includes("cpu") ? "CPU µs per call" : "Calls per second"}](docs/figures/${name})`
    ),
    `${results.machine}; ${results.at.slice(0, 10)}. effect/rpc has no broker, and the client by hand no checks, timeouts or errors. All rows, goals that were missed and why:
[docs/performance.md](docs/performance.md). What one core and a Cluster carry: [docs/capacity.md](docs/capacity.md).`
  ].join("\n\n")

/** The README with the block in place of the one that it has. Throws where it has none. */
export const replace = (readme: string, block: string): string => {
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md lacks ${begin} … ${end}`)
  return `${readme.slice(0, from + begin.length)}\n${block}\n${readme.slice(to)}`
}
