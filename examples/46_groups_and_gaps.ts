// Groups and gaps: one of several listeners handles each message, and a listener is told what it missed.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Broadcast, Listener, Memory, Topic, Transport } from "fiberbus"

// Each publisher numbers its messages and keeps the last two of them for those who missed some.
const Orders = Topic.make("orders", { id: Schema.Finite }).pipe(
  Topic.annotate(Topic.History, { messages: 2, for: "1 minute" })
)

const broker = Memory.makeBroker()
const process = Layer.sync(Transport.Transport, () => Memory.make({ broker }))

// Two processes with two groups: each order is billed once and shipped once.
const handled = { billing: 0, shipping: 0 }
const grouped = (group: keyof typeof handled) =>
  Listener.layer(Orders, () => Effect.sync(() => handled[group]++), { group })
const aProcess = Layer.fresh(Layer.merge(grouped("billing"), grouped("shipping")).pipe(Layer.provide(process)))

// One whose link loses what comes between two orders, as a link does that breaks for a moment.
let lost = false
const lossy = Layer.sync(Transport.Transport, () => {
  const transport = Memory.make({ broker })
  const subscribe: typeof transport.subscribe = (target, receive) =>
    transport.subscribe(target, (frame, channel) => {
      if (!(lost && channel === "orders")) receive(frame, channel)
    })
  return { ...transport, subscribe }
})
let audited = 0
const Audit = Listener.layer(
  Orders,
  ({ id }, { backfilled }) =>
    Effect.andThen(
      Console.log(`audit    order ${id}${backfilled ? ", from the history" : ""}`),
      Effect.sync(() => audited++)
    ),
  { concurrency: 1, onGap: ({ firstSeq, lastSeq }) => Console.log(`audit    ${firstSeq} to ${lastSeq} are gone`) }
).pipe(Layer.provide(lossy))

/** Waits until so many orders have come to both groups, and to the audit. */
const come = Effect.fnUntraced(function* (orders: number, audits: number) {
  while (handled.billing < orders || handled.shipping < orders || audited < audits) yield* Effect.sleep("5 millis")
})

const program = Effect.gen(function* () {
  for (const id of [1, 2]) yield* Broadcast.publish(Orders, { id })
  yield* come(2, 2)
  lost = true
  for (const id of [3, 4, 5]) yield* Broadcast.publish(Orders, { id })
  yield* come(5, 2)
  lost = false
  yield* Broadcast.publish(Orders, { id: 6 })
  // Two are kept, and the sixth is one of them.
  yield* come(6, 4)
  yield* Console.log(`groups   ${handled.billing} billed, ${handled.shipping} shipped`)
})

program.pipe(Effect.provide(Layer.mergeAll(aProcess, aProcess, Audit)), Effect.provide(process), NodeRuntime.runMain)
