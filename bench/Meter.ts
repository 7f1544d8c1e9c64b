/** Measures one run of calls in the client's process: the same for every subject. */
import { performance } from "node:perf_hooks"
import * as Payload from "./Payload.ts"

/** What one run brought. Times are in milliseconds, latencies in microseconds. */
export interface Run {
  readonly calls: number
  readonly millis: number
  readonly p50: number
  readonly p99: number
}

/** Gives out payloads until the time is over, and takes the answers. */
export class Meter {
  readonly begun = performance.now()
  readonly until: number
  private readonly latencies: Array<number> = []

  constructor(millis: number) {
    this.until = this.begun + millis
  }

  /** False when no more calls are to be begun. */
  get goesOn(): boolean {
    return performance.now() < this.until
  }

  /** Notes an answer. Throws when it is not what was sent. */
  take(sent: Payload.Payload, answer: Payload.Payload, sentAt: number) {
    this.latencies.push(performance.now() - sentAt)
    if (!Payload.same(sent, answer)) {
      throw new Error(`sent ${JSON.stringify(sent)}, but the answer is ${JSON.stringify(answer)}`)
    }
  }

  /** To be asked for when the last answer has come. */
  end(): Run {
    const millis = performance.now() - this.begun
    const sorted = Float64Array.from(this.latencies).sort()
    const at = (share: number) => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0) * 1000
    return { calls: sorted.length, millis, p50: at(0.5), p99: at(0.99) }
  }
}

/** Ids of payloads, one after the other as long as the process lives. */
let id = 0
export const nextPayload = (): Payload.Payload => Payload.make(id++)

/** Runs so many calls at once, each followed by the next, for a subject whose calls are promises. */
export const drive =
  (call: (payload: Payload.Payload) => Promise<Payload.Payload>) =>
  async (inFlight: number, millis: number): Promise<Run> => {
    const meter = new Meter(millis)
    const lane = async () => {
      while (meter.goesOn) {
        const payload = nextPayload()
        const sentAt = performance.now()
        meter.take(payload, await call(payload), sentAt)
      }
    }
    await Promise.all(Array.from({ length: inFlight }, lane))
    return meter.end()
  }
