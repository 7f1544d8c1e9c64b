// A stand-in for daebus_service.py where Python's Daebus is not installed: the same frames by hand, with nothing of fiberbus.
import { Redis } from "ioredis"

const [service = "", host = "", port = ""] = process.argv.slice(2)
const publisher = new Redis(Number(port), host)
const subscriber = new Redis(Number(port), host)

/** Writes as Python's json.dumps does: with spaces, and all but ASCII escaped. */
const dumps = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(dumps).join(", ")}]`
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, value]) => `${dumps(key)}: ${dumps(value)}`)
      .join(", ")}}`
  return JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  )
}

const answer = (request: any, status: "success" | "error", payload: object, final: boolean) =>
  publisher.publish(request.reply_to, dumps({ status, payload, request_id: request.request_id, final }))

const actions: Record<string, (request: any) => Promise<unknown>> = {
  add: (request) => answer(request, "success", { sum: request.payload.a + request.payload.b }, true),
  count: async (request) => {
    const { to } = request.payload
    for (let step = 1; step < to; step++) await answer(request, "success", { step }, false)
    await answer(request, "success", { counted: to }, true)
  },
  fail: (request) => answer(request, "error", { error: "no such user" }, true)
}

subscriber.on("message", (channel, text) => {
  const message = JSON.parse(text)
  if (channel === `${service}.greetings`)
    void publisher.publish(`${service}.answers`, dumps({ from: "daebus", heard: message.text }))
  // What it does not know it does not answer, as Daebus.
  else void actions[message.action]?.(message)
})
await subscriber.subscribe(service, `${service}.greetings`)
