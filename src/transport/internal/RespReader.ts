/**
 * Reads what comes from Redis between the socket and ioredis: the frames of the hot path here, everything else there.
 *
 * A reply to PUBLISH is a number, a message of a subscription an array of three; replies to other commands of ours may be any value.
 * ioredis 6 makes a promise, a dozen objects and some hundred look-ups in weak maps of each; here all are read from the bytes as they lie.
 * What is no such frame is handed on, whole frame by whole frame, so that ioredis never notices. What is no RESP at all is handed on as it
 * came, from there to the end of the connection.
 *
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec (RESP2 and RESP3).
 */
import { Buffer, isAscii } from "node:buffer"
import * as LongTexts from "../../wire/LongTexts.ts"
import type { Frame } from "../Transport.ts"

/** What the reader finds out. */
export interface Reading {
  /** True while the next reply belongs to a command that was not sent by ioredis. */
  readonly isOurs: () => boolean
  /** Of one that is ours: whether it has to be a number, as PUBLISH is answered. */
  readonly isNumber: () => boolean
  /**
   * The answer to one, or the text of an error. Texts are such where all that came with them is plain ASCII, else bytes; a map is a list of
   * keys and values in turn, and nothing is `null`.
   */
  readonly answered: (reply: unknown, error: string | undefined) => void
  /** A message of a channel, sharded or not, of so many bytes. Text where it is plain ASCII and has no `LongTexts`. Must not throw. */
  readonly message: ((channel: string, frame: Frame, bytes: number) => void) | undefined
  /** All else, frame by frame, and whether it is a reply: not a push of RESP3, nor what is not understood. */
  readonly other: (bytes: Buffer, isReply: boolean) => void
  /** From here on nothing is understood, or what should be a number of ours is none. Said once, before it is handed on. */
  readonly lost: () => void
}

/**
 * A message of so many bytes that has not come in one piece is put together on its own, where all of it has room. No more room is made
 * before the bytes are there: a length may be anything.
 */
const largeBytes = 16_384
const maxBodyBytes = 16_777_216
/** What is kept for the next one at most. */
const maxSpareBytes = 2_097_152
/** Longest line of a reply, in bytes, and deepest nesting: what is beyond is no business of ours. */
const maxLine = 65_536
const maxDepth = 8

// What `frameEnd` says instead of the end.
const unknown = -1

const cr = 13
const lf = 10
const exclamation = 33
const minus = 45
const colon = 58
const dollar = 36
const star = 42
const push = 62
const eight = 56
const plain = Buffer.from("3\r\n$7\r\nmessage\r\n$")
const sharded = Buffer.from("3\r\n$8\r\nsmessage\r\n$")

/** @see the file's first line */
export class RespReader {
  private readonly reading: Reading
  /** Bytes of a frame that has not come to its end, and how many are needed to look again. */
  private pieces: Array<Buffer> = []
  private have = 0
  private need = 0
  /** Nothing is understood any more. */
  private blind = false
  /** The last channel's name: mostly the next one's as well. */
  private channel = ""
  // Where the number that was read last ends, and how many bytes a frame lacks at least.
  private cursor = 0
  private lacking = 0
  // What of an unfinished frame is known: how far, and how many items each array around that place still has.
  private scanned = 0
  private open: Array<number> = []
  /** A large message that comes in several pieces: its channel, its bytes, and how many of them have come. */
  private body: Buffer | undefined
  private bodyChannel = ""
  private bodyLength = 0
  private filled = 0
  /** Where the next one is put together: fresh memory costs more than the copying. */
  private spare: Buffer | undefined
  private items = 0

  constructor(reading: Reading) {
    this.reading = reading
  }

