/**
 * Virtual time: what is to happen, in the order of its time, and nothing between.
 *
 * Within one moment things happen in the order in which they were asked for. Nothing waits for the real clock, so that ten virtual
 * seconds take milliseconds, and the order of everything follows from the seed.
 */

/** @see {@link make} */
export interface World {
  /** Milliseconds since the world began. */
  readonly now: () => number
  /** Calls back when it is so late; the result prevents that. */
  readonly at: (millis: number, act: () => void) => () => void
  /** Calls back in the next turn of this moment: where Effect's scheduler would use `setImmediate`. */
  readonly soon: (act: () => void) => void
  /**
   * Lets things happen until `isOver`, until nothing is left to happen (`idle`), until the next thing would be later than `until`
   * (`late`), or until one moment has had {@link maxTurns} turns (`stuck`): something goes round without letting time pass.
   */
  readonly run: (until: number, isOver: () => boolean) => Promise<"over" | "idle" | "late" | "stuck">
}

/** Turns that one moment may have. */
export const maxTurns = 100_000

interface Event {
  readonly at: number
  readonly order: number
  act: (() => void) | undefined
}

const isBefore = (one: Event, other: Event) => one.at < other.at || (one.at === other.at && one.order < other.order)

/** What the code under simulation does by `setImmediate` and promises happens in these turns, in its own fixed order. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Makes a world at its beginning. */
export const make = (): World => {
  const heap: Array<Event> = []
  let ready: Array<() => void> = []
  let now = 0
  let order = 0

  const push = (event: Event) => {
    let place = heap.length
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isBefore(event, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = event
  }

  const pop = (): Event | undefined => {
    const [first] = heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first
    let place = 0
    while (true) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = last
    return first
  }

  const next = (until: number): "late" | "idle" | (() => void) => {
    while (true) {
      const [first] = heap
      if (first === undefined) return "idle"
      if (first.act !== undefined && first.at > until) return "late"
      pop()
      if (first.act === undefined) continue
      now = first.at
      return first.act
    }
  }

  return {
    now: () => now,
    at: (millis, act) => {
      const event: Event = { at: Math.max(now, millis), order: order++, act }
      push(event)
      return () => {
        event.act = undefined
      }
    },
    soon: (act) => {
      ready.push(act)
    },
    run: async (until, isOver) => {
      let moment = now
      let turns = 0
      while (!isOver()) {
        if (now > moment) {
          moment = now
          turns = 0
        }
        if (++turns > maxTurns) return "stuck"
        // As in a real event loop, what this turn brings goes into the next one.
        const acts = ready
        ready = []
        for (const act of acts) act()
        await turn()
        if (ready.length > 0 || isOver()) continue
        const event = next(until)
        if (typeof event === "string") return event
        event()
      }
      return "over"
    }
  }
}
