/** Large messages. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

const sizes = [
  { name: "64 KiB", bytes: 65_536, inFlight: 8 },
  { name: "1 MiB", bytes: 1_048_576, inFlight: 4 }
]

export const row: Lab.Row = {
  key: "payloads",
  title: "Large payloads",
  about:
    "MiB per second of text that goes to the service and comes back, counted once: 64 KiB with 8 calls in flight, 1 MiB with 4. Every answer is compared with what was sent. Limits of the message size are raised to 16 MiB where there are any.",
  peers: ["floor", "floor-msgpack", "moleculer", "nest", "effect-rpc-jit", "nats", "fiberbus"],
  metrics: [
    { key: "rate", title: "MiB/s", digits: 1, chief: "more" },
    { key: "p99", title: "p99 µs", digits: 0 },
    { key: "cpu", title: "CPU µs per KiB", digits: 2, chief: "less" }
  ],
  figures: ["rate"],
  run: (lab) =>
    Effect.gen(function* () {
      yield* Effect.orDie(lab.brokers.subscriberBuffers("none"))
      for (const { bytes, inFlight, name } of sizes) {
        const plan = { op: "blob", inFlight, bytes } as const
        yield* Lab.turns(lab, row, name, {
          start: (entry) => Lab.pair(lab, entry, { limits: "raised" }),
          warmUp: ({ client }) => client.order("run", { ...plan, millis: lab.warmUpMillis / 2 }),
          turn: ({ client, server }, entry) =>
            Effect.gen(function* () {
              const cost = yield* Lab.costOf(
                lab,
                entry,
                { client, servers: server === undefined ? [] : [server] },
                client.order("run", { ...plan, millis: lab.millis })
              )
              const { calls, millis, p99 } = cost.result
              const kibibytes = (calls * bytes) / 1_024
              return {
                rate: (kibibytes / 1_024 / millis) * 1000,
                p99,
                cpu: (cost.client + cost.server + cost.broker) / kibibytes
              }
            })
        })
      }
      yield* Effect.orDie(lab.brokers.subscriberBuffers("default"))
    })
}
