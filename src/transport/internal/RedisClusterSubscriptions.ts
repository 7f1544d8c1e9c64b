/**
 * The subscriptions of a Redis Cluster: each at the master that has its slot, wherever that is at the moment.
 *
 * There is a connection for subscriptions to each master. A subscription is asked for anew when its connection is, when the slot has
 * another master, and when the old one says that it serves it no more (a `sunsubscribe` that nobody asked for). It is confirmed when the
 * node has proved to be a master afterwards: a replica confirms too, and hears nothing. Whenever a confirmed one stops being so,
 * frames may be lost: that is a gap.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import * as LinkState from "../LinkState.ts"
import { type Frame, type Receive, type Target, TransportError } from "../Transport.ts"
import * as RedisLink from "./RedisLink.ts"
import type { Node, RedisNodes } from "./RedisNodes.ts"
import type { Settings } from "./redisOptions.ts"
import * as Subscribed from "./Subscribed.ts"

/** The commands, and where they are for. */
export interface Mode {
  readonly sharded: boolean
  /** The slot whose master serves a channel or pattern. */
  readonly slotOf: (name: string) => number
}

/** What happens where no caller is left to hear of it. */
export interface Report {
  /** A frame came, of so many bytes. */
  readonly received: (bytes: number) => void
  /** A target that had been subscribed before is refused now. */
  readonly refused: (error: TransportError) => void
  /** `trouble` may have changed; `gap` when frames may be lost from now on. */
  readonly changed: (gap: boolean) => void
  /** A receiver threw, which it must not. */
  readonly threw: (channel: string, defect: unknown) => void
  readonly up: (node: Node) => void
  readonly down: (node: Node, error: TransportError, wasUp: boolean) => void
  readonly gaveUp: (error: TransportError) => void
}

/** @see {@link make} */
export interface ClusterSubscriptions {
  readonly subscribe: (target: Target, receive: Receive) => Effect.Effect<void, TransportError, Scope.Scope>
  /** Connects to a master. */
  readonly added: (node: Node) => void
  /** It is no master any more. */
  readonly removed: (node: Node) => void
  /** The connection for commands to it is there. */
  readonly proceed: (node: Node) => void
  /** Slots have other masters now. */
  readonly changed: () => void
  /** Why a target that has receivers is not subscribed. `lost`: it was, and will be again by itself. */
  readonly trouble: () => { readonly error: TransportError; readonly lost: boolean } | undefined
  /** How the way to one channel is that is subscribed here; none if it is not. */
  readonly linkOf: (channel: string) => Pick<LinkState.Watched, "current" | "watch"> | undefined
  /**
   * Calls back when all has come to its receivers that the masters had given out by then: each is asked behind that, over the connection
   * its frames come by. `false` while a channel that was subscribed is not, or where one ceases to be meanwhile.
   */
  readonly barrier: (done: (passed: boolean) => void) => void
  /** Ends what still waits, and the connections. */
  readonly close: (error: TransportError | undefined) => Effect.Effect<void>
}

/** The connection for subscriptions to one master. */
interface Subscriber {
  readonly node: Node
  readonly link: RedisLink.RedisLink
  opened: boolean
  client: Redis | undefined
}

/** Receivers that have left, until Redis has confirmed it. */
interface Leaving {
  readonly receivers: ReadonlyArray<Receive>
  readonly home: Subscriber
}

interface Subscription extends Subscribed.Subscribed {
  readonly target: Target
  readonly name: string
  /** Where it was asked for. */
  home: Subscriber | undefined
  /** Answers to earlier questions count no more. */
  question: number
  redirects: number
  /** Why it is not confirmed any more, since when it was. */
  lost: TransportError | undefined
  gaps: number
  readonly link: LinkState.Watched
  /** It will be asked for later, and a new map is no reason to do it now. */
  paused: boolean
  retry: NodeJS.Timeout | undefined
}

/** How often a subscription is sent on at once; then after a wait. */
const maxRedirects = 4

