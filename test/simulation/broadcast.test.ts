import { Effect, Layer, Schema } from "effect"
import { Broadcast, Listener, Topic } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const News = Topic.make("news", Schema.Struct({ from: Schema.String, n: Schema.Finite }))
const AllNews = Topic.make("ne*", Schema.Struct({ from: Schema.String, n: Schema.Finite }))

const hearing = (name: string) => (news: { readonly from: string; readonly n: number }) =>
  Simulation.note(`heard by ${name}`, news)

const Hearing = Layer.mergeAll(
  Listener.layer(News, hearing("channel"), { concurrency: 1 }),
  Listener.layer(AllNews, hearing("pattern"), { concurrency: 1 })
)

const publishing = (from: string) =>
  Effect.gen(function* () {
    const publish = (n: number) =>
      Broadcast.publish(News, { from, n }).pipe(Simulation.call(`publish ${n}`, { within: "3 seconds" }))
    yield* spread(40, 240, publish)
    yield* Simulation.calm
    yield* Effect.exit(publish(40))
    yield* Effect.sleep(100)
  })

/** Live delivery may leave out what a gap took, and nothing else; what comes is in order, and none comes twice. */
const inOrder = Simulation.invariant("a listener hears each message at most once, in order", () => {
  const heard = new Map<string, number>()
  let last = 0
  return {
    along: (event) => {
      if (event._tag !== "Noted") return undefined
      const { from, n } = event.value as { readonly from: string; readonly n: number }
      const key = `${event.process}, ${event.name}: ${from}`
      const before = heard.get(key) ?? -1
      heard.set(key, n)
      if (n === 40) last++
      return n > before ? undefined : `${key} is heard of ${n} after ${before}`
    },
    end: () => (last === 2 * 2 * 2 ? undefined : `the last message is heard ${last} times`)
  }
})

protocol(
  "broadcasts",
  {
    services: { one: Hearing, two: Hearing },
    clients: { ann: publishing("ann"), bob: publishing("bob") },
    seeds: 80,
    faults: Simulation.rough,
    invariants: [...Simulation.Promises.all, inOrder]
  },
  ["Success", "Failure"]
)
