/** Frames that wait to be printed: so many and no more, and the others are counted. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Reading from "../wire/Reading.ts"
import type * as Sighting from "./Sighting.ts"

/** Most frames that wait. */
export const maxFrames = 10_000
/** Most bytes of frames that wait. */
export const maxBytes = 16 * 1_048_576

/** What waited, in order of arrival, and how many were dropped after the last of them. */
export interface Batch {
  readonly sightings: ReadonlyArray<Sighting.Sighting>
  readonly dropped: number
}

/** @see {@link make} */
export interface Backlog {
  /** Takes a frame in, or counts it as dropped. */
  readonly offer: (sighting: Sighting.Sighting) => void
  /** Waits for the next frames and takes all there are. */
  readonly take: Effect.Effect<Batch>
  /** Takes what is there, also if that is nothing. */
  readonly rest: Effect.Effect<Batch>
}

/** Makes an empty one. */
export const make: Effect.Effect<Backlog> = Effect.map(
  Queue.dropping<Sighting.Sighting>(maxFrames),
  (queue): Backlog => {
    let bytes = 0
    let dropped = 0
    const toBatch = (sightings: ReadonlyArray<Sighting.Sighting>): Batch => {
      const batch = { sightings, dropped }
      // All that waited has been taken.
      bytes = 0
      dropped = 0
      return batch
    }
    return {
      offer: (sighting) => {
        const more = Reading.size(sighting.frame)
        // Once one is dropped the next are too, until what waits is taken: so the gap has one place.
        if (dropped > 0 || (bytes > 0 && bytes + more > maxBytes) || !Queue.offerUnsafe(queue, sighting)) dropped++
        else bytes += more
      },
      take: Effect.map(Queue.takeAll(queue), toBatch),
      rest: Effect.map(Queue.clear(queue), toBatch)
    }
  }
)
