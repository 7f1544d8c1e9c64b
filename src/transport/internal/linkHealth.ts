/** What every link does to tell how it is: to those who watch, to the log, and to metrics. When it does so is its own matter. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LinkMetrics from "../LinkMetrics.ts"
import * as LinkState from "../LinkState.ts"
import type { TransportError } from "../Transport.ts"

/** @see {@link make} */
export interface LinkHealth {
  readonly state: () => LinkState.LinkState
  readonly watch: LinkState.Watched["watch"]
  readonly isOver: () => boolean
  readonly gaps: () => number
  /** Frames to subscribers may be lost from now on. The next state says so. */
  readonly gap: () => void
  readonly ready: () => void
  readonly degraded: (error: TransportError, down: boolean) => void
  /** One more. */
  readonly count: (counter: Metric.Counter<number>, attributes?: Record<string, string>) => void
  readonly info: (line: string) => void
  readonly warn: (line: string) => void
  /** The schedule of reconnecting has ended. */
  readonly gaveUp: (error: TransportError) => void
  /** Ended on purpose: nothing is worth a line any more. */
  readonly closed: () => void
}

/** Begins as `Connecting`. Each line in the log begins with the broker's name. */
export const make = (broker: "NATS" | "Redis", name: string, context: Context.Context<never>): LinkHealth => {
  const runFork = Effect.runForkWith(context)
  const log = (line: Effect.Effect<void>) => {
    runFork(Effect.annotateLogs(line, "transport", name))
  }
  const link = LinkState.make({ _tag: "Connecting", gaps: 0 })
  const stateMetric = Metric.withAttributes(LinkMetrics.state, { transport: name })
  let gaps = 0
  let over = false

  const count: LinkHealth["count"] = (counter, attributes) =>
    Metric.withAttributes(counter, { transport: name, ...attributes }).updateUnsafe(1, context)
  const change = (state: LinkState.LinkState) => {
    stateMetric.updateUnsafe(state._tag === "Ready" ? 1 : state._tag === "Closed" ? -1 : 0, context)
    link.change(state)
  }
  const end = (error: TransportError | undefined) => {
    if (over) return
    over = true
    change({ _tag: "Closed", gaps, error })
  }
  stateMetric.updateUnsafe(0, context)

  return {
    state: link.current,
    watch: link.watch,
    isOver: () => over,
    gaps: () => gaps,
    gap: () => {
      gaps++
      count(LinkMetrics.gaps)
    },
    ready: () => change({ _tag: "Ready", gaps }),
    degraded: (error, down) => change({ _tag: "Degraded", gaps, error, down }),
    count,
    info: (line) => log(Effect.logInfo(`${broker}: ${line}`)),
    warn: (line) => log(Effect.logWarning(`${broker}: ${line}`)),
    gaveUp: (error) => {
      if (over) return
      log(Effect.logError(`${broker}: ${error.message}`))
      end(error)
    },
    closed: () => end(undefined)
  }
}
