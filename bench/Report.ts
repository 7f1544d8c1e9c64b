/** Writes docs/performance.md, docs/capacity.md, docs/figures and a part of README.md from results, and keeps what they are from. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Capacity from "./Capacity.ts"
import * as Goals from "./Goals.ts"
import type { Row } from "./Lab.ts"
import * as Plot from "./Plot.ts"
import * as Readme from "./Readme.ts"
import * as Reasons from "./Reasons.ts"
import type { Results } from "./Results.ts"
import * as Rows from "./Rows.ts"
import * as Tables from "./Tables.ts"

const root = Path.join(import.meta.dirname, "..")

/** What the pages in the repository are from. */
export const measured = Path.join(import.meta.dirname, "measured.json")

/** A row's figures, as name and content. */
const figuresOf = (results: Results, row: Row): ReadonlyArray<readonly [name: string, content: string]> =>
  row.figures.flatMap((key) => {
    const content = Plot.svg(results, row, row.metrics.find((metric) => metric.key === key)!)
    return content === undefined ? [] : [[`${row.key}-${key}.svg`, content] as const]
  })

const sectionOf = (results: Results, row: Row): ReadonlyArray<string> => {
  const cases = Tables.casesOf(results, row)
  if (cases.length === 0) return []
  const lines = [...cases.flatMap((of) => Tables.outcomes(results, row, of)), ...Tables.failures(results, row)]
  return [
    `## ${row.title}`,
    row.about,
    ...figuresOf(results, row).map(([name]) => `![${row.title}](figures/${name})`),
    ...cases.filter((of) => Tables.peersOf(results, row, of).length > 0).map((of) => Tables.table(results, row, of)),
    ...(lines.length === 0 ? [] : [lines.join("\n")])
  ]
}

/** What the page's names mean, for those who have only the page. */
const words = `Words: *packed* is \`fiberbus\` with all defaults, which puts several messages of one moment into one frame; *Daebus' frames* is the same with one message in each, as Daebus has
it; *live* is the same where every replica handles each request. *By hand* is a client written for this bench, without checks, timeouts or errors: *corked* with one write to the
socket per turn, *packed* with several messages in one publish too. *Unchecked* is a peer without its validation; *JIT* has Effect's schemas compiled; *traced* has a tracer. A goal
is an aim, not a claim: a row that says *no* was not reached in this run, and one that was *not measured* is not known.`

/** Load per core before the run, above which figures are not to be relied on. */
const busy = 0.5

/** What a reader has to know before a figure: why they are not to be relied on; undefined where they are. */
const warningOf = ({ load, options }: Results): string | undefined => {
  const warnings = [
    ...(options["quick"] === true ? ["a quick run, to see that it works"] : []),
    ...(Number(options["rounds"]) < 3 ? ["fewer than three rounds"] : []),
    ...(load > busy ? ["the machine was busy with something else all the time"] : [])
  ]
  return warnings.length === 0
    ? undefined
    : `**Don't rely on these figures: ${warnings.join(", and ")}.** Of such a run, CPU per call says most, and calls/s and p99 least.`
}

const where = (results: Results): string => {
  const { rounds, seconds } = results.options
  return `Measured on ${results.at.slice(0, 10)}, on ${results.machine}. Client and server are processes of their own, Redis is a private one on loopback; with two cores for all of
them they compete. Peers have their turns one after the other, ${rounds} rounds of ${seconds} s. What counts are the ratios, which are taken within each round, and not the figures
themselves. Every answer is compared with what was sent.`
}

const onPage = Rows.all.filter(({ page }) => page === undefined)

/** docs/performance.md as text. */
export const page = (results: Results): string => {
  const warning = warningOf(results)
  const missed = Reasons.list(results)
  return `${[
    "# Performance",
    where(results),
    ...(warning === undefined ? [] : [warning]),
    "`npm run bench` in the repository repeats it, and `bench/README.md` says who the peers are, how they are set up, and what each figure means. This page is written by `npm run bench:report`. What one core carries, and how that grows, is in [capacity.md](capacity.md).",
    words,
    "## Goals",
    "What we want to reach, with schema checks and limits on, and defaults as a user gets them. Measured is the median of the rounds' ratios, with least and most; the median decides.",
    Goals.table(results),
    ...(missed.length === 0 ? [] : ["### Those that were missed", missed]),
    ...onPage.flatMap((row) => sectionOf(results, row))
  ].join("\n\n")}\n`
}

const capacity = (results: Results): string => {
  const warning = warningOf(results)
  return Capacity.page(results, [where(results), ...(warning === undefined ? [] : [warning])])
}

/** Each figure to five digits, one sample to a line: what is kept is read by people too. */
const kept = (results: Results): string => {
  const { failures, samples, ...rest } = results
  const lines = (list: ReadonlyArray<unknown>) =>
    list
      .map((entry) =>
        JSON.stringify(entry, (_, value) => (typeof value === "number" ? Number(value.toPrecision(5)) : value))
      )
      .join(",\n")
  const head = JSON.stringify(rest).slice(0, -1)
  return `${head},\n"failures":[\n${lines(failures)}\n],\n"samples":[\n${lines(samples)}\n]}\n`
}

/** The figures in docs/figures, by name. */
const figures = (results: Results): ReadonlyArray<readonly [name: string, content: string]> => [
  ...onPage.flatMap((row) => figuresOf(results, row)),
  ...Readme.figures(results)
]

/** All files that are written from results, by their path in the repository. `readme` is the README as it is. */
export const files = (results: Results, readme: string): ReadonlyMap<string, string> =>
  new Map([
    ["docs/performance.md", page(results)],
    ["docs/capacity.md", capacity(results)],
    ["README.md", Readme.replace(readme, Readme.block(results, warningOf(results)))],
    ...figures(results).map(([name, content]) => [`docs/figures/${name}`, content] as const)
  ])

/** Results as they are kept in the repository. */
export const read = (): Results => JSON.parse(Fs.readFileSync(measured, "utf8")) as Results

/** Keeps the results, and writes the files from what was kept, figures in place of those that were there. Returns the files. */
export const write = (results: Results): ReadonlyArray<string> => {
  Fs.writeFileSync(measured, kept(results))
  const written = files(read(), Fs.readFileSync(Path.join(root, "README.md"), "utf8"))
  const folder = Path.join(root, "docs/figures")
  Fs.rmSync(folder, { recursive: true, force: true })
  Fs.mkdirSync(folder, { recursive: true })
  for (const [file, content] of written) Fs.writeFileSync(Path.join(root, file), content)
  return [Path.relative(root, measured), ...written.keys()]
}
