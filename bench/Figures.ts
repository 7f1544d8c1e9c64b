/** From raw rounds to the table. */
import type { Subject } from "./Subjects.ts"

/** One subject in one round. CPU times are microseconds of the whole round. */
export interface Round {
  readonly subject: string
  readonly inFlight: number
  readonly round: number
  readonly calls: number
  readonly millis: number
  /** Latencies in microseconds. */
  readonly p50: number
  readonly p99: number
  readonly clientCpu: number
  /** Nothing where the client is the server as well. */
  readonly serverCpu: number | undefined
  /** Nothing where there is no Redis between. */
  readonly redisCpu: number | undefined
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const sum = (values: ReadonlyArray<number>) => values.reduce((total, value) => total + value, 0)
const whole = (value: number) => Math.round(value).toLocaleString("en-US")
const times = (value: number | undefined) => (value === undefined ? "–" : `${value.toFixed(2)}×`)

/** The table for one number of calls in flight, as Markdown. */
export const table = (subjects: ReadonlyArray<Subject>, rounds: ReadonlyArray<Round>, inFlight: number): string => {
  const of = (key: string) => rounds.filter((round) => round.subject === key && round.inFlight === inFlight)
  const rate = (round: Round) => (round.calls / round.millis) * 1000
  // Of each round with its neighbour: a machine that is slower for a while is so for both.
  const ratio = (key: string, base: string) => {
    const bases = of(base)
    const pairs = of(key).flatMap((round) => {
      const other = bases.find((candidate) => candidate.round === round.round)
      return other === undefined ? [] : [rate(round) / rate(other)]
    })
    return pairs.length === 0 ? undefined : median(pairs)
  }
  const rows = subjects.map(({ name, key }) => {
    const own = of(key)
    const rates = own.map(rate)
    const calls = sum(own.map((round) => round.calls))
    const cpu = (part: (round: Round) => number | undefined) =>
      own.some((round) => part(round) === undefined) ? undefined : sum(own.map((round) => part(round)!)) / calls
    const parts = [cpu((round) => round.clientCpu), cpu((round) => round.serverCpu), cpu((round) => round.redisCpu)]
    return [
      name,
      whole(median(rates)),
      `${whole(Math.min(...rates))}–${whole(Math.max(...rates))}`,
      times(ratio(key, "floor")),
      times(ratio(key, "moleculer")),
      whole(median(own.map((round) => round.p50))),
      whole(median(own.map((round) => round.p99))),
      ...parts.map((part) => (part === undefined ? "–" : part.toFixed(1))),
      sum(parts.map((part) => part ?? 0)).toFixed(1)
    ]
  })
  const head = [
    `${inFlight} in flight`,
    "calls/s",
    "min–max",
    "to floor",
    "to Moleculer",
    "p50 µs",
    "p99 µs",
    "CPU µs/call: client",
    "server",
    "redis",
    "all"
  ]
  return markdown([head, ...rows])
}

const markdown = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(" | ")} |`
  const rule = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  return [line(rows[0]!), line(rule), ...rows.slice(1).map(line)].join("\n")
}
