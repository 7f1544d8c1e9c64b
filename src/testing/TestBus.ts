/**
 * A whole system in one process, without a broker: services, callers, listeners and topics through the real codecs and
 * dispatcher, on a test's clock, with a record of all that was sent.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import type { CallError } from "../client/CallError.ts"
import type * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import type * as Topic from "../contract/Topic.ts"
import { Durable, layerMemory } from "../transport/Durable.ts"
import * as Memory from "../transport/Memory.ts"
import { Transport } from "../transport/Transport.ts"
import * as Activity from "./internal/Activity.ts"
import * as Calm from "./internal/Calm.ts"
import * as Reading from "./internal/Reading.ts"
import * as Remarks from "./internal/Remarks.ts"
import { make as recordingDurable } from "./internal/recordingDurable.ts"
import { make as recordingTransport } from "./internal/recordingTransport.ts"
import * as Traffic from "./internal/Traffic.ts"

export { NotSettled } from "./internal/Calm.ts"
export { RecordFull } from "./internal/Reading.ts"
export { stub } from "./internal/stub.ts"

/** What can be set. */
export interface Options extends Memory.Options {
  /**
   * Frames that are recorded. Default 10,000, and no more than 32 million characters of them; beyond that the oldest are left
   * out, and {@link sent} and {@link published} fail with `RecordFull` until {@link clear}.
   */
  readonly record?: number
}

/** One frame, as it went over the bus, or was kept in the queue of a durable action. */
export interface Frame extends Readonly<Traffic.Frame> {}

/** One request, as it was sent. */
export interface Sent<A extends Action.Any> {
  readonly payload: Action.Payload<A>
  readonly headers: { readonly [name: string]: string }
  /** 2 and more for the further attempts of a call. */
  readonly attempt: number
  /** False for one-way messages, which get no answer, and for durable ones that were enqueued, whose result is kept. */
  readonly awaited: boolean
  /**
   * The success, the declared error, or the `CallError` that came back; of an action with `items`, nothing as its success. Not
   * there while there is no answer, and where the caller gave up or went away before.
   */
  readonly outcome: Exit.Exit<Action.Success<A>, Action.Error<A> | CallError> | undefined
}

/** The bus of a test: what is recorded, and what goes on. */
export class TestBus extends Context.Service<
  TestBus,
  {
    readonly activity: Activity.Activity
    readonly traffic: Traffic.Traffic
    readonly remarks: Remarks.Remarks
    readonly prefix: string
  }
>()("fiberbus/testing/TestBus") {}

/**
 * Makes a bus and puts services, stubs and listeners on it.
 *
 * Shape: gives the `Transport` that callers of the test use, and the `Durable` of durable actions, so that all that is made below this Layer hears each other. Everything
 * is built anew for each bus. The clock is the test's own `TestClock`, or a new one where there is none.
 * Errors: those of the services' Layers.
 *
 * `it.layer(TestBus.layer(UsersLive))((it) => …)`, or `Effect.provide(TestBus.layer(UsersLive))`.
 */
export const layer = <A, E, R>(
  services: Layer.Layer<A, E, R>,
  options?: Options
): Layer.Layer<A | TestBus | Transport | Durable, E, Exclude<R, TestBus | Transport | Durable>> =>
  Layer.provideMerge(Layer.fresh(services), onTestClock(bus(options)))

// Below @effect/vitest there is one already, which the test's own fiber sees as well.
const onTestClock = <A>(layer: Layer.Layer<A>): Layer.Layer<A> =>
  Layer.unwrap(
    Effect.map(Clock.Clock, (clock) => ("adjust" in clock ? layer : Layer.provideMerge(layer, TestClock.layer())))
  )

const bus = (options?: Options): Layer.Layer<TestBus | Transport | Durable> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const activity = yield* Activity.make((yield* Clock.Clock) as TestClock.TestClock)
      const remarks = Remarks.make(yield* Logger.CurrentLoggers)
      const traffic = Traffic.make(Math.max(1, options?.record ?? 10_000))
      const memory = Context.get(yield* Layer.build(Memory.layerOptions(options)), Transport)
      const durable = Context.get(yield* Layer.build(Layer.fresh(layerMemory)), Durable)
      const { prefix } = memory
      return activity.context.pipe(
        Context.add(Logger.CurrentLoggers, remarks.loggers),
        Context.add(Transport, recordingTransport(memory, traffic, activity)),
        Context.add(Durable, recordingDurable(durable, traffic, activity)),
        Context.add(TestBus, { activity, traffic, remarks, prefix })
      )
    })
  )

/**
 * All requests that were sent to an action, oldest first, decoded by its contract. Those whose payload does not fit it are
 * not among them: {@link frames} has everything.
 *
 * Errors: `RecordFull`.
 */
export const sent: <S extends Service.Any, const Name extends Service.ActionName<S>>(
  service: S,
  action: Name
) => Effect.Effect<ReadonlyArray<Sent<S["actions"][Name]>>, Reading.RecordFull, TestBus> = (service, action) =>
  TestBus.use((bus) => Reading.sent(bus, service, service.actions[action]!))

/**
 * All messages that were published to a topic, or to the topics of a pattern, oldest first. Those that do not fit its schema are
 * not among them.
 *
 * Errors: `RecordFull`.
 */
export const published = <T extends Topic.Any | Topic.AnyPattern>(
  topic: T
): Effect.Effect<ReadonlyArray<Topic.Message<T>>, Reading.RecordFull, TestBus> =>
  TestBus.use((bus) => Reading.published(bus, topic))

/** All frames that are recorded, oldest first. */
export const frames: Effect.Effect<ReadonlyArray<Frame>, never, TestBus> = TestBus.use(({ traffic }) =>
  Effect.sync(traffic.frames)
)

/** Forgets what was recorded: tests that share a bus begin with it. */
export const clear: Effect.Effect<void, never, TestBus> = TestBus.use(({ traffic }) => Effect.sync(traffic.clear))

/**
 * Waits until nothing goes on: no frame is on its way, no call waits for its answer, no handler or listener runs, and no fiber of
 * the system can go on. Fibers that sleep on the clock or wait for something may be there.
 *
 * The clock stands still meanwhile. What a handler waits for outside of it (a promise, a socket) may take a second of real time.
 * Errors: `NotSettled`, which names what still goes on; also when messages go round without end, after 25,000 turns of the event loop.
 */
export const settled: Effect.Effect<void, Calm.NotSettled, TestBus> = TestBus.use(Calm.settled)

/**
 * Moves the clock on, from sleeper to sleeper, and lets everything that one brings about happen before the next wakes: frames
 * travel, handlers run, answers arrive. `TestClock.adjust` does not wait for frames.
 *
 * Errors: `NotSettled` when the system does not come to rest within 25,000 turns of the event loop between two sleepers, or after
 * 100,000 of them.
 */
export const elapse = (duration: Duration.Input): Effect.Effect<void, Calm.NotSettled, TestBus> =>
  TestBus.use((bus) => Calm.elapse(bus, duration))
