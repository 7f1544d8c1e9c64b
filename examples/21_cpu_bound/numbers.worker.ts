// The thread's file: the handler that computes, written as any handler, run by each thread of the pool.
import { NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"
import * as WorkerRunner from "fiberbus/worker/WorkerRunner"
import { Numbers, TooLarge } from "./contract.ts"

const isPrime = (n: number) => {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false
  return n > 1
}

WorkerRunner.run(Numbers, {
  count_primes: Effect.fnUntraced(function* ({ below }, { progress }) {
    if (below > 10_000_000) return yield* new TooLarge({ most: 10_000_000 })
    let primes = 0
    for (let n = 0; n < below; n++) {
      if (isPrime(n)) primes++
      // Where a job yields it can be interrupted; one that never does is ended with its thread.
      if ((n + 1) % (below / 4) === 0) yield* progress({ percent: ((n + 1) / below) * 100 })
    }
    return { primes }
  })
}).pipe(NodeRuntime.runMain)