  /** Takes bytes as they come. */
  read(chunk: Buffer): void {
    if (this.blind) return this.reading.other(chunk, false)
    let bytes = chunk
    if (this.body !== undefined) {
      const taken = this.fill(this.body, chunk, 0)
      if (taken === chunk.length) return
      bytes = chunk.subarray(taken)
    } else if (this.have > 0) {
      this.pieces.push(chunk)
      this.have += chunk.length
      if (this.have < this.need) return
      bytes = Buffer.concat(this.pieces, this.have)
      this.pieces = []
      this.have = 0
    }
    // One string for all messages of plain ASCII, which most are: cutting it costs less than decoding each.
    let text: string | undefined
    let decided = false
    const decide = () => {
      if (decided) return
      decided = true
      text = bytes.length <= maxBodyBytes && isAscii(bytes) ? bytes.toString("latin1") : undefined
    }
    let at = 0
    while (at < bytes.length) {
      const type = bytes[at]!
      const isReply = type !== push
      if ((type === push || type === star) && this.reading.message !== undefined) {
        const length = this.messageHead(bytes, at)
        if (length >= 0) {
          this.scanned = 0
          this.open = []
          const from = this.cursor
          const start = this.payloadStart(bytes, from + length)
          if (start < 0) {
            if (start === unknown) return this.giveUp(bytes, at)
            return this.keep(bytes, at, this.lacking)
          }
          const end = start + this.payloadLength
          if (end + 2 > bytes.length) {
            if (this.payloadLength < largeBytes || this.payloadLength > maxBodyBytes)
              return this.keep(bytes, at, end + 2 - bytes.length)
            this.bodyChannel = bytes.toString("utf8", from, from + length)
            return this.beginBody(bytes, start)
          }
          // Its texts are cut from the bytes, so that none keeps those around it alive.
          const isCut = bytes[start] === LongTexts.mark
          if (!isCut) decide()
          this.deliver(bytes, isCut ? undefined : text, from, from + length, start, end)
          at = end + 2
          continue
        }
      }
      const isOurs = isReply && this.reading.isOurs()
      if (isOurs && type !== minus && this.reading.isNumber()) {
        const value = type === colon ? this.number(bytes, at + 1) : unknown
        if (value === unknown) return this.giveUp(bytes, at)
        if (this.cursor < 0) return this.keep(bytes, at, 1)
        at = this.cursor
        this.reading.answered(value, undefined)
        continue
      }
      // Most have come as a whole. What has not is looked at item by item as it comes, and read when it is there.
      if (isOurs && this.scanned === 0) {
        decide()
        const value = this.value(bytes, text, at, 0)
        if (this.cursor > 0) {
          at = this.cursor
          this.answer(type, value)
          continue
        }
      }
      const end = this.frameEnd(bytes, at)
      if (end === unknown) return this.giveUp(bytes, at)
      if (end > bytes.length) return this.keep(bytes, at, end - bytes.length)
      if (isOurs) {
        decide()
        const value = this.value(bytes, text, at, 0)
        if (this.cursor !== end) return this.giveUp(bytes, at)
        this.answer(type, value)
      } else this.reading.other(bytes.subarray(at, end), isReply)
      at = end
    }
  }

  private answer(type: number, value: unknown) {
    if (type === minus || type === exclamation) this.reading.answered(undefined, String(value))
    else this.reading.answered(value, undefined)
  }

  /** What is written there, whose end becomes `cursor`: less than 0 where it has not come to its end, or cannot be read. */
  private value(bytes: Buffer, text: string | undefined, at: number, depth: number): unknown {
    switch (bytes[at]) {
      case dollar:
      case exclamation:
      case 61: {
        // =
        const length = this.lengthAt(bytes, at)
        if (length < 0) return null
        const start = this.cursor
        const end = start + length
        this.cursor = end + 2 <= bytes.length ? end + 2 : -1
        if (this.cursor < 0) return undefined
        // A verbatim text says first, in four characters, what it is.
        const from = bytes[at] === 61 ? Math.min(start + 4, end) : start
        return text === undefined ? bytes.subarray(from, end) : text.slice(from, end)
      }
      case star:
      case 126: // ~
      case 37: {
        // %
        const length = this.lengthAt(bytes, at)
        if (length < 0) return null
        if (depth >= maxDepth) {
          this.cursor = -1
          return undefined
        }
        const count = bytes[at] === 37 ? length * 2 : length
        const items: Array<unknown> = []
        for (let i = 0; i < count; i++) {
          items.push(this.value(bytes, text, this.cursor, depth + 1))
          if (this.cursor < 0) return undefined
        }
        return items
      }
      case colon: {
        const value = this.number(bytes, at + 1)
        // What is negative, or long.
        return value === unknown ? this.line(bytes, at) : value
      }
      case 43: // +
      case minus:
      case 95: // _
      case 35: // #
      case 44: // ,
      case 40: // (
        return this.line(bytes, at)
      default:
        this.cursor = -1
        return undefined
    }
  }

