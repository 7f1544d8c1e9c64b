/** Publishes to listeners under the laws, on the clock of the bus, and tells what became of it. */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Glob from "../../../contract/Glob.ts"
import * as HandlerMetrics from "../../../server/HandlerMetrics.ts"
import * as ServerMetrics from "../../../server/ServerMetrics.ts"
import { Transport } from "../../../transport/Transport.ts"
import * as Channels from "../../../wire/Channels.ts"
import * as Discards from "../../../wire/Discards.ts"
import * as SchemaCodec from "../../../wire/SchemaCodec.ts"
import type { Running } from "../../internal/Activity.ts"
import * as Calm from "../../internal/Calm.ts"
import { TestBus } from "../../TestBus.ts"
import { Violation } from "../Law.ts"
import type { Subject } from "./TopicLaw.ts"

/** What became of a message. */
export interface Heard {
  /** Processes that it reached. */
  readonly receivers: number
  /** Listeners that have handled it, well or not. */
  readonly handled: number
  /** Listeners that failed with an error of their own. */
  readonly failed: number
  /** Listeners that it was refused for, and counted. */
  readonly refused: number
  /** Frames that are no messages, and were counted. */
  readonly discarded: number
  /** Why listeners died. */
  readonly died: ReadonlyArray<Cause.Cause<unknown>>
  /** Listeners that are still at it. */
  readonly running: number
}

/** @see {@link make} */
export interface TopicBench extends Subject {
  readonly transport: Transport["Service"]
  /** Publishes a message as a publisher does, and moves the clock until all have handled it, or their time is over. */
  readonly publish: (message: unknown) => Effect.Effect<Heard, Violation>
  /** Publishes a frame by hand. */
  readonly raw: (text: string) => Effect.Effect<Heard, Violation>
  /** Publishes a frame; time stands still. */
  readonly begin: (text: string) => Effect.Effect<number>
  /** Moves the clock from sleeper to sleeper, for so many milliseconds at most, until something is true. */
  readonly advance: (millis: number, isDone: () => boolean) => Effect.Effect<void, Violation>
  /** The frame of a message. */
  readonly frameOf: (message: unknown) => Effect.Effect<string>
  /** What has begun since the bench was made, and still lives. */
  readonly left: () => { readonly handlers: ReadonlyArray<Running>; readonly resources: number }
}

const counters = new Set<string>([HandlerMetrics.heard.id, ServerMetrics.refused.id, Discards.discarded.id])

/** Prepares a bench for a topic. */
export const make = (subject: Subject): Effect.Effect<TopicBench, never, TestBus | Transport> =>
  Effect.gen(function* () {
    const bus = yield* TestBus
    const transport = yield* Transport
    const context = yield* Effect.context<never>()
    const registry = Context.get(context, Metric.MetricRegistry)
    const { channel, settings, topic } = subject
    const { activity, remarks } = bus
    const address = Channels.topic(transport.prefix, channel)
    const codec = SchemaCodec.make(topic.message)
    const now = () => activity.clock.currentTimeMillisUnsafe()
    const before = new Set(activity.running().map(({ request }) => request))
    const resourcesBefore = settings.resources?.() ?? 0
    const left = () => ({
      handlers: activity.running().filter(({ request }) => !before.has(request)),
      resources: (settings.resources?.() ?? 0) - resourcesBefore
    })

    /** Listeners are counted by what they listen to: the channel, or patterns that it belongs to. */
    const isOfTopic = (name: unknown) =>
      typeof name === "string" && (name === channel || (Glob.isGlob(name) && Glob.matcher(name)(channel)))
    const count = () => {
      const sums = { heard: 0, failed: 0, refused: 0, discarded: 0 }
      // A snapshot would read every series of the process, each time.
      for (const { attributes = {}, hooks, id } of registry.values()) {
        if (!counters.has(id)) continue
        const number = Number((hooks.get(context) as Metric.CounterState<number>).count)
        if (id === HandlerMetrics.heard.id && isOfTopic(attributes["topic"])) {
          sums.heard += number
          if (attributes["outcome"] === "error") sums.failed += number
        }
        if (id === ServerMetrics.refused.id && isOfTopic(attributes["service"])) sums.refused += number
        if (id === Discards.discarded.id && attributes["where"] === "server") sums.discarded += number
      }
      return sums
    }

    const advance: TopicBench["advance"] = (millis, isDone) =>
      Effect.mapError(
        Effect.suspend(() => {
          const until = now() + millis
          return Effect.flatMap(Calm.advance(bus, until, isDone, settings.outsideMillis), () =>
            isDone() ? Effect.void : Effect.andThen(activity.clock.setTime(until), Calm.calm(bus))
          )
        }),
        ({ message }: Calm.NotSettled) =>
          new Violation({ because: "the system does not come to rest", cameBack: message })
      )

    const begin = (text: string): Effect.Effect<number> =>
      Effect.callback((resume) => {
        transport.send(address, text, (_, receivers) => resume(Effect.succeed(receivers)))
      })

    const handling = () => left().handlers.filter((one) => one.handling).length

    const raw: TopicBench["raw"] = (text) =>
      Effect.gen(function* () {
        const [counted, known] = [count(), new Set(remarks.defects().map(({ id }) => id))]
        const receivers = yield* begin(text)
        // Its frame has to arrive before anybody can be at it.
        yield* advance(0, () => false)
        yield* advance(settings.millis, () => handling() === 0)
        const after = count()
        return {
          receivers,
          handled: after.heard - counted.heard,
          failed: after.failed - counted.failed,
          refused: after.refused - counted.refused,
          discarded: after.discarded - counted.discarded,
          died: remarks
            .defects()
            .filter(({ about, id }) => !known.has(id) && about["topic"] === channel)
            .map(({ cause }) => cause),
          running: handling()
        }
      })

    const frameOf: TopicBench["frameOf"] = (message) =>
      Effect.map(Effect.orDie(codec.encode(message)), (json) => JSON.stringify(json))

    return {
      ...subject,
      transport,
      advance,
      begin,
      raw,
      frameOf,
      publish: (message) => Effect.flatMap(frameOf(message), raw),
      left
    }
  })

/** What became of it, for people. */
export const describe = ({ failed, handled, receivers, refused, running }: Heard): string =>
  receivers === 0
    ? "nothing: nobody listens"
    : [
        `${handled} listener${handled === 1 ? "" : "s"} handled it`,
        ...(failed === 0 ? [] : [`${failed} of them failed`]),
        ...(refused === 0 ? [] : [`it was refused ${refused} time${refused === 1 ? "" : "s"}`]),
        ...(running === 0 ? [] : [`${running} still at it`])
      ].join(", ")
