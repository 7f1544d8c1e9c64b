/** Gathers what one turn of the event loop asks about a queue, so that it is one command and one step of the store. */

interface Open<Item> {
  readonly items: Array<Item>
  bytes: number
}

/** Most that become one command, in number and bytes: while it runs, the store does nothing else. */
export const maxItems = 100
const maxBytes = 65_536

/** @see the file's first line */
export class Gathering<Item> {
  /** Bytes that are gathered. */
  bytes = 0
  private readonly send: (queue: string, items: ReadonlyArray<Item>, bytes: number) => void
  /** Empty after each turn. */
  private readonly open = new Map<string, Open<Item>>()
  private scheduled = false

  constructor(send: (queue: string, items: ReadonlyArray<Item>, bytes: number) => void) {
    this.send = send
  }

  /** Takes an item, which leaves with the end of this turn at the latest, after all that came before it. */
  add(queue: string, item: Item, bytes: number) {
    let open = this.open.get(queue)
    if (open !== undefined && open.bytes + bytes > maxBytes) {
      this.leave(queue, open)
      open = undefined
    }
    if (open === undefined) {
      open = { items: [], bytes: 0 }
      this.open.set(queue, open)
    }
    open.items.push(item)
    open.bytes += bytes
    this.bytes += bytes
    if (open.items.length === maxItems) return this.leave(queue, open)
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(this.end)
  }

  /** Lets all leave. */
  flush() {
    for (const [queue, open] of this.open) this.leave(queue, open)
  }

  private readonly end = () => {
    this.scheduled = false
    this.flush()
  }

  private leave(queue: string, { bytes, items }: Open<Item>) {
    this.open.delete(queue)
    this.bytes -= bytes
    this.send(queue, items, bytes)
  }
}
