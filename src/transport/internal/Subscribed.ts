/** What a subscription is at every broker: its receivers, the wait for its confirmation, and another attempt where it is refused. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Backoff from "../Backoff.ts"
import { type Frame, type Receive, type Target, TransportError } from "../Transport.ts"
import * as Waits from "./waits.ts"

/** Tells one that waits. */
export type Confirm = (error: TransportError | undefined) => void

/** One target that has receivers. */
export interface Subscribed {
  /** Replaced and never changed, so that a receiver may subscribe or leave while a frame is given out. */
  receivers: ReadonlyArray<Receive>
  /** At the broker, on the present connection. `unsure`: asked, and not answered in time. */
  state: "absent" | "asked" | "unsure" | "confirmed"
  /** Why the broker refuses it, while others than those that wait want it. */
  refusal: TransportError | undefined
  readonly waits: Waits.Waits
  readonly waiting: Set<Confirm>
}

/** What happens where no caller is left to hear of it. */
export interface Report {
  /** A frame came, of so many bytes. */
  readonly received: (bytes: number) => void
  /** The broker refused a target that had been subscribed before. */
  readonly refused: (error: TransportError) => void
  /** What is refused may have changed. */
  readonly changed: () => void
  /** A receiver threw, which it must not. */
  readonly threw: (channel: string, defect: unknown) => void
}

/** Its name as it comes back from a broker: half a surrogate pair has no UTF-8 of its own. */
export const nameOf = (target: Target): string =>
  (target._tag === "Channel" ? target.channel : target.pattern).toWellFormed()

/** Adds a receiver to what a map has under a key. Where that is nothing yet it is made, and asked for. */
export const join = <S extends Subscribed>(
  map: Map<string, S>,
  key: string,
  receive: Receive,
  make: (fresh: Subscribed) => S,
  ask: (subscription: S) => void
): S => {
  const present = map.get(key)
  if (present !== undefined) {
    present.receivers = [...present.receivers, receive]
    if (isMissing(present)) ask(present)
    return present
  }
  const made = make({
    receivers: [receive],
    state: "absent",
    refusal: undefined,
    // Not the link's schedule, which may end: a right may come back at any time.
    waits: Waits.make(Backoff.reconnect),
    waiting: new Set()
  })
  map.set(key, made)
  ask(made)
  return made
}

/** Takes a receiver away. True if it was the last one: then the map has nothing under the key any more. */
export const leave = <S extends Subscribed>(
  map: Map<string, S>,
  key: string,
  subscription: S,
  receive: Receive
): boolean => {
  if (!subscription.receivers.includes(receive)) return false
  subscription.receivers = subscription.receivers.filter((other) => other !== receive)
  if (subscription.receivers.length > 0 || map.get(key) !== subscription) return false
  return map.delete(key)
}

/**
 * Keeps those that have left in a map until the broker has confirmed it: what comes before was counted as received by its sender. Waits
 * for that, within the link's limits: once the scope is closed, nobody counts these receivers.
 */
export const leaving = <L>(
  map: Map<string, L>,
  key: string,
  left: L,
  unsubscribe: (done: () => void) => void
): Effect.Effect<void> => {
  map.set(key, left)
  return Effect.callback<void>((resume) =>
    unsubscribe(() => {
      if (map.get(key) === left) map.delete(key)
      resume(Effect.void)
    })
  )
}

/** Gives a frame to each. One that throws costs the others nothing. */
export const giveOut = (
  receivers: ReadonlyArray<Receive>,
  frame: Frame,
  channel: string,
  threw: Report["threw"]
): void => {
  for (let i = 0; i < receivers.length; i++) {
    try {
      receivers[i]!(frame, channel)
    } catch (defect) {
      threw(channel, defect)
    }
  }
}

/** True if it is worth asking for. */
export const isMissing = ({ state }: Subscribed): boolean => state === "absent" || state === "unsure"

/** Tells all that wait. */
export const confirm = ({ waiting }: Subscribed, error: TransportError | undefined): void => {
  const told = [...waiting]
  waiting.clear()
  for (const done of told) done(error)
}

