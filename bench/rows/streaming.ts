/** One call, many items. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

export const row: Lab.Row = {
  key: "streaming",
  title: "One call, 10,000 items",
  about:
    "Items per second of one call that is answered with 10,000 objects of about 150 bytes, each checked, in order, by a consumer that takes them as they come. fiberbus and effect/rpc hold the producer back when the consumer is slow; over the network Moleculer and NestJS do not, and nor can a Daebus caller ask for it, who gets each item in a frame of its own.",
  peers: ["moleculer", "nest", "effect-rpc", "effect-rpc-jit", "fiberbus-daebus", "fiberbus"],
  metrics: [
    { key: "rate", title: "items/s", digits: 0, chief: "more" },
    { key: "cpu", title: "CPU µs per item", digits: 1, chief: "less" }
  ],
  figures: ["rate"],
  run: (lab) => {
    const count = lab.quick ? 1_000 : 10_000
    return Lab.turns(lab, row, "10,000 items", {
      start: (entry) => Lab.pair(lab, entry),
      warmUp: ({ client }) =>
        Effect.forEach(Array.from({ length: lab.quick ? 1 : 10 }), () => client.order("stream", { count }), {
          discard: true
        }),
      turn: ({ client, server }, entry) =>
        Effect.gen(function* () {
          const streams = Math.max(1, Math.round(lab.millis / 500))
          const work = Effect.forEach(Array.from({ length: streams }), () => client.order("stream", { count }))
          const cost = yield* Lab.costOf(lab, entry, { client, servers: server === undefined ? [] : [server] }, work)
          const items = count * streams
          return {
            rate: (items / cost.result.reduce((sum, millis) => sum + millis, 0)) * 1000,
            cpu: (cost.client + cost.server + cost.broker) / items,
            cpuClient: cost.client / items,
            cpuServer: cost.server / items,
            cpuBroker: cost.broker / items
          }
        })
    })
  }
}
