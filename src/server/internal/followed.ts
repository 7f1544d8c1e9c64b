/** A value that others read and follow: the present one at any time, and its changes as a Stream. */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"

/** Values that wait for a slow reader of {@link Followed.changes}; then the oldest are left out. */
export const buffer = 16

/** @see {@link make} */
export interface Followed<A> {
  readonly current: () => A
  readonly set: (value: A) => void
  /** The present value first, then each change. */
  readonly changes: Stream.Stream<A>
}

/** Starts with a value. `SubscriptionRef` does the same with a buffer that has no bound. */
export const make = <A>(initial: A): Effect.Effect<Followed<A>> =>
  Effect.map(PubSub.sliding<A>({ capacity: buffer, replay: 1 }), (changes) => {
    let value = initial
    PubSub.publishUnsafe(changes, value)
    return {
      current: () => value,
      set: (next) => {
        value = next
        PubSub.publishUnsafe(changes, next)
      },
      changes: Stream.fromPubSub(changes)
    }
  })
