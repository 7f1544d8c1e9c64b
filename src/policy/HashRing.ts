/**
 * Consistent hashing: each key belongs to one of several nodes, and when nodes come or go, only the keys of those move.
 *
 * Every node stands at many points of a ring, and a key belongs to the first point after its own. Of N nodes, one that leaves gives up
 * about 1/N of the keys, and no other key moves.
 */

/** Points of each node. More of them make the shares of the nodes more even. */
export const points = 128

/** @see {@link make} */
export interface HashRing {
  /** The node that a key belongs to, by its place among those given; -1 where there is none. */
  readonly indexOf: (key: string) => number
}

/** Makes a ring of nodes, whatever their order. */
export const make = (nodes: ReadonlyArray<string>): HashRing => {
  const ring: Array<{ readonly at: number; readonly index: number }> = []
  for (const [index, node] of nodes.entries()) {
    for (let point = 0; point < points; point++) ring.push({ at: hash(`${node}#${point}`), index })
  }
  // Points that fall together are told apart by their nodes, so that the order of these does not matter.
  ring.sort((one, other) => one.at - other.at || (nodes[one.index]! < nodes[other.index]! ? -1 : 1))
  const places = Uint32Array.from(ring, ({ at }) => at)
  return {
    indexOf: (key) => {
      if (ring.length === 0) return -1
      const at = hash(key)
      let low = 0
      let high = places.length
      while (low < high) {
        const middle = (low + high) >>> 1
        if (places[middle]! < at) low = middle + 1
        else high = middle
      }
      return ring[low === places.length ? 0 : low]!.index
    }
  }
}

// FNV-1a, then the last step of MurmurHash3, which spreads what is alike.
const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    h ^= text.charCodeAt(i)
    h = Math.imul(h, 0x01000193)
  }
  h ^= h >>> 16
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
