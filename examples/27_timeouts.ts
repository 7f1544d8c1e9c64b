// Timeouts: of a call, of a part of a handler, of a whole workflow; and a deadline that is inherited, hop by hop.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Option, Queue, Schema } from "effect"
import { Action, Caller, Deadline, Handlers, Memory, Service } from "fiberbus"

class Maps extends Service.make(
  "maps",
  // Its callers wait for at most a second, unless they say otherwise. Without this it would be five.
  Action.make("route", { success: Schema.String }).pipe(Action.annotate(Action.Timeout, "1 second")),
  Action.make("traffic", { success: Schema.String }),
  Action.make("time_left", { success: Schema.Finite })
) {}

class Trips extends Service.make("trips", Action.make("plan", { success: Schema.Finite })) {}

/** Tells when a handler has been interrupted, so that this program may wait for it. */
class Stopped extends Context.Service<Stopped, Queue.Queue<void>>()("Stopped") {
  static readonly layer = Layer.effect(this, Queue.unbounded<void>())
}

const MapsLive = Handlers.layer(
  Maps,
  Effect.map(Stopped, (stopped) => ({
    route: Effect.fnUntraced(function* () {
      yield* Console.log("maps    looks for a route")
      return yield* Effect.onInterrupt(Effect.never, () => Queue.offer(stopped, undefined))
    }),
    // A part of a handler, with something to put in its place.
    traffic: () =>
      Effect.timeoutOrElse(Effect.never, { duration: "20 millis", orElse: () => Effect.succeed("no news of traffic") }),
    time_left: () => Deadline.remainingMillis
  }))
)

const TripsLive = Handlers.layer(
  Trips,
  Effect.gen(function* () {
    const maps = yield* Caller.make(Maps)
    // Nobody passes the time along: the call to maps gets what is left to this request.
    return { plan: () => Effect.orDie(maps.time_left()) }
  })
)

const program = Effect.gen(function* () {
  const maps = yield* Caller.make(Maps)
  const trips = yield* Caller.make(Trips)
  const stops = Effect.andThen(Stopped.use(Queue.take), Console.log("maps    has stopped looking"))

  yield* Console.log("A call")
  yield* maps
    .route({ timeout: "50 millis" })
    .pipe(Effect.catchReason("CallError", "DeadlineExceeded", ({ message }) => Console.log(`caller  ${message}`)))
  yield* stops

  yield* Console.log("An inherited deadline")
  const left = yield* trips.plan({ timeout: "2 seconds" })
  yield* Console.log(`maps    was given ${left <= 2_000 ? "what trips had left" : "five seconds of its own"}`)

  yield* Console.log("A part of a handler")
  yield* Console.log(`caller  ${yield* maps.traffic()}`)

  yield* Console.log("A whole workflow, which may fail to end in time")
  const route = yield* Effect.timeoutOption(Effect.andThen(maps.traffic(), maps.route()), "300 millis")
  yield* stops
  yield* Console.log(`caller  ${Option.getOrElse(route, () => "takes the train")}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.mergeAll(MapsLive, TripsLive).pipe(Layer.provideMerge([Stopped.layer, Memory.layer]))),
  NodeRuntime.runMain
)
