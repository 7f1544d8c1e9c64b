/** How the link of a transport is: what an adapter keeps, and what its users read and watch. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { TransportError } from "./Transport.ts"

/**
 * - `Connecting`: not connected yet.
 * - `Ready`: connected, and every subscription is confirmed.
 * - `Degraded`: something is missing, `error` says what and comes last. While `down`, a connection is missing: what is sent
 *   may be refused, and answers cannot arrive. Otherwise all are there, but a subscription is refused.
 * - `Closed`: for good. `error` is there when the link gave up.
 *
 * `gaps` counts how often frames to subscribers may have been lost, from the first connection on: it goes up when a gap
 * begins, which is over with the next `Ready`. Compare it with an earlier one: who missed a state still learns of the gap.
 */
export type LinkState =
  | { readonly _tag: "Connecting"; readonly gaps: number }
  | { readonly _tag: "Ready"; readonly gaps: number }
  | { readonly _tag: "Degraded"; readonly gaps: number; readonly error: TransportError; readonly down: boolean }
  | { readonly _tag: "Closed"; readonly gaps: number; readonly error: TransportError | undefined }

/** Called on the turn of the change: it must return quickly and never throw. */
export type Watcher = (state: LinkState) => void

/** The present state and those who watch it. */
export interface Watched {
  readonly current: () => LinkState
  /** Makes it the present state and tells everybody. After `Closed` nothing changes any more. */
  readonly change: (state: LinkState) => void
  /** Calls a function with each later state, in order; the result ends that. */
  readonly watch: (watcher: Watcher) => () => void
}

/** Why nothing can be called now, or nothing if it can. */
export const downReason = (state: LinkState): "connecting" | "closed" | TransportError | undefined => {
  if (state._tag === "Ready") return undefined
  if (state._tag === "Degraded") return state.down ? state.error : undefined
  return state._tag === "Connecting" ? "connecting" : (state.error ?? "closed")
}

/** Starts with a state and nobody who watches. */
export const make = (initial: LinkState): Watched => {
  let state = initial
  let watchers: ReadonlyArray<Watcher> = []
  return {
    current: () => state,
    change: (next) => {
      if (state._tag === "Closed") return
      state = next
      for (const watcher of watchers) {
        // A watcher that changes the state has told the others already.
        if (state !== next) return
        try {
          watcher(next)
        } catch (defect) {
          Effect.runFork(Effect.logError("A watcher of the link threw", Cause.die(defect)))
        }
      }
    },
    watch: (watch) => {
      // A function of its own, so that the same one may watch twice.
      const watcher: Watcher = (next) => watch(next)
      watchers = [...watchers, watcher]
      return () => {
        watchers = watchers.filter((other) => other !== watcher)
      }
    }
  }
}
