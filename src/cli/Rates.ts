/** What a process did between two looks at it. */
import * as Discovery from "../client/Discovery.ts"

/** A line of `top`. */
export interface Rates {
  readonly service: string
  readonly instance: string
  /** Handlers that ended, per second. */
  readonly calls: number
  /** Requests that did not end well, per second: declared errors, defects, interruptions and refusals. */
  readonly errors: number
  readonly running: number
  readonly waiting: number
  /** Of the handlers that ended meanwhile; nothing where none did. */
  readonly p50Millis: number | undefined
  readonly p99Millis: number | undefined
  /** `Ready`, `Degraded`, …, or `draining`. */
  readonly state: string
}

/** The difference of two looks at one process. Without an earlier one it is that since the process began. */
export const between = (before: Discovery.Stats | undefined, now: Discovery.Stats): Rates => {
  // One that was started anew has counted less.
  const earlier = before !== undefined && before.uptimeMillis < now.uptimeMillis ? before : undefined
  const seconds = Math.max(1, now.uptimeMillis - (earlier?.uptimeMillis ?? 0)) / 1_000
  const { count, buckets } = subtract(sum(now), earlier === undefined ? { count: 0, buckets: [] } : sum(earlier))
  const most = Math.max(0, ...now.actions.map(({ latency }) => latency.maxMillis ?? 0))
  const errors = failed(now) - (earlier === undefined ? 0 : failed(earlier))
  return {
    service: now.service,
    instance: now.instance,
    calls: count / seconds,
    errors: Math.max(0, errors) / seconds,
    running: now.running,
    waiting: now.waiting,
    p50Millis: Discovery.quantile({ count, buckets }, 0.5, most),
    p99Millis: Discovery.quantile({ count, buckets }, 0.99, most),
    state: now.draining ? "draining" : now.link
  }
}

type Histogram = Pick<Discovery.Latency, "count" | "buckets">

const sum = ({ actions }: Discovery.Stats): Histogram => {
  const buckets = new Map<number, number>()
  let count = 0
  for (const { latency } of actions) {
    count += latency.count
    for (const [to, upTo] of latency.buckets) buckets.set(to, (buckets.get(to) ?? 0) + upTo)
  }
  return { count, buckets: [...buckets].sort(([one], [other]) => one - other) }
}

const subtract = (now: Histogram, before: Histogram): Histogram => {
  const earlier = new Map(before.buckets)
  return {
    count: Math.max(0, now.count - before.count),
    buckets: now.buckets.map(([to, upTo]) => [to, Math.max(0, upTo - (earlier.get(to) ?? 0))] as const)
  }
}

const failed = ({ actions, refused }: Discovery.Stats): number => {
  let count = Object.values(refused).reduce((sum, one) => sum + one, 0)
  for (const { outcomes } of actions) {
    for (const [outcome, one] of Object.entries(outcomes)) if (outcome !== "success") count += one
  }
  return count
}
