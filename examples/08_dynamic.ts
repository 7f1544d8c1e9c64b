// Dynamic: call a service by names and plain JSON, without its contract, for tools and first steps.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { city: Schema.String }) {}

class Weather extends Service.make(
  "weather",
  Action.make("now", {
    payload: { city: Schema.String },
    progress: Schema.String,
    success: { celsius: Schema.Finite, at: Schema.Date },
    error: NotFound
  })
) {}

const WeatherLive = Handlers.layer(Weather, {
  now: Effect.fnUntraced(function* ({ city }, { progress }) {
    yield* progress("asking the station")
    if (city !== "Oslo") return yield* new NotFound({ city })
    return { celsius: -4, at: new Date(0) }
  })
})

const program = Effect.gen(function* () {
  const weather = yield* Caller.dynamic("weather")

  // JSON in, JSON out: a Date stays the text it travels as.
  yield* Console.log("Oslo  ", JSON.stringify(yield* weather.call("now", { city: "Oslo" })))

  yield* weather
    .stream("now", { city: "Oslo" })
    .pipe(Stream.runForEach((event) => Console.log("stream", JSON.stringify(event))))

  // Without a contract a declared error is a RemoteError, its JSON the payload.
  yield* weather
    .call("now", { city: "Atlantis" })
    .pipe(
      Effect.catchReason("CallError", "RemoteError", ({ payload }) => Console.log("error ", JSON.stringify(payload)))
    )

  // The service still checks what it gets, and knows which actions it has.
  for (const [action, payload] of [["now", { town: "Oslo" }], ["tomorrow"]] as const) {
    yield* weather
      .call(action, payload)
      .pipe(Effect.catchTag("CallError", ({ message }) => Console.log("refused", message)))
  }
})

program.pipe(Effect.scoped, Effect.provide(WeatherLive.pipe(Layer.provideMerge(Memory.layer))), NodeRuntime.runMain)
