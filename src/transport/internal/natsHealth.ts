/** Keeps the state of one NATS link, and tells it: to those who watch, to the log in one line per change, and to metrics. */
import type * as Context from "effect/Context"
import * as LinkMetrics from "../LinkMetrics.ts"
import type * as LinkState from "../LinkState.ts"
import type { TransportError } from "../Transport.ts"
import * as LinkHealth from "./linkHealth.ts"

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
  const health = LinkHealth.make("NATS", name, context)
  const told = new Set<TransportError["kind"]>()
  let up = false
  let started = false
  let trouble: TransportError | undefined
  let refusal: TransportError | undefined

  const settle = () => {
    if (health.isOver() || !started) return
    if (!up) {
      if (trouble !== undefined) health.degraded(trouble, true)
    } else if (refusal !== undefined) health.degraded(refusal, false)
    else if (health.state()._tag !== "Ready") health.ready()
  }

  return {
    state: health.state,
    watch: health.watch,
    up: () => {
      if (health.isOver()) return
      up = true
      if (started) {
        health.count(LinkMetrics.reconnects, { connection: "both" })
        health.info(`connected again to ${name}`)
      }
      started = true
      trouble = undefined
      settle()
    },
    down: (error, wasUp) => {
      up = false
      if (health.isOver() || !started) return
      const before = trouble
      trouble = error
      if (wasUp) {
        health.gap()
        if (/slow consumer/i.test(error.detail)) health.count(LinkMetrics.slowSubscriberCuts)
        told.clear()
        health.warn(`lost ${name}, reconnecting. ${error.message}`)
      } else if (error.kind !== "ConnectionLost" && !told.has(error.kind)) {
        // Why it does not come back may be another matter, and is told once.
        told.add(error.kind)
        health.warn(`${name} does not come back yet. ${error.message}`)
      }
      if (wasUp || before?.kind !== error.kind || before?.detail !== error.detail) settle()
    },
    refused: (error) => {
      refusal = error
      settle()
    },
    gaveUp: health.gaveUp,
    closed: health.closed
  }
}
