/**
 * The subscriptions of one connection: ours and not ioredis', so that they outlive it.
 *
 * Each target is subscribed at Redis while it has a receiver. One SUBSCRIBE names one target, and every new connection
 * is given all of them again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { type Frame, type Receive, type Target, TransportError } from "../Transport.ts"
import * as RedisLink from "./RedisLink.ts"
import type { Settings } from "./redisOptions.ts"
import * as Subscribed from "./Subscribed.ts"

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
    const name = Subscribed.nameOf(target)
    return Subscribed.join(mapOf(target), name, receive, (fresh) => ({ ...fresh, target, name }), ask)
  }

  const remove = (subscription: Subscription, receive: Receive): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { receivers, target, name, state } = subscription
      if (!Subscribed.leave(mapOf(target), name, subscription, receive)) return Effect.void
      answers.pardon(subscription)
      if (state === "absent") return Effect.void
      const command = target._tag === "Channel" ? "unsubscribe" : "punsubscribe"
      return Subscribed.leaving(leavingOf(target), name, receivers, (done) => link.command(command, [name], 0, done))
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
