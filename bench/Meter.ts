/** Makes calls in the client's process and measures them: the same for every peer. */
import { performance } from "node:perf_hooks"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Payload from "./Payload.ts"
import type { Op } from "./Peer.ts"

/** What is to be run: so many calls at once, each followed by the next, until the time is over. */
export interface Plan {
  readonly op: "echo" | "wait" | "blob"
  readonly inFlight: number
  readonly millis: number
  /** Length of a blob's text. */
  readonly bytes?: number
  /** Ends after so many calls instead. */
  readonly calls?: number
  /** Goes on until so many calls were made, for up to five times as long. */
  readonly atLeast?: number
}

/** What one run brought. Times are in milliseconds, latencies in microseconds. */
export interface Run {
  readonly calls: number
  readonly millis: number
  readonly p50: number
  readonly p99: number
}

/** What became of calls that were all begun at once: from the first one's beginning to the last one's outcome. */
export interface Burst {
  readonly millis: number
  /** How many ended how: `answered`, or the name of an error; `none` had no outcome within the limit. */
  readonly outcomes: Readonly<Record<string, number>>
}

/** How a client's process calls its service. */
export interface Calls {
  readonly run: (plan: Plan) => Promise<Run>
  readonly burst: (count: number, limitMillis: number) => Promise<Burst>
  /** Begins so many calls that are never answered. */
  readonly hold: (count: number) => void
}

/** Gives out payloads until the time is over, and takes the answers. */
class Meter {
  readonly begun = performance.now()
  private readonly until: number
  private readonly most: number
  private begins = 0
  private readonly latencies: Array<number> = []
  private readonly plan: Plan
  private readonly text: string

  constructor(plan: Plan) {
    this.plan = plan
    this.until = this.begun + plan.millis
    this.most = plan.calls ?? Number.POSITIVE_INFINITY
    this.text = plan.op === "blob" ? texts(plan.bytes ?? 0) : ""
  }

  /** The next payload; undefined when no more calls are to be begun. */
  next(): Payload.Payload | Payload.Blob | undefined {
    if (this.begins >= this.most || (this.plan.calls === undefined && this.isOver())) return
    this.begins++
    return this.plan.op === "blob" ? { id: id++, text: this.text } : Payload.make(id++)
  }

  private isOver(): boolean {
    const now = performance.now()
    if (now < this.until) return false
    return this.begins >= (this.plan.atLeast ?? 0) || now >= this.until + 4 * this.plan.millis
  }

  /** Notes an answer. Throws when it is not what was sent. */
  take(sent: Payload.Payload | Payload.Blob, answer: unknown, sentAt: number) {
    // A run by number of calls is long: its latencies would be the memory that is measured.
    const latency = performance.now() - sentAt
    if (this.plan.calls === undefined || this.latencies.length < 100_000) this.latencies.push(latency)
    if (!isSame(this.plan.op, sent, answer)) {
      const shown = (value: unknown) => JSON.stringify(value)?.slice(0, 300)
      throw new Error(`sent ${shown(sent)}, but the answer is ${shown(answer)}`)
    }
  }

  /** To be asked for when the last answer has come. */
  end(): Run {
    const millis = performance.now() - this.begun
    const sorted = Float64Array.from(this.latencies).sort()
    const at = (share: number) => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0) * 1000
    return { calls: this.begins, millis, p50: at(0.5), p99: at(0.99) }
  }
}

const isSame = (op: Op, sent: Payload.Payload | Payload.Blob, answer: unknown): boolean =>
  op === "blob"
    ? Payload.sameBlob(sent as Payload.Blob, answer as Payload.Blob)
    : Payload.same(sent as Payload.Payload, answer as Payload.Payload)

let text = ""
const texts = (bytes: number): string => {
  if (text.length !== bytes) text = Payload.text(bytes)
  return text
}

/** Ids of payloads, one after the other as long as the process lives. */
let id = 0

