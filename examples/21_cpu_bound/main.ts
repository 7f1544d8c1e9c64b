// CPU-bound: what computes for long runs in threads, and whoever asks for something small is answered meanwhile.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { Caller, Handlers, Memory } from "fiberbus"
import * as WorkerPool from "fiberbus/worker/WorkerPool"
import { Numbers } from "./contract.ts"

const NumbersLive = Handlers.layer(Numbers, {
  count_primes: WorkerPool.handler(Numbers, "count_primes"),
  ping: () => Effect.succeed("pong")
})

// One thread less than there are processors, unless `size` says otherwise; a lost thread is replaced.
const Threads = WorkerPool.layer(Numbers, { url: new URL("./numbers.worker.ts", import.meta.url), size: 2 })

const program = Effect.gen(function* () {
  const numbers = yield* Caller.make(Numbers)

  // Without the threads no ping would be answered before the last prime is counted.
  const { primes } = yield* numbers.count_primes
    .stream({ below: 2_000_000 }, { timeout: "1 minute" })
    .pipe(
      Caller.onProgress(({ percent }) =>
        Effect.flatMap(numbers.ping(), (pong) => Console.log(`step    ${percent} percent, and a ping: ${pong}`))
      )
    )
  yield* Console.log(`result  ${primes} primes`)

  yield* numbers
    .count_primes({ below: 1_000_000_000 })
    .pipe(Effect.catchTag("TooLarge", ({ most }) => Console.log(`error   ${most} is the most`)))
})

program.pipe(
  Effect.scoped,
  Effect.provide(NumbersLive.pipe(Layer.provide(Threads), Layer.provideMerge(Memory.layer))),
  NodeRuntime.runMain
)
