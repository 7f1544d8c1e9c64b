/** Which of several replicas gets the next request. */
import * as HashRing from "../policy/HashRing.ts"

/** A replica that takes requests. */
export interface Candidate {
  /** Names it among those of its service. */
  readonly by: string
  /** Calls of this process that wait for its answer. */
  readonly pending: number
}

/** Chooses one of two or more, by its place among them. `key` is what the request belongs to, if it says so. */
export type Choose = (candidates: ReadonlyArray<Candidate>, key: string | undefined) => number

/** A way to choose. `begin` makes what chooses for one action of one caller; it may remember something. */
export interface Balance {
  /** The candidates are the same array for as long as nobody comes or goes. `random` gives numbers from 0 to 1. */
  readonly begin: (random: () => number) => Choose
}

/** Of two by chance the one with fewer calls waiting: the default. No replica is asked too much, however many callers there are. */
export const twoRandom: Balance = {
  begin: (random) => (candidates) => {
    const { length } = candidates
    const roll = random() * length
    const one = Math.floor(roll)
    const other = (one + 1 + Math.floor((roll - one) * (length - 1))) % length
    return candidates[other]!.pending < candidates[one]!.pending ? other : one
  }
}

/** One after the other. */
export const roundRobin: Balance = {
  begin: () => {
    let turn = -1
    return (candidates) => {
      turn = (turn + 1) % candidates.length
      return turn
    }
  }
}

/** The one with the fewest calls of this process waiting, by turns among equals. Looks at all of them. */
export const leastPending: Balance = {
  begin: () => {
    let turn = -1
    return (candidates) => {
      turn = (turn + 1) % candidates.length
      let least = turn
      for (let i = 1; i < candidates.length; i++) {
        const at = (turn + i) % candidates.length
        if (candidates[at]!.pending < candidates[least]!.pending) least = at
      }
      return least
    }
  }
}

/**
 * The same replica for the same key: that of `Action.Key`, or of the call's option `key`. When a replica comes or goes, about its share of the
 * keys moves, and no other. What has no key goes by {@link twoRandom}. The default of actions that are annotated with `Action.Key`.
 */
export const byKey: Balance = {
  begin: (random) => {
    const otherwise = twoRandom.begin(random)
    let known: ReadonlyArray<Candidate> = []
    let ring = HashRing.make([])
    return (candidates, key) => {
      if (key === undefined) return otherwise(candidates, key)
      if (candidates !== known) {
        known = candidates
        ring = HashRing.make(candidates.map(({ by }) => by))
      }
      return ring.indexOf(key)
    }
  }
}
