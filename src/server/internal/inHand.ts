/** What the partitions of a service have in hand together: they share its slots and its backlog. */
import type { Delivery } from "./delivery.ts"

/** Deliveries that wait: for a slot, or besides for one of their own action's. */
export interface Waiting {
  readonly forSlot: number
  readonly forAction: number
}

/** @see the file's first line */
export class InHand {
  private readonly all: Array<ReadonlyMap<string, Delivery>> = []
  private counted: Waiting | undefined

  /** Counts those of one partition too. */
  add(inHand: ReadonlyMap<string, Delivery>) {
    this.all.push(inHand)
  }

  /** Some may wait now that did not, or no longer. */
  changed() {
    this.counted = undefined
  }

  waiting(): Waiting {
    this.counted ??= this.count()
    return this.counted
  }

  private count(): Waiting {
    let forSlot = 0
    let forAction = 0
    for (const inHand of this.all) {
      for (const { exchange } of inHand.values()) {
        const place = exchange?.place
        if (place === undefined) continue
        if (place.line.gate.limit === Number.POSITIVE_INFINITY) forSlot++
        else forAction++
      }
    }
    return { forSlot, forAction }
  }
}
