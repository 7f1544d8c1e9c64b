// Broadcast: one message reaches every listener of its topic, and listeners of a glob pattern hear many topics.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Broadcast, Listener, Memory, Topic } from "fiberbus"

const Signups = Topic.make("signups", { name: Schema.String })

// A glob makes a pattern: it is listened to as a whole, and published to on one of its channels.
const Sensors = Topic.make("sensors.*", { celsius: Schema.Finite })
const Kitchen = Topic.at(Sensors, "sensors.kitchen")
const Cellar = Topic.at(Sensors, "sensors.cellar")

const Live = Layer.mergeAll(
  Listener.layer(Signups, ({ name }) => Console.log(`mail     Welcome, ${name}!`)),
  Listener.layer(Signups, ({ name }) => Console.log(`metrics  one more: ${name}`)),
  Listener.layer(Sensors, ({ celsius }, { channel }) => Console.log(`logger   ${channel}: ${celsius} degrees`)),
  Listener.layer(Cellar, ({ celsius }) => Console.log(`freezer  ${celsius > 0 ? "too warm" : "fine"}`))
).pipe(Layer.provideMerge(Memory.layer))

const program = Effect.gen(function* () {
  const reached = yield* Broadcast.publish(Signups, { name: "Ada" })
  yield* Console.log(`(reached ${reached} process, with two listeners)`)
  yield* Broadcast.publish(Kitchen, { celsius: 21 })
  yield* Broadcast.publish(Cellar, { celsius: 4 })
})

// No waiting at the end: what listeners have begun is finished before their Layers close.
program.pipe(Effect.provide(Live), NodeRuntime.runMain)
