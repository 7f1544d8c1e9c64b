/** The checksum by which Redis Cluster spreads keys over its slots, and fiberbus messages over the partitions of a queue. */
import { Buffer } from "node:buffer"

// CRC-16/XMODEM, as the cluster specification says.
const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

/** Of a text's UTF-8: 0 to 65,535. */
export const of = (text: string): number => {
  let crc = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return ofBytes(Buffer.from(text))
    crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ code]!
  }
  return crc
}

/** Slots of every cluster. */
export const slots = 16_384

/** The slot of a text without a hash tag: 0 to 16,383. Source: the Redis cluster specification. */
export const slotOf = (text: string): number => of(text) % slots

const ofBytes = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ byte]!
  return crc
}
