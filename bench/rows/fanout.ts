/** One publisher, ten listeners. */
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

const listeners = 10

const fanout = (lab: Lab.Lab, row: Lab.Row, processes: number) =>
  Lab.turns(lab, row, processes === 1 ? "in one process" : `in ${processes} processes`, {
    start: (entry) =>
      Effect.gen(function* () {
        const shared = { ...(yield* lab.together(entry)), limits: "raised" as const }
        const each = { ...shared, count: listeners / processes }
        const ears = yield* Effect.forEach(Array.from({ length: processes }), () => lab.start(entry, "listen", each))
        return { publisher: yield* lab.start(entry, "connect", shared), ears }
      }),
    warmUp: (started) => messages(started, lab.quick ? 500 : 5_000),
    turn: ({ ears, publisher }, entry) =>
      Effect.gen(function* () {
        const count = lab.quick ? 2_000 : 20_000
        const cost = yield* Lab.costOf(
          lab,
          entry,
          { client: publisher, servers: ears },
          messages({ ears, publisher }, count)
        )
        const deliveries = count * listeners
        return {
          rate: (deliveries / cost.result) * 1000,
          cpu: (cost.client + cost.server + cost.broker) / deliveries,
          cpuClient: cost.client / deliveries,
          cpuServer: cost.server / deliveries,
          cpuBroker: cost.broker / deliveries
        }
      })
  })

/** Milliseconds until every listener has heard them all. */
export const messages = (
  { ears, publisher }: { readonly ears: ReadonlyArray<Lab.Pair["client"]>; readonly publisher: Lab.Pair["client"] },
  count: number
) =>
  Effect.gen(function* () {
    const begun = performance.now()
    yield* Effect.all([publisher.order("publish", { count }), ...ears.map((ear) => ear.order("heard", { count }))], {
      concurrency: "unbounded"
    })
    return performance.now() - begun
  })

export const row: Lab.Row = {
  key: "fanout",
  title: "One publisher, ten listeners",
  about:
    "Deliveries per second of an event of about 150 bytes to ten listeners, which are in one process, or in ten. At most 100 publishes are unconfirmed; the clock stops when every listener has heard every message; each process compares each message once, field by field, and counts how often it came. By hand, ten listeners of one process are one subscription and one `JSON.parse`.",
  peers: [
    "floor",
    "floor-packed",
    "moleculer",
    "nest",
    "nats",
    "fiberbus-single",
    "fiberbus-nats",
    "fiberbus",
    "fiberbus-packed"
  ],
  metrics: [
    { key: "rate", title: "deliveries/s", digits: 0, chief: "more" },
    { key: "cpu", title: "CPU µs per delivery", digits: 1, chief: "less" }
  ],
  figures: ["rate"],
  run: (lab) =>
    Effect.gen(function* () {
      // How far a listener is behind is not what is measured: nobody is to be cut off.
      yield* Effect.orDie(lab.brokers.subscriberBuffers("none"))
      yield* fanout(lab, row, 1)
      yield* fanout(lab, row, listeners)
      yield* Effect.orDie(lab.brokers.subscriberBuffers("default"))
    })
}
