/**
 * Request and reply by hand over ioredis 6: `publish`, a JSON envelope, a Map of what is pending. No checks, no timeouts, no errors. The variants differ
 * in how a message leaves: `plain` as everybody's first version does, `auto` with ioredis' auto-pipelining, `corked` with one write to the
 * socket per turn of the event loop, `packed` with up to 32 messages of a turn in one publish, and corked. `msgpack` is `plain` with an envelope in
 * MessagePack instead of JSON, as bytes, by msgpackr.
 */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis6"
import { Packr } from "msgpackr"
import { promises } from "../Meter.ts"
import * as Payload from "../Payload.ts"
import { handlers, inGroups, type Op, type Peer, type Setting } from "../Peer.ts"

/** Messages in one publish of the variant `packed`. */
const most = 32

type Send = (channel: string, text: string) => Promise<unknown>
type SendMessage = (channel: string, message: unknown) => Promise<unknown>

/** The keys of each message are in it, as in JSON: both sides need not know each other's. */
const packr = new Packr({ useRecords: false })

const connect = ({ redis, variant }: Setting) => new Redis(redis, { enableAutoPipelining: variant === "auto" })

const corking = (redis: Redis): Send => {
  let scheduled = false
  return (channel, text) => {
    if (!scheduled) {
      scheduled = true
      const { stream } = redis
      stream.cork()
      setImmediate(() => {
        scheduled = false
        stream.uncork()
      })
    }
    return redis.publish(channel, text)
  }
}

const packing = (redis: Redis): Send => {
  const send = corking(redis)
  const waiting = new Map<string, Array<string>>()
  let flushed: Promise<unknown> | undefined
  return (channel, text) => {
    const texts = waiting.get(channel)
    if (texts === undefined) waiting.set(channel, [text])
    else texts.push(text)
    flushed ??= new Promise((resolve) =>
      setImmediate(() => {
        flushed = undefined
        const sent: Array<Promise<unknown>> = []
        for (const [channel, texts] of waiting) {
          for (let at = 0; at < texts.length; at += most) {
            sent.push(send(channel, `[${texts.slice(at, at + most).join(",")}]`))
          }
        }
        waiting.clear()
        resolve(Promise.all(sent))
      })
    )
    return flushed
  }
}

const sending = (setting: Setting, redis: Redis): Send => {
  if (setting.variant === "corked") return corking(redis)
  if (setting.variant === "packed") return packing(redis)
  return (channel, text) => redis.publish(channel, text)
}

/** Hears a channel. */
const hear = async (setting: Setting, channel: string, receive: (message: any) => void) => {
  const subscriber = connect(setting)
  const isPacked = setting.variant === "packed"
  if (setting.variant === "msgpack") {
    subscriber.on("messageBuffer", (_channel: Buffer, bytes: Buffer) => receive(packr.unpack(bytes)))
  } else {
    subscriber.on("message", (_channel: string, text: string) => {
      const read = JSON.parse(text)
      if (!isPacked) return receive(read)
      for (const message of read) receive(message)
    })
  }
  await subscriber.subscribe(channel)
}

const publisherOf = async (setting: Setting): Promise<SendMessage> => {
  const publisher = connect(setting)
  await publisher.ping()
  if (setting.variant === "msgpack") return (channel, message) => publisher.publish(channel, packr.pack(message))
  const send = sending(setting, publisher)
  return (channel, message) => send(channel, JSON.stringify(message))
}

export const peer: Peer = {
  serve: async (setting) => {
    const send = await publisherOf(setting)
    const reply = (replyTo: string, id: number, payload: unknown) => send(replyTo, { id, payload })
    await hear(setting, setting.name, ({ id, op, payload, replyTo }) => {
      const answer = handlers[op as Op](payload)
      if (answer instanceof Promise) answer.then((answer) => reply(replyTo, id, answer))
      else reply(replyTo, id, answer)
    })
  },
  connect: async (setting) => {
    const send = await publisherOf(setting)
    const inbox = `${setting.name}:${randomUUID()}`
    const pending = new Map<number, (answer: any) => void>()
    let count = 0
    await hear(setting, inbox, ({ id, payload }) => {
      const resolve = pending.get(id)
      pending.delete(id)
      resolve?.(payload)
    })
    const call = (op: Op) => (payload: unknown) =>
      new Promise<any>((resolve) => {
        const id = count++
        pending.set(id, resolve)
        send(setting.name, { id, op, replyTo: inbox, payload })
      })
    return {
      calls: promises({ echo: call("echo"), wait: call("wait"), blob: call("blob"), hold: call("hold") }),
      publish: inGroups((message) => send(`${setting.name}:events`, message), Payload.make)
    }
  },
  listen: (setting, listeners, heard) =>
    hear(setting, `${setting.name}:events`, (message) => {
      for (let i = 0; i < listeners; i++) heard(message)
    })
}
