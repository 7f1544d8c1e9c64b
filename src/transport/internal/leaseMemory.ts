/** The rules by which a lease is given, kept and given back, over a table in memory. `redisLeaseScript` has the same for Redis. */
import type { Answer, Ask } from "../Lease.ts"

/** By how much the clock of a process may be ahead of the store's before its occurrences are refused, in milliseconds. */
export const maxAheadMillis = 60_000

/** The part of the wait for an occurrence within which another one is the same. */
export const sameWithin = 0.9

/** Leases that may lie about after they have lapsed. */
const maxLapsed = 1_000

interface Place {
  owner: string
  token: number
  until: number
  /** The last occurrence that was given, and to whom. */
  last: { readonly atMillis: number; readonly owner: string } | undefined
}

/** Makes an empty table on a clock in milliseconds. */
export const make = (now: () => number) => {
  const places = new Map<string, Place>()
  let tokens = 0

  const sweep = () => {
    for (const [name, place] of places) {
      if (place.until <= now() && place.last === undefined) places.delete(name)
    }
  }

  const isOwner = ({ name, owner }: Ask) => places.get(name)?.owner === owner

  return {
    acquire: (ask: Ask): Answer => {
      const { name, occurrence, owner, ttlMillis } = ask
      const place = places.get(name)
      if (place !== undefined && place.until > now()) {
        return place.owner === owner ? { _tag: "Held", token: place.token } : { _tag: "Taken" }
      }
      let last = place?.last
      if (occurrence !== undefined) {
        const { afterMillis, atMillis } = occurrence
        if (atMillis > now() + maxAheadMillis) return { _tag: "Early" }
        const isOwn = last?.owner === owner && last.atMillis === atMillis
        if (last !== undefined && !isOwn && atMillis <= last.atMillis) return { _tag: "Over" }
        if (last !== undefined && !isOwn && atMillis - last.atMillis < afterMillis * sameWithin) return { _tag: "Over" }
        last = { atMillis, owner }
      }
      if (places.size >= maxLapsed) sweep()
      const token = ++tokens
      places.set(name, { owner, token, until: now() + ttlMillis, last })
      return { _tag: "Held", token }
    },
    renew: (ask: Ask): boolean => {
      if (!isOwner(ask)) return false
      places.get(ask.name)!.until = now() + ask.ttlMillis
      return true
    },
    release: (ask: Ask): void => {
      if (!isOwner(ask)) return
      const place = places.get(ask.name)!
      place.owner = ""
      place.until = 0
    }
  }
}
