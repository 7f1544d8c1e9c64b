/** Calls that are all begun at once. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

/** How long outcomes are waited for. With default limits those that have one get it within seconds. */
const limitMillis = { raised: 60_000, default: 20_000 }

const peers = ["floor", "floor-packed", "moleculer", "nest", "effect-rpc-jit", "nats", "fiberbus"]

const outcomesOf = (outcomes: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(outcomes).map(([name, count]) => [`outcome:${name}`, count]))

const count = (text: number) => text.toLocaleString("en-US")

const burst = (lab: Lab.Lab, row: Lab.Row, calls: number, limits: "default" | "raised", rounds: number) =>
  Effect.gen(function* () {
    yield* Effect.orDie(lab.brokers.subscriberBuffers(limits === "raised" ? "none" : "default"))
    yield* Lab.turns(lab, row, `${count(calls)} at once${limits === "default" ? ", default limits" : ""}`, {
      rounds,
      // A burst leaves heaps and queues behind it that no other is to find.
      afresh: true,
      start: (entry) => Lab.pair(lab, entry, { limits }),
      warmUp: ({ client }) => client.order("run", { op: "echo", inFlight: 100, millis: lab.warmUpMillis / 2 }),
      turn: ({ client }) =>
        Effect.map(
          client.order("burst", { count: calls, limitMillis: limitMillis[limits] }, limitMillis[limits] + 60_000),
          ({ millis, outcomes }) => ({
            // A burst that was refused is over soon.
            ...(outcomes["answered"] === calls ? { millis } : {}),
            answered: (outcomes["answered"] ?? 0) / calls,
            ...outcomesOf(outcomes)
          })
        )
    })
    yield* Effect.orDie(lab.brokers.subscriberBuffers("default"))
  })

export const row: Lab.Row = {
  key: "burst",
  title: "A burst",
  about:
    "10,000 and 100,000 calls begun in one turn of the event loop: the time until the last one is answered, where all were, and the share that was. Backlogs, timeouts, queues and the buffers of Redis are raised as far as they can be; with default limits the outcomes are counted, once.",
  peers,
  metrics: [
    { key: "millis", title: "ms", digits: 0, chief: "less" },
    { key: "answered", title: "share answered", digits: 3 }
  ],
  figures: ["millis"],
  run: (lab) =>
    Effect.gen(function* () {
      const rounds = Math.min(lab.rounds, 3)
      yield* burst(lab, row, 10_000, "raised", rounds)
      if (!lab.quick) yield* burst(lab, row, 100_000, "raised", rounds)
      yield* burst(lab, row, 10_000, "default", 1)
      if (!lab.quick) yield* burst(lab, row, 100_000, "default", 1)
    })
}
