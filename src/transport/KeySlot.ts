/** Which of a Redis Cluster's 16,384 slots a key or a sharded channel is in. */
import * as Crc16 from "../wire/Crc16.ts"

/** Slots of every cluster. */
export const slots = Crc16.slots

/**
 * The slot of a name: 0 to 16,383.
 *
 * Of a name with a hash tag, `{…}` with something in it, only that counts: `orders{7}` and `mail{7}` share a slot.
 * Source: the Redis cluster specification.
 */
export const of = (name: string): number => Crc16.slotOf(tagOf(name))

/** What of a name counts: its hash tag, or all of it where it has none. */
export const tagOf = (name: string): string => {
  const open = name.indexOf("{")
  if (open === -1) return name
  const close = name.indexOf("}", open + 1)
  return close <= open + 1 ? name : name.slice(open + 1, close)
}
