/** What must hold in every run, whatever goes wrong: looked at along the way, and once more at the end. */
import type { Event, History } from "./History.ts"

/** What is wrong, in words; with its call where it is about one, so that the diagram shows that call. */
export type Broken = string | { readonly text: string; readonly call: string | undefined }

/** One run, as an invariant sees it. */
export interface Seen {
  readonly history: History
  /** When all faults are over and everything has had its time to recover, in milliseconds of the run; `Infinity` until that is known. */
  readonly calm: () => number
}

/** What looks at one run: after each event, and when the run is over. Either may be left out. */
export interface Watch {
  readonly along?: (event: Event) => Broken | undefined
  readonly end?: () => Broken | undefined
}

/** @see {@link make} */
export interface Invariant {
  readonly name: string
  readonly start: (run: Seen) => Watch
}

/**
 * Makes an invariant. What it must remember of a run belongs into `start`, which is called once for each:
 *
 * ```ts
 * Simulation.invariant("nobody pays twice", () => {
 *   const paid = new Set<unknown>()
 *   return {
 *     along: (event) => {
 *       if (event._tag !== "Noted" || event.name !== "paid") return undefined
 *       if (paid.has(event.value)) return `order ${event.value} was paid twice`
 *       paid.add(event.value)
 *     }
 *   }
 * })
 * ```
 */
export const make = (name: string, start: (run: Seen) => Watch): Invariant => ({ name, start })