/** Makes an empty set. */
export const make = (
  settings: Settings,
  nodes: RedisNodes,
  { sharded, slotOf }: Mode,
  report: Report
): ClusterSubscriptions => {
  const channels = new Map<string, Subscription>()
  const patterns = new Map<string, Subscription>()
  const leavingChannels = new Map<string, Leaving>()
  const leavingPatterns = new Map<string, Leaving>()
  const subscribers = new Map<Node, Subscriber>()
  let ended: TransportError | undefined
  let losses = 0

  const mapOf = (target: Target) => (target._tag === "Channel" ? channels : patterns)
  const leavingOf = (target: Target) => (target._tag === "Channel" ? leavingChannels : leavingPatterns)
  const verb = (target: Target) => (target._tag === "Pattern" ? "psubscribe" : sharded ? "ssubscribe" : "subscribe")
  const unverb = (target: Target) => verb(target).replace("subscribe", "unsubscribe")
  const operationOf = ({ name, target }: Subscription) => `${verb(target).toUpperCase()} ${name}`
  const isCurrent = (subscription: Subscription) => mapOf(subscription.target).get(subscription.name) === subscription
  const each = (act: (subscription: Subscription) => void) => {
    for (const subscription of [...channels.values(), ...patterns.values()]) act(subscription)
  }

  // Connections

  const added = (node: Node) => {
    const link = RedisLink.make(node.settings, "subscriber", {
      prepare: (client) => {
        subscriber.client = client
        listen(subscriber, client)
        if (settings.defences.resubscribe) {
          each((subscription) => {
            if (subscriberOf(subscription) === subscriber) ask(subscription)
          })
        }
      },
      up: () => report.up(node),
      message: (channel, frame, bytes) => message(subscriber, channel, frame, bytes),
      // A service that hears a request and cannot answer yet would leave its caller waiting.
      mayReconnect: () => node.link.isUp(),
      down: (error, wasUp) => {
        subscriber.client = undefined
        const gap = loseAll((subscription) => subscription.home === subscriber, error)
        report.down(node, error, wasUp)
        if (gap || (wasUp && sharded)) report.changed(true)
      },
      gaveUp: report.gaveUp
    })
    const subscriber: Subscriber = { node, link, opened: false, client: undefined }
    subscribers.set(node, subscriber)
  }

  const listen = (subscriber: Subscriber, client: Redis) => {
    const { link } = subscriber
    // Only where the link does not read them itself.
    client.on(sharded ? "smessageBuffer" : "messageBuffer", (name: Uint8Array, frame: Uint8Array) =>
      message(subscriber, name.toString(), frame, frame.byteLength)
    )
    client.on("pmessageBuffer", (pattern: string, name: Uint8Array, frame: Uint8Array) => {
      link.alive()
      const leaving = leavingPatterns.get(pattern)
      deliver(subscriber, leaving, patterns.get(pattern), frame, frame.byteLength, name.toString())
    })
    // The word for a slot that has left, and, without harm, for a SSUBSCRIBE that was sent elsewhere.
    client.on("moved", () => {
      if (subscriber.client === client) evicted(subscriber, client)
    })
  }

  const message = (from: Subscriber, channel: string, frame: Frame, bytes: number) => {
    from.link.alive()
    deliver(from, leavingChannels.get(channel), channels.get(channel), frame, bytes, channel)
  }

  const deliver = (
    from: Subscriber,
    leaving: Leaving | undefined,
    subscription: Subscription | undefined,
    frame: Frame,
    bytes: number,
    channel: string
  ) => {
    report.received(bytes)
    // One that has moved may be heard at the old place too for a moment, or at a replica: there it would come twice.
    const present = subscription?.home === from && subscription.state === "confirmed" ? subscription.receivers : []
    const receivers = leaving?.home === from ? leaving.receivers : present
    Subscribed.giveOut(receivers, frame, channel, report.threw)
  }

  // The event does not say which; the client's own set does.
  const evicted = (subscriber: Subscriber, client: Redis) => {
    const names = heardBy(client)
    const gone: Array<Subscription> = []
    each((subscription) => {
      const { home, name, state } = subscription
      if (home === subscriber && state === "confirmed" && !names.has(name)) gone.push(subscription)
    })
    if (gone.length === 0) return
    const moved = lostOf(`${subscriber.node.address} does not serve the slot any more`)
    loseAll((subscription) => gone.includes(subscription), moved)
    report.changed(true)
    nodes.refresh(subscriber.node)
    for (const subscription of gone) if (subscription.state === "absent") ask(subscription)
  }

  const gone = new TransportError({
    kind: "ConnectionLost",
    operation: `listen to ${settings.name}`,
    detail: "the slot left as soon as it was subscribed",
    hint: "",
    sent: "unknown"
  })

  const lostOf = (detail: string) =>
    new TransportError({
      kind: "ConnectionLost",
      operation: `listen to ${settings.name}`,
      detail,
      hint: "It subscribes again by itself",
      sent: "unknown"
    })

  // True if frames may be lost from now on.
  const loseAll = (which: (subscription: Subscription) => boolean, error: TransportError): boolean => {
    let gap = false
    each((subscription) => {
      if (!which(subscription) || subscription.state === "absent") return
      const wasConfirmed = subscription.state === "confirmed"
      subscription.state = "absent"
      subscription.question++
      if (!wasConfirmed) return
      gap = true
      losses++
      subscription.lost = error
      subscription.gaps++
      tell(subscription)
    })
    return gap
  }

  const tell = ({ gaps, link, lost }: Subscription) =>
    link.change(lost === undefined ? { _tag: "Ready", gaps } : { _tag: "Degraded", gaps, error: lost, down: true })

  // Subscribing

  const subscriberOf = ({ name }: Subscription) => {
    const node = nodes.ownerOf(slotOf(name))
    return node === undefined ? undefined : subscribers.get(node)
  }

  const ask = (subscription: Subscription) => {
    const subscriber = subscriberOf(subscription)
    if (subscriber === undefined) return nodes.refresh()
    // Not connected: the next connection asks.
    if (subscriber.client === undefined) return
    const question = ++subscription.question
    const before = subscription.home
    subscription.state = "asked"
    subscription.home = subscriber
    subscriber.link.command(verb(subscription.target), [subscription.name], 0, (error) => {
      if (!isCurrent(subscription) || subscription.question !== question) return
      if (error !== undefined) return refusedBy(subscriber, subscription, error)
      const confirmed = (error: TransportError | undefined) => {
        if (!isCurrent(subscription) || subscription.question !== question) return
        if (error !== undefined) {
          // No master, or nobody knows: the map will tell, or another question.
          subscription.state = "absent"
          subscriber.link.command(unverb(subscription.target), [subscription.name], 0, () => {})
          return askLater(subscription, error, false)
        }
        // The slot may have left since.
        const { client } = subscriber
        if (sharded && client !== undefined && !heardBy(client).has(subscription.name)) {
          subscription.state = "absent"
          return ++subscription.redirects <= maxRedirects ? ask(subscription) : askLater(subscription, gone, false)
        }
        subscription.state = "confirmed"
        subscription.redirects = 0
        if (before !== undefined && before !== subscriber) {
          before.link.command(unverb(subscription.target), [subscription.name], 0, () => {})
        }
        pardon(subscription)
        Subscribed.confirm(subscription, undefined)
      }
      if (sharded) nodes.prove(subscriber.node, confirmed)
      else confirmed(undefined)
    })
  }

  const refusedBy = (subscriber: Subscriber, subscription: Subscription, error: TransportError) => {
    // Lost with the connection, or never sent: the next connection asks again.
    if (error.kind === "ConnectionLost") {
      subscription.state = "absent"
      return
    }
    if (error.detail.startsWith("MOVED ")) {
      subscription.state = "absent"
      // Nodes may send to each other for as long as they disagree.
      const tired = ++subscription.redirects > maxRedirects
      if (tired) askLater(subscription, error, false)
      nodes.learn(error.detail, subscriber.node)
      // A changed map has asked already.
      if (!tired && Subscribed.isMissing(subscription)) ask(subscription)
      return
    }
    const named = new TransportError({
      kind: error.kind,
      detail: error.detail,
      hint: error.hint,
      sent: error.sent,
      operation: operationOf(subscription)
    })
    if (error.kind === "Closed") return Subscribed.confirm(subscription, named)
    // The link judges whether it is dead. If it lives, asking twice does no harm.
    subscription.state = error.kind === "Timeout" ? "unsure" : "absent"
    if (error.detail.startsWith("CLUSTERDOWN")) nodes.refresh()
    // Those that wait hear it themselves; the others once, by the log.
    const others = subscription.receivers.length - subscription.waiting.size
    Subscribed.confirm(subscription, named)
    if (others > 0) askLater(subscription, named, true)
  }

  // One refused target must not cost the others their connection.
  const askLater = (subscription: Subscription, error: TransportError, refused: boolean) => {
    if (refused) {
      const isFirst = subscription.refusal === undefined
      subscription.refusal = error
      if (isFirst) {
        report.refused(error)
        report.changed(false)
      }
    }
    if (subscription.paused) return
    subscription.paused = true
    subscription.waits.next(error, (millis = 0) => {
      if (ended !== undefined || !isCurrent(subscription)) return
      subscription.retry = setTimeout(() => {
        subscription.paused = false
        subscription.redirects = 0
        if (isCurrent(subscription) && Subscribed.isMissing(subscription)) ask(subscription)
      }, millis)
    })
  }

  const pardon = (subscription: Subscription) => {
    subscription.waits.reset()
    if (subscription.refusal === undefined && subscription.lost === undefined) return
    subscription.refusal = undefined
    subscription.lost = undefined
    tell(subscription)
    report.changed(false)
  }

  const add = (target: Target, receive: Receive): Subscription => {
    const name = Subscribed.nameOf(target)
    const make = (fresh: Subscribed.Subscribed): Subscription => ({
      ...fresh,
      target,
      name,
      home: undefined,
      question: 0,
      redirects: 0,
      lost: undefined,
      gaps: 0,
      link: LinkState.make({ _tag: "Ready", gaps: 0 }),
      paused: false,
      retry: undefined
    })
    return Subscribed.join(mapOf(target), name, receive, make, ask)
  }

  const remove = (subscription: Subscription, receive: Receive): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { home, name, receivers, state, target } = subscription
      if (!Subscribed.leave(mapOf(target), name, subscription, receive)) return Effect.void
      clearTimeout(subscription.retry)
      pardon(subscription)
      if (state === "absent" || home === undefined) return Effect.void
      return Subscribed.leaving(leavingOf(target), name, { receivers, home }, (done) =>
        home.link.command(unverb(target), [name], 0, done)
      )
    })

  const confirmed = (subscription: Subscription) =>
    Subscribed.confirmed(subscription, {
      operation: operationOf(subscription),
      millis: settings.commandTimeoutMillis,
      isUp: () => subscriberOf(subscription)?.link.isUp() === true,
      connection: "the connection to its master"
    })

  const barrier: ClusterSubscriptions["barrier"] = (done) => {
    const homes = new Set<Subscriber>()
    let passed = ended === undefined
    each(({ home, lost, state }) => {
      if (lost !== undefined) passed = false
      if (state === "confirmed" && home !== undefined) homes.add(home)
    })
    let left = homes.size
    if (!passed || left === 0) return done(passed)
    const before = losses
    for (const { link } of homes) {
      link.commandWhenUp("ping", ["fiberbus"], 0, (error) => {
        if (error !== undefined) passed = false
        if (--left === 0) done(passed && losses === before)
      })
    }
  }

  return {
    barrier,
    subscribe: (target, receive) =>
      Effect.suspend(() => {
        if (ended !== undefined) return Effect.fail(ended)
        return Subscribed.hold(receive, (receiver) => add(target, receiver), confirmed, remove)
      }),
    added,
    removed: (node) => {
      const subscriber = subscribers.get(node)
      if (subscriber === undefined) return
      subscribers.delete(node)
      const gap = loseAll(
        (subscription) => subscription.home === subscriber,
        lostOf(`${node.address} has no slots any more`)
      )
      Effect.runFork(subscriber.link.close)
      if (gap) report.changed(true)
    },
    proceed: (node) => {
      const subscriber = subscribers.get(node)
      if (subscriber === undefined) return
      if (subscriber.opened) return subscriber.link.proceed()
      subscriber.opened = true
      subscriber.link.open()
    },
    changed: () => {
      const strayed = (subscription: Subscription) => subscription.home !== subscriberOf(subscription)
      if (loseAll(strayed, lostOf("its slot has another master"))) report.changed(true)
      each((subscription) => {
        if (!subscription.paused && (strayed(subscription) || Subscribed.isMissing(subscription))) ask(subscription)
      })
    },
    trouble: () => {
      let refusal: TransportError | undefined
      for (const map of [channels, patterns]) {
        for (const subscription of map.values()) {
          if (subscription.lost !== undefined) return { error: subscription.lost, lost: true }
          refusal ??= subscription.refusal
        }
      }
      return refusal === undefined ? undefined : { error: refusal, lost: false }
    },
    linkOf: (channel) => channels.get(channel.toWellFormed())?.link,
    close: (error) =>
      Effect.suspend(() => {
        ended = RedisLink.closed(settings.name, "no")
        each((subscription) => {
          clearTimeout(subscription.retry)
          Subscribed.confirm(subscription, ended)
          subscription.link.change({ _tag: "Closed", gaps: subscription.gaps, error })
        })
        return Effect.forEach([...subscribers.values()], ({ link }) => link.close, {
          concurrency: "unbounded",
          discard: true
        })
      })
  }
}

const heardBy = (client: Redis): ReadonlySet<string> => {
  const kept = client.condition?.subscriber
  // A plain object keeps them, which cannot have this one.
  return new Set(kept ? [...kept.channels("ssubscribe"), "__proto__"] : [])
}
