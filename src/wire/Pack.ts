/**
 * Several envelopes in one frame, `[{…},{…}]`, for receivers that have said that they take it: a broker's price is per frame.
 *
 * Source: docs/wire.md. A pack is read as if its envelopes had come one after the other; none of them harms another.
 */
import * as Codec from "./Codec.ts"

/** Envelopes in one pack: what a receiver takes, and what it says as `packs`. */
export const maxCount = 64

/** Bytes of one pack. Who takes smaller frames than this takes no packs. */
export const maxBytes = 32_768

/** Frames with more characters than this leave alone: what a pack saves is little beside them. */
export const maxFrameLength = 8_192

/** True for what a receiver says by which whole packs may be sent to it. */
export const isTaken = (packs: unknown): packs is number => Number.isSafeInteger(packs) && (packs as number) >= maxCount

/**
 * Makes a receiver of frames that may be packs: `take` gets each envelope, or why it is none, in order, and its frame where it came
 * alone. When it throws, the others are given all the same, and the first defect is thrown afterwards.
 */
export const each =
  (
    maxFrameBytes: number,
    take: (read: Codec.JsonObject | Codec.Malformed, channel: string, frame: string | Uint8Array | undefined) => void
  ) =>
  (frame: string | Uint8Array, channel: string): void => {
    const read = Codec.parseEach(frame, maxFrameBytes, maxCount)
    if (!Array.isArray(read)) return take(read as Codec.JsonObject | Codec.Malformed, channel, frame)
    let defects: Array<unknown> | undefined
    for (const one of read) {
      try {
        take(one, channel, undefined)
      } catch (defect) {
        defects ??= [defect]
      }
    }
    if (defects !== undefined) throw defects[0]
  }
