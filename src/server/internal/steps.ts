/**
 * The steps of one exchange on their way to a caller that counts them: numbered, packed, and no more than it has room for. Without a limit
 * of their length each leaves alone and at once, for callers that count nothing.
 */
import * as Effect from "effect/Effect"

/** Characters of steps that leave as one frame, where frames may be that large; a step that is larger leaves alone. */
export const packedLength = 16_384

/** Frames that may leave before the transport has confirmed the first of them: what a caller's word cannot raise. */
export const maxUnconfirmed = 64

/** Sends one frame around steps; `confirmed` is called once, when the transport has taken it or failed to. */
export type Send = (payload: string, packed: boolean, seq: number, confirmed: () => void) => void

interface Waiting {
  readonly texts: ReadonlyArray<string>
  /** How many of them have left. */
  from: number
  readonly resume: () => void
}

/**
 * Steps of one turn of the event loop leave together. A step for which the caller has no room waits, and with it whoever sends it.
 * Those that wait are fibers of the handler's own: it bounds them.
 */
export class Steps {
  private readonly send: Send
  private readonly limit: number
  /** Steps in frames that have left, and those in the next one. */
  private sent = 0
  private packed: Array<string> = []
  private length = 0
  private unconfirmed = 0
  private granted: number
  private waiting: Array<Waiting> = []
  private scheduled = false
  private proceeding = false
  private closed = false

  constructor(send: Send, credit: number, maxFrameBytes: number) {
    this.send = send
    this.granted = credit
    // A character has up to three bytes, and the envelope needs its part.
    this.limit = Math.min(packedLength, Math.floor(maxFrameBytes / 4))
  }

  /** Steps that have been written, the number of the next one. */
  get total() {
    return this.sent + this.packed.length
  }

  /** Succeeds when all have their place in a frame. */
  write(texts: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const job: Waiting = { texts, from: 0, resume: () => {} }
      // Those that wait go first.
      if (this.closed || (this.waiting.length === 0 && this.pack(job))) return Effect.void
      return Effect.callback<void>((resume) => {
        const waiting: Waiting = { ...job, resume: () => resume(Effect.void) }
        this.waiting.push(waiting)
        return Effect.sync(() => {
          this.waiting = this.waiting.filter((other) => other !== waiting)
        })
      })
    })
  }

  /** The caller has room for so many in all. */
  grant(until: number) {
    this.granted = Math.max(this.granted, until)
    this.proceed()
  }

  /** Lets what is packed leave now. */
  flush() {
    if (this.packed.length === 0) return
    const { packed, sent } = this
    this.sent += packed.length
    this.packed = []
    this.length = 0
    this.unconfirmed++
    const payload = packed.length === 1 ? packed[0]! : `[${packed.join(",")}]`
    this.send(payload, packed.length > 1, sent, () => {
      this.unconfirmed--
      this.proceed()
    })
  }

  /** Nothing more leaves; whoever waits goes on. */
  close() {
    this.closed = true
    this.packed = []
    const { waiting } = this
    this.waiting = []
    for (const { resume } of waiting) resume()
  }

  private proceed() {
    // A transport may confirm at once, from within.
    if (this.proceeding) return
    this.proceeding = true
    while (this.waiting.length > 0 && this.pack(this.waiting[0]!)) this.waiting.shift()!.resume()
    this.proceeding = false
  }

  /** Packs what there is room for. True when that is all. */
  private pack(job: Waiting): boolean {
    const { texts } = job
    while (job.from < texts.length) {
      if (this.total >= this.granted || this.unconfirmed >= maxUnconfirmed) return false
      const text = texts[job.from++]!
      if (this.length + text.length > this.limit) this.flush()
      this.packed.push(text)
      this.length += text.length
      this.schedule()
    }
    return true
  }

  private schedule() {
    if (this.length >= this.limit) return this.flush()
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(() => {
      this.scheduled = false
      this.flush()
    })
  }
}
