// An answer that is a Stream: typed items, a producer that waits for a slow consumer, and stops when nobody wants more.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class Reading extends Schema.Class<Reading>("Reading")({ sensor: Schema.String, celsius: Schema.Finite }) {}

class Sensors extends Service.make(
  "sensors",
  Action.make("readings", { payload: { sensor: Schema.String }, items: Reading })
) {}

let measured = 0

const SensorsLive = Handlers.layer(Sensors, {
  readings: ({ sensor }) =>
    Stream.fromEffectRepeat(Effect.sync(() => new Reading({ sensor, celsius: 20 + (measured++ % 10) }))).pipe(
      Stream.ensuring(Console.log("service  nobody wants more, stopped"))
    )
})

const program = Effect.gen(function* () {
  const sensors = yield* Caller.make(Sensors)

  // Ten of a stream without end. The service is at most a window ahead of what is taken.
  const hottest = yield* sensors.readings({ sensor: "kitchen" }, { window: 16 }).pipe(
    Stream.take(10),
    Stream.runFold(
      () => 0,
      (hottest, reading) => Math.max(hottest, reading.celsius)
    )
  )
  yield* Console.log(`caller   the hottest of ten: ${hottest} degrees`)
  yield* Console.log(`caller   it measured no more than it had to: ${measured <= 64}`)
})

const Live = SensorsLive.pipe(Layer.provideMerge(Memory.layer))

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
