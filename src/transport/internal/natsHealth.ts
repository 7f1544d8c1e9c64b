/** Keeps the state of one NATS link, and tells it: to those who watch, to the log in one line per change, and to metrics. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LinkMetrics from "../LinkMetrics.ts"
import * as LinkState from "../LinkState.ts"
import type { TransportError } from "../Transport.ts"

/** @see {@link make} */
export interface NatsHealth {
  readonly state: () => LinkState.LinkState
  readonly watch: LinkState.Watched["watch"]
  readonly up: () => void
  readonly down: (error: TransportError, wasUp: boolean) => void
  /** A subscription that somebody has is refused now, or none is any more. */
  readonly refused: (error: TransportError | undefined) => void
  readonly gaveUp: (error: TransportError) => void
  /** Ended on purpose: nothing is worth a line any more. */
  readonly closed: () => void
}

/** Begins as `Connecting`. */
export const make = (name: string, context: Context.Context<never>): NatsHealth => {
  const runFork = Effect.runForkWith(context)
  const log = (line: Effect.Effect<void>) => {
    runFork(Effect.annotateLogs(line, "transport", name))
  }
  const link = LinkState.make({ _tag: "Connecting", gaps: 0 })
  const told = new Set<TransportError["kind"]>()
  let up = false
  let started = false
  let over = false
  let gaps = 0
  let trouble: TransportError | undefined
  let refusal: TransportError | undefined

  const stateMetric = Metric.withAttributes(LinkMetrics.state, { transport: name })
  const count = (counter: Metric.Counter<number>, attributes?: Record<string, string>) =>
    Metric.withAttributes(counter, { transport: name, ...attributes }).updateUnsafe(1, context)
  const change = (state: LinkState.LinkState) => {
    stateMetric.updateUnsafe(state._tag === "Ready" ? 1 : state._tag === "Closed" ? -1 : 0, context)
    link.change(state)
  }
  const settle = () => {
    if (over || !started) return
    if (!up) {
      if (trouble !== undefined) change({ _tag: "Degraded", gaps, error: trouble, down: true })
    } else if (refusal !== undefined) change({ _tag: "Degraded", gaps, error: refusal, down: false })
    else if (link.current()._tag !== "Ready") change({ _tag: "Ready", gaps })
  }
  const end = (error: TransportError | undefined) => {
    if (over) return
    over = true
    change({ _tag: "Closed", gaps, error })
  }
  change(link.current())

  return {
    state: link.current,
    watch: link.watch,
    up: () => {
      if (over) return
      up = true
      if (started) {
        count(LinkMetrics.reconnects, { connection: "both" })
        log(Effect.logInfo(`NATS: connected again to ${name}`))
      }
      started = true
      trouble = undefined
      settle()
    },
    down: (error, wasUp) => {
      up = false
      if (over || !started) return
      const before = trouble
      trouble = error
      if (wasUp) {
        gaps++
        count(LinkMetrics.gaps)
        if (/slow consumer/i.test(error.detail)) count(LinkMetrics.slowSubscriberCuts)
        told.clear()
        log(Effect.logWarning(`NATS: lost ${name}, reconnecting. ${error.message}`))
      } else if (error.kind !== "ConnectionLost" && !told.has(error.kind)) {
        // Why it does not come back may be another matter, and is told once.
        told.add(error.kind)
        log(Effect.logWarning(`NATS: ${name} does not come back yet. ${error.message}`))
      }
      if (wasUp || before?.kind !== error.kind || before?.detail !== error.detail) settle()
    },
    refused: (error) => {
      refusal = error
      settle()
    },
    gaveUp: (error) => {
      if (over) return
      log(Effect.logError(`NATS: ${error.message}`))
      end(error)
    },
    closed: () => end(undefined)
  }
}
