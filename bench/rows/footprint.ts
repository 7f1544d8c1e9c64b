/** What things weigh, and whether it grows. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

const pending = 20_000
const services = 200
const steps = 10

const held: Lab.Row = {
  key: "footprint",
  title: "Memory",
  about: `Bytes of the caller's process per call that waits for its answer (${pending.toLocaleString("en-US")} of them), and of the service's process per service without work (${services} of them, each with one action). RSS is what the system has given; the heap is counted after a collection, and steadier.`,
  peers: ["floor", "moleculer", "effect-rpc-jit", "nats", "fiberbus"],
  metrics: [
    { key: "heap", title: "heap, bytes each", digits: 0, chief: "less" },
    { key: "rss", title: "RSS, bytes each", digits: 0 }
  ],
  figures: ["heap"],
  run: (lab) =>
    Effect.gen(function* () {
      const rounds = Math.min(lab.rounds, 3)
      yield* Effect.orDie(lab.brokers.subscriberBuffers("none"))
      yield* Lab.turns(lab, held, "per pending call", {
        rounds,
        afresh: true,
        start: (entry) => Lab.pair(lab, entry, { limits: "raised", pool: 2 * pending, collect: true }),
        warmUp: ({ client }) => client.order("run", { op: "echo", inFlight: 1_000, millis: lab.warmUpMillis }),
        turn: ({ client }) =>
          Effect.gen(function* () {
            const before = yield* client.order("usage", undefined)
            yield* client.order("hold", { count: pending })
            // An echo behind them: they have left.
            yield* client.order("run", { op: "echo", inFlight: 1, millis: 200 })
            const after = yield* client.order("usage", undefined)
            return { heap: (after.heap - before.heap) / pending, rss: (after.rss - before.rss) / pending }
          })
      })
      yield* Effect.orDie(lab.brokers.subscriberBuffers("default"))
      const both = ["moleculer", "fiberbus"]
      yield* Lab.turns({ ...lab, peersOf: (row) => lab.peersOf({ ...row, peers: both }) }, held, "per idle service", {
        rounds,
        afresh: true,
        start: (entry) =>
          Effect.gen(function* () {
            const few = yield* lab.start(entry, "idle", { ...(yield* lab.together(entry)), count: 1, collect: true })
            const many = yield* lab.start(entry, "idle", {
              ...(yield* lab.together(entry)),
              count: 1 + services,
              collect: true
            })
            return { few, many }
          }),
        turn: ({ few, many }) =>
          Effect.gen(function* () {
            const less = yield* few.order("usage", undefined)
            const more = yield* many.order("usage", undefined)
            return { heap: (more.heap - less.heap) / services, rss: (more.rss - less.rss) / services }
          })
      })
    })
}
export const footprint = held

export const flat: Lab.Row = {
  key: "flat",
  title: "Memory over time",
  about:
    "Heap after a collection, of client and server together, while they make one call after the other, 100 in flight: at the end, and the most in between, as a share of what it was after the first tenth. 1 is flat. `--millions` says how many calls.",
  peers: ["fiberbus", "fiberbus-memory"],
  alone: true,
  metrics: [
    { key: "end", title: "heap at the end / after a tenth", digits: 3, chief: "less" },
    { key: "most", title: "most / after a tenth", digits: 3 },
    { key: "rss", title: "RSS at the end / after a tenth", digits: 3 },
    { key: "heap", title: "heap at the end, MiB", digits: 1 },
    { key: "calls", title: "calls", digits: 0 }
  ],
  figures: ["end"],
  run: (lab) =>
    Lab.turns(lab, flat, "calls one after the other", {
      rounds: 1,
      afresh: true,
      start: (entry) => Lab.pair(lab, entry, { collect: true }),
      turn: ({ client, server }) =>
        Effect.gen(function* () {
          const calls = Math.max(100, Math.round((lab.millions * 1_000_000) / steps))
          const seen: Array<{ readonly heap: number; readonly rss: number }> = []
          for (let step = 0; step < steps; step++) {
            yield* client.order("run", { op: "echo", inFlight: 100, millis: 0, calls }, 600_000)
            const both = [yield* client.order("usage", undefined)]
            if (server !== undefined) both.push(yield* server.order("usage", undefined))
            const sum = (of: (usage: { readonly heap: number; readonly rss: number }) => number) =>
              both.reduce((sum, usage) => sum + of(usage), 0)
            seen.push({ heap: sum(({ heap }) => heap), rss: sum(({ rss }) => rss) })
          }
          const first = seen[0]!
          const last = seen.at(-1)!
          return {
            end: last.heap / first.heap,
            most: Math.max(...seen.map(({ heap }) => heap)) / first.heap,
            rss: last.rss / first.rss,
            heap: last.heap / 1_048_576,
            calls: calls * steps
          }
        })
    })
}
