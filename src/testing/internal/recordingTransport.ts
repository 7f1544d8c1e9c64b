/** A transport that remembers what it is given, and knows what is still on its way. */
import * as Effect from "effect/Effect"
import * as Optional from "../../transport/Optional.ts"
import type { Sent, Transport } from "../../transport/Transport.ts"
import type { Activity } from "./Activity.ts"
import type { Frame, Traffic } from "./Traffic.ts"

/** Puts a record before a transport. */
export const make = (inner: Transport["Service"], traffic: Traffic, activity: Activity): Transport["Service"] => ({
  name: inner.name,
  prefix: inner.prefix,
  capabilities: inner.capabilities,
  whileDown: inner.whileDown,
  watch: inner.watch,
  ...Optional.of(inner),
  get state() {
    return inner.state
  },
  send: (channel, text, sent, pack) => {
    const frame: Frame = { channel, text, at: activity.clock.currentTimeMillisUnsafe(), receivers: undefined }
    const arrived = activity.frameLeaves()
    traffic.note(frame)
    const told: Sent = (error, receivers) => {
      if (error === undefined) frame.receivers = receivers
      if (error !== undefined || receivers === 0) traffic.ended(frame)
      arrived()
      sent(error, receivers)
    }
    inner.send(channel, text, told, pack)
  },
  subscribe: (target, receive) =>
    Effect.andThen(
      inner.subscribe(target, receive),
      target._tag === "Channel"
        ? Effect.addFinalizer(() => Effect.sync(() => traffic.inboxClosed(target.channel)))
        : Effect.void
    )
})
