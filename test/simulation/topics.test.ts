import { Effect, Layer, Schema } from "effect"
import { Broadcast, Listener, Topic } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const fields = { from: Schema.String, n: Schema.Finite }
const Orders = Topic.make("orders", fields)
const NumberedOrders = Orders.pipe(Topic.annotate(Topic.Numbered, true))

type Order = { readonly from: string; readonly n: number }

const sharing = (topic: typeof Orders) =>
  Listener.layer(
    topic,
    (order: Order) => Effect.andThen(Simulation.note("handled", order), Effect.sleep((order.n * 71) % 300)),
    { group: "billing", concurrency: 2, grace: 500 }
  )

const publishing = (topic: typeof Orders, from: string) =>
  Effect.gen(function* () {
    const publish = (n: number) =>
      Broadcast.publish(topic, { from, n }).pipe(Simulation.call(`publish ${n}`, { within: "3 seconds" }))
    yield* spread(40, 240, publish)
    yield* Simulation.calm
    // Until all who were started anew have heard for long enough to be sure of their counts.
    yield* Effect.sleep("15 seconds")
    yield* Effect.exit(publish(40))
    yield* Effect.sleep("1 second")
  })

const once = Simulation.invariant("of a group, at most one listener handles a message", () => {
  const handled = new Set<string>()
  let last = 0
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      const { from, n } = event.value as Order
      if (n === 40) last++
      const key = `${n} of ${from}`
      if (handled.has(key)) return `${key} is handled twice`
      handled.add(key)
    },
    end: () => (last === 2 ? undefined : `the last messages are handled ${last} times`)
  }
})

const { late: _, ...punctual } = Simulation.rough

for (const [name, topic, faults] of [
  ["a group of listeners to messages without numbers", Orders, punctual],
  [
    "a group of listeners to numbered messages that are late, repeated and out of order",
    NumberedOrders,
    Simulation.hostile
  ]
] as const) {
  protocol(
    name,
    {
      services: { one: sharing(topic), two: sharing(topic), three: sharing(topic) },
      clients: { ann: publishing(topic, "ann"), bob: publishing(topic, "bob") },
      seeds: 80,
      faults: { ...faults, crashes: 4, stops: 3 },
      invariants: [...Simulation.Promises.all, once]
    },
    ["Success", "Failure"]
  )
}

// One publisher on each channel, so that a gap tells whose it is.
const Numbered = Topic.make("news.*", fields).pipe(Topic.annotate(Topic.Numbered, true))
const Kept = Numbered.pipe(Topic.annotate(Topic.History, { messages: 20, for: "20 seconds" }))

interface Account {
  readonly channel: string
  readonly first: number
  readonly last: number
  readonly n?: number
}

const accounting = (name: string, topic: typeof Numbered) =>
  Layer.unwrap(
    Effect.as(
      Simulation.note(`${name} begins`),
      Listener.layer(
        topic,
        ({ n }: Order, { channel, number }) =>
          Simulation.note(name, { channel, first: number!.seq, last: number!.seq, n } satisfies Account),
        {
          concurrency: 1,
          onGap: ({ channel, firstSeq, lastSeq }) =>
            Simulation.note(name, { channel, first: firstSeq, last: lastSeq } satisfies Account)
        }
      )
    )
  )

const Accounting = Layer.merge(accounting("with gaps", Numbered), accounting("with a history", Kept))

const telling = (from: string) =>
  Effect.gen(function* () {
    const topic = Topic.at(Kept, `news.${from}`)
    const publish = (n: number) =>
      Broadcast.publish(topic, { from, n }).pipe(Simulation.call(`publish ${n}`, { within: "3 seconds" }))
    yield* spread(40, 240, publish)
    yield* Simulation.calm
    yield* Effect.exit(publish(40))
    yield* Effect.sleep("5 seconds")
  })

const accounted = Simulation.invariant("each number is heard once, or in one gap", () => {
  const next = new Map<string, number>()
  const ended = new Set<string>()
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      const listener = `${event.process} ${event.name}`
      if (event.name.endsWith("begins")) {
        const prefix = listener.replace(" begins", "")
        for (const key of next.keys()) if (key.startsWith(prefix)) next.delete(key)
        return undefined
      }
      const { channel, first, last, n } = event.value as Account
      const key = `${listener} ${channel}`
      const due = next.get(key) ?? first
      next.set(key, last + 1)
      if (n === 40) ended.add(key)
      return first === due && last >= first ? undefined : `${key} is told of ${first} to ${last} where ${due} is due`
    },
    end: () => (ended.size === 8 ? undefined : `the last message is heard by ${[...ended].join(", ")}`)
  }
})

protocol(
  "numbers of messages over a network that loses, repeats and reorders",
  {
    services: { one: Accounting, two: Accounting },
    clients: { ann: telling("ann"), bob: telling("bob") },
    seeds: 160,
    faults: Simulation.hostile,
    invariants: [...Simulation.Promises.all, accounted]
  },
  ["Success", "Failure"]
)
