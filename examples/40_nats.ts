// NATS: the same service over NATS by switching one Layer. Set NATS_SERVERS (nats://127.0.0.1:4222), or it runs in memory.
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Service, Transport } from "fiberbus"
import * as Nats from "fiberbus/transport/Nats"

class Library extends Service.make(
  "library",
  Action.make("lend", {
    payload: { title: Schema.String },
    success: Schema.Struct({ left: Schema.Int }),
    error: Schema.Struct({ allLent: Schema.String })
  }),
  Action.make("shelf", { items: Schema.String })
) {}

const LibraryLive = Handlers.layer(
  Library,
  Effect.sync(() => {
    const copies = new Map([
      ["Dune", 1],
      ["Emma", 2]
    ])
    return {
      lend: ({ title }) =>
        Effect.suspend(() => {
          const left = (copies.get(title) ?? 0) - 1
          if (left < 0) return Effect.fail({ allLent: title })
          copies.set(title, left)
          return Effect.succeed({ left })
        }),
      shelf: () => Stream.fromIterable(copies.keys())
    }
  })
)

// The one Layer. Neither the service nor its callers know which it is.
const TransportLive = Layer.unwrap(
  Effect.gen(function* () {
    const servers = yield* Config.option(Config.NonEmptyString("NATS_SERVERS"))
    // layerConfig reads NATS_SERVERS by itself, and NATS_USER and more; Nats.layer({ servers }) takes it from you.
    return Option.isSome(servers) ? Nats.layerConfig() : Memory.layer
  })
)

const program = Effect.gen(function* () {
  const { name, capabilities } = yield* Transport.Transport
  yield* Console.log(`over   ${name} (${capabilities.delivery}, receivers ${capabilities.receivers})`)

  const library = yield* Caller.make(Library)
  const { left } = yield* library.lend({ title: "Dune" })
  yield* Console.log(`Dune   lent, ${left} left`)
  const again = yield* Effect.flip(library.lend({ title: "Dune" }))
  yield* Console.log("allLent" in again ? `Dune   all are lent` : again.message)
  yield* Console.log(`shelf  ${(yield* Stream.runCollect(library.shelf())).join(", ")}`)
})

program.pipe(Effect.scoped, Effect.provide(LibraryLive.pipe(Layer.provideMerge(TransportLive))), NodeRuntime.runMain)
