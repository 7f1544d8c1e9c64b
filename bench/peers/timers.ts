/** The ceiling of the row with waiting handlers: timers of this process behind a limit, and nothing between. */
import { promises } from "../Meter.ts"
import type { Payload } from "../Payload.ts"
import { handlers, type Peer } from "../Peer.ts"

export const peer: Peer = {
  connect: async ({ pool = Number.POSITIVE_INFINITY }) => {
    let running = 0
    const waiting: Array<() => void> = []
    const wait = async (payload: Payload) => {
      if (running >= pool) await new Promise<void>((resolve) => waiting.push(resolve))
      else running++
      const answer = await handlers.wait(payload)
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
      return { ...answer }
    }
    return { calls: promises({ wait }) }
  }
}