/** E.g. `TransportError (Overloaded)`, `QueueIsFullError`. */
const nameOf = (error: unknown): string => {
  const { _tag, code, message, name, reason } = (error ?? {}) as Record<string, any>
  const own = reason?._tag ?? _tag ?? (name !== "Error" ? name : undefined) ?? code ?? message ?? error
  return String(reason?.kind === undefined ? own : `${own} (${reason.kind})`).slice(0, 60)
}

/** Counts outcomes until all are there or the limit is over. */
const bursting = (
  count: number,
  limitMillis: number,
  begin: (payload: Payload.Payload, settled: (outcome: unknown, answer?: unknown) => void) => void
): Promise<Burst> =>
  new Promise((resolve, reject) => {
    const payloads = Array.from({ length: count }, () => Payload.make(id++))
    const outcomes: Record<string, number> = {}
    let left = count
    let lastAt = 0
    const begun = performance.now()
    const finish = () => {
      clearTimeout(timer)
      if (left > 0) outcomes["none"] = left
      resolve({ millis: (left > 0 ? performance.now() : lastAt) - begun, outcomes })
    }
    const timer = setTimeout(finish, limitMillis)
    for (const payload of payloads) {
      begin(payload, (error, answer) => {
        if (error === undefined && !Payload.same(payload, answer as Payload.Payload)) {
          reject(new Error(`sent ${JSON.stringify(payload)}, but the answer is ${JSON.stringify(answer)}`))
        }
        const name = error === undefined ? "answered" : nameOf(error)
        outcomes[name] = (outcomes[name] ?? 0) + 1
        lastAt = performance.now()
        if (--left === 0) finish()
      })
    }
  })

/** For a peer whose calls are promises. */
export const promises = (calls: { readonly [O in Op]?: (payload: any) => Promise<any> }): Calls => {
  const of = (op: Op) => {
    const call = calls[op]
    if (call === undefined) throw new Error(`this peer has no ${op}`)
    return call
  }
  return {
    run: async (plan) => {
      const call = of(plan.op)
      const meter = new Meter(plan)
      const lane = async () => {
        for (let payload = meter.next(); payload !== undefined; payload = meter.next()) {
          const sentAt = performance.now()
          meter.take(payload, await call(payload), sentAt)
        }
      }
      await Promise.all(Array.from({ length: plan.inFlight }, lane))
      return meter.end()
    },
    burst: (count, limitMillis) => {
      const call = of("echo")
      return bursting(count, limitMillis, (payload, settled) => {
        call(payload).then(
          (answer) => settled(undefined, answer),
          (error) => settled(error ?? "rejected")
        )
      })
    },
    hold: (count) => {
      const call = of("hold")
      for (let i = 0; i < count; i++) call(Payload.make(id++)).catch(() => {})
    }
  }
}

/** For a peer whose calls are Effects: a fiber per call in flight, as its users' programs have. */
export const effects = <R>(
  calls: { readonly [O in Op]?: (payload: any) => Effect.Effect<any, unknown, R> },
  context: Context.Context<R>
): Calls => {
  const of = (op: Op) => {
    const call = calls[op]
    if (call === undefined) throw new Error(`this peer has no ${op}`)
    return call
  }
  const fork = Effect.runForkWith(context)
  return {
    run: (plan) => {
      const call = of(plan.op)
      const meter = new Meter(plan)
      const lane = Effect.fnUntraced(function* () {
        for (let payload = meter.next(); payload !== undefined; payload = meter.next()) {
          const sentAt = performance.now()
          meter.take(payload, yield* call(payload), sentAt)
        }
      })
      const lanes = Effect.all(
        Array.from({ length: plan.inFlight }, () => lane()),
        { concurrency: "unbounded", discard: true }
      )
      return Effect.runPromiseWith(context)(Effect.map(lanes, () => meter.end()))
    },
    burst: (count, limitMillis) => {
      const call = of("echo")
      return bursting(count, limitMillis, (payload, settled) => {
        fork(
          Effect.match(call(payload), {
            onSuccess: (answer) => settled(undefined, answer),
            onFailure: (error) => settled(error ?? "failed")
          })
        )
      })
    },
    hold: (count) => {
      const call = of("hold")
      for (let i = 0; i < count; i++) fork(call(Payload.make(id++)))
    }
  }
}
