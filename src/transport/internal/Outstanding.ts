/**
 * The commands of one connection that have not ended, in the order in which they were written.
 *
 * Redis replies in this order. ioredis says later than a reply has come, and of some commands it never hears, so two places are kept:
 * up to where replies have been read, and up to where commands have been settled, which is never farther.
 */
import type { TransportError } from "../Transport.ts"

/** Called exactly once per command. */
export type Done = (error: TransportError | undefined, reply: unknown) => void

export interface Command {
  readonly name: string
  readonly subject: string
  readonly bytes: number
  /** When it was written, by `performance.now`. */
  readonly at: number
  readonly heartbeat: boolean
  /** Written past ioredis, which must not see the reply. */
  readonly direct: boolean
  /** The texts of its reply may be bytes. */
  readonly asBytes: boolean
  /** A text that its reply has to contain. */
  readonly echo: string | undefined
  /** `expired`: its owner was told that there was no reply in time; the reply may come all the same. */
  state: "waiting" | "expired" | "settled"
  /** Read, and not told yet, because a command before it has not been settled. */
  answer: { readonly error: Error | undefined; readonly reply: unknown } | undefined
  readonly done: Done
}

/** @see the file's first line */
export class Outstanding {
  /** Of all commands that are not settled. */
  bytes = 0
  private queue: Array<Command> = []
  // Places in it: the first that is not settled, the first whose reply has not been read, the first that has not been too old yet.
  private head = 0
  private unread = 0
  private young = 0
  private direct = 0

  get isEmpty(): boolean {
    return this.head === this.queue.length
  }

  /** The first that is not settled. */
  get oldest(): Command | undefined {
    return this.queue[this.head]
  }

  /** Whether a reply is to come that ioredis must not see. */
  get hasDirect(): boolean {
    return this.direct > 0
  }

  /** Adds what is written now. */
  add(command: Command): void {
    this.queue.push(command)
    this.bytes += command.bytes
    if (command.direct) this.direct++
  }

  /** Whether the next reply belongs to a command that was written past ioredis. */
  isNextDirect(): boolean {
    return this.direct > 0 && this.queue[this.unread]?.direct === true
  }

  /** Its command, if there is one. */
  get next(): Command | undefined {
    return this.queue[this.unread]
  }

  /** The same, and the next reply has been read. */
  read(): Command | undefined {
    const command = this.queue[this.unread]
    if (command === undefined) return undefined
    this.unread++
    if (command.direct) this.direct--
    return command
  }

  /** Forgets a command, whose reply has been read. Those before it may not have been settled yet. */
  settle(command: Command): void {
    command.state = "settled"
    this.bytes -= command.bytes
    const { queue } = this
    while (this.head < queue.length && queue[this.head]!.state === "settled") this.head++
    // Of a SUBSCRIBE the reply is none: RESP3 sends it as a message.
    if (this.unread < this.head) this.unread = this.head
    if (this.head === queue.length) {
      this.queue = []
      this.head = 0
      this.unread = 0
      this.young = 0
    } else if (this.head >= 4096 && this.head * 2 >= queue.length) {
      queue.splice(0, this.head)
      this.unread -= this.head
      this.young = Math.max(0, this.young - this.head)
      this.head = 0
    }
  }

  /** Those that wait for a reply since before a time, once each. The heartbeat has a limit of its own. */
  expire(before: number): ReadonlyArray<Command> {
    const late: Array<Command> = []
    this.young = Math.max(this.young, this.head)
    for (; this.young < this.queue.length; this.young++) {
      const command = this.queue[this.young]!
      if (command.at > before) break
      if (command.heartbeat || command.state !== "waiting") continue
      command.state = "expired"
      late.push(command)
    }
    return late
  }

  /** Forgets all. Those whose owners have not been told anything yet. */
  abandon(): ReadonlyArray<Command> {
    const waiting: Array<Command> = []
    for (let i = this.head; i < this.queue.length; i++) {
      const command = this.queue[i]!
      if (command.state === "waiting") waiting.push(command)
      command.state = "settled"
    }
    this.queue = []
    this.head = 0
    this.unread = 0
    this.young = 0
    this.direct = 0
    this.bytes = 0
    return waiting
  }
}
