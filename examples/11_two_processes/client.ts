// The calling process: it knows the contract and where Redis is, not where the server is.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Stream } from "effect"
import { Caller } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { Reports } from "./contract.ts"

const program = Effect.gen(function* () {
  const reports = yield* Caller.make(Reports)
  yield* reports.write
    .stream({ title: "sales", pages: 3 })
    .pipe(
      Stream.runForEach((event) =>
        Console.log(event._tag === "Progress" ? `client  page ${event.value.page}` : `client  got ${event.value.file}`)
      )
    )
}).pipe(
  Effect.catchReason("CallError", "NoResponders", () =>
    Console.log("client  nobody serves reports, start server.ts first")
  )
)

program.pipe(Effect.scoped, Effect.provide(RedisPubSub.layerConfig()), NodeRuntime.runMain)
