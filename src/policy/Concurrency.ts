/**
 * How many handlers run at once: a limit that can be changed while it holds, and shared by several services.
 *
 * It has the semantics of a semaphore with one permit per handler. It is no `Semaphore` because nothing may wait in it: a request
 * is admitted in the callback of the socket's reader, where a fiber per waiting request would cost more than the request.
 */
import * as Effect from "effect/Effect"

const TypeId = "~fiberbus/policy/Concurrency"

/** What has requests waiting for the limit. @internal */
export interface Waiting {
  /** Begins the next of its requests in a slot that was taken for it. False, and the slot is unused, if it has none that may begin. */
  readonly serveUnsafe: () => boolean
}

/** A limit on what runs at once. Give the same one to several services or listeners, and they share it. */
export interface Concurrency {
  readonly [TypeId]: typeof TypeId
  /** How many may run at once. */
  readonly limit: Effect.Effect<number>
  /** How many run now. After a `resize` downwards it may be more than `limit` for a while. */
  readonly running: Effect.Effect<number>
  /**
   * Changes the limit. A higher one lets waiting requests begin at once; with a lower one what runs ends, and nothing begins until
   * fewer run than it allows. Dies with a `RangeError` unless it is a whole number of at least 1, or `Infinity`.
   */
  readonly resize: (limit: number) => Effect.Effect<void>
  /** @internal */
  readonly limitUnsafe: () => number
  /** Takes a slot if one is free. @internal */
  readonly takeUnsafe: () => boolean
  /** Gives a slot back; it goes to those who wait, in turn. @internal */
  readonly releaseUnsafe: () => void
  /** Enters who has something waiting for a slot. It leaves by itself when it has nothing more. @internal */
  readonly awaitUnsafe: (waiting: Waiting) => void
  /** Takes it out. @internal */
  readonly forgetUnsafe: (waiting: Waiting) => void
}

/** True for what {@link make} made. */
export const isConcurrency = (value: unknown): value is Concurrency =>
  typeof value === "object" && value !== null && TypeId in value

/** Makes a limit. Dies with a `RangeError` unless it is a whole number of at least 1, or `Infinity`. */
export const make = (limit: number): Effect.Effect<Concurrency> => Effect.sync(() => makeUnsafe(limit))

/** The same without an Effect. Throws the `RangeError`. */
export const makeUnsafe = (limit: number): Concurrency => {
  let most = check(limit)
  let running = 0
  let pumping = false
  // Few share a limit, and mostly one: an array is faster than a Set.
  const queue: Array<Waiting> = []

  // What ends at once gives its slot back from inside of this: the loop goes on with it, not the stack.
  const pump = () => {
    if (pumping) return
    pumping = true
    try {
      while (running < most && queue.length > 0) {
        const waiting = queue[0]!
        running++
        const served = waiting.serveUnsafe()
        if (!served) running--
        // One each in turn, so that a service with a long backlog leaves slots to the others.
        if (queue[0] === waiting && (!served || queue.length > 1)) queue.shift()
        if (served && !queue.includes(waiting)) queue.push(waiting)
      }
    } finally {
      pumping = false
    }
  }

  return {
    [TypeId]: TypeId,
    limit: Effect.sync(() => most),
    running: Effect.sync(() => running),
    resize: (limit) =>
      Effect.sync(() => {
        most = check(limit)
        pump()
      }),
    limitUnsafe: () => most,
    takeUnsafe: () => {
      if (running >= most) return false
      running++
      return true
    },
    releaseUnsafe: () => {
      running--
      if (queue.length > 0) pump()
    },
    awaitUnsafe: (waiting) => {
      if (!queue.includes(waiting)) queue.push(waiting)
    },
    forgetUnsafe: (waiting) => {
      const index = queue.indexOf(waiting)
      if (index >= 0) queue.splice(index, 1)
    }
  }
}

/** Gives a limit back that can be one, or throws a `RangeError`. @internal */
export const check = (limit: number): number => {
  if (limit === Number.POSITIVE_INFINITY || (Number.isSafeInteger(limit) && limit >= 1)) return limit
  throw new RangeError(`A limit of concurrency is a whole number of at least 1, not ${limit}`)
}
