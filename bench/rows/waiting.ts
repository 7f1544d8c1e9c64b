/** Handlers that wait, a limited number of them at once. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"
import { waitMillis } from "../Peer.ts"

export const row: Lab.Row = {
  key: "waiting",
  title: "Handlers that wait",
  about: `The handler waits for ${waitMillis} ms and gives back what it got; 10, 100 and 1,000 may run at once, and half as many more calls wait for their turn. 1 is what the limit allows: as many per second as handlers fit into it. \`timers alone\` shows what Node's timers leave of that without any messaging. Moleculer limits with its bulkhead.`,
  peers: ["timers", "moleculer", "fiberbus-memory", "fiberbus"],
  metrics: [
    { key: "share", title: "share of the limit", digits: 3, chief: "more" },
    { key: "rate", title: "calls/s", digits: 0 },
    { key: "cpu", title: "CPU µs per call", digits: 1 }
  ],
  figures: ["share"],
  run: (lab) =>
    Effect.forEach(
      [10, 100, 1_000],
      (pool) => {
        const plan = { op: "wait", inFlight: Math.ceil(pool * 1.5) } as const
        return Lab.turns(lab, row, `${pool.toLocaleString("en-US")} at once`, {
          start: (entry) => Lab.pair(lab, entry, { pool }),
          warmUp: ({ client }) => client.order("run", { ...plan, millis: lab.warmUpMillis / 2 }),
          turn: ({ client, server }, entry) =>
            Effect.gen(function* () {
              const cost = yield* Lab.costOf(
                lab,
                entry,
                { client, servers: server === undefined ? [] : [server] },
                client.order("run", { ...plan, millis: lab.millis })
              )
              const { calls, millis } = cost.result
              const rate = (calls / millis) * 1000
              return {
                share: rate / (pool / (waitMillis / 1000)),
                rate,
                cpu: (cost.client + cost.server + cost.broker) / calls
              }
            })
        })
      },
      { discard: true }
    )
}
