/**
 * Durable requests by hand over ioredis 6: XADD to a stream, a consumer group that reads up to 100 at a time and acknowledges after the
 * replies, which go over pub/sub. Nothing is reclaimed from dead consumers, deduplicated, or checked.
 */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis6"
import { promises } from "../Meter.ts"
import { handlers, type Op, type Peer } from "../Peer.ts"

const kept = 100_000

export const peer: Peer = {
  serve: async ({ name, redis }) => {
    const reader = new Redis(redis)
    const writer = new Redis(redis, { enableAutoPipelining: true })
    await reader.xgroup("CREATE", name, "services", "$", "MKSTREAM")
    const handle = async (id: string, text: string) => {
      const request = JSON.parse(text)
      const answer = await handlers[request.op as Op](request.payload)
      await writer.publish(request.replyTo, JSON.stringify({ id: request.id, payload: answer }))
      await writer.xack(name, "services", id)
    }
    const read = async () => {
      for (;;) {
        const found = (await reader.xreadgroup(
          "GROUP",
          "services",
          "one",
          "COUNT",
          100,
          "BLOCK",
          1_000,
          "STREAMS",
          name,
          ">"
        )) as Array<[string, Array<[string, Array<string>]>]> | null
        for (const [id, fields] of found?.[0]?.[1] ?? []) void handle(id, fields[1]!)
      }
    }
    void read()
  },
  connect: async ({ name, redis }) => {
    const subscriber = new Redis(redis)
    const writer = new Redis(redis, { enableAutoPipelining: true })
    const inbox = `${name}:${randomUUID()}`
    const pending = new Map<number, (answer: any) => void>()
    let count = 0
    subscriber.on("message", (_channel: string, text: string) => {
      const { id, payload } = JSON.parse(text)
      const resolve = pending.get(id)
      pending.delete(id)
      resolve?.(payload)
    })
    await subscriber.subscribe(inbox)
    const call = (op: Op) => (payload: unknown) =>
      new Promise<any>((resolve, reject) => {
        const id = count++
        pending.set(id, resolve)
        const text = JSON.stringify({ id, op, replyTo: inbox, payload })
        writer.xadd(name, "MAXLEN", "~", kept, "*", "m", text).catch(reject)
      })
    return { calls: promises({ echo: call("echo"), wait: call("wait") }) }
  }
}
