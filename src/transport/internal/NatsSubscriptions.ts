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
import * as Backoff from "../Backoff.ts"
import { type Receive, type Target, TransportError } from "../Transport.ts"
import * as NatsLink from "./NatsLink.ts"
import type { Settings } from "./natsOptions.ts"
import * as natsSubject from "./natsSubject.ts"
import * as Waits from "./waits.ts"

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

/** What happens where no caller is left to hear of it. */
export interface Report {
  /** A frame came, of so many bytes. */
  readonly received: (bytes: number) => void
  /** The server refused a target that had been subscribed before. */
  readonly refused: (error: TransportError) => void
  /** `refusal` may have changed. */
  readonly changed: () => void
  /** A receiver threw, which it must not. */
  readonly threw: (channel: string, defect: unknown) => void
}

type Confirm = (error: TransportError | undefined) => void

interface Subscription {
  readonly key: string
  readonly subject: string
  /** The channel of a frame, or nothing for one that the pattern does not match. */
  readonly channelOf: (subject: string) => string | undefined
  /** Replaced and never changed, so that a receiver may subscribe or leave while a frame is given out. */
  receivers: ReadonlyArray<Receive>
  /** On the present connection. `unsure`: asked, and not answered in time. */
  state: "absent" | "asked" | "unsure" | "confirmed"
  atServer: AtServer | undefined
  /** Why the server refuses it, while others than those that wait want it. */
  refusal: TransportError | undefined
  readonly waits: Waits.Waits
  readonly waiting: Set<Confirm>
}

/** Makes an empty set on a link. */
export const make = (settings: Settings, link: () => NatsLink.NatsLink, report: Report): NatsSubscriptions => {
  const subscriptions = new Map<string, Subscription>()
  const retries = new Set<NodeJS.Timeout>()
  let ended: TransportError | undefined

  const deliver = (subscription: Subscription, frame: Uint8Array, subject: string) => {
    report.received(frame.byteLength)
    const channel = subscription.channelOf(subject)
    if (channel === undefined) return
    const { receivers } = subscription
    for (let i = 0; i < receivers.length; i++) {
      try {
        receivers[i]!(frame, channel)
      } catch (defect) {
        report.threw(channel, defect)
      }
    }
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
        if (subscription.atServer !== asked || subscriptions.get(subscription.key) !== subscription) return
        if (error === undefined) {
          subscription.state = "confirmed"
          pardon(subscription)
          return confirm(subscription, undefined)
        }
        // Lost with the connection, or never sent: the next connection asks again.
        if (error.kind === "ConnectionLost") return
        if (error.kind === "Closed") return confirm(subscription, error)
        subscription.state = error.kind === "Timeout" ? "unsure" : "absent"
        // Those that wait hear it themselves; the others once, by the log.
        const others = subscription.receivers.length - subscription.waiting.size
        confirm(subscription, error)
        if (others > 0) askLater(subscription, error)
      }
    )
    subscription.atServer = asked
    if (asked === undefined) subscription.state = "absent"
  }

  const confirm = (subscription: Subscription, error: TransportError | undefined) => {
    const waiting = [...subscription.waiting]
    subscription.waiting.clear()
    for (const done of waiting) done(error)
  }

  // One refused target must not cost the others their connection.
  const askLater = (subscription: Subscription, error: TransportError) => {
    const isFirst = subscription.refusal === undefined
    subscription.refusal = error
    if (isFirst) {
      report.refused(error)
      report.changed()
    }
    subscription.waits.next(error, (millis = 0) => {
      if (ended !== undefined) return
      const timer = setTimeout(() => {
        retries.delete(timer)
        if (subscriptions.get(subscription.key) === subscription && missing(subscription)) ask(subscription)
      }, millis)
      retries.add(timer)
    })
  }

  const pardon = (subscription: Subscription) => {
    if (subscription.refusal === undefined) return
    subscription.refusal = undefined
    subscription.waits.reset()
    report.changed()
  }

  const add = (target: Target, receive: Receive): Subscription => {
    const { key, subject, channelOf } = read(target)
    const present = subscriptions.get(key)
    if (present !== undefined) {
      present.receivers = [...present.receivers, receive]
      if (missing(present)) ask(present)
      return present
    }
    const subscription: Subscription = {
      key,
      subject,
      channelOf,
      receivers: [receive],
      state: "absent",
      atServer: undefined,
      refusal: undefined,
      // Not the link's schedule, which may end: a right may come back at any time.
      waits: Waits.make(Backoff.reconnect),
      waiting: new Set()
    }
    subscriptions.set(key, subscription)
    ask(subscription)
    return subscription
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
      pardon(subscription)
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

  const confirmed = (subscription: Subscription): Effect.Effect<void, TransportError> =>
    Effect.callback((resume) => {
      if (subscription.state === "confirmed") return resume(Effect.void)
      const done: Confirm = (error) => {
        clearTimeout(timer)
        resume(error === undefined ? Effect.void : Effect.fail(error))
      }
      const timer = setTimeout(() => {
        subscription.waiting.delete(done)
        const isUp = link().isUp()
        done(
          new TransportError({
            kind: isUp ? "Timeout" : "ConnectionLost",
            operation: `SUB ${subscription.subject}`,
            detail: `not confirmed within ${settings.commandTimeoutMillis} ms${isUp ? "" : ", the connection is down"}`,
            hint: "",
            sent: "unknown"
          })
        )
      }, settings.commandTimeoutMillis)
      subscription.waiting.add(done)
      return Effect.sync(() => {
        clearTimeout(timer)
        subscription.waiting.delete(done)
      })
    })

  return {
    subscribe: (target, receive) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          if (ended !== undefined) return Effect.fail(ended)
          const refused = tooLong(target)
          if (refused !== undefined) return Effect.fail(refused)
          // A function of its own, so that the same one may subscribe twice.
          const receiver: Receive = (frame, channel) => receive(frame, channel)
          const subscription = add(target, receiver)
          return restore(confirmed(subscription)).pipe(
            Effect.onError(() => remove(subscription, receiver)),
            Effect.andThen(Effect.addFinalizer(() => remove(subscription, receiver)))
          )
        })
      ),
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
      for (const timer of retries) clearTimeout(timer)
      retries.clear()
      ended = NatsLink.closed(settings.name, "no")
      for (const subscription of subscriptions.values()) confirm(subscription, ended)
    }
  }
}

const missing = ({ state }: Subscription) => state === "absent" || state === "unsure"

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
