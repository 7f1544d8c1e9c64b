/**
 * Who may run now, who waits, who is refused: slots and a bounded backlog, without a fiber for those who wait.
 *
 * A request needs a slot of the service, and one of its action where the action has a limit of its own (its gate). Who must wait
 * does so in a line: one for each key of `fairBy`, and in each limited action, whose full gate thus keeps nobody else from a free slot.
 * Gates that are open, and the lines in each, are served in turn. It is what Effect's `PartitionedSemaphore` does, for fibers.
 */
import type * as Concurrency from "../../policy/Concurrency.ts"
import type { Backlog } from "../Options.ts"
import { List, Member } from "./list.ts"

/** What can be admitted. */
export interface Job<J extends Job<J>> {
  /** Where it waits, while it does. */
  place: Place<J> | undefined
}

/** One that waits. */
export class Place<J extends Job<J>> extends Member {
  readonly job: J
  readonly line: Line<J>
  constructor(job: J, line: Line<J>) {
    super()
    this.job = job
    this.line = line
  }
  /** Gives the place up: nobody wants the job any more, and it is not begun. */
  leave() {
    this.line.gate.admission.leave(this)
  }
}

/** Those who wait for the same gate and have the same key, in order of arrival. */
class Line<J extends Job<J>> extends Member {
  readonly gate: Gate<J>
  readonly key: string
  readonly places = new List<Place<J>>()
  constructor(gate: Gate<J>, key: string) {
    super()
    this.gate = gate
    this.key = key
  }
}

/** What an action lets through at once: as much as its own limit says, if it has one. */
export class Gate<J extends Job<J>> extends Member {
  readonly admission: Admission<J>
  readonly limit: number
  running = 0
  /** Those of its lines that are not empty: by key, and in the order of their turns. */
  readonly lines = new Map<string, Line<J>>()
  readonly turns = new List<Line<J>>()
  constructor(admission: Admission<J>, limit: number) {
    super()
    this.admission = admission
    this.limit = limit
  }
}

/** What {@link Admission} works with. */
export interface Options<J extends Job<J>> {
  readonly limit: Concurrency.Concurrency
  readonly backlog: Required<Backlog>
  /** Begins a job; `release` is called exactly once when it has ended, possibly before this returns. */
  readonly start: (job: J) => void
  /** Is told of a job that lost its place to another. */
  readonly displaced: (job: J) => void
  /** Counts a job that was not begun, whose reason is not the admission's. */
  readonly refused: (reason: string) => void
  /** Is told of what was thrown where only others, who share the limit, would catch it. */
  readonly broke: (defect: unknown) => void
}

/** @see the file's first line */
export class Admission<J extends Job<J>> implements Concurrency.Waiting {
  waiting = 0
  running = 0
  readonly refused: (reason: string) => void
  private readonly limit: Concurrency.Concurrency
  private readonly backlog: Required<Backlog>
  private readonly begin: (job: J) => void
  private readonly displaced: (job: J) => void
  private readonly broke: (defect: unknown) => void
  /** Gates that somebody waits for, in the order of their turns. */
  private readonly turns = new List<Gate<J>>()
  /** A line with the most waiting jobs, as far as that is known. */
  private longest: Line<J> | undefined = undefined

  constructor(options: Options<J>) {
    this.limit = options.limit
    this.backlog = options.backlog
    this.begin = options.start
    this.displaced = options.displaced
    this.broke = options.broke
    this.refused = options.refused
  }

  gate(limit: number): Gate<J> {
    return new Gate(this, limit)
  }

  /** Begins a job if there is a slot for it. */
  start(job: J, gate: Gate<J>): boolean {
    if (gate.running >= gate.limit || !this.limit.takeUnsafe()) return false
    gate.running++
    this.running++
    this.begin(job)
    return true
  }

  /** Lets a job wait that could not begin; false if the backlog is full and it has to go. */
  wait(job: J, gate: Gate<J>, key: string): boolean {
    let line = gate.lines.get(key)
    if (this.waiting >= this.backlog.size) {
      const victim = this.victim(line)
      if (victim === undefined) return false
      victim.leave()
      this.displaced(victim.job)
      line = gate.lines.get(key)
    }
    if (line === undefined) {
      line = new Line(gate, key)
      gate.lines.set(key, line)
      if (gate.turns.size === 0) this.turns.push(gate)
      gate.turns.push(line)
    }
    job.place = new Place(job, line)
    line.places.push(job.place)
    this.waiting++
    if (this.longest !== undefined && line.places.size > this.longest.places.size) this.longest = line
    if (gate.running < gate.limit) this.limit.awaitUnsafe(this)
    return true
  }

  /** Gives a slot back. */
  release(gate: Gate<J>) {
    gate.running--
    this.running--
    if (this.waiting > 0) this.limit.awaitUnsafe(this)
    this.limit.releaseUnsafe()
  }

  /** @see Concurrency.Waiting */
  serveUnsafe(): boolean {
    try {
      return this.serve()
    } catch (defect) {
      this.broke(defect)
      return false
    }
  }

  private serve(): boolean {
    for (let gate = this.turns.first; gate !== undefined; gate = gate.next) {
      if (gate.running >= gate.limit) continue
      const line = gate.turns.first!
      const place = line.places.first!
      this.turns.rotate(gate)
      gate.turns.rotate(line)
      this.leave(place)
      gate.running++
      this.running++
      this.begin(place.job)
      return true
    }
    return false
  }

  leave(place: Place<J>) {
    const { job, line } = place
    const { gate } = line
    job.place = undefined
    line.places.remove(place)
    this.waiting--
    // Another may be as long now; it is looked for when somebody wants to know.
    if (this.longest === line) this.longest = undefined
    if (line.places.size > 0) return
    gate.lines.delete(line.key)
    gate.turns.remove(line)
    if (gate.turns.size === 0) this.turns.remove(gate)
  }

  /** Takes out all that wait. */
  clear(): ReadonlyArray<J> {
    const jobs: Array<J> = []
    while (this.turns.first !== undefined) {
      const place = this.turns.first.turns.first!.places.first!
      this.leave(place)
      jobs.push(place.job)
    }
    this.limit.forgetUnsafe(this)
    return jobs
  }

  /**
   * Who gives way when the backlog is full: nothing if that is the newcomer itself, whose line is given. One of the longest line,
   * unless that is about as long as the newcomer's own: so no key keeps the others out, and a key alone may use all there is.
   */
  private victim(own: Line<J> | undefined): Place<J> | undefined {
    const longest = this.findLongest()
    if (longest === undefined) return undefined
    const isGreedy = longest.places.size > (own?.places.size ?? 0) + 1
    if (this.backlog.whenFull === "dropOldest") return (isGreedy ? longest : (own ?? longest)).places.first
    return isGreedy ? longest.places.last : undefined
  }

  private findLongest(): Line<J> | undefined {
    if (this.longest !== undefined) return this.longest
    for (let gate = this.turns.first; gate !== undefined; gate = gate.next) {
      for (let line = gate.turns.first; line !== undefined; line = line.next) {
        if (this.longest === undefined || line.places.size > this.longest.places.size) this.longest = line
      }
    }
    return this.longest
  }
}
