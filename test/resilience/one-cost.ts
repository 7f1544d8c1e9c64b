/**
 * What `one` costs beside `live`, with one replica: `node --conditions=fiberbus-source test/resilience/one-cost.ts [rounds]`.
 *
 * Rounds of both by turns, caller and service in this process, over Redis and in memory; CPU time of the process for each call, so that
 * other work on the machine counts little.
 */
import { Effect, Layer, Logger, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service, type Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const fields = { id: Schema.Finite, name: Schema.String }
const action = Action.make("echo", { payload: fields, success: fields })
const One = Service.make("one", action)
const Live = Service.make("live", action.pipe(Action.annotate(Action.Delivery, "live")))

const callsOfRound = 4_000
const inFlight = 64

const measure = Effect.fnUntraced(function* <E>(
  name: string,
  transport: Effect.Effect<Layer.Layer<Transport.Transport, E>>,
  rounds: number
) {
  const served = yield* transport
  const called = yield* Layer.build(yield* transport)
  const callers = yield* Effect.forEach([One, Live], (service) =>
    Effect.gen(function* () {
      const handlers = Handlers.layer(service, { echo: (payload) => Effect.succeed(payload) })
      yield* Layer.build(Layer.provide(handlers, served))
      const { echo } = yield* Effect.provideContext(Caller.make(service), called)
      yield* Effect.sleep("200 millis")
      return echo
    })
  )
  const spent: Array<Array<number>> = [[], []]
  for (let round = 0; round < rounds; round++) {
    for (const index of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const before = process.cpuUsage()
      yield* Effect.forEach(
        Array.from({ length: callsOfRound }, (_, id) => id),
        (id) => callers[index]!({ id, name: "ann" }),
        { concurrency: inFlight, discard: true }
      )
      const { system, user } = process.cpuUsage(before)
      // The first rounds warm up.
      if (round >= rounds / 4) spent[index]!.push((user + system) / callsOfRound)
    }
  }
  const median = (numbers: ReadonlyArray<number>) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!
  const [one, live] = spent.map(median) as [number, number]
  console.log(
    `${name}: one ${one.toFixed(1)} µs, live ${live.toFixed(1)} µs a call: ${(live / one).toFixed(3)} of its rate`
  )
})

const rounds = Number(process.argv[2] ?? 40)
const program = Effect.gen(function* () {
  const { url } = yield* RedisServer.make()
  yield* measure(
    "redis",
    Effect.sync(() => Layer.fresh(RedisPubSub.layer({ url }))),
    rounds
  )
  const broker = Memory.makeBroker()
  yield* measure(
    "memory",
    Effect.sync(() => Layer.fresh(Memory.layerOptions({ broker }))),
    rounds
  )
})
Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
