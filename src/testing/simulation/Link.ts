/**
 * One process' link to the simulated broker, as an adapter for Redis keeps it: two connections, states with gaps, subscriptions that
 * are made again, sends that wait for a lost publisher. Everything takes its time on the way, and happens once.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as LinkState from "../../transport/LinkState.ts"
import {
  type Capabilities,
  type Claimed,
  type Receive,
  type Sent,
  type Target,
  type Transport,
  TransportError,
  type WhileDown
} from "../../transport/Transport.ts"
import { type Broker, type Subscriber, targetKey } from "./Broker.ts"
import type { Connections } from "./Fault.ts"
import type { Frame } from "./History.ts"
import type { Life } from "./Life.ts"

/** A sending that is not confirmed for so long has failed, and so has its connection. */
export const confirmMillis = 2_000

/** Silence for so long is the end of a connection. */
export const heartbeatMillis = 6_000

/** From the moment that a connection may come back until it has. */
const reconnectMillis = 20

/** What a simulated transport promises where nobody says otherwise: what Redis' pub/sub does. */
export const capabilities: Capabilities = {
  delivery: "at-most-once",
  receivers: "exact",
  ordered: true,
  patterns: true,
  maxFrameBytes: 1_048_576
}

const whileDown: WhileDown = { calls: 1_000, millis: 1_000 }

/** @see {@link make} */
export interface Link {
  readonly transport: Transport["Service"]
  /** Resets connections, which may come back after so many milliseconds. */
  readonly cut: (connections: Connections, millis: number, why: string) => void
  /** Lets nothing through for so many milliseconds. */
  readonly part: (millis: number) => void
  /** The process is dead: its connections end, and what it had sent goes on its way. */
  readonly kill: () => void
  /** The process has ended well. */
  readonly close: () => void
}

type Connection = "publisher" | "subscriber"

interface Subscription {
  readonly key: string
  readonly receive: Receive
  readonly confirmed: () => void
}

const failed = (kind: TransportError["kind"], sent: "no" | "unknown", detail: string) =>
  new TransportError({ kind, operation: "send over the simulated link", detail, hint: "", sent })

const jsonOf = (text: string): Frame["json"] => {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === "object" && json !== null ? (json as Frame["json"]) : {}
  } catch {
    return {}
  }
}

/** @see {@link make} */
export interface Options {
  readonly promised?: Partial<Capabilities> | undefined
  /** Told of callbacks that threw: a bug of those whose they are, and of no frame but that one. */
  readonly threw?: ((defect: unknown) => void) | undefined
}

