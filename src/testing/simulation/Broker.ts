/** The simulated broker: where the links of all processes meet, as at one Redis. */
import * as Glob from "../../contract/Glob.ts"
import type { Target } from "../../transport/Transport.ts"
import * as Dice from "./Dice.ts"
import type { FrameFault } from "./Fault.ts"
import type { Event, Frame } from "./History.ts"
import type { World } from "./World.ts"

/** A link as the broker sees it. */
export interface Subscriber {
  readonly process: string
  /** Takes a frame for one of its targets; it travels to the process from now on. */
  readonly accept: (frame: Frame, target: string, copy: number, fault: FrameFault | undefined) => void
}

/** @see {@link make} */
export interface Broker {
  readonly world: World
  readonly tell: (event: Event) => void
  /** The fault that befalls a frame, if any does. */
  readonly fateOf: (process: string, frame: number) => FrameFault | undefined
  /** Milliseconds that a frame, or what confirms it, needs for one way. */
  readonly latency: (process: string, way: string, frame: number) => number
  /** The number of a process' next frame, from 1 on, over all its lives. */
  readonly number: (process: string) => number
  readonly subscribe: (subscriber: Subscriber, target: string) => void
  readonly unsubscribe: (subscriber: Subscriber, target: string) => void
  /** Forgets all that a link is subscribed to. */
  readonly drop: (subscriber: Subscriber) => void
  /** True for the first to claim a key, until its time is over. */
  readonly claim: (key: string, ttlMillis: number) => boolean
  /** Hands a frame to whoever is subscribed: how many. */
  readonly publish: (frame: Frame, fault: FrameFault | undefined) => number
}

/** By what the broker knows a target. */
export const targetKey = (target: Target) => (target._tag === "Channel" ? `c:${target.channel}` : `p:${target.pattern}`)

/** Makes a broker that nobody is connected to. */
export const make = (options: {
  readonly world: World
  readonly seed: number
  readonly tell: (event: Event) => void
  readonly fateOf: Broker["fateOf"]
}): Broker => {
  const { seed, world } = options
  const subscribed = new Map<Subscriber, Map<string, (channel: string) => boolean>>()
  const numbers = new Map<string, number>()
  const claims = new Map<string, number>()

  const matcher = (key: string) => {
    const name = key.slice(2)
    return key.startsWith("c:") ? (channel: string) => channel === name : Glob.matcher(name)
  }

  return {
    ...options,
    latency: (process, way, frame) => Dice.between(1, 4, Dice.roll(seed, "latency", process, way, frame)),
    number: (process) => {
      const number = (numbers.get(process) ?? 0) + 1
      numbers.set(process, number)
      return number
    },
    subscribe: (subscriber, target) => {
      const targets = subscribed.get(subscriber) ?? new Map()
      subscribed.set(subscriber, targets.set(target, matcher(target)))
    },
    unsubscribe: (subscriber, target) => {
      subscribed.get(subscriber)?.delete(target)
    },
    drop: (subscriber) => {
      subscribed.delete(subscriber)
    },
    claim: (key, ttlMillis) => {
      if ((claims.get(key) ?? Number.NEGATIVE_INFINITY) > world.now()) return false
      claims.set(key, world.now() + ttlMillis)
      return true
    },
    publish: (frame, fault) => {
      let count = 0
      for (const [subscriber, targets] of subscribed) {
        for (const [target, matches] of targets) {
          if (!matches(frame.channel)) continue
          count++
          if (fault?._tag === "Lost") {
            options.tell({ at: world.now(), _tag: "FrameLost", frame, to: subscriber.process, why: "lost" })
            continue
          }
          subscriber.accept(frame, target, 1, fault)
          if (fault?._tag === "Twice") subscriber.accept(frame, target, 2, fault)
        }
      }
      return count
    }
  }
}
