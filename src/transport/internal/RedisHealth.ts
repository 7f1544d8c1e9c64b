/** Makes one state of two connections, and tells it: to those who watch, to the log in one line per change, and to metrics. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LinkMetrics from "../LinkMetrics.ts"
import * as LinkState from "../LinkState.ts"
import type { TransportError } from "../Transport.ts"
import type { Settings } from "./redisOptions.ts"

/** The two connections. */
export type Connection = "publisher" | "subscriber"

/** @see {@link make} */
export interface RedisHealth {
  readonly state: () => LinkState.LinkState
  readonly watch: LinkState.Watched["watch"]
  readonly up: (connection: Connection) => void
  readonly down: (connection: Connection, error: TransportError, wasUp: boolean) => void
  /** More is known now about why it does not come back. */
  readonly explained: (error: TransportError) => void
  /** A subscription that somebody has is refused now, or none is any more. */
  readonly refused: (error: TransportError | undefined) => void
  /** It is known now why the subscriber was lost: Redis cut it. */
  readonly wasCut: (error: TransportError) => void
  readonly gaveUp: (error: TransportError) => void
  /** Ended on purpose: nothing is worth a line any more. */
  readonly closed: () => void
}

/** Begins as `Connecting`. */
export const make = (settings: Settings, context: Context.Context<never>): RedisHealth => {
  const { name } = settings
  const runFork = Effect.runForkWith(context)
  const log = (line: Effect.Effect<void>) => {
    runFork(Effect.annotateLogs(line, "transport", name))
  }
  const link = LinkState.make({ _tag: "Connecting", gaps: 0 })
  const up: Record<Connection, boolean> = { publisher: false, subscriber: false }
  const told = new Set<TransportError["kind"]>()
  let started = false
  let over = false
  let gaps = 0
  let trouble: TransportError | undefined
  let refusal: TransportError | undefined

  const stateMetric = Metric.withAttributes(LinkMetrics.state, { transport: name })
  const count = (counter: Metric.Counter<number>, attributes?: Record<string, string>) =>
    Metric.withAttributes(counter, { transport: name, ...attributes }).updateUnsafe(1, context)
  const gauge = (state: LinkState.LinkState) =>
    stateMetric.updateUnsafe(state._tag === "Ready" ? 1 : state._tag === "Closed" ? -1 : 0, context)

  const change = (state: LinkState.LinkState) => {
    gauge(state)
    link.change(state)
  }
  const allUp = () => up.publisher && up.subscriber
  const settle = () => {
    if (over || !started) return
    if (!allUp()) {
      if (trouble !== undefined) change({ _tag: "Degraded", gaps, error: trouble, down: true })
    } else if (refusal !== undefined) change({ _tag: "Degraded", gaps, error: refusal, down: false })
    else if (link.current()._tag !== "Ready") change({ _tag: "Ready", gaps })
  }
  const doesNotComeBack = (error: TransportError) => {
    // Why it does not may be another matter, and is told once.
    if (error.kind === "ConnectionLost" || told.has(error.kind)) return
    told.add(error.kind)
    log(Effect.logWarning(`Redis: ${name} does not come back yet. ${error.message}`))
  }
  const end = (error: TransportError | undefined) => {
    if (over) return
    over = true
    change({ _tag: "Closed", gaps, error })
  }
  gauge(link.current())

  return {
    state: link.current,
    watch: link.watch,
    up: (connection) => {
      up[connection] = true
      if (started) count(LinkMetrics.reconnects, { connection })
      if (!allUp() || over) return
      if (started) log(Effect.logInfo(`Redis: connected again to ${name}`))
      started = true
      trouble = undefined
      settle()
    },
    down: (connection, error, wasUp) => {
      const wereAll = allUp()
      up[connection] = false
      if (over || !started) return
      const before = trouble
      // A bare reset says less than what is known already.
      if (wasUp || before === undefined || error.kind !== "ConnectionLost") trouble = error
      if (wasUp && connection === "subscriber") {
        gaps++
        count(LinkMetrics.gaps)
      }
      if (wereAll) {
        told.clear()
        log(Effect.logWarning(`Redis: lost ${name}, reconnecting. ${error.message}`))
      } else if (!wasUp) doesNotComeBack(error)
      if (wasUp || before?.kind !== trouble?.kind || before?.detail !== trouble?.detail) settle()
    },
    explained: (error) => {
      if (over || !started || allUp() || error.kind === trouble?.kind) return
      trouble = error
      doesNotComeBack(error)
      settle()
    },
    refused: (error) => {
      refusal = error
      settle()
    },
    wasCut: (error) => {
      count(LinkMetrics.slowSubscriberCuts)
      log(Effect.logWarning(`Redis: ${error.message}`))
      if (up.subscriber) return
      trouble = error
      settle()
    },
    gaveUp: (error) => {
      if (over) return
      log(Effect.logError(`Redis: ${error.message}`))
      end(error)
    },
    closed: () => end(undefined)
  }
}
