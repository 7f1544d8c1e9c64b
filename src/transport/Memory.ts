/**
 * Carries frames within one process: no broker, no network, the same encoded text.
 *
 * At most once, in order, and bounded: a frame that finds `capacity` others waiting is refused. The embedded default,
 * and what tests run on.
 */
import { performance } from "node:perf_hooks"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Glob from "../contract/Glob.ts"
import * as Claims from "./internal/claims.ts"
import * as Thrown from "./internal/thrown.ts"
import * as LinkState from "./LinkState.ts"
import { type Receive, type Sent, type Target, Transport, TransportError } from "./Transport.ts"

/** @see {@link layer} */
export interface Options {
  /** Frames that may wait for delivery. Default 65,536; at the limit `send` fails with kind `Overloaded`. */
  readonly capacity?: number
  /** Largest frame in bytes. Default 1 MiB. */
  readonly maxFrameBytes?: number
  /** Put before every channel name. Default none. */
  readonly prefix?: string
}

/** Where the frames of one or more memory transports meet: what Redis is to `RedisPubSub`. */
export interface Broker {
  readonly deliver: (channel: string, frame: string, sent: Sent) => void
  readonly subscribe: (target: Target, receive: Receive) => () => void
  /** True for the first to claim a key, until its time is over. */
  readonly claim: (key: string, ttlMillis: number) => boolean
  /** Calls back when all that was given to `deliver` before has been delivered. */
  readonly barrier: (done: () => void) => void
}

/** Default limit of frames waiting for delivery in one broker. */
export const defaultCapacity = 65_536

/** Claims that a broker remembers at most; of more, the oldest are forgotten. */
export const maxClaims = 65_536

interface Waiting {
  readonly channel: string
  readonly frame: string
  readonly sent: Sent
}

/** Makes a broker that lives as long as it is referenced; transports made on it hear each other. */
export const makeBroker = (options?: {
  readonly capacity?: number
  /** The time that claims last by, in milliseconds. Default that of the process. */
  readonly now?: () => number
}): Broker => {
  const capacity = options?.capacity ?? defaultCapacity
  // Arrays are replaced and never changed: a receiver may subscribe or leave while a frame is given out.
  const channels = new Map<string, ReadonlyArray<Receive>>()
  const patterns = new Map<string, Pattern>()
  let waiting: Array<Waiting> = []
  let scheduled = false
  // The other frames of this turn have nothing to do with it.
  const threw = Thrown.make(Effect.runFork)

  const give = (receivers: ReadonlyArray<Receive>, frame: string, channel: string): number => {
    for (const receive of receivers) {
      try {
        receive(frame, channel)
      } catch (defect) {
        threw(channel, defect)
      }
    }
    return receivers.length
  }

  const deliver = ({ channel, frame, sent }: Waiting) => {
    const exact = channels.get(channel)
    let count = exact === undefined ? 0 : give(exact, frame, channel)
    for (const { matches, receivers } of patterns.values()) {
      if (matches(channel)) count += give(receivers, frame, channel)
    }
    try {
      sent(undefined, count)
    } catch (defect) {
      threw(channel, defect)
    }
  }

  // A turn of the event loop delivers what had been sent when it began; what that brings goes into the next turn, so
  // that services which call each other without end still leave time for timers and sockets.
  const flush = () => {
    scheduled = false
    const batch = waiting
    waiting = []
    for (const message of batch) deliver(message)
  }

  return {
    deliver: (channel, frame, sent) => {
      if (waiting.length >= capacity) {
        return sent(
          new TransportError({
            kind: "Overloaded",
            operation: `send to ${channel}`,
            detail: `${capacity} frames are waiting for delivery`,
            hint: "Send slower, or raise Memory's capacity",
            sent: "no"
          }),
          0
        )
      }
      waiting.push({ channel, frame, sent })
      if (!scheduled) {
        scheduled = true
        setImmediate(flush)
      }
    },
    claim: Claims.make(maxClaims, options?.now ?? (() => performance.now())),
    barrier: (done) => {
      // Behind the turn that delivers what waits now.
      setImmediate(done)
    },
    subscribe: (target, receive) => {
      // A function of its own, so that the same one may subscribe twice.
      const receiver: Receive = (frame, channel) => receive(frame, channel)
      const others = (receivers: ReadonlyArray<Receive>) => receivers.filter((other) => other !== receiver)
      if (target._tag === "Channel") {
        const { channel } = target
        channels.set(channel, [...(channels.get(channel) ?? []), receiver])
        return () => {
          const left = others(channels.get(channel) ?? [])
          if (left.length === 0) channels.delete(channel)
          else channels.set(channel, left)
        }
      }
      const { pattern } = target
      const { matches, receivers } = patterns.get(pattern) ?? { matches: Glob.matcher(pattern), receivers: [] }
      patterns.set(pattern, { matches, receivers: [...receivers, receiver] })
      return () => {
        const left = others(patterns.get(pattern)?.receivers ?? [])
        if (left.length === 0) patterns.delete(pattern)
        else patterns.set(pattern, { matches, receivers: left })
      }
    }
  }
}

interface Pattern {
  readonly matches: (channel: string) => boolean
  readonly receivers: ReadonlyArray<Receive>
}

/** Makes a transport on a broker, or on one of its own. It is always `Ready`. */
export const make = (options?: Options & { readonly broker?: Broker }): Transport["Service"] => open(options).transport

const open = (options?: Options & { readonly broker?: Broker }) => {
  const broker = options?.broker ?? makeBroker(options)
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const isClosed = () => link.current()._tag === "Closed"
  const transport: Transport["Service"] = {
    name: "memory",
    prefix: options?.prefix ?? "",
    capabilities: {
      delivery: "at-most-once",
      receivers: "exact",
      ordered: true,
      patterns: true,
      maxFrameBytes: options?.maxFrameBytes ?? 1_048_576,
      inProcess: true
    },
    claim: (key, ttlMillis, done) => (isClosed() ? done(closed, false) : done(undefined, broker.claim(key, ttlMillis))),
    barrier: (done) => (isClosed() ? done(false) : broker.barrier(() => done(true))),
    send: (channel, frame, sent) => (isClosed() ? sent(closed, 0) : broker.deliver(channel, frame, sent)),
    subscribe: (target, receive): Effect.Effect<void, TransportError, Scope.Scope> =>
      Effect.suspend(() => {
        if (isClosed()) return Effect.fail(closed)
        return Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => broker.subscribe(target, receive)),
            (unsubscribe) => Effect.sync(unsubscribe)
          )
        )
      }),
    get state() {
      return link.current()
    },
    watch: link.watch,
    whileDown: undefined
  }
  return { transport, close: () => link.change({ _tag: "Closed", gaps: 0, error: undefined }) }
}

const closed = new TransportError({
  kind: "Closed",
  operation: "use memory",
  detail: "the transport is closed",
  hint: "",
  sent: "no"
})

/** Gives several the same `broker` to stand for several processes. Closed with the Scope of the Layer. */
export const layerOptions = (options?: Options & { readonly broker?: Broker }): Layer.Layer<Transport> =>
  Layer.effect(
    Transport,
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
      const { transport } = yield* Effect.acquireRelease(
        Effect.sync(() => open({ ...options, broker: options?.broker ?? makeBroker({ ...options, now }) })),
        ({ close }) => Effect.sync(close)
      )
      return transport
    })
  )

/** A transport with a broker of its own: everything that is provided with this very Layer hears each other. */
export const layer: Layer.Layer<Transport> = layerOptions()
