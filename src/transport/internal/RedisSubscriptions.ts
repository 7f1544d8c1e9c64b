/**
 * The subscriptions of one connection: ours and not ioredis', so that they outlive it.
 *
 * Each target is subscribed at Redis while it has a receiver. One SUBSCRIBE names one target, and every new connection
 * is given all of them again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import * as Backoff from "../Backoff.ts"
import { type Frame, type Receive, type Target, TransportError } from "../Transport.ts"
import * as RedisLink from "./RedisLink.ts"
import type { Settings } from "./redisOptions.ts"
import * as Subscribed from "./Subscribed.ts"
import * as Waits from "./waits.ts"

/** @see {@link make} */
export interface RedisSubscriptions {
  readonly subscribe: (target: Target, receive: Receive) => Effect.Effect<void, TransportError, Scope.Scope>
  /** Listens to a new connection and subscribes everything on it. */
  readonly prepare: (client: Redis) => void
  /** A message of a channel has come, of so many bytes. */
  readonly message: (channel: string, frame: Frame, bytes: number) => void
  /** The connection is gone: nothing is subscribed until the next one. */
  readonly lost: () => void
  /** Why a target that has receivers is not subscribed although the connection is there, or nothing if all are. */
  readonly refusal: () => TransportError | undefined
  /** Ends what still waits. */
  readonly close: () => void
}

interface Subscription extends Subscribed.Subscribed {
  readonly target: Target
  readonly name: string
}

/** Makes an empty set on a link, which must hand its connections to `prepare`. */
export const make = (settings: Settings, link: RedisLink.RedisLink, report: Subscribed.Report): RedisSubscriptions => {
  const channels = new Map<string, Subscription>()
  const patterns = new Map<string, Subscription>()
  /** Receivers that have left, until Redis has confirmed it. */
  const leavingChannels = new Map<string, ReadonlyArray<Receive>>()
  const leavingPatterns = new Map<string, ReadonlyArray<Receive>>()
  let ended: TransportError | undefined

  const deliver = (receivers: ReadonlyArray<Receive>, frame: Frame, bytes: number, channel: string) => {
    report.received(bytes)
    Subscribed.giveOut(receivers, frame, channel, report.threw)
  }

  const mapOf = (target: Target) => (target._tag === "Channel" ? channels : patterns)
  const leavingOf = (target: Target) => (target._tag === "Channel" ? leavingChannels : leavingPatterns)

  const ask = (subscription: Subscription) => {
    subscription.state = "asked"
    const command = subscription.target._tag === "Channel" ? "subscribe" : "psubscribe"
    link.command(command, [subscription.name], 0, (error) => {
      // A newer one of this name has its own SUBSCRIBE behind this.
      if (!isCurrent(subscription)) return
      if (error === undefined) return answers.came(subscription, undefined)
      answers.came(subscription, new TransportError({ ...fieldsOf(error), operation: operationOf(subscription) }))
    })
  }

  const isCurrent = (subscription: Subscription) => mapOf(subscription.target).get(subscription.name) === subscription
  const answers = Subscribed.answers(report, isCurrent, ask)

  const add = (target: Target, receive: Receive): Subscription => {
    // As it comes back from Redis: half a surrogate pair has no UTF-8 of its own.
    const name = (target._tag === "Channel" ? target.channel : target.pattern).toWellFormed()
    const map = mapOf(target)
    const present = map.get(name)
    if (present !== undefined) {
      present.receivers = [...present.receivers, receive]
      if (Subscribed.isMissing(present)) ask(present)
      return present
    }
    const subscription: Subscription = {
      target,
      name,
      receivers: [receive],
      state: "absent",
      refusal: undefined,
      // Not the link's schedule, which may end: a right may come back at any time.
      waits: Waits.make(Backoff.reconnect),
      waiting: new Set()
    }
    map.set(name, subscription)
    ask(subscription)
    return subscription
  }

  const remove = (subscription: Subscription, receive: Receive): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { receivers, target, name, state } = subscription
      if (!receivers.includes(receive)) return Effect.void
      subscription.receivers = receivers.filter((other) => other !== receive)
      const map = mapOf(target)
      if (subscription.receivers.length > 0 || map.get(name) !== subscription) return Effect.void
      map.delete(name)
      answers.pardon(subscription)
      if (state === "absent") return Effect.void
      // What comes until Redis has confirmed was counted as received by its sender.
      const leaving = leavingOf(target)
      leaving.set(name, receivers)
      // Waits for the answer, within the link's limits: once the scope is closed, nobody counts this receiver.
      return Effect.callback<void>((resume) => {
        link.command(target._tag === "Channel" ? "unsubscribe" : "punsubscribe", [name], 0, () => {
          if (leaving.get(name) === receivers) leaving.delete(name)
          resume(Effect.void)
        })
      })
    })

  const confirmed = (subscription: Subscription) =>
    Subscribed.confirmed(subscription, {
      operation: operationOf(subscription),
      millis: settings.commandTimeoutMillis,
      isUp: link.isUp
    })

  const each = (act: (subscription: Subscription) => void) => {
    for (const subscription of channels.values()) act(subscription)
    for (const subscription of patterns.values()) act(subscription)
  }

  const message = (channel: string, frame: Frame, bytes: number) => {
    link.alive()
    const receivers =
      (leavingChannels.size === 0 ? undefined : leavingChannels.get(channel)) ?? channels.get(channel)?.receivers
    if (receivers !== undefined) deliver(receivers, frame, bytes, channel)
  }

  return {
    message,
    subscribe: (target, receive) =>
      Effect.suspend(() => {
        if (ended !== undefined) return Effect.fail(ended)
        return Subscribed.hold(receive, (receiver) => add(target, receiver), confirmed, remove)
      }),
    prepare: (client) => {
      // Only where the link does not read them itself.
      client.on("messageBuffer", (name: Uint8Array, frame: Uint8Array) =>
        message(name.toString(), frame, frame.byteLength)
      )
      client.on("pmessageBuffer", (pattern: string, name: Uint8Array, frame: Uint8Array) => {
        link.alive()
        const receivers = leavingPatterns.get(pattern) ?? patterns.get(pattern)?.receivers
        if (receivers !== undefined) deliver(receivers, frame, frame.byteLength, name.toString())
      })
      if (settings.defences.resubscribe) each(ask)
    },
    lost: () =>
      each((subscription) => {
        subscription.state = "absent"
      }),
    refusal: () => {
      for (const map of [channels, patterns]) {
        for (const { refusal } of map.values()) if (refusal !== undefined) return refusal
      }
      return undefined
    },
    close: () => {
      answers.close()
      ended = RedisLink.closed(settings.name, "no")
      each((subscription) => Subscribed.confirm(subscription, ended))
    }
  }
}

const fieldsOf = ({ kind, detail, hint, sent }: TransportError) => ({ kind, detail, hint, sent })

const operationOf = ({ target, name }: Subscription) =>
  `${target._tag === "Channel" ? "SUBSCRIBE" : "PSUBSCRIBE"} ${name}`