/** Connects a process. */
export const make = (broker: Broker, process: string, life: Life, options: Options = {}): Link => {
  const { tell, world } = broker
  const watched = LinkState.make({ _tag: "Ready", gaps: 0 })
  const up: Record<Connection, boolean> = { publisher: true, subscriber: true }
  /** Goes up with each loss: what was on its way before is lost. */
  const era: Record<Connection, number> = { publisher: 0, subscriber: 0 }
  const downUntil: Record<Connection, number> = { publisher: 0, subscriber: 0 }
  let partedUntil = 0
  let blocked: Array<() => void> = []
  let gaps = 0
  let trouble = failed("ConnectionLost", "unknown", "the link was lost")
  /** The broker counts a subscriber that cannot hear it any more. */
  let ghost = false
  let over = false
  let lastUp = 0
  let lastDown = 0
  let subscriptions: ReadonlyArray<Subscription> = []
  const leaving = new Set<() => void>()
  const inFlight = new Set<(error: TransportError | undefined, receivers: number) => void>()
  const held = new Map<object, { readonly leave: () => void; readonly end: (error: TransportError) => void }>()

  const change = (state: LinkState.LinkState) => {
    tell({ at: world.now(), _tag: "LinkChanged", process, state })
    watched.change(state)
  }
  const settle = () => {
    if (over) return
    if (up.publisher && up.subscriber) change({ _tag: "Ready", gaps })
    else change({ _tag: "Degraded", gaps, error: trouble, down: true })
  }

  /** Lets something through now, or when the partition is over. */
  const through = (act: () => void) => {
    if (world.now() < partedUntil) blocked.push(act)
    else act()
  }

  const subscriber: Subscriber = {
    process,
    accept: (frame, target, copy, fault) => {
      const mine = era.subscriber
      const way = `to ${process} ${copy}`
      let arrival = world.now() + broker.latency(frame.process, way, frame.number) * (copy === 1 ? 1 : 10)
      if (fault?._tag !== "Overtaken" && copy === 1) arrival = lastDown = Math.max(arrival, lastDown)
      world.at(arrival, () =>
        through(() => {
          if (mine !== era.subscriber) return lost(frame, process, "the receiver's link broke")
          life.within(() => {
            tell({ at: world.now(), _tag: "FrameArrived", frame, to: process, copy })
            for (const { key, receive } of subscriptions) {
              if (key === target) guarded(() => receive(frame.text, frame.channel))
            }
          })
        })
      )
    }
  }

  const lost = (frame: Frame, to: string | undefined, why: string) =>
    tell({ at: world.now(), _tag: "FrameLost", frame, to, why })

  const guarded = (callback: () => void) => {
    try {
      callback()
    } catch (defect) {
      options.threw?.(defect)
    }
  }

  const give = (channel: string, text: string, told: Sent) => {
    const sent: Sent = (error, receivers) => guarded(() => told(error, receivers))
    const number = broker.number(process)
    const frame: Frame = { process, number, channel, text, json: jsonOf(text), sentAt: world.now() }
    tell({ at: world.now(), _tag: "FrameSent", frame })
    const fault = broker.fateOf(process, number)
    if (fault?._tag === "Refused") {
      lost(frame, undefined, "refused")
      return sent(failed("Unreachable", "no", "the broker refused it"), 0)
    }
    const end = (error: TransportError | undefined, receivers: number) => {
      if (!inFlight.delete(end)) return
      stopWaiting()
      life.within(() => sent(error, receivers))
    }
    inFlight.add(end)
    const stopWaiting = world.at(world.now() + confirmMillis, () => {
      end(failed("Timeout", "unknown", `not confirmed within ${confirmMillis} ms`), 0)
      // What confirms nothing is no connection any more.
      if (world.now() < partedUntil) cut("both", partedUntil - world.now(), "a sending was not confirmed")
    })
    const mine = era.publisher
    const mayPass = fault?._tag === "Overtaken"
    const late = fault?._tag === "Late" || mayPass ? fault.millis : 0
    let arrival = world.now() + broker.latency(process, "up", number) + late
    if (!mayPass) arrival = lastUp = Math.max(arrival, lastUp)
    world.at(arrival, () =>
      through(() => {
        if (mine !== era.publisher) return lost(frame, undefined, "the sender's link broke")
        const count = broker.publish(frame, fault)
        if (fault?._tag === "Unconfirmed") return
        world.at(world.now() + broker.latency(process, "confirmed", number), () =>
          through(() => {
            if (mine === era.publisher) end(undefined, count)
          })
        )
      })
    )
  }

  const hold = (channel: string, text: string, sent: Sent) => {
    if (held.size >= whileDown.calls) return sent(failed("ConnectionLost", "no", "the link is down"), 0)
    const place = {}
    const until = world.now() + whileDown.millis
    const late = () => failed("ConnectionLost", "no", `the link was down for ${whileDown.millis} ms`)
    const end = (error: TransportError) => {
      held.delete(place)
      cancel()
      sent(error, 0)
    }
    const cancel = world.at(until, () =>
      life.within(() => {
        if (held.has(place)) end(late())
      })
    )
    held.set(place, {
      end,
      leave: () => {
        if (world.now() >= until) return end(late())
        held.delete(place)
        cancel()
        give(channel, text, sent)
      }
    })
  }

  /** Asks the broker for a key, over the publisher: the answer may be lost on its way back, and then nobody knows. */
  const claim = (key: string, ttlMillis: number, told: Claimed) => {
    const done: Claimed = (error, won) => guarded(() => told(error, won))
    if (over || !up.publisher) return done(failed("ConnectionLost", "no", "the link is down"), false)
    const end = (error: TransportError | undefined, won: number) => {
      if (!inFlight.delete(end)) return
      stopWaiting()
      life.within(() => done(error, won === 1))
    }
    inFlight.add(end)
    const stopWaiting = world.at(world.now() + confirmMillis, () =>
      end(failed("Timeout", "unknown", `not confirmed within ${confirmMillis} ms`), 0)
    )
    const mine = era.publisher
    const number = broker.number(`${process} claims`)
    lastUp = Math.max(world.now() + broker.latency(process, "claim up", number), lastUp)
    world.at(lastUp, () =>
      through(() => {
        if (mine !== era.publisher) return
        const won = broker.claim(key, ttlMillis) ? 1 : 0
        world.at(world.now() + broker.latency(process, "claimed", number), () =>
          through(() => {
            if (mine === era.publisher) end(undefined, won)
          })
        )
      })
    )
  }

  /** Comes back behind all that the broker has sent to the subscriber. */
  const barrier = (done: (passed: boolean) => void) => {
    if (over || !up.subscriber) return done(false)
    const mine = era.subscriber
    let open = true
    const end = (passed: boolean) => {
      if (!open) return
      open = false
      stopWaiting()
      life.within(() => done(passed))
    }
    const stopWaiting = world.at(world.now() + confirmMillis, () => end(false))
    world.at(world.now() + 1, () =>
      through(() => {
        lastDown = Math.max(world.now() + 1, lastDown)
        world.at(lastDown, () => through(() => end(mine === era.subscriber)))
      })
    )
  }

  const cut = (connections: Connections, millis: number, why: string) => {
    if (over || life.isDead()) return
    const lostNow = (["publisher", "subscriber"] as const).filter(
      (one) => connections === "both" || one === connections
    )
    const newly = lostNow.filter((connection) => up[connection])
    for (const connection of lostNow) {
      up[connection] = false
      era[connection]++
      downUntil[connection] = Math.max(downUntil[connection], world.now() + millis)
      world.at(downUntil[connection] + reconnectMillis, () => life.within(() => reconnect(connection)))
    }
    if (newly.length === 0) return
    trouble = failed("ConnectionLost", "unknown", why)
    if (newly.includes("subscriber")) {
      gaps++
      // Behind a partition it learns nothing of that.
      ghost = world.now() < partedUntil
      if (!ghost) broker.drop(subscriber)
    }
    const unconfirmed = newly.includes("publisher") ? [...inFlight] : []
    // The gap first: whoever sees its sending fail finds the link as it is.
    life.within(settle)
    if (newly.includes("subscriber")) for (const left of [...leaving]) life.within(left)
    for (const end of unconfirmed) end(trouble, 0)
  }

  const reconnect = (connection: Connection) => {
    if (over || life.isDead() || up[connection]) return
    if (world.now() < downUntil[connection] || world.now() < partedUntil) return
    if (connection === "publisher") {
      up.publisher = true
      life.within(() => {
        if (up.subscriber) settle()
        for (const { leave } of [...held.values()]) leave()
      })
      return reconnect("subscriber")
    }
    // Who hears a request must be able to answer it.
    if (!up.publisher) return
    const mine = era.subscriber
    ghost = false
    broker.drop(subscriber)
    for (const { key } of subscriptions) broker.subscribe(subscriber, key)
    // The broker's word, and a probe through the subscriber itself.
    world.at(world.now() + 4, () => {
      if (over || life.isDead() || up.subscriber || mine !== era.subscriber) return
      up.subscriber = true
      life.within(() => {
        for (const { confirmed } of subscriptions) confirmed()
        settle()
      })
    })
  }

  const subscribe = (target: Target, receive: Receive): Effect.Effect<void, TransportError, Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const key = targetKey(target)
        let confirmed = () => {}
        const subscription: Subscription = { key, receive, confirmed: () => confirmed() }
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            subscriptions = [...subscriptions, subscription]
          }),
          () => leave(subscription)
        )
        if (over) return yield* Effect.fail(failed("Closed", "no", "the link is closed"))
        yield* restore(
          Effect.callback<void>((resume) => {
            confirmed = () => resume(Effect.void)
            const mine = era.subscriber
            world.at(world.now() + 1, () =>
              through(() => {
                // After a loss it is made with all the others.
                if (mine !== era.subscriber || !up.subscriber || life.isDead()) return
                if (subscriptions.includes(subscription)) broker.subscribe(subscriber, key)
                world.at(world.now() + 1, () => through(() => life.within(confirmed)))
              })
            )
          })
        )
      })
    )

  /** Hears what comes until the broker has confirmed that it sends no more, or cannot confirm it any more. */
  const leave = (subscription: Subscription): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const left = () => {
        if (!leaving.delete(left)) return
        subscriptions = subscriptions.filter((other) => other !== subscription)
        resume(Effect.void)
      }
      leaving.add(left)
      if (!up.subscriber || over) return left()
      const giveUp = world.at(world.now() + confirmMillis, () => life.within(left))
      world.at(world.now() + 1, () =>
        through(() => {
          const { key } = subscription
          const others = subscriptions.filter((other) => other !== subscription)
          if (!others.some((other) => other.key === key)) broker.unsubscribe(subscriber, key)
          lastDown = Math.max(world.now() + 1, lastDown)
          world.at(lastDown, () =>
            through(() => {
              giveUp()
              life.within(left)
            })
          )
        })
      )
    })

  return {
    cut,
    part: (millis) => {
      if (over) return
      const end = world.now() + millis
      partedUntil = Math.max(partedUntil, end)
      world.at(world.now() + heartbeatMillis, () => {
        if (world.now() < partedUntil) cut("both", partedUntil - world.now(), "no sign of life of the broker")
      })
      world.at(end, () => {
        if (world.now() < partedUntil) return
        const acts = blocked
        blocked = []
        for (const act of acts) act()
        if (ghost) broker.drop(subscriber)
        ghost = false
        for (const connection of ["publisher", "subscriber"] as const) {
          if (!up[connection]) world.at(world.now() + reconnectMillis, () => life.within(() => reconnect(connection)))
        }
      })
    },
    kill: () => {
      over = true
      era.subscriber++
      broker.drop(subscriber)
    },
    close: () => {
      if (over) return
      over = true
      era.subscriber++
      broker.drop(subscriber)
      change({ _tag: "Closed", gaps, error: undefined })
      const closed = failed("Closed", "unknown", "the link is closed")
      for (const { end } of [...held.values()]) end(failed("Closed", "no", "the link is closed"))
      for (const end of [...inFlight]) end(closed, 0)
      for (const left of [...leaving]) left()
    },
    transport: {
      name: `simulated: ${process}`,
      prefix: "",
      capabilities: { ...capabilities, ...options.promised },
      send: (channel, frame, sent) => {
        if (over) sent(failed("Closed", "no", "the link is closed"), 0)
        else if (up.publisher) give(channel, frame, sent)
        else hold(channel, frame, sent)
      },
      subscribe,
      claim,
      barrier,
      get state() {
        return watched.current()
      },
      watch: watched.watch,
      whileDown
    }
  }
}
