/** fiberbus as its users run it: built JavaScript, every default, schemas checked on both sides and in both directions. */
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Child from "../Child.ts"
import { Meter, nextPayload } from "../Meter.ts"

// The build to be measured is named by main.ts, so that two may be compared.
const load = (file: string) => import(pathToFileURL(Path.join(process.argv[3] ?? "", file)).href)
const { Action, Caller, Handlers, Memory, Service } = (await load("index.js")) as typeof import("../../src/index.ts")
const RedisPubSub = (await load("transport/RedisPubSub.js")) as typeof import("../../src/transport/RedisPubSub.ts")

const fields = {
  id: Schema.Int,
  name: Schema.NonEmptyString,
  email: Schema.String,
  active: Schema.Boolean,
  score: Schema.Finite,
  tags: Schema.Array(Schema.String)
}

// A name per subject: two builds that answered to the same one would both get every request.
class Echo extends Service.make(process.argv[4] ?? "echo", Action.make("echo", { payload: fields, success: fields })) {}

/** The service; 10 handlers at once, as by default: they end at once, so that more would never run. */
export const server = Handlers.layer(Echo, { echo: (payload) => Effect.succeed(payload) })

/** The transport: the private Redis. */
export const redis = RedisPubSub.layer({ url: Child.url })

/** The transport: this process. */
export const memory = Memory.layer

/** Runs calls as an Effect program makes them: one fiber per call in flight, each followed by the next. */
const client = Effect.gen(function* () {
  const echo = yield* Caller.make(Echo)
  const context = yield* Effect.context<never>()
  const lane = Effect.fnUntraced(function* (meter: Meter) {
    while (meter.goesOn) {
      const payload = nextPayload()
      const sentAt = performance.now()
      const answer = yield* echo.echo(payload)
      meter.take(payload, answer, sentAt)
    }
  })
  Child.ready((inFlight, millis) => {
    const meter = new Meter(millis)
    const lanes = Effect.all(
      Array.from({ length: inFlight }, () => lane(meter)),
      { concurrency: "unbounded", discard: true }
    )
    return Effect.runPromiseWith(context)(Effect.map(lanes, () => meter.end()))
  })
})

/** Stays until the process ends; a failure is an unhandled rejection, which Child reports. */
export const run = <E>(layer: Layer.Layer<never, E>) => void Effect.runPromise(Layer.launch(layer))

/** The client as a Layer. */
export const caller = Layer.effectDiscard(client)

/** For a server alone. */
export const announced = Layer.effectDiscard(Effect.sync(() => Child.ready()))