/** Waits until it is confirmed, in real time. Fails with kind `Timeout`, or `ConnectionLost` where `isUp` says that there is none. */
export const confirmed = (
  subscription: Subscribed,
  {
    connection = "the connection",
    isUp,
    millis,
    operation
  }: {
    readonly operation: string
    readonly millis: number
    readonly isUp: () => boolean
    readonly connection?: string
  }
): Effect.Effect<void, TransportError> =>
  Effect.callback((resume) => {
    if (subscription.state === "confirmed") return resume(Effect.void)
    const done: Confirm = (error) => {
      clearTimeout(timer)
      resume(error === undefined ? Effect.void : Effect.fail(error))
    }
    const timer = setTimeout(() => {
      subscription.waiting.delete(done)
      const up = isUp()
      done(
        new TransportError({
          kind: up ? "Timeout" : "ConnectionLost",
          operation,
          detail: `not confirmed within ${millis} ms${up ? "" : `, ${connection} is down`}`,
          hint: "",
          sent: "unknown"
        })
      )
    }, millis)
    subscription.waiting.add(done)
    return Effect.sync(() => {
      clearTimeout(timer)
      subscription.waiting.delete(done)
    })
  })

/** Adds a receiver and waits for the confirmation; removes it when that fails, and when the Scope closes. */
export const hold = <S>(
  receive: Receive,
  add: (receiver: Receive) => S,
  wait: (subscription: S) => Effect.Effect<void, TransportError>,
  remove: (subscription: S, receiver: Receive) => Effect.Effect<void>
): Effect.Effect<void, TransportError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      // A function of its own, so that the same one may subscribe twice.
      const receiver: Receive = (frame, channel) => receive(frame, channel)
      const subscription = add(receiver)
      return restore(wait(subscription)).pipe(
        Effect.onError(() => remove(subscription, receiver)),
        Effect.andThen(Effect.addFinalizer(() => remove(subscription, receiver)))
      )
    })
  )

/** What the answers to our questions lead to. @see {@link answers} */
export interface Answers<S extends Subscribed> {
  /** The broker has confirmed it, or refused it with an error. */
  readonly came: (subscription: S, error: TransportError | undefined) => void
  /** It is refused no more, or wanted no more. */
  readonly pardon: (subscription: S) => void
  /** Asks for nothing any more. */
  readonly close: () => void
}

/** For a link with one connection. `isCurrent` is false for one that has been replaced or left. */
export const answers = <S extends Subscribed>(
  report: Report,
  isCurrent: (subscription: S) => boolean,
  ask: (subscription: S) => void
): Answers<S> => {
  const retries = new Set<NodeJS.Timeout>()
  let over = false

  // One refused target must not cost the others their connection.
  const askLater = (subscription: S, error: TransportError) => {
    const isFirst = subscription.refusal === undefined
    subscription.refusal = error
    if (isFirst) {
      report.refused(error)
      report.changed()
    }
    subscription.waits.next(error, (millis = 0) => {
      if (over) return
      const timer = setTimeout(() => {
        retries.delete(timer)
        if (isCurrent(subscription) && isMissing(subscription)) ask(subscription)
      }, millis)
      retries.add(timer)
    })
  }

  const pardon = (subscription: S) => {
    if (subscription.refusal === undefined) return
    subscription.refusal = undefined
    subscription.waits.reset()
    report.changed()
  }

  return {
    came: (subscription, error) => {
      if (error === undefined) {
        subscription.state = "confirmed"
        pardon(subscription)
        return confirm(subscription, undefined)
      }
      // Lost with the connection, or never sent: the next connection asks again.
      if (error.kind === "ConnectionLost") return
      if (error.kind === "Closed") return confirm(subscription, error)
      // The link judges whether it is dead. If it lives, asking twice does no harm.
      subscription.state = error.kind === "Timeout" ? "unsure" : "absent"
      // Those that wait hear it themselves; the others once, by the log.
      const others = subscription.receivers.length - subscription.waiting.size
      confirm(subscription, error)
      if (others > 0) askLater(subscription, error)
    },
    pardon,
    close: () => {
      over = true
      for (const timer of retries) clearTimeout(timer)
      retries.clear()
    }
  }
}
