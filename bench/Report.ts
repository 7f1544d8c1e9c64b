/** Writes docs/performance.md and docs/figures from results. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Goals from "./Goals.ts"
import type { Row } from "./Lab.ts"
import * as Plot from "./Plot.ts"
import type { Results } from "./Results.ts"
import * as Rows from "./Rows.ts"
import * as Tables from "./Tables.ts"

const docs = Path.join(import.meta.dirname, "../docs")

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

/** The page as text. */
export const page = (results: Results): string => {
  const { quick, rounds, seconds } = results.options
  const warnings = [
    ...(quick === true ? ["a quick run, to see that it works"] : []),
    ...(results.load > busy ? ["the machine was busy with something else all the time"] : [])
  ]
  return `${[
    "# Performance",
    `Measured on ${results.at.slice(0, 10)}, on ${results.machine}. Client and server are processes of their own, Redis is a private one on loopback; with two cores for all of
them they compete. Peers have their turns one after the other, ${rounds} rounds of ${seconds} s. What counts are the ratios, which are taken within each round, and not the figures
themselves. Every answer is compared with what was sent.`,
    ...(warnings.length === 0
      ? []
      : [
          `**Don't rely on these figures: ${warnings.join(", and ")}.** Of such a run, CPU per call says most, and calls/s and p99 least.`
        ]),
    "`npm run bench` in the repository repeats it, and `bench/README.md` says who the peers are, how they are set up, and what each figure means. This page is written by `npm run bench:report`.",
    words,
    "## Goals",
    "What we want to reach, with schema checks and limits on, and defaults as a user gets them. Measured is the median of the rounds' ratios, with least and most; the median decides.",
    Goals.table(results),
    ...Rows.all.flatMap((row) => sectionOf(results, row))
  ].join("\n\n")}\n`
}

/** Writes the page, and its figures in place of those that were there. Returns the files. */
export const write = (results: Results): ReadonlyArray<string> => {
  const folder = Path.join(docs, "figures")
  Fs.rmSync(folder, { recursive: true, force: true })
  Fs.mkdirSync(folder, { recursive: true })
  const files = [
    [Path.join(docs, "performance.md"), page(results)] as const,
    ...Rows.all
      .flatMap((row) => figuresOf(results, row))
      .map(([name, content]) => [Path.join(folder, name), content] as const)
  ]
  for (const [file, content] of files) Fs.writeFileSync(file, content)
  return files.map(([file]) => Path.relative(process.cwd(), file))
}
