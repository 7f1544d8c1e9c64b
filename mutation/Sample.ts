/** A random sample of mutants, and what its score says about all of them. */
import { createHash } from "node:crypto"

/** What tells one mutant from every other: where it is, and what it puts there. */
export interface Place {
  readonly fileName: string
  readonly location: {
    readonly start: { readonly line: number; readonly column: number }
    readonly end: { readonly line: number; readonly column: number }
  }
  readonly mutatorName: string
  readonly replacement?: string
}

/**
 * Draws `count` of `mutants`, each as likely as any other, without putting one back; all if there are no more.
 *
 * The lot of a mutant is a hash of the seed and of itself. So a seed gives the same sample in any order and on any
 * machine, a larger sample holds the smaller, and a change to one place draws nothing else anew.
 */
export const draw = <M extends Place>(mutants: ReadonlyArray<M>, count: number, seed: string): Array<M> => {
  const lotOf = ({ fileName, location: { end, start }, mutatorName, replacement }: Place) =>
    createHash("sha256")
      .update(
        JSON.stringify([seed, fileName, start.line, start.column, end.line, end.column, mutatorName, replacement ?? ""])
      )
      .digest("hex")
  return mutants
    .map((mutant) => ({ lot: lotOf(mutant), mutant }))
    .toSorted((one, other) => (one.lot < other.lot ? -1 : 1))
    .slice(0, count)
    .map(({ mutant }) => mutant)
}

/** 97.5 % of a normal distribution lie below this many deviations: two ends of 2.5 % leave 95 %. */
const z = 1.959964

/**
 * Gives the 95 % interval of a share of which a sample shows `found` of `tried`.
 *
 * Source: the score interval of E. B. Wilson (1927), without a correction for a sample that is a large part of all;
 * so it is rather too wide than too narrow.
 */
export const interval = (found: number, tried: number): { readonly from: number; readonly to: number } => {
  if (tried === 0) return { from: 0, to: 1 }
  const share = found / tried
  const middle = share + z ** 2 / (2 * tried)
  const reach = z * Math.sqrt((share * (1 - share)) / tried + z ** 2 / (4 * tried ** 2))
  const scale = 1 + z ** 2 / tried
  return { from: (middle - reach) / scale, to: (middle + reach) / scale }
}
