/** Makes one state of two connections, and tells it: to those who watch, to the log in one line per change, and to metrics. */
import type * as Context from "effect/Context"
import * as LinkMetrics from "../LinkMetrics.ts"
import type * as LinkState from "../LinkState.ts"
import type { TransportError } from "../Transport.ts"
import * as LinkHealth from "./linkHealth.ts"
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
  const health = LinkHealth.make("Redis", name, context)
  const up: Record<Connection, boolean> = { publisher: false, subscriber: false }
  const told = new Set<TransportError["kind"]>()
  let started = false
  let trouble: TransportError | undefined
  let refusal: TransportError | undefined

  const allUp = () => up.publisher && up.subscriber
  const settle = () => {
    if (health.isOver() || !started) return
    if (!allUp()) {
      if (trouble !== undefined) health.degraded(trouble, true)
    } else if (refusal !== undefined) health.degraded(refusal, false)
    else if (health.state()._tag !== "Ready") health.ready()
  }
  const doesNotComeBack = (error: TransportError) => {
    // Why it does not may be another matter, and is told once.
    if (error.kind === "ConnectionLost" || told.has(error.kind)) return
    told.add(error.kind)
    health.warn(`${name} does not come back yet. ${error.message}`)
  }

  return {
    state: health.state,
    watch: health.watch,
    up: (connection) => {
      up[connection] = true
      if (started) health.count(LinkMetrics.reconnects, { connection })
      if (!allUp() || health.isOver()) return
      if (started) health.info(`connected again to ${name}`)
      started = true
      trouble = undefined
      settle()
    },
    down: (connection, error, wasUp) => {
      const wereAll = allUp()
      up[connection] = false
      if (health.isOver() || !started) return
      const before = trouble
      // A bare reset says less than what is known already.
      if (wasUp || before === undefined || error.kind !== "ConnectionLost") trouble = error
      if (wasUp && connection === "subscriber") health.gap()
      if (wereAll) {
        told.clear()
        health.warn(`lost ${name}, reconnecting. ${error.message}`)
      } else if (!wasUp) doesNotComeBack(error)
      if (wasUp || before?.kind !== trouble?.kind || before?.detail !== trouble?.detail) settle()
    },
    explained: (error) => {
      if (health.isOver() || !started || allUp() || error.kind === trouble?.kind) return
      trouble = error
      doesNotComeBack(error)
      settle()
    },
    refused: (error) => {
      refusal = error
      settle()
    },
    wasCut: (error) => {
      health.count(LinkMetrics.slowSubscriberCuts)
      health.warn(error.message)
      if (up.subscriber) return
      trouble = error
      settle()
    },
    gaveUp: health.gaveUp,
    closed: health.closed
  }
}
