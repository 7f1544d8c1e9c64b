/** Calls over the wire, client and server in processes of their own. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

const metrics: ReadonlyArray<Lab.Metric> = [
  { key: "rate", title: "calls/s", digits: 0, chief: "more" },
  { key: "p50", title: "p50 µs", digits: 0, chief: "less" },
  { key: "p99", title: "p99 µs", digits: 0, chief: "less" },
  { key: "cpu", title: "CPU µs per call", digits: 1, chief: "less" },
  { key: "cpuClient", title: "of it client", digits: 1 },
  { key: "cpuServer", title: "server", digits: 1 },
  { key: "cpuBroker", title: "broker", digits: 1 }
]

const peers = [
  "floor",
  "floor-auto",
  "floor-corked",
  "floor-packed",
  "floor-streams",
  "moleculer",
  "moleculer-unchecked",
  "nest",
  "nest-unchecked",
  "effect-rpc",
  "effect-rpc-jit",
  "nats",
  "bullmq",
  "fiberbus-single",
  "fiberbus-live",
  "fiberbus-nats",
  "fiberbus-durable",
  "fiberbus"
]

/** Before each measurement, not counted: caches and sockets are another peer's until then. */
const leadMillis = 150

/** One number of calls in flight. */
const flight = (lab: Lab.Lab, row: Lab.Row, inFlight: number) =>
  Lab.turns(lab, row, `${inFlight.toLocaleString("en-US")} in flight`, {
    start: (entry) => Lab.pair(lab, entry),
    warmUp: ({ client }) => client.order("run", Lab.warmUp(lab, { op: "echo", inFlight })),
    turn: ({ client, server }, entry) =>
      Effect.gen(function* () {
        yield* client.order("run", { op: "echo", inFlight, millis: leadMillis })
        const cost = yield* Lab.costOf(
          lab,
          entry,
          { client, servers: server === undefined ? [] : [server] },
          client.order("run", { op: "echo", inFlight, millis: lab.millis })
        )
        const { calls, millis, p50, p99 } = cost.result
        return {
          rate: (calls / millis) * 1000,
          p50,
          p99,
          cpu: (cost.client + cost.server + cost.broker) / calls,
          cpuClient: cost.client / calls,
          cpuServer: cost.server / calls,
          cpuBroker: cost.broker / calls
        }
      })
  })

export const latency: Lab.Row = {
  key: "latency",
  title: "One call at a time",
  about:
    "An echo of about 150 bytes, each call begun when the answer before it is there. Every answer is compared with what was sent, field by field. p50 and p99 are what the caller waits.",
  peers,
  metrics,
  figures: ["p50", "p99"],
  run: (lab) => flight(lab, latency, 1)
}

export const calls: Lab.Row = {
  key: "calls",
  title: "Many calls at once",
  about:
    "The same echo with 100 and with 1,000 calls in flight. Each is followed by the next as soon as its answer is there, so p50 and p99 are mostly the wait for the others.",
  peers,
  metrics,
  figures: ["rate", "p99", "cpu"],
  run: (lab) => Effect.forEach([100, 1_000], (inFlight) => flight(lab, calls, inFlight), { discard: true })
}
