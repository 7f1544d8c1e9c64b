/** Finds few faults that do what many did. */

/**
 * Leaves out what is not needed: first halves, then quarters and so on, until no single one can go, or `most` trials are over.
 * `fails` must say true for `all`; what is returned does fail, too. Source: Zeller's delta debugging.
 */
export const shrink = async <A>(
  all: ReadonlyArray<A>,
  fails: (some: ReadonlyArray<A>) => Promise<boolean>,
  most: number
): Promise<ReadonlyArray<A>> => {
  let left = all
  let trials = 0
  const tryOut = async (some: ReadonlyArray<A>) => trials++ < most && (await fails(some))
  if (left.length > 0 && (await tryOut([]))) return []
  let parts = 2
  while (left.length >= 2 && trials < most) {
    const size = Math.ceil(left.length / parts)
    let smaller: ReadonlyArray<A> | undefined
    for (let from = 0; from < left.length && smaller === undefined; from += size) {
      const rest = [...left.slice(0, from), ...left.slice(from + size)]
      if (await tryOut(rest)) smaller = rest
    }
    if (smaller !== undefined) {
      left = smaller
      parts = Math.max(2, parts - 1)
    } else if (size === 1) break
    else parts = Math.min(left.length, parts * 2)
  }
  return left
}
