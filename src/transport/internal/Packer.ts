/** Gathers frames that may share one: those of one turn of the event loop and one channel become a pack. */
import * as Pack from "../../wire/Pack.ts"
import type { Sent } from "../Transport.ts"

/** Hands a frame of so many bytes over for sending. */
export type Publish = (channel: string, frame: string, bytes: number, sent: Sent) => void

/** Channels that packs are gathered for at once; more than that, and the oldest leaves. */
const maxChannels = 64

/** A pack that is not closed yet. One frame alone leaves as it is. */
interface Open {
  readonly channel: string
  text: string
  bytes: number
  readonly sents: Array<Sent>
}

/** @see the file's first line */
export class Packer {
  private readonly publish: Publish
  private readonly threw: (channel: string, defect: unknown) => void
  private readonly open = new Map<string, Open>()
  /** Mostly the next frame is for the same. */
  private last: Open | undefined
  private scheduled = false
  /** Bytes that are gathered. */
  bytes = 0

  constructor(publish: Publish, threw: (channel: string, defect: unknown) => void) {
    this.publish = publish
    this.threw = threw
  }

  /** Takes a frame, which leaves with the end of this turn at the latest. */
  add(channel: string, frame: string, bytes: number, sent: Sent) {
    const { last } = this
    const open = last !== undefined && last.channel === channel ? last : this.open.get(channel)
    this.bytes += bytes
    if (open !== undefined && open.bytes + bytes + open.sents.length + 2 <= Pack.maxBytes) {
      open.text += `,${frame}`
      open.bytes += bytes
      open.sents.push(sent)
      this.last = open
      if (open.sents.length === Pack.maxCount) this.close(open)
      return
    }
    if (open !== undefined) this.close(open)
    const { value: oldest } = this.open.values().next()
    if (oldest !== undefined && this.open.size >= maxChannels) this.close(oldest)
    this.last = { channel, text: frame, bytes, sents: [sent] }
    this.open.set(channel, this.last)
    if (this.scheduled) return
    this.scheduled = true
    process.nextTick(this.end)
  }

  /** Lets what is gathered for a channel leave, because something follows that is no part of it. */
  before(channel: string) {
    const open = this.open.size === 0 ? undefined : this.open.get(channel)
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

  private close({ bytes, channel, sents, text }: Open) {
    this.open.delete(channel)
    if (this.last?.channel === channel) this.last = undefined
    this.bytes -= bytes
    if (sents.length === 1) return this.publish(channel, text, bytes, sents[0]!)
    this.publish(channel, `[${text}]`, bytes + sents.length + 1, (error, receivers) => {
      for (const sent of sents) {
        try {
          sent(error, receivers)
        } catch (defect) {
          this.threw(channel, defect)
        }
      }
    })
  }
}
