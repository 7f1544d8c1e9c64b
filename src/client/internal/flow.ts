/** The steps of one streamed call, between the inbox and their consumer: counted, and no more than there is room for. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"

/** Steps that a service may be ahead of its consumer, where the caller says nothing. */
export const defaultWindow = 256

/** The most that a caller may ask for. */
export const maxWindow = 65_536

/** Steps that may wait for their consumer where the service does not count them, as Daebus services don't. */
export const uncounted = 1_024

/** Events of one frame, perhaps still to be decoded. */
interface Batch {
  readonly size: number
  readonly events: Effect.Effect<ReadonlyArray<unknown>, unknown>
}

/** @see the file's first line */
export class Flow {
  /** Tells the service how many steps there is room for, those before included. Set by the call that sends its requests. */
  grant: (until: number) => void = () => {}
  /** The number of the next step. */
  next = 0
  readonly window: number
  /** How many steps in all the service was told that there is room for. */
  granted: number
  private taken = 0
  private waiting = 0
  private readonly queue: Queue.Queue<Batch, unknown>

  constructor(queue: Queue.Queue<Batch, unknown>, window: number) {
    this.queue = queue
    this.window = window
    this.granted = window
  }

  /** False when it would be more than may wait. */
  offer(size: number, events: Batch["events"]): boolean {
    if (this.waiting + size > capacity(this.window)) return false
    this.waiting += size
    return Queue.offerUnsafe(this.queue, { size, events })
  }

  /** Tells the service once more what it was told last, as that may have been lost. */
  remind() {
    if (this.granted > this.window) this.grant(this.granted)
  }

  /** There is nobody to be told any more. */
  forget() {
    this.grant = () => {}
  }

  /** The consumer takes a batch: there is room for more, told when it is half the window. */
  take({ events, size }: Batch) {
    this.waiting -= size
    this.taken += size
    if (this.granted - this.taken <= this.window / 2) {
      this.granted = this.taken + this.window
      this.grant(this.granted)
    }
    return events
  }
}

const capacity = (window: number) => Math.max(uncounted, window)

/** Streams what a call puts into its flow, then the events that its result makes. */
export const stream = <R>(
  window: number,
  call: (flow: Flow) => Effect.Effect<any, any, R>,
  last: (result: any) => ReadonlyArray<unknown>
): Stream.Stream<any, any, R> =>
  Stream.suspend(() => {
    let flow!: Flow
    const batches = Stream.callback<Batch, any, R>(
      (queue) => {
        flow = new Flow(queue, window)
        return Effect.flatMap(call(flow), (result) => {
          const events = last(result)
          const batch = { size: 0, events: Effect.succeed(events) }
          const end = Queue.end(queue as Queue.Queue<Batch, Cause.Done>)
          return events.length === 0 ? end : Effect.andThen(Queue.offer(queue, batch), end)
        })
      },
      // Not what bounds it: that counts steps.
      { bufferSize: capacity(window) + 1 }
    )
    return Stream.flattenArray(
      Stream.mapEffect(batches, (batch) => flow.take(batch) as Effect.Effect<readonly [any, ...Array<any>], any>)
    )
  })
