/** The thread of the pool's tests. */
import { threadId } from "node:worker_threads"
import { NodeRuntime } from "@effect/platform-node"
import { Context, Effect, Layer } from "effect"
import { Deadline } from "fiberbus"
import * as WorkerRunner from "fiberbus/worker/WorkerRunner"
import { Jobs, TooLarge } from "./jobs.ts"

/** Shows that a thread's handlers have Layers of their own. */
class Limit extends Context.Service<Limit, bigint>()("test/Limit") {}

let interrupted = 0
let passed = 0

WorkerRunner.run(Jobs, {
  square: Effect.fnUntraced(function* ({ n, at }) {
    const limit = yield* Limit
    if (n > limit) return yield* new TooLarge({ limit })
    return { square: n * n, at }
  }),
  count: Effect.fnUntraced(function* ({ to }, { progress }) {
    for (let step = 1; step <= to; step++) {
      yield* progress(new Date(step))
      passed++
    }
    return to
  }),
  where: () => Effect.sync(() => ({ thread: threadId, interrupted, passed })),
  wait: (_, { progress }) =>
    Effect.onInterrupt(Effect.andThen(progress("begun"), Effect.never), () => Effect.sync(() => interrupted++)),
  spin: (_, { progress }) =>
    Effect.andThen(
      progress("begun"),
      Effect.sync(() => {
        for (;;);
      })
    ),
  crash: ({ how }) =>
    Effect.callback((resume) => {
      if (how === "idle") {
        setTimeout(() => process.exit(4), 10)
        return resume(Effect.void)
      }
      if (how === "exit") process.exit(3)
      if (how === "throw") setImmediate(() => JSON.parse("no json"))
      let kept: unknown = how
      // Small ones: where a large one does not fit, V8 may end the whole process in place of the thread.
      while (how === "heap") kept = { kept }
    }),
  die: () => Effect.die(new Error("a bug in the thread")),
  function: ({ as }, { progress }) => (as === "success" ? Effect.succeed(() => 1) : progress(() => 1)),
  left: () => Deadline.remainingMillis
}).pipe(Effect.provide(Layer.succeed(Limit, 1_000_000n)), NodeRuntime.runMain)