  /** The same of what is one line. */
  private line(bytes: Buffer, at: number): unknown {
    const end = bytes.indexOf("\r\n", at, "latin1")
    this.cursor = end < 0 ? -1 : end + 2
    const word = bytes.toString("utf8", at + 1, end < 0 ? at + 1 : end)
    switch (bytes[at]) {
      case 95:
        return null
      case 35:
        return word === "t"
      case 44:
        return /inf$/.test(word) ? Number(word.replace("inf", "Infinity")) : Number(word)
      case colon:
        if (!/^-?\d+$/.test(word)) this.cursor = -1
        return Number(word)
      default:
        return word
    }
  }

  /** A length, behind which `cursor` is set as `number` does; -1 for RESP2's nothing, and for what cannot be read. */
  private lengthAt(bytes: Buffer, at: number): number {
    if (bytes[at + 1] !== minus) {
      const length = this.number(bytes, at + 1)
      if (length === unknown) this.cursor = -1
      return this.cursor < 0 ? unknown : length
    }
    this.cursor = at + 5 <= bytes.length && bytes[at + 2] === 49 && bytes[at + 3] === cr ? at + 5 : -1
    return unknown
  }

  private beginBody(bytes: Buffer, start: number) {
    const { payloadLength, spare } = this
    const needed = payloadLength + 2
    const body = spare !== undefined && spare.length >= needed ? spare : Buffer.allocUnsafeSlow(needed)
    this.body = body
    this.bodyLength = payloadLength
    this.filled = 0
    this.fill(body, bytes, start)
  }

  /** Takes what belongs to the message that is put together, and gives it out when that was all. Where the next one begins. */
  private fill(body: Buffer, chunk: Buffer, at: number): number {
    const length = this.bodyLength
    const count = Math.min(chunk.length - at, length + 2 - this.filled)
    chunk.copy(body, this.filled, at, at + count)
    this.filled += count
    if (this.filled < length + 2) return chunk.length
    this.body = undefined
    const bytes = body.subarray(0, length)
    // Who is given bytes may keep them.
    const isText = bytes[0] !== LongTexts.mark && isAscii(bytes)
    this.spare = isText && body.length <= maxSpareBytes ? body : undefined
    this.reading.message!(this.bodyChannel, isText ? body.toString("latin1", 0, length) : bytes, length)
    return at + count
  }

  private deliver(bytes: Buffer, text: string | undefined, from: number, to: number, start: number, end: number) {
    const { channel } = this
    if (text === undefined) {
      this.channel = bytes.toString("utf8", from, to)
      this.reading.message!(this.channel, bytes.subarray(start, end), end - start)
    } else {
      if (to - from !== channel.length || !text.startsWith(channel, from)) this.channel = text.slice(from, to)
      this.reading.message!(this.channel, text.slice(start, end), end - start)
    }
  }

  /** Length of the channel's name if these bytes begin a message and its head is here; then `cursor` is where the name begins. */
  private messageHead(bytes: Buffer, at: number): number {
    const head = bytes[at + 5] === eight ? sharded : plain
    if (at + 1 + head.length >= bytes.length) return unknown
    for (let i = 0; i < head.length; i++) if (bytes[at + 1 + i] !== head[i]) return unknown
    const length = this.number(bytes, at + 1 + head.length)
    return this.cursor < 0 ? unknown : length
  }

