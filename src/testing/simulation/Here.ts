/** Where in a simulation a fiber is: its process, what it may tell, and what the run is waiting for. */
import * as Context from "effect/Context"
import type { Event } from "./History.ts"

/** @see the file's first line */
export interface Here {
  readonly process: string
  readonly now: () => number
  readonly tell: (event: Event) => void
  /** When the last fault is over and everything has had its time to recover: `Infinity` while one goes on. */
  readonly calm: () => number
  /** The call that a request belongs to. */
  readonly callOf: (request: string) => string | undefined
  /** A new label for a call of this process. */
  readonly label: () => string
}

/** Nothing outside of a simulation. */
export const Here = Context.Reference<Here | undefined>("fiberbus/testing/simulation/Here", {
  defaultValue: () => undefined
})
