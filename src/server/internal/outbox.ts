/** Counts answers on their way, so that a shutdown can wait until the transport has them. */
import * as Effect from "effect/Effect"

/** @see the file's first line */
export class Outbox {
  private sent = 0
  private confirmed = 0
  private waiting: Array<{ readonly until: number; readonly resume: () => void }> = []

  /** One was handed to the transport. */
  send() {
    this.sent++
  }

  /** The transport says how that ended. */
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
    const until = this.sent
    if (this.confirmed >= until) return resume(Effect.void)
    const waiting = { until, resume: () => resume(Effect.void) }
    this.waiting.push(waiting)
    return Effect.sync(() => {
      this.waiting = this.waiting.filter((other) => other !== waiting)
    })
  })
}