  private payloadLength = 0

  /** Where the payload begins, behind the name; `unknown`, or -2 where it has not come yet. */
  private payloadStart(bytes: Buffer, nameEnd: number): number {
    const at = nameEnd + 2
    if (at + 1 >= bytes.length) {
      this.lacking = at + 2 - bytes.length
      return -2
    }
    if (bytes[at] !== dollar) return unknown
    const length = this.number(bytes, at + 1)
    if (length === unknown) return unknown
    if (this.cursor < 0) {
      this.lacking = 1
      return -2
    }
    this.payloadLength = length
    return this.cursor
  }

  /** A number up to the end of its line, whose end becomes `cursor`: -1 where it has not come yet. `unknown` for what is none. */
  private number(bytes: Buffer, at: number): number {
    let value = 0
    for (let i = at; i < bytes.length; i++) {
      const byte = bytes[i]!
      if (byte === cr) {
        this.cursor = i + 1 < bytes.length ? i + 2 : -1
        return i === at || (this.cursor > 0 && bytes[i + 1] !== lf) ? unknown : value
      }
      if (byte < 48 || byte > 57 || i - at > 12) return unknown
      value = value * 10 + byte - 48
    }
    this.cursor = -1
    return value
  }

  /**
   * Where a frame of any kind ends; more than there is where it has not come, `unknown` for what is no frame. Goes on where it had to
   * stop the last time.
   */
  private frameEnd(bytes: Buffer, at: number): number {
    const { open } = this
    let next = at + this.scanned
    for (;;) {
      const end = open.length > maxDepth ? unknown : this.itemEnd(bytes, next)
      if (end === unknown || end > bytes.length) {
        this.scanned = next - at
        return end
      }
      next = end
      if (this.items > 0) {
        open.push(this.items)
        continue
      }
      while (open.length > 0 && --open[open.length - 1]! === 0) open.pop()
      if (open.length > 0) continue
      this.scanned = 0
      return next
    }
  }

  /** The same of one item, and of an array the end of its head: then `items` is how many follow. */
  private itemEnd(bytes: Buffer, at: number): number {
    this.items = 0
    if (at >= bytes.length) return at + 1
    const line = bytes.indexOf("\r\n", at, "latin1")
    if (line < 0) return bytes.length - at > maxLine ? unknown : bytes.length + 1
    switch (bytes[at]) {
      case 43: // +
      case minus:
      case colon:
      case 95: // _
      case 35: // #
      case 44: // ,
      case 40: // (
        return line + 2
      case dollar:
      case exclamation:
      case 61: // =
        {
          const length = this.count(bytes, at + 1, line)
          return length === unknown ? unknown : length === undefined ? line + 2 : line + 4 + length
        }
      case star:
      case 126: // ~
      case push:
      case 37: {
        // %
        const count = this.count(bytes, at + 1, line)
        if (count === unknown) return unknown
        this.items = (count ?? 0) * (bytes[at] === 37 ? 2 : 1)
        return line + 2
      }
      default:
        return unknown
    }
  }

  /** A length; nothing where it is RESP2's -1, which means that there is nothing. */
  private count(bytes: Buffer, at: number, line: number): number | undefined {
    if (bytes[at] === minus) return line === at + 2 && bytes[at + 1] === 49 ? undefined : unknown
    const value = this.number(bytes, at)
    return this.cursor === line + 2 ? value : unknown
  }

  private keep(bytes: Buffer, at: number, lacking: number) {
    const rest = at === 0 ? bytes : bytes.subarray(at)
    this.pieces = [rest]
    this.have = rest.length
    this.need = rest.length + lacking
  }

  private giveUp(bytes: Buffer, at: number) {
    this.blind = true
    this.reading.lost()
    this.reading.other(at === 0 ? bytes : bytes.subarray(at), false)
  }
}
