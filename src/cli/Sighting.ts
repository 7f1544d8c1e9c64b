/** One frame as `tap` saw it: what it is and how that is printed. */
import type { Frame } from "../transport/Transport.ts"
import * as Printable from "../wire/Printable.ts"
import { read, size, split } from "../wire/Reading.ts"

/** A frame, when and where it came. */
export interface Sighting {
  readonly timeMillis: number
  /** Without the prefix. */
  readonly channel: string
  readonly frame: Frame
}

/** What one frame brought: several messages where it was a pack. */
export const each = (sighting: Sighting, maxFrameBytes: number): ReadonlyArray<Sighting> => {
  const frames = split(sighting.frame, maxFrameBytes)
  return frames.length === 1 ? [sighting] : frames.map((frame) => ({ ...sighting, frame }))
}

/** Six columns: time, channel, kind, action or outcome, id, payload. The payload is cut to `width` characters. */
export const toLine = ({ timeMillis, channel, frame }: Sighting, maxFrameBytes: number, width: number): string => {
  const { kind, what, id, payload } = read(frame, maxFrameBytes)
  const shown = kind === "garbage" ? `${size(frame)} bytes ` : ""
  return `${new Date(timeMillis).toISOString().slice(11)} ${Printable.word(channel)} ${kind} ${
    what === "-" ? what : Printable.word(what)
  } ${Printable.word(id)} ${shown}${Printable.cut(Printable.json(payload), width)}`
}

/** One JSON object with everything, `message` being the frame's own. */
export const toJson = ({ timeMillis, channel, frame }: Sighting, maxFrameBytes: number): string => {
  const { kind, fields } = read(frame, maxFrameBytes)
  return Printable.json({ time: new Date(timeMillis).toISOString(), channel, kind, bytes: size(frame), ...fields })
}
