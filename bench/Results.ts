/** What is measured, as it is written to a file, and what can be asked of it. */

/** One peer in one case of one row, in one round. */
export interface Sample {
  readonly row: string
  /** E.g. `100 in flight`. */
  readonly case: string
  readonly peer: string
  readonly round: number
  readonly values: Readonly<Record<string, number>>
}

/** A peer that could not be measured. */
export interface Failure {
  readonly row: string
  readonly case: string
  readonly peer: string
  readonly why: string
  /** What it needs is not installed: no fault. */
  readonly skipped: boolean
}

/** The file of a run. */
export interface Results {
  readonly at: string
  /** In words. */
  readonly machine: string
  /** Processes that wanted to run before it began, on average of a minute, for each core. */
  readonly load: number
  readonly options: Readonly<Record<string, unknown>>
  readonly samples: ReadonlyArray<Sample>
  readonly failures: ReadonlyArray<Failure>
}

/** Of several rounds. */
export interface Spread {
  readonly min: number
  readonly median: number
  readonly max: number
  readonly rounds: number
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const spread = (values: ReadonlyArray<number>): Spread | undefined =>
  values.length === 0
    ? undefined
    : { min: Math.min(...values), median: median(values), max: Math.max(...values), rounds: values.length }

/** One metric of one peer in one case. */
export interface Point {
  readonly row: string
  readonly case: string
  readonly metric: string
  readonly peer: string
}

const samplesOf = ({ samples }: Results, point: Omit<Point, "metric">) =>
  samples.filter(({ case: of, peer, row }) => row === point.row && of === point.case && peer === point.peer)

/** The values of all rounds. */
export const values = (results: Results, point: Point): ReadonlyArray<number> =>
  samplesOf(results, point).flatMap(({ values }) => values[point.metric] ?? [])

/** The ratio to another point, round by round: a machine that is slower for a while is so for both. */
export const ratios = (results: Results, point: Point, base: Omit<Point, "row">): ReadonlyArray<number> => {
  const bases = samplesOf(results, { ...base, row: point.row })
  return samplesOf(results, point).flatMap((sample) => {
    const value = sample.values[point.metric]
    const other = bases.find(({ round }) => round === sample.round)?.values[base.metric]
    return value === undefined || other === undefined || other === 0 ? [] : [value / other]
  })
}

/** Later results replace those before them, row by row: rows may be measured one after the other. What makes one doubtful does so for all. */
export const merge = (all: ReadonlyArray<Results>): Results =>
  all.reduce((before, after) => {
    const rows = new Set([...after.samples, ...after.failures].map(({ row }) => row))
    const kept = <A extends { readonly row: string }>(list: ReadonlyArray<A>) =>
      list.filter(({ row }) => !rows.has(row))
    return {
      ...after,
      load: Math.max(before.load, after.load),
      options: {
        ...after.options,
        rounds: Math.min(Number(before.options["rounds"]), Number(after.options["rounds"])),
        quick: before.options["quick"] === true || after.options["quick"] === true
      },
      samples: [...kept(before.samples), ...after.samples],
      failures: [...kept(before.failures), ...after.failures]
    }
  })
