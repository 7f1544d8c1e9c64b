/** Measures an action that waits beside one that computes, with the computing here and in threads, in turns. @see ../README.md */
import * as Os from "node:os"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Caller from "../../src/client/Caller.ts"
import * as Handlers from "../../src/server/Handlers.ts"
import * as Memory from "../../src/transport/Memory.ts"
import * as WorkerPool from "../../src/worker/WorkerPool.ts"
import { compute, Here, Pooled } from "./Jobs.ts"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    /** Milliseconds that one computation takes. */
    millis: { type: "string", default: "20" },
    threads: { type: "string", default: String(Math.max(1, Os.availableParallelism() - 1)) }
  }
})
const [turns, seconds, millis, threads] = [values.rounds, values.seconds, values.millis, values.threads].map(
  Number
) as [number, number, number, number]

/** What a look-up waits for, in milliseconds. */
const waitMillis = 2
const lookUp = ({ id }: { readonly id: number }) => Effect.as(Effect.sleep(waitMillis), id)

const Live = Layer.mergeAll(
  Handlers.layer(Here, { compute: ({ rounds }) => Effect.sync(() => compute(rounds)), look_up: lookUp }),
  Handlers.layer(Pooled, { compute: WorkerPool.handler(Pooled, "compute"), look_up: lookUp }).pipe(
    Layer.provide(WorkerPool.layer(Pooled, { url: new URL("./thread.ts", import.meta.url), size: threads }))
  )
).pipe(Layer.provideMerge(Memory.layer))

interface Turn {
  readonly p50: number
  readonly p99: number
  readonly lookUps: number
  readonly computed: number
  readonly delayP99: number
}

const at = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!
const median = (values: ReadonlyArray<number>) =>
  at(
    values.toSorted((a, b) => a - b),
    0.5
  )

const program = Effect.gen(function* () {
  const callers = { here: yield* Caller.make(Here), pooled: yield* Caller.make(Pooled) }
  // Warm, and how many rounds make a computation of the wanted length.
  let rounds = 100_000
  for (let took = 0; took < millis; ) {
    const began = performance.now()
    compute(rounds)
    took = performance.now() - began
    if (took < millis) rounds = Math.ceil(rounds * Math.min(2, Math.max(1.05, millis / took)))
  }

  /** As many computations at once as there are threads, and four look-ups at once, until the time is over. */
  const turn = Effect.fnUntraced(function* (
    users: (typeof callers)["here"] | (typeof callers)["pooled"],
    forMillis: number
  ) {
    const expected = compute(rounds)
    const latencies: Array<number> = []
    let computed = 0
    const until = performance.now() + forMillis
    const goOn = { while: () => performance.now() < until } as const
    const computing = Effect.gen(function* () {
      const result = yield* users.compute({ rounds }, { timeout: "1 minute" })
      if (result !== expected) return yield* Effect.die(new Error("a wrong result"))
      computed++
    }).pipe(Effect.repeat(goOn))
    const looking = (id: number) =>
      Effect.gen(function* () {
        const began = performance.now()
        const found = yield* users.look_up({ id }, { timeout: "1 minute" })
        latencies.push(performance.now() - began)
        if (found !== id) return yield* Effect.die(new Error("a wrong answer"))
      }).pipe(Effect.repeat(goOn))
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const all = [
      ...Array.from({ length: threads }, () => computing),
      ...Array.from({ length: 4 }, (_, id) => looking(id))
    ]
    const fibers = yield* Effect.forEach(all, (work) => Effect.forkChild(work))
    yield* Effect.forEach(fibers, Fiber.join)
    delay.disable()
    latencies.sort((a, b) => a - b)
    return {
      p50: at(latencies, 0.5),
      p99: at(latencies, 0.99),
      lookUps: latencies.length / (forMillis / 1000),
      computed: computed / (forMillis / 1000),
      delayP99: delay.percentile(99) / 1_000_000
    } satisfies Turn
  })

  const load = Os.loadavg()[0]!.toFixed(2)
  yield* Console.log(
    `${Os.availableParallelism()} cores, Node ${process.versions.node}, load before: ${load}; ${threads} computing at once, ` +
      `${millis} ms each, beside 4 look-ups of ${waitMillis} ms; ${turns} turns of ${seconds} s each`
  )
  for (const users of [callers.here, callers.pooled]) yield* turn(users, 500)
  const results: { here: Array<Turn>; pooled: Array<Turn> } = { here: [], pooled: [] }
  for (let round = 0; round < turns; round++) {
    results.here.push(yield* turn(callers.here, seconds * 1000))
    results.pooled.push(yield* turn(callers.pooled, seconds * 1000))
  }

  const columns = ["p50", "p99", "delayP99", "lookUps", "computed"] as const
  yield* Console.log("medians of the turns; milliseconds, and per second\n")
  yield* Console.log("               look-up p50        p99   loop delay p99   look-ups/s   computed/s")
  for (const [name, turns] of Object.entries(results)) {
    const [p50, p99, delay, lookUps, computed] = columns.map((column) => median(turns.map((turn) => turn[column])))
    yield* Console.log(
      `${name.padEnd(12)}${p50!.toFixed(1).padStart(14)}${p99!.toFixed(1).padStart(11)}${delay!.toFixed(1).padStart(17)}` +
        `${lookUps!.toFixed(0).padStart(13)}${computed!.toFixed(1).padStart(13)}`
    )
  }
  const ratios = results.here.map((turn, index) => turn.p99 / results.pooled[index]!.p99)
  yield* Console.log(
    `\np99 of a look-up, here to pooled, turn by turn: ${ratios.map((ratio) => ratio.toFixed(1)).join(", ")}; ` +
      `median ${median(ratios).toFixed(1)}`
  )
})

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
