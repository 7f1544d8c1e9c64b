/**
 * Makes one state of the connections to all masters of a cluster, and tells it: to those who watch, to the log in one line per change
 * of a node, and to metrics.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LinkMetrics from "../LinkMetrics.ts"
import * as LinkState from "../LinkState.ts"
import { TransportError } from "../Transport.ts"
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
  const runFork = Effect.runForkWith(context)
  const log = (line: Effect.Effect<void>) => {
    runFork(Effect.annotateLogs(line, "transport", name))
  }
  const link = LinkState.make({ _tag: "Connecting", gaps: 0 })
  const missing = new Map<string, Missing>()
  let hasStarted = false
  let over = false
  let gaps = 0
  let inGap = false
  const stateMetric = Metric.withAttributes(LinkMetrics.state, { transport: name })
  const count = (counter: Metric.Counter<number>, attributes?: Record<string, string>) =>
    Metric.withAttributes(counter, { transport: name, ...attributes }).updateUnsafe(1, context)
  const change = (state: LinkState.LinkState) => {
    stateMetric.updateUnsafe(state._tag === "Ready" ? 1 : state._tag === "Closed" ? -1 : 0, context)
    link.change(state)
  }
  const settle = () => {
    if (over || !hasStarted) return
    const first = [...missing].find(([node]) => matters(node))?.[1]
    const besides = trouble()
    const error = first?.error ?? besides?.error
    const down = first !== undefined || besides?.lost === true
    const now = link.current()
    if (error === undefined) {
      inGap = false
      if (now._tag !== "Ready" || now.gaps !== gaps) change({ _tag: "Ready", gaps })
      return
    }
    const same = now._tag === "Degraded" && now.down === down && now.gaps === gaps && now.error.detail === error.detail
    if (!same) change({ _tag: "Degraded", gaps, error, down })
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
      if (before.lost.has(connection)) count(LinkMetrics.reconnects, { connection })
      if (before.connections.size > 0) return
      missing.delete(node)
      if (hasStarted && !before.silent)
        log(Effect.logInfo(`Redis: connected ${before.lost.size > 0 ? "again " : ""}to ${node} of ${name}`))
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
        if (hasStarted && !over)
          log(Effect.logWarning(`Redis: lost ${node} of ${name}, reconnecting. ${error.message}`))
      } else {
        before.connections.add(connection)
        if (wasUp) before.lost.add(connection)
        // A bare reset says less than what is known already. Why it does not come back may be another matter, and is told once.
        if (error.kind !== "ConnectionLost") {
          before.error = error
          if (hasStarted && !over && !before.told.has(error.kind)) {
            before.told.add(error.kind)
            log(Effect.logWarning(`Redis: ${node} of ${name} does not come back yet. ${error.message}`))
          }
        }
      }
      settle()
    },
    forget: (node) => {
      const before = missing.get(node)
      missing.delete(node)
      if (before?.silent === false && hasStarted && !over) {
        log(Effect.logInfo(`Redis: ${node} of ${name} is a master no more, and not missed`))
      }
      settle()
    },
    gap: () => {
      // One that begins while another lasts is part of it.
      if (!inGap) {
        inGap = true
        gaps++
        count(LinkMetrics.gaps)
      }
      settle()
    },
    settle,
    isMissing: () => missing.size > 0,
    started: () => {
      hasStarted = true
      for (const [node, { error }] of missing) {
        log(Effect.logWarning(`Redis: ${node} of ${name} is not there yet. ${error.message}`))
      }
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
