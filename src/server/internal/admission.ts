/** Who may run now, who waits, who is refused: slots and a bounded backlog, without a fiber for those who wait. */

/** @see {@link make} */
export interface Admission<Job> {
  /** Starts a job, lets it wait, or refuses it when the backlog is full. */
  readonly enter: (job: Job) => "started" | "waits" | "refused"
  /** Gives a slot back; whoever waits longest takes it. */
  readonly release: () => void
  /** Gives the place of one that waits to another: nobody wants it any more, and it is not begun. */
  readonly forget: () => void
  /** Takes out all that wait. */
  readonly clear: () => ReadonlyArray<Job>
  readonly running: () => number
  readonly waiting: () => number
}

/**
 * Makes an admission.
 *
 * Units: `slots` jobs run at once, `backlog` more may wait, in order of arrival.
 */
export const make = <Job>(options: {
  readonly slots: number
  readonly backlog: number
  /** Begins a job; `release` is called exactly once when it has ended, possibly before this returns. */
  readonly start: (job: Job) => void
  /** True for a waiting job that was forgotten. */
  readonly isGone: (job: Job) => boolean
}): Admission<Job> => {
  const { backlog, isGone, slots, start } = options
  let running = 0
  let waiting: Array<Job> = []
  let head = 0
  let gone = 0
  let pumping = false

  // Jobs that end at once release from inside of start: the loop takes the next, not the stack.
  const pump = () => {
    if (pumping) return
    pumping = true
    try {
      while (running < slots && head < waiting.length) {
        const job = waiting[head]!
        head++
        if (isGone(job)) {
          gone--
          continue
        }
        running++
        start(job)
      }
    } finally {
      pumping = false
    }
    if (head > 1_024 || head === waiting.length) {
      waiting = waiting.slice(head)
      head = 0
    }
  }

  return {
    running: () => running,
    waiting: () => waiting.length - head - gone,
    enter: (job) => {
      if (running < slots) {
        running++
        start(job)
        return "started"
      }
      if (waiting.length - head - gone >= backlog) return "refused"
      waiting.push(job)
      return "waits"
    },
    release: () => {
      running--
      if (head < waiting.length) pump()
    },
    forget: () => {
      gone++
      // They keep their places in line until as many are gone as may wait.
      if (gone <= backlog) return
      waiting = waiting.slice(head).filter((job) => !isGone(job))
      head = 0
      gone = 0
    },
    clear: () => {
      const jobs = waiting.slice(head).filter((job) => !isGone(job))
      waiting = []
      head = 0
      gone = 0
      return jobs
    }
  }
}
