/** A store that remembers what it was given to keep. */
import type { Durable } from "../../transport/Durable.ts"
import type { Activity } from "./Activity.ts"
import type { Frame, Traffic } from "./Traffic.ts"

/** Puts a record before a store. A message that was there before is none of its own. */
export const make = (inner: Durable["Service"], traffic: Traffic, activity: Activity): Durable["Service"] => ({
  ...inner,
  append: (queue, message, done) =>
    inner.state(queue, message.id, (_, state) => {
      const at = activity.clock.currentTimeMillisUnsafe()
      const frame: Frame = { channel: queue, text: message.frame, at, receivers: undefined }
      // Before it is kept: its answer may come at once.
      if (state?._tag === "Unknown") traffic.noteKept(frame)
      inner.append(queue, message, (error, appended) => {
        if (appended?._tag === "Added") frame.receivers = 1
        done(error, appended)
      })
    })
})
