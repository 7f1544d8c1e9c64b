/** Keeps the frames that find the publisher down, answers above all, until it is back or their short time is over. */
import { performance } from "node:perf_hooks"
import type { Sent, TransportError, WhileDown } from "../Transport.ts"

/** @see {@link make} */
export interface HeldSends {
  /** Takes a frame; false if there is no room, or nothing may wait. */
  readonly hold: (channel: string, frame: string, bytes: number, sent: Sent) => boolean
  /** Hands over all whose time is not over, oldest first. */
  readonly release: (send: (channel: string, frame: string, sent: Sent) => void) => void
  /** Ends all, and takes no more. */
  readonly end: (error: TransportError) => void
}

interface Held {
  readonly channel: string
  readonly frame: string
  readonly bytes: number
  readonly sent: Sent
  readonly until: number
}

/** Starts empty. Time is Node's, as for the link itself. */
export const make = (limits: WhileDown | undefined, maxBytes: number, late: () => TransportError): HeldSends => {
  let held: Array<Held> = []
  let heldBytes = 0
  let timer: NodeJS.Timeout | undefined
  let ended = limits === undefined

  const clear = () => {
    const all = held
    held = []
    heldBytes = 0
    clearTimeout(timer)
    timer = undefined
    return all
  }
  const arm = () => {
    const [oldest] = held
    if (oldest !== undefined) timer = setTimeout(expire, Math.max(1, oldest.until - performance.now()))
  }
  const expire = () => {
    const now = performance.now()
    const all = clear()
    const over = all.filter(({ until }) => until <= now)
    held = all.slice(over.length)
    for (const { bytes } of held) heldBytes += bytes
    arm()
    const error = late()
    for (const { sent } of over) sent(error, 0)
  }

  return {
    hold: (channel, frame, bytes, sent) => {
      if (ended || limits === undefined || held.length >= limits.calls || heldBytes + bytes > maxBytes) return false
      held.push({ channel, frame, bytes, sent, until: performance.now() + limits.millis })
      heldBytes += bytes
      if (timer === undefined) arm()
      return true
    },
    release: (send) => {
      const now = performance.now()
      for (const { channel, frame, sent, until } of clear()) {
        // After a stall of the process the link may be back before the timer has fired.
        if (until <= now) sent(late(), 0)
        else send(channel, frame, sent)
      }
    },
    end: (error) => {
      ended = true
      for (const { sent } of clear()) sent(error, 0)
    }
  }
}
