/**
 * Gathers frames that may share one: those of one turn of the event loop and one channel become a pack.
 *
 * The order of a channel stays, and so does that of channels which share a hash tag.
 */
import { Buffer } from "node:buffer"
import * as Pack from "../../wire/Pack.ts"
import * as KeySlot from "../KeySlot.ts"
import type { Sent, TransportError } from "../Transport.ts"

/** Hands a frame of so many bytes over for sending. */
export type Publish = (channel: string, frame: string, bytes: number, sent: Sent) => void

/** Channels that packs are gathered for at once; for one more, the oldest leaves. */
const maxChannels = 64

interface Open {
  readonly channel: string
  readonly frames: Array<string>
  readonly sents: Array<Sent>
  /** Characters of all, with what a pack puts around them. */
  length: number
}

/** @see the file's first line */
export class Packer {
  /** Characters that are gathered. */
  length = 0
  private readonly publish: Publish
  private readonly threw: (channel: string, defect: unknown) => void
  /** By hash tag, or by name where there is none. */
  private readonly open = new Map<string, Open>()
  /** Mostly the next frame is for the same. */
  private last: Open | undefined
  private scheduled = false

  constructor(publish: Publish, threw: (channel: string, defect: unknown) => void) {
    this.publish = publish
    this.threw = threw
  }

  /** Takes a frame, which leaves with the end of this turn at the latest. */
  add(channel: string, frame: string, sent: Sent) {
    const { last } = this
    const open = last !== undefined && last.channel === channel ? last : this.open.get(KeySlot.tagOf(channel))
    this.length += frame.length
    if (open !== undefined && open.channel === channel && open.length + frame.length + 1 <= Pack.maxBytes) {
      open.frames.push(frame)
      open.sents.push(sent)
      open.length += frame.length + 1
      this.last = open
      if (open.frames.length === Pack.maxCount) this.close(open)
      return
    }
    if (open !== undefined) this.close(open)
    else if (this.open.size >= maxChannels) this.close(this.open.values().next().value!)
    this.last = { channel, frames: [frame], sents: [sent], length: frame.length + 2 }
    this.open.set(KeySlot.tagOf(channel), this.last)
    if (this.scheduled) return
    this.scheduled = true
    process.nextTick(this.end)
  }

  /** Lets what is gathered for a channel, or another of its hash tag, leave, because something follows that is no part of it. */
  before(channel: string) {
    const open = this.open.size === 0 ? undefined : this.open.get(KeySlot.tagOf(channel))
    if (open !== undefined) this.close(open)
  }

  /** Lets all leave. */
  flush() {
    for (const open of this.open.values()) this.close(open)
  }

  private readonly end = () => {
    this.scheduled = false
    this.flush()
  }

  private close({ channel, frames, length, sents }: Open) {
    this.open.delete(KeySlot.tagOf(channel))
    if (this.last?.channel === channel) this.last = undefined
    this.length -= length - frames.length - 1
    if (frames.length > 1) {
      // In one piece: what is put around it afterwards would be another copy.
      const first = frames[0]!
      const last = frames.length - 1
      const end = frames[last]!
      frames[0] = `[${first}`
      frames[last] = `${end}]`
      const text = frames.join(",")
      const bytes = Buffer.byteLength(text)
      if (bytes <= Pack.maxBytes)
        return this.publish(channel, text, bytes, (error, receivers) => {
          for (const sent of sents) this.tell(channel, sent, error, receivers)
        })
      frames[0] = first
      frames[last] = end
    }
    // One alone, or many whose characters have several bytes each.
    for (let i = 0; i < frames.length; i++) {
      this.publish(channel, frames[i]!, Buffer.byteLength(frames[i]!), sents[i]!)
    }
  }

  private tell(channel: string, sent: Sent, error: TransportError | undefined, receivers: number) {
    try {
      sent(error, receivers)
    } catch (defect) {
      this.threw(channel, defect)
    }
  }
}
