/**
 * The memory of a stream of a million items to a consumer that is slower than its producer, in one process.
 *
 * `node --expose-gc --conditions=fiberbus-source test/resilience/stream-memory.ts [items] [redis://…]`
 */
import { Effect, Layer, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const Numbers = Service.make("numbers", Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite }))

let produced = 0
const NumbersLive = Handlers.layer(Numbers, {
  count: ({ to }) => Stream.range(1, to).pipe(Stream.tap(() => Effect.sync(() => produced++)))
})

const items = Number(process.argv[2] ?? 1_000_000)
const url = process.argv[3]
const mebibytes = (bytes: number) => (bytes / 1_048_576).toFixed(1).padStart(6)

const measured = Effect.gen(function* () {
  const numbers = yield* Caller.make(Numbers)
  let taken = 0
  let furthest = 0
  const report = () => {
    globalThis.gc?.()
    const { heapUsed, rss } = process.memoryUsage()
    console.log(
      `${String(taken).padStart(9)} taken, ${produced - taken} ahead, heap ${mebibytes(heapUsed)} MiB, RSS ${mebibytes(rss)} MiB`
    )
  }
  const begun = performance.now()
  yield* numbers.count({ to: items }).pipe(
    Stream.runForEach((item) => {
      if (item !== ++taken) return Effect.die(new Error(`item ${item} came as number ${taken}`))
      furthest = Math.max(furthest, produced - taken)
      if (taken % Math.ceil(items / 10) === 0) report()
      // Slower than the producer, which does nothing but count.
      return taken % 64 === 0 ? Effect.promise(() => new Promise((resolve) => setImmediate(resolve))) : Effect.void
    })
  )
  const seconds = (performance.now() - begun) / 1_000
  console.log(`${taken} items, never more than ${furthest} ahead, ${Math.round(taken / seconds)} items/s`)
})

const transport = url === undefined ? Memory.layer : RedisPubSub.layer({ url })
await Effect.runPromise(measured.pipe(Effect.scoped, Effect.provide(NumbersLive.pipe(Layer.provideMerge(transport)))))
