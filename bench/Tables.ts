/** Results as Markdown. */
import type { Metric, Row } from "./Lab.ts"
import * as Peers from "./Peers.ts"
import * as Results from "./Results.ts"

export const number = (value: number, digits: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** `median (min–max)`. */
export const spread = (found: Results.Spread | undefined, digits: number): string =>
  found === undefined
    ? "–"
    : found.rounds === 1
      ? number(found.median, digits)
      : `${number(found.median, digits)} (${number(found.min, digits)}–${number(found.max, digits)})`

/** A table with columns as wide as what is in them. The first column is text, the others are numbers. */
export const markdown = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(" | ")} |`
  const rule = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  return [line(rows[0]!), line(rule), ...rows.slice(1).map(line)].join("\n")
}

/** The cases of a row, as they were measured. */
export const casesOf = (results: Results.Results, row: Row): ReadonlyArray<string> => [
  ...new Set(
    [...results.samples, ...results.failures].filter((entry) => entry.row === row.key).map((entry) => entry.case)
  )
]

/** The peers of a case, in the order of the row. */
export const peersOf = (results: Results.Results, row: Row, of: string): ReadonlyArray<string> => {
  const found = new Set(
    results.samples.filter((sample) => sample.row === row.key && sample.case === of).map(({ peer }) => peer)
  )
  return [...found].sort((a, b) => row.peers.indexOf(a.split("@")[0]!) - row.peers.indexOf(b.split("@")[0]!))
}

/** What a peer is called. */
export const nameOf = (key: string): string => {
  const [own, build] = key.split("@")
  const name = Peers.all([]).find((entry) => entry.key === own)?.name ?? own!
  return build === undefined ? name : `${name} (${build})`
}

const usOf = (results: Results.Results, row: Row, of: string): string | undefined =>
  peersOf(results, row, of).find((key) => key === "fiberbus" || key === "fiberbus-memory")

/** The table of one case: medians with their spread, and what fiberbus' chief figure is of each peer's. */
export const table = (results: Results.Results, row: Row, of: string): string => {
  const us = usOf(results, row, of)
  const chief = row.metrics.find((metric) => metric.chief !== undefined)!
  const cell = (peer: string, { digits, key }: Metric) =>
    spread(Results.spread(Results.values(results, { row: row.key, case: of, metric: key, peer })), digits)
  const ratio = (peer: string) => {
    if (us === undefined || us === peer) return "–"
    const point = { row: row.key, case: of, metric: chief.key, peer: us }
    return spread(Results.spread(Results.ratios(results, point, { ...point, peer })), 2)
  }
  return markdown([
    [of, ...row.metrics.map(({ title }) => title), ...(row.alone ? [] : [`fiberbus' ${chief.title} to it`])],
    ...peersOf(results, row, of).map((peer) => [
      nameOf(peer),
      ...row.metrics.map((metric) => cell(peer, metric)),
      ...(row.alone ? [] : [ratio(peer)])
    ])
  ])
}

/** How calls of a burst ended, as lines; nothing where no outcome but an answer was seen. */
export const outcomes = (results: Results.Results, row: Row, of: string): ReadonlyArray<string> =>
  peersOf(results, row, of).flatMap((peer) => {
    const counts = new Map<string, number>()
    for (const sample of results.samples) {
      if (sample.row !== row.key || sample.case !== of || sample.peer !== peer) continue
      for (const [key, count] of Object.entries(sample.values)) {
        if (key.startsWith("outcome:")) counts.set(key.slice(8), (counts.get(key.slice(8)) ?? 0) + count)
      }
    }
    if ([...counts.keys()].every((name) => name === "answered")) return []
    const told = [...counts].map(
      ([name, count]) => `${number(count, 0)} ${name === "none" ? "without an outcome" : name}`
    )
    return [`- ${nameOf(peer)}, ${of}: ${told.join(", ")}`]
  })

/** Those that could not be measured, as lines. */
export const failures = (results: Results.Results, row: Row): ReadonlyArray<string> =>
  results.failures
    .filter((failure) => failure.row === row.key)
    .map(
      ({ case: of, peer, skipped, why }) =>
        `- ${nameOf(peer)}, ${of}: ${skipped ? "left out" : "failed"}, ${why.split("\n")[0]!.slice(0, 200)}`
    )
