/** Counts answers on their way, so that a shutdown can wait until the transport has them. */
import * as Effect from "effect/Effect"
import type { Capabilities, Sent, TransportError } from "../../transport/Transport.ts"
import type * as Discards from "../../wire/Discards.ts"

/** @see the file's first line */
export class Outbox {
  private begun = 0
  private confirmed = 0
  private waiting: Array<{ readonly until: number; readonly resume: () => void }> = []

  private readonly isExact: boolean
  private readonly discards: Discards.Discards

  constructor({ receivers }: Capabilities, discards: Discards.Discards) {
    this.isExact = receivers === "exact"
    this.discards = discards
  }

  /** One was handed to the transport. */
  send() {
    this.begun++
  }

  /** For an answer that nothing follows. */
  readonly sent: Sent = (error, receivers) => void this.left(error, receivers)

  /** An answer has left, or could not. True where nobody got it. */
  left(error: TransportError | undefined, receivers: number): boolean {
    this.confirm()
    if (error !== undefined) this.discards.note(`ReplyNotSent:${error.kind}`)
    else if (receivers === 0 && this.isExact) {
      this.discards.count("NobodyWaits")
      return true
    }
    return false
  }

  /** The transport says that one has ended. */
  confirm() {
    this.confirmed++
    if (this.waiting.length === 0) return
    const { confirmed } = this
    const done = this.waiting.filter(({ until }) => until <= confirmed)
    this.waiting = this.waiting.filter(({ until }) => until > confirmed)
    for (const { resume } of done) resume()
  }

  /** Waits until as many are confirmed as have been sent by now: others of the process may go on sending. */
  readonly flushed: Effect.Effect<void> = Effect.callback((resume) => {
    const until = this.begun
    if (this.confirmed >= until) return resume(Effect.void)
    const waiting = { until, resume: () => resume(Effect.void) }
    this.waiting.push(waiting)
    return Effect.sync(() => {
      this.waiting = this.waiting.filter((other) => other !== waiting)
    })
  })
}
