/** The floor's caller: an inbox, a Map of what is pending, and nothing else; no timeout, no check, no error. */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis6"
import * as Child from "../Child.ts"
import { drive } from "../Meter.ts"
import type { Payload } from "../Payload.ts"

const subscriber = new Redis(Child.url)
const publisher = new Redis(Child.url)
const inbox = `floor:${randomUUID()}`
const pending = new Map<number, (answer: Payload) => void>()
let count = 0

subscriber.on("message", (_channel: string, text: string) => {
  const { id, payload } = JSON.parse(text)
  const resolve = pending.get(id)
  pending.delete(id)
  resolve?.(payload)
})
await subscriber.subscribe(inbox)

const call = (payload: Payload) =>
  new Promise<Payload>((resolve) => {
    const id = count++
    pending.set(id, resolve)
    publisher.publish("floor:echo", JSON.stringify({ id, replyTo: inbox, payload }))
  })

Child.ready(drive(call))
