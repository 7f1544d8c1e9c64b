// A conversation: the service asks for more on the way, the caller answers, each question typed and with a time of its own.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Memory, Service } from "fiberbus"

class NotConnected extends Schema.TaggedError<NotConnected>()("NotConnected", { why: Schema.String }) {}

class Wifi extends Service.make(
  "wifi",
  Action.make("connect", {
    payload: { ssid: Schema.String },
    success: { ip: Schema.String },
    error: NotConnected,
    asks: {
      password: { ask: { attempt: Schema.Finite }, answer: Schema.String }
    }
  }).pipe(Action.annotate(Action.Timeout, "5 minutes"))
) {}

const WifiLive = Handlers.layer(Wifi, {
  connect: Effect.fnUntraced(
    function* ({ ssid }, { ask }) {
      for (let attempt = 1; attempt <= 3; attempt++) {
        const password = yield* ask("password", { attempt }, { timeout: "1 minute" })
        if (password === `${ssid}-secret`) return { ip: "10.0.0.7" }
      }
      return yield* new NotConnected({ why: "three wrong passwords" })
    },
    Effect.catchTag("AskError", (error) => Effect.fail(new NotConnected({ why: error.message })))
  )
})

const program = Effect.gen(function* () {
  const wifi = yield* Caller.make(Wifi)

  // Here a person would type.
  const typed = ["1234", "home-secret"]
  const connected = yield* wifi.connect(
    { ssid: "home" },
    {
      answers: {
        password: ({ attempt }) =>
          Effect.tap(Effect.succeed(typed[attempt - 1] ?? ""), (password) =>
            Console.log(`password? (${attempt})  ${password}`)
          )
      }
    }
  )
  yield* Console.log(`connected      ${connected.ip}`)

  const declined = yield* wifi
    .connect(
      { ssid: "office" },
      { answers: { password: () => Effect.fail(new Caller.Declined({ why: "I do not know it" })) } }
    )
    .pipe(Effect.flip)
  yield* Console.log(`not connected  ${declined._tag === "NotConnected" ? declined.why : declined.message}`)
})

const Live = WifiLive.pipe(Layer.provideMerge(Memory.layer))

program.pipe(Effect.scoped, Effect.provide(Live), NodeRuntime.runMain)
