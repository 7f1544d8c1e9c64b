/** Claims of keys, kept in memory: each until its time is over, and no more of them than a limit. */
import { performance } from "node:perf_hooks"

/** Gives the function that claims: true for the first one, until its time is over. */
export const make = (limit: number, now: () => number = () => performance.now()) => {
  // Oldest first, as they were made: those that last longer may keep others for a while behind them.
  const held = new Map<string, number>()
  return (key: string, ttlMillis: number): boolean => {
    const at = now()
    for (const [oldest, until] of held) {
      if (until > at && held.size < limit) break
      held.delete(oldest)
    }
    const until = held.get(key)
    if (until !== undefined && until > at) return false
    held.delete(key)
    held.set(key, at + ttlMillis)
    return true
  }
}
