/**
 * Shows that overload costs no memory: rounds of 10,000 calls at once to 10 slots, and the heap after each.
 *
 * `node --expose-gc --conditions=fiberbus-source test/resilience/memory-curve.ts 30` prints how each round's calls ended, and heap and RSS
 * in MiB after a collection. Fails if a call has no outcome, or if the heap of the last rounds is above that of the first by 10 %.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

const rounds = Number(process.argv[2] ?? 30)
const calls = 10_000

class Work extends Service.make(
  "work",
  Action.make("go", { payload: { id: Schema.Int, text: Schema.String }, success: Schema.Int })
) {}

const WorkLive = Handlers.layer(Work, { go: ({ id }) => Effect.as(Effect.sleep(1), id) })

const program = Effect.gen(function* () {
  const { gc } = globalThis as { readonly gc?: () => void }
  if (gc === undefined) return yield* Effect.fail(new Error("Start it with --expose-gc"))
  const work = yield* Caller.make(Work)
  const text = "x".repeat(200)
  const heaps: Array<number> = []
  yield* Console.log("round  answered   Busy  heap MiB  RSS MiB")
  for (let round = 1; round <= rounds; round++) {
    const ended = { answered: 0, Busy: 0 }
    yield* Effect.forEach(
      Array.from({ length: calls }, (_, id) => id),
      (id) =>
        work.go({ id, text }, { timeout: "60 seconds" }).pipe(
          Effect.match({
            onFailure: ({ reason }) => {
              if (reason._tag === "Busy") ended.Busy++
              else throw reason
            },
            onSuccess: (got) => {
              if (got === id) ended.answered++
            }
          })
        ),
      { concurrency: "unbounded", discard: true }
    )
    if (ended.answered + ended.Busy !== calls) return yield* Effect.fail(new Error("a call has no outcome"))
    gc()
    const { heapUsed, rss } = process.memoryUsage()
    heaps.push(heapUsed)
    const columns = [
      [round, 5],
      [ended.answered, 8],
      [ended.Busy, 5],
      [mib(heapUsed), 8],
      [mib(rss), 7]
    ] as const
    yield* Console.log(columns.map(([value, width]) => String(value).padStart(width)).join("  "))
  }
  // The first rounds compile code and fill caches.
  const [early, late] = [heaps.slice(2, 5), heaps.slice(-3)].map((some) => Math.min(...some))
  if (rounds >= 10 && late! > early! * 1.1) return yield* Effect.fail(new Error("the heap grows"))
})

const mib = (bytes: number) => (bytes / 1_048_576).toFixed(1)

program.pipe(Effect.scoped, Effect.provide(WorkLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
