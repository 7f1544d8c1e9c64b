/** Draws a metric of a row as bars, in SVG, without a library. */
import type { Metric, Row } from "./Lab.ts"
import * as Results from "./Results.ts"
import * as Tables from "./Tables.ts"

const width = 860
const labels = 200
const figures = 190
const bars = width - labels - figures - 40
const line = 20

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const colourOf = (peer: string) =>
  peer.startsWith("fiberbus") ? "#2563eb" : /^(floor|codec|timers)/.test(peer) ? "#9ca3af" : "#d4a259"

/** Words as lines of at most so many characters. */
const wrap = (text: string, most: number): ReadonlyArray<string> =>
  text.split(" ").reduce<Array<string>>((lines, word) => {
    const last = lines.at(-1)
    if (last !== undefined && last.length + word.length < most) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
    return lines
  }, [])

/** One figure: a panel for each case that was measured, or of those that are named; undefined where none was. */
export const svg = (
  results: Results.Results,
  row: Row,
  metric: Metric,
  only: { readonly cases?: ReadonlyArray<string>; readonly peers?: ReadonlyArray<string> } = {}
): string | undefined => {
  const cases = Tables.casesOf(results, row).filter((of) => only.cases?.includes(of) ?? true)
  const panels = cases.flatMap((of) => {
    const peers = Tables.peersOf(results, row, of).filter((peer) => only.peers?.includes(peer) ?? true)
    const found = peers.flatMap((peer) => {
      const spread = Results.spread(Results.values(results, { row: row.key, case: of, metric: metric.key, peer }))
      return spread === undefined ? [] : [{ peer, spread }]
    })
    return found.length === 0 ? [] : [{ of, found }]
  })
  if (panels.length === 0) return undefined

  const parts: Array<string> = []
  let y = 28
  const text = (x: number, content: string, options = "") =>
    parts.push(`<text x="${x}" y="${y}" ${options}>${escape(content)}</text>`)
  text(16, `${row.title}: ${metric.title}`, 'font-size="17" font-weight="600"')
  y += 8
  for (const words of wrap(row.about.replaceAll("`", ""), 128)) {
    y += 15
    text(16, words, 'font-size="12" fill="#4b5563"')
  }
  for (const { found, of } of panels) {
    y += 30
    text(16, of, 'font-size="13" font-weight="600"')
    y += 6
    const longest = Math.max(...found.map(({ spread }) => spread.max))
    const at = (value: number) => labels + (longest === 0 ? 0 : (value / longest) * bars)
    for (const { peer, spread } of found) {
      const top = y + 3
      const middle = top + 7
      y += 14
      text(labels - 8, Tables.nameOf(peer), 'font-size="12" text-anchor="end"')
      const length = Math.max(1, at(spread.median) - labels)
      parts.push(
        `<rect x="${labels}" y="${top}" width="${length.toFixed(1)}" height="14" rx="2" fill="${colourOf(peer)}"/>`
      )
      if (spread.rounds > 1) {
        const [min, max] = [at(spread.min).toFixed(1), at(spread.max).toFixed(1)]
        parts.push(
          `<path d="M${min} ${middle}H${max}M${min} ${middle - 4}v8M${max} ${middle - 4}v8" stroke="#111827" fill="none"/>`
        )
      }
      parts.push(
        `<text x="${width - 16}" y="${y}" font-size="12" text-anchor="end">${escape(Tables.spread(spread, metric.digits))}</text>`
      )
      y += line - 14
    }
  }
  const better = metric.chief === "more" ? "Longer is better." : metric.chief === "less" ? "Shorter is better." : ""
  const rounds = Math.max(...panels.flatMap(({ found }) => found.map(({ spread }) => spread.rounds)))
  y += 10
  const spreadWords = rounds > 1 ? `Medians, with least and most, of up to ${rounds} rounds in turns.` : "One round."
  for (const words of wrap(`${better} ${spreadWords} ${results.machine}; ${results.at.slice(0, 10)}.`.trim(), 135)) {
    y += 15
    text(16, words, 'font-size="11" fill="#6b7280"')
  }
  const height = y + 16
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" fill="#111827" role="img" aria-label="${escape(`${row.title}: ${metric.title}`)}">`,
    `<rect width="${width}" height="${height}" rx="6" fill="#ffffff"/>`,
    ...parts,
    "</svg>",
    ""
  ].join("\n")
}
