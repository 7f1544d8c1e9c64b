/**
 * The subscriptions of a link: ours and not the client's, so that they outlive its connections.
 *
 * Each target is subscribed at the server while it has a receiver, once, and every new connection is given all of them again. A
 * pattern is subscribed under the narrowest subject that holds all it may match; what else comes there is left out here.
 */
import type { Subscription as AtServer } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Glob from "../../contract/Glob.ts"
import { type Receive, type Target, TransportError } from "../Transport.ts"
import * as NatsLink from "./NatsLink.ts"
import type { Settings } from "./natsOptions.ts"
import * as natsSubject from "./natsSubject.ts"
import * as Subscribed from "./Subscribed.ts"

/** @see {@link make} */
export interface NatsSubscriptions {
  readonly subscribe: (target: Target, receive: Receive) => Effect.Effect<void, TransportError, Scope.Scope>
  /** Subscribes everything on a new connection. */
  readonly prepare: () => void
  /** The connection is gone: nothing is subscribed until the next one. */
  readonly lost: () => void
  /** Why a target that has receivers is not subscribed although the connection is there, or nothing if all are. */
  readonly refusal: () => TransportError | undefined
  /** Ends what still waits. */
  readonly close: () => void
}

interface Subscription extends Subscribed.Subscribed {
  readonly key: string
  readonly subject: string
  /** The channel of a frame, or nothing for one that the pattern does not match. */
  readonly channelOf: (subject: string) => string | undefined
  atServer: AtServer | undefined
}

/** Makes an empty set on a link. */
export const make = (
  settings: Settings,
  link: () => NatsLink.NatsLink,
  report: Subscribed.Report
): NatsSubscriptions => {
  const subscriptions = new Map<string, Subscription>()
  let ended: TransportError | undefined

  const deliver = (subscription: Subscription, frame: Uint8Array, subject: string) => {
    report.received(frame.byteLength)
    const channel = subscription.channelOf(subject)
    if (channel === undefined) return
    Subscribed.giveOut(subscription.receivers, frame, channel, report.threw)
  }

  const ask = (subscription: Subscription) => {
    // Asked before and not answered: what comes of that must not come twice.
    subscription.atServer?.unsubscribe()
    subscription.atServer = undefined
    subscription.state = "asked"
    let asked: AtServer | undefined
    asked = link().subscribe(
      subscription.subject,
      (frame, subject) => deliver(subscription, frame, subject),
      (error) => {
        if (subscription.atServer !== asked || !isCurrent(subscription)) return
        answers.came(subscription, error)
      }
    )
    subscription.atServer = asked
    if (asked === undefined) subscription.state = "absent"
  }

  const isCurrent = (subscription: Subscription) => subscriptions.get(subscription.key) === subscription
  const answers = Subscribed.answers(report, isCurrent, ask)

  const add = (target: Target, receive: Receive): Subscription => {
    const { key, subject, channelOf } = read(target)
    const make = (fresh: Subscribed.Subscribed) => ({ ...fresh, key, subject, channelOf, atServer: undefined })
    return Subscribed.join(subscriptions, key, receive, make, ask)
  }

  const remove = (subscription: Subscription, receive: Receive): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { atServer, key, receivers } = subscription
      if (!receivers.includes(receive)) return Effect.void
      if (receivers.length > 1 || subscriptions.get(key) !== subscription) {
        subscription.receivers = receivers.filter((other) => other !== receive)
        return Effect.void
      }
      subscriptions.delete(key)
      answers.pardon(subscription)
      // The last receiver hears until the server has confirmed: what is on its way was sent to it.
      return Effect.callback<void>((resume) => {
        const done = () => {
          subscription.receivers = []
          resume(Effect.void)
        }
        if (atServer === undefined) done()
        else link().unsubscribe(atServer, done)
      })
    })

  const confirmed = (subscription: Subscription) =>
    Subscribed.confirmed(subscription, {
      operation: `SUB ${subscription.subject}`,
      millis: settings.commandTimeoutMillis,
      isUp: () => link().isUp()
    })

  return {
    subscribe: (target, receive) =>
      Effect.suspend(() => {
        if (ended !== undefined) return Effect.fail(ended)
        const refused = tooLong(target)
        if (refused !== undefined) return Effect.fail(refused)
        return Subscribed.hold(receive, (receiver) => add(target, receiver), confirmed, remove)
      }),
    prepare: () => {
      for (const subscription of subscriptions.values()) ask(subscription)
    },
    lost: () => {
      for (const subscription of subscriptions.values()) {
        subscription.state = "absent"
        subscription.atServer = undefined
      }
    },
    refusal: () => {
      for (const { refusal } of subscriptions.values()) if (refusal !== undefined) return refusal
      return undefined
    },
    close: () => {
      answers.close()
      ended = NatsLink.closed(settings.name, "no")
      for (const subscription of subscriptions.values()) Subscribed.confirm(subscription, ended)
    }
  }
}

const read = (target: Target): Pick<Subscription, "key" | "subject" | "channelOf"> => {
  if (target._tag === "Channel") {
    // As it comes back from anywhere: half a surrogate pair has no UTF-8 of its own.
    const channel = target.channel.toWellFormed()
    return { key: `c${channel}`, subject: natsSubject.fromChannel(channel), channelOf: () => channel }
  }
  const pattern = target.pattern.toWellFormed()
  const matches = Glob.matcher(pattern)
  const channelOf = (subject: string) => {
    const channel = natsSubject.toChannel(subject)
    return matches(channel) ? channel : undefined
  }
  return { key: `p${pattern}`, subject: natsSubject.overPattern(pattern), channelOf }
}

const tooLong = (target: Target): TransportError | undefined => {
  const { subject } = read(target)
  return subject.length <= natsSubject.maxBytes ? undefined : nameTooLong("SUB")
}

/** A name that the server would end the connection for. Without the name, which may be a stranger's. */
export const nameTooLong = (command: "PUB" | "SUB"): TransportError =>
  new TransportError({
    kind: "InvalidOptions",
    operation: command,
    detail: `the channel's name is longer than ${natsSubject.maxBytes} bytes`,
    hint: "Choose a shorter one: characters that NATS has other uses for count three times",
    sent: "no"
  })
