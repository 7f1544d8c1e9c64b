/** fiberbus' service, and a caller by hand who speaks Daebus' protocol and nothing of ours: each step in a frame of its own, nothing packed. */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis6"
import { promises } from "../Meter.ts"
import type { Peer } from "../Peer.ts"
import { peer as fiberbus } from "./fiberbus.ts"

interface Answer {
  readonly status: "success" | "error"
  readonly payload: any
  readonly request_id: number
  readonly final: boolean
}

export const peer: Peer = {
  serve: (setting) => fiberbus.serve!({ ...setting, variant: "redis" }),
  connect: async ({ name, redis }) => {
    const subscriber = new Redis(redis)
    const publisher = new Redis(redis)
    const inbox = `caller:${randomUUID()}`
    const pending = new Map<number, (answer: Answer) => void>()
    let count = 0
    subscriber.on("message", (_channel: string, text: string) => {
      const answer = JSON.parse(text) as Answer
      const receive = pending.get(answer.request_id)
      if (answer.final) pending.delete(answer.request_id)
      receive?.(answer)
    })
    await subscriber.subscribe(inbox)
    const call = (action: string, payload: unknown, step: (step: any) => void) =>
      new Promise<any>((resolve, reject) => {
        const id = count++
        pending.set(id, (answer) => {
          if (!answer.final) return step(answer.payload)
          if (answer.status === "success") resolve(answer.payload)
          else reject(new Error(answer.payload.error))
        })
        const request = { action, service: name, reply_to: inbox, payload, request_id: id }
        publisher.publish(name, JSON.stringify(request)).catch(reject)
      })
    return {
      calls: promises({ echo: (payload) => call("echo", payload, () => {}) }),
      stream: (count, take) => call("items", { count }, take)
    }
  }
}
