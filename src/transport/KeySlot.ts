/** Which of a Redis Cluster's 16,384 slots a key or a sharded channel is in. */
import { Buffer } from "node:buffer"

/** Slots of every cluster. */
export const slots = 16_384

// CRC-16/XMODEM, as the cluster specification says.
const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

/**
 * The slot of a name: 0 to 16,383.
 *
 * Of a name with a hash tag, `{…}` with something in it, only that counts: `orders{7}` and `mail{7}` share a slot.
 * Source: the Redis cluster specification.
 */
export const of = (name: string): number => {
  const text = tagOf(name)
  let crc = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return ofBytes(Buffer.from(text))
    crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ code]!
  }
  return crc % slots
}

const ofBytes = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ byte]!
  return crc % slots
}

/** What of a name counts: its hash tag, or all of it where it has none. */
export const tagOf = (name: string): string => {
  const open = name.indexOf("{")
  if (open === -1) return name
  const close = name.indexOf("}", open + 1)
  return close <= open + 1 ? name : name.slice(open + 1, close)
}
