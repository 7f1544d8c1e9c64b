/**
 * Writes PUBLISH and SPUBLISH to the socket of one connection itself, and reads the answers before ioredis does: see {@link RespReader}.
 *
 * What is written in one turn of the event loop leaves in one system call at its end, what ioredis writes as well.
 */
import { performance } from "node:perf_hooks"
import type { Duplex } from "node:stream"
import { type Reading, RespReader } from "./RespReader.ts"

/** What the reader of one connection needs to know and finds out. */
export interface Answers extends Pick<Reading, "isOurs" | "answered" | "message" | "lost"> {
  /** A reply goes to ioredis. */
  readonly handedOn: (reply: Buffer) => void
}

/** @see {@link make} */
export interface DirectPublish {
  /** Whether answers are read here. Where they are not, ioredis has to write. */
  readonly canPublish: () => boolean
  /**
   * Writes a PUBLISH, or SPUBLISH where `sharded`, of a frame of so many bytes, at the latest at the end of this turn. Returns when the
   * turn began to write (`performance.now`).
   */
  readonly publish: (sharded: boolean, channel: string, frame: string, bytes: number) => number
  /** Has to be called before ioredis writes: what was written before leaves before. */
  readonly theirs: () => void
  /** Writes now. */
  readonly flush: () => void
  /** Takes no more: ioredis has to write from now on. */
  readonly stop: () => void
  /** Writes nothing any more: the connection is lost. */
  readonly drop: () => void
}

/** Characters of one turn that are written at once, without waiting for its end. */
const maxOut = 65_536
/** Writes above this size are not held back for others of the same turn: copying costs more than the system call. */
export const directBytes = 16_384

/** For a connection from which no byte has been read yet. */
export const make = (stream: Duplex, { handedOn, lost, ...reading }: Answers): DirectPublish => {
  let isReading = false
  // Puts the reader before ioredis' own, which then sees the rest. If ioredis comes to look different, all goes its way.
  const [listener, ...others] = stream.listeners("data") as Array<(bytes: Buffer) => void>
  if (listener !== undefined && others.length === 0) {
    isReading = true
    const reader = new RespReader({
      ...reading,
      other: (bytes, isReply) => {
        if (isReply) handedOn(bytes)
        listener.call(stream, bytes)
      },
      lost: () => {
        isReading = false
        lost()
      }
    })
    stream.on("data", (bytes: Buffer) => reader.read(bytes))
    stream.removeListener("data", listener)
  }
  let out = ""
  let isAscii = true
  let startedAt = 0
  let corked = false
  let flushing = false
  let dropped = false
  let lastChannel: string | undefined
  let lastSharded = false
  let lastIsAscii = true
  let lastHead = ""

  const writeOut = () => {
    const text = out
    out = ""
    stream.write(text, isAscii ? "latin1" : "utf8")
  }

  // In pieces, which one system call takes: as one text it would be copied once more.
  const writeLarge = (bytes: number, frame: string) => {
    out += `${lastHead}${bytes}\r\n`
    stream.cork()
    writeOut()
    stream.write(frame, bytes === frame.length ? "latin1" : "utf8")
    stream.write("\r\n", "latin1")
    stream.uncork()
    flush()
  }

  const flush = () => {
    if (dropped) return
    if (out !== "") writeOut()
    if (!corked) return
    corked = false
    stream.uncork()
  }

  const flushLater = () => {
    flushing = false
    flush()
  }

  const flushSoon = () => {
    if (flushing) return
    flushing = true
    process.nextTick(flushLater)
  }

  return {
    canPublish: () => isReading,
    publish: (sharded, channel, frame, bytes) => {
      if (out === "") {
        startedAt = performance.now()
        isAscii = true
        flushSoon()
      }
      if (channel !== lastChannel || sharded !== lastSharded) {
        const length = Buffer.byteLength(channel)
        lastSharded = sharded
        lastChannel = channel
        lastIsAscii = length === channel.length
        lastHead = `*3\r\n${sharded ? "$8\r\nspublish" : "$7\r\npublish"}\r\n$${length}\r\n${channel}\r\n$`
      }
      if ((bytes !== frame.length && bytes <= directBytes) || !lastIsAscii) isAscii = false
      if (bytes > directBytes) writeLarge(bytes, frame)
      else {
        out += `${lastHead}${bytes}\r\n${frame}\r\n`
        if (out.length > maxOut) writeOut()
      }
      return startedAt
    },
    theirs: () => {
      if (out !== "") writeOut()
      if (corked) return
      corked = true
      stream.cork()
      flushSoon()
    },
    flush,
    stop: () => {
      isReading = false
    },
    drop: () => {
      dropped = true
    }
  }
}
