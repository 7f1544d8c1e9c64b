/** Tells of callbacks that throw, which they must not: it is a bug, and may come with every frame. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"

/** Told of each; at most one in a second becomes a line. */
export type Thrown = (channel: string, defect: unknown) => void

/** Has told nothing yet. */
export const make = (log: (line: Effect.Effect<void>) => void): Thrown => {
  let last = Number.NEGATIVE_INFINITY
  return (channel, defect) => {
    const now = performance.now()
    if (now - last < 1000) return
    last = now
    log(Effect.logError(`A callback for ${channel} threw`, Cause.die(defect)))
  }
}
