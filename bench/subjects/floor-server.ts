/** The floor's service: the least that answers a request over pub/sub. */
import { Redis } from "ioredis6"
import * as Child from "../Child.ts"

const subscriber = new Redis(Child.url)
const publisher = new Redis(Child.url)

subscriber.on("message", (_channel: string, text: string) => {
  const { id, replyTo, payload } = JSON.parse(text)
  publisher.publish(replyTo, JSON.stringify({ id, payload }))
})
await subscriber.subscribe("floor:echo")
Child.ready()
