/**
 * Makes one state of the connections to all masters of a cluster, and tells it: to those who watch, to the log in one line per change
 * of a node, and to metrics.
 */
import type * as Context from "effect/Context"
import * as LinkMetrics from "../LinkMetrics.ts"
import type * as LinkState from "../LinkState.ts"
import { TransportError } from "../Transport.ts"
import * as LinkHealth from "./linkHealth.ts"
import type { Connection } from "./RedisHealth.ts"

/** @see {@link make} */
export interface ClusterHealth {
  readonly state: () => LinkState.LinkState
  readonly watch: LinkState.Watched["watch"]
  /** A node has become a master, and is not connected yet. */
  readonly added: (node: string) => void
  readonly up: (node: string, connection: Connection) => void
  readonly down: (node: string, connection: Connection, error: TransportError, wasUp: boolean) => void
  /** A node is no concern of ours any more. */
  readonly forget: (node: string) => void
  /** Frames to subscribers may be lost from now on. */
  readonly gap: () => void
  /** Looks again at what else is missing. */
  readonly settle: () => void
  /** True while a connection is missing. */
  readonly isMissing: () => boolean
  /** All first connections are made, or tried: from here on it is `Ready` or `Degraded`. */
  readonly started: () => void
  readonly gaveUp: (error: TransportError) => void
  /** Ended on purpose: nothing is worth a line any more. */
  readonly closed: () => void
}

/** Begins as `Connecting`. `matters` says whether a missing node is one that we need, `trouble` what is missing besides nodes. */
export const make = (
  name: string,
  context: Context.Context<never>,
  matters: (node: string) => boolean,
  trouble: () => { readonly error: TransportError; readonly lost: boolean } | undefined
): ClusterHealth => {
  const health = LinkHealth.make("Redis", name, context)
  const missing = new Map<string, Missing>()
  let hasStarted = false
  let inGap = false
  const settle = () => {
    if (health.isOver() || !hasStarted) return
    const first = [...missing].find(([node]) => matters(node))?.[1]
    const besides = trouble()
    const error = first?.error ?? besides?.error
    const down = first !== undefined || besides?.lost === true
    const now = health.state()
    const gaps = health.gaps()
    if (error === undefined) {
      inGap = false
      if (now._tag !== "Ready" || now.gaps !== gaps) health.ready()
      return
    }
    const same = now._tag === "Degraded" && now.down === down && now.gaps === gaps && now.error.detail === error.detail
    if (!same) health.degraded(error, down)
  }

  return {
    state: health.state,
    watch: health.watch,
    added: (node) => {
      missing.set(node, {
        error: connecting(node),
        connections: new Set(["publisher", "subscriber"]),
        lost: new Set(),
        told: new Set(),
        silent: true
      })
      settle()
    },
    up: (node, connection) => {
      const before = missing.get(node)
      if (before === undefined) return
      before.connections.delete(connection)
      if (before.lost.has(connection)) health.count(LinkMetrics.reconnects, { connection })
      if (before.connections.size > 0) return
      missing.delete(node)
      if (hasStarted && !before.silent)
        health.info(`connected ${before.lost.size > 0 ? "again " : ""}to ${node} of ${name}`)
      settle()
    },
    down: (node, connection, error, wasUp) => {
      const before = missing.get(node)
      if (before === undefined || before.silent) {
        const first: Missing = {
          error,
          connections: before?.connections ?? new Set(),
          lost: new Set(wasUp ? [connection] : []),
          told: new Set(),
          silent: false
        }
        first.connections.add(connection)
        missing.set(node, first)
        if (hasStarted && !health.isOver()) health.warn(`lost ${node} of ${name}, reconnecting. ${error.message}`)
      } else {
        before.connections.add(connection)
        if (wasUp) before.lost.add(connection)
        // A bare reset says less than what is known already. Why it does not come back may be another matter, and is told once.
        if (error.kind !== "ConnectionLost") {
          before.error = error
          if (hasStarted && !health.isOver() && !before.told.has(error.kind)) {
            before.told.add(error.kind)
            health.warn(`${node} of ${name} does not come back yet. ${error.message}`)
          }
        }
      }
      settle()
    },
    forget: (node) => {
      const before = missing.get(node)
      missing.delete(node)
      if (before?.silent === false && hasStarted && !health.isOver()) {
        health.info(`${node} of ${name} is a master no more, and not missed`)
      }
      settle()
    },
    gap: () => {
      // One that begins while another lasts is part of it.
      if (!inGap) {
        inGap = true
        health.gap()
      }
      settle()
    },
    settle,
    isMissing: () => missing.size > 0,
    started: () => {
      hasStarted = true
      for (const [node, { error }] of missing) {
        health.warn(`${node} of ${name} is not there yet. ${error.message}`)
      }
      settle()
    },
    gaveUp: health.gaveUp,
    closed: health.closed
  }
}

/** A node of which a connection is missing. */
interface Missing {
  error: TransportError
  readonly connections: Set<Connection>
  readonly lost: Set<Connection>
  readonly told: Set<TransportError["kind"]>
  /** On its way for the first time: no line has told of it. */
  readonly silent: boolean
}

const connecting = (node: string) =>
  new TransportError({
    kind: "ConnectionLost",
    operation: `use ${node}`,
    detail: "not connected yet",
    hint: "",
    sent: "no"
  })
