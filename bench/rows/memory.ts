/** Calls within one process. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

export const row: Lab.Row = {
  key: "memory",
  title: "In one process",
  about:
    "The same echo with service and caller in one process, through the same text as over the wire. `Effect and codec alone` is no bus: a handler called through the two encodings and decodings that a call needs.",
  peers: ["codec", "moleculer-fake", "moleculer-fake-unchecked", "fiberbus-memory", "fiberbus-traced"],
  metrics: [
    { key: "rate", title: "calls/s", digits: 0, chief: "more" },
    { key: "p50", title: "p50 µs", digits: 0 },
    { key: "p99", title: "p99 µs", digits: 0 },
    { key: "cpu", title: "CPU µs per call", digits: 1, chief: "less" }
  ],
  figures: ["rate"],
  run: (lab) =>
    Effect.forEach(
      [1, 100],
      (inFlight) =>
        Lab.turns(lab, row, `${inFlight} in flight`, {
          start: (entry) => Lab.pair(lab, entry),
          warmUp: ({ client }) => client.order("run", Lab.warmUp(lab, { op: "echo", inFlight })),
          turn: ({ client }, entry) =>
            Effect.gen(function* () {
              const work = client.order("run", { op: "echo", inFlight, millis: lab.millis })
              const { client: cpu, result } = yield* Lab.costOf(lab, entry, { client, servers: [] }, work)
              const { calls, millis, p50, p99 } = result
              return { rate: (calls / millis) * 1000, p50, p99, cpu: cpu / calls }
            })
        }),
      { discard: true }
    )
}
