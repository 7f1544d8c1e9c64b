/**
 * Property tests of listeners, from their topic alone: messages are generated from its schema, published on a {@link TestBus}, and
 * judged by laws that hold for everyone who listens.
 *
 * `Laws.topic(it, UserEvents)` in a test file, `TopicLaws.all(UserEvents)` without a test runner.
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Glob from "../contract/Glob.ts"
import * as Topic from "../contract/Topic.ts"
import type { Transport } from "../transport/Transport.ts"
import * as Trial from "./laws/check.ts"
import * as Generate from "./laws/generate.ts"
import { Violation } from "./laws/Law.ts"
import * as Show from "./laws/show.ts"
import { leavesNothing } from "./laws/topic/leavesNothing.ts"
import { neverDies } from "./laws/topic/neverDies.ts"
import { refuses } from "./laws/topic/refuses.ts"
import * as TopicBench from "./laws/topic/TopicBench.ts"
import type { Subject, TopicLaw } from "./laws/topic/TopicLaw.ts"
import { unchanged } from "./laws/topic/unchanged.ts"
import type { TestBus } from "./TestBus.ts"

export type { Heard } from "./laws/topic/TopicBench.ts"
export type { TopicLaw } from "./laws/topic/TopicLaw.ts"
export { leavesNothing, neverDies, refuses, unchanged }

/** The laws that hold for the listeners of every topic. */
export const standard: ReadonlyArray<TopicLaw> = [neverDies, unchanged, refuses, leavesNothing]

/** What can be chosen and tuned. */
export interface Options<T extends Topic.Any | Topic.AnyPattern> extends Trial.Tuning {
  /** Default {@link standard}. Add your own: `[...TopicLaws.standard, mine]`. */
  readonly laws?: ReadonlyArray<TopicLaw>
  /** For some laws, by their names, another tuning. */
  readonly tune?: { readonly [law: string]: Trial.Tuning }
  /** Where messages come from, in place of the topic's schema: a narrower schema, or an `Arbitrary`. */
  readonly messages?: Generate.Source<Topic.Message<T>>
  /** Of a pattern, the channel to publish to. Default one that it covers. */
  readonly channel?: string
  /** How many resources the listeners have open now, for the law that none stays. */
  readonly resources?: () => number
  /** Milliseconds of the test's clock that a listener may take for a message. Default 60,000. */
  readonly millis?: number
  /** Real milliseconds, before each move of the clock, for what listeners wait for outside of it. Default 0. */
  readonly outsideMillis?: number
  /** Tries again, and only, what a report tells. */
  readonly replay?: string
}

/** Options with a system of their own. */
export interface FreshOptions<T extends Topic.Any | Topic.AnyPattern> extends Options<T> {
  /** Built anew for each run: for listeners that remember, and so that they can be shut down half way. */
  readonly system: Layer.Layer<TestBus | Transport, unknown>
}

/** One law of one topic. */
export interface Check<R> {
  /** `user_events never dies`. */
  readonly name: string
  readonly topic: string
  readonly law: string
  /** Fails with the report where the law does not hold. */
  readonly check: Effect.Effect<void, Trial.LawBroken | Trial.LawNotTried, R>
}

/**
 * All laws of a topic or pattern, for any test runner or none.
 *
 * Shape: each check is an Effect on the `TestBus` that has the listeners. With `system` each run has a new one, and
 * {@link leavesNothing} also shuts it down at some moment.
 */
export const all: {
  <T extends Topic.Any | Topic.AnyPattern>(topic: T, options: FreshOptions<T>): ReadonlyArray<Check<never>>
  <T extends Topic.Any | Topic.AnyPattern>(topic: T, options?: Options<T>): ReadonlyArray<Check<TestBus | Transport>>
} = <T extends Topic.Any | Topic.AnyPattern>(topic: T, options: Partial<FreshOptions<T>> = {}): any => {
  const name = Topic.isPattern(topic) ? topic.pattern : topic.channel
  const replay = options.replay === undefined ? undefined : Trial.readReplay(options.replay)
  const settings = {
    resources: options.resources,
    millis: Math.max(0, options.millis ?? 60_000),
    outsideMillis: options.outsideMillis ?? 0,
    system: options.system
  }
  const subject = (): Subject => ({
    topic,
    channel: options.channel ?? channelOf(topic),
    messages: Generate.values(options.messages ?? topic.message),
    settings
  })
  const laws = (options.laws ?? standard).filter(
    (law) =>
      law.applies(topic) &&
      (options.replay === undefined || (replay?.action === Trial.messageOf && replay.law === law.name))
  )
  if (options.replay !== undefined && laws.length === 0) throw new Trial.UnknownReplay({ replay: options.replay })
  return laws.map((law): Check<any> => {
    const plan: Trial.Plan<TopicBench.TopicBench> = {
      law: law.name,
      subject: name,
      service: name,
      action: Trial.messageOf,
      prepare: () => {
        const {
          holds,
          inputs,
          show = (message: unknown) => Show.value(message, topic.message)
        } = law.prepare(subject())
        return { holds, inputs, show }
      },
      bench: Effect.suspend(() => TopicBench.make(subject())),
      tuning: { ...options, ...options.tune?.[law.name] },
      replay: replay?.token,
      line: (replay) => `Laws.topic(it, topic, { replay: ${replay} })`,
      source: "messages",
      system: options.system
    }
    return { name: `${name} ${law.name}`, topic: name, law: law.name, check: Trial.run(plan) }
  })
}

// The shortest text that such a pattern covers, more or less; others are given by hand.
const channelOf = (topic: Topic.Any | Topic.AnyPattern): string => {
  if (!Topic.isPattern(topic)) return topic.channel
  const { pattern } = topic
  const channel = pattern
    .replaceAll(/\[(\^?)(\\?.)[^\]]*\]/g, (_, negated: string, char: string) => (negated === "" ? char.at(-1)! : "~"))
    .replaceAll("*", "laws")
    .replaceAll("?", "x")
    .replaceAll(/\\(.)/g, "$1")
  if (Glob.matcher(pattern)(channel) && !Glob.isGlob(channel)) return channel
  throw new Error(`no channel of ${pattern} is known: give \`channel\``)
}

/** Whatever registers tests that are Effects, as `it` of @effect/vitest does below `it.layer`. */
interface It<R> {
  readonly effect: (name: string, test: () => Effect.Effect<void, Trial.LawBroken | Trial.LawNotTried, R>) => void
}

/**
 * Registers a test for each law of a topic.
 *
 * `it.layer(TestBus.layer(OnUserEvents))((it) => { Laws.topic(it, UserEvents) })`
 */
export const topic: {
  <T extends Topic.Any | Topic.AnyPattern>(it: It<never>, topic: T, options: FreshOptions<T>): void
  <T extends Topic.Any | Topic.AnyPattern>(it: It<TestBus | Transport>, topic: T, options?: Options<T>): void
} = (it: It<never>, topic: Topic.Any | Topic.AnyPattern, options?: any): void => {
  for (const { check, name } of all(topic, options)) it.effect(name, () => check as any)
}

/** What a law of one's own gets to judge. */
export interface Judged<T extends Topic.Any | Topic.AnyPattern> {
  readonly message: Topic.Message<T>
  /** What became of it. */
  readonly heard: TopicBench.Heard
  /** Publishes again, another message or the same. */
  readonly again: (message: Topic.Message<T>) => Effect.Effect<TopicBench.Heard, Violation>
}

/**
 * Makes a law about one topic: a function that gets a generated message and what became of it, and says what is wrong, or nothing.
 *
 * `TopicLaws.make(UserEvents, "is counted once", ({ heard }) => …)`
 */
export const make = <T extends Topic.Any | Topic.AnyPattern>(
  topic: T,
  says: string,
  judge: (judged: Judged<T>) => string | undefined | void | Effect.Effect<string | undefined | void, Violation>
): TopicLaw => ({
  name: says,
  applies: (other) => nameOf(other) === nameOf(topic),
  prepare: (subject) => ({
    inputs: subject.messages,
    holds: (bench, message) =>
      Effect.gen(function* () {
        const heard = yield* bench.publish(message)
        const said = judge({ message, heard, again: bench.publish } as Judged<T>)
        const because = Effect.isEffect(said) ? yield* said : said
        if (typeof because !== "string") return
        return yield* new Violation({ because, cameBack: TopicBench.describe(heard) })
      })
  })
})

const nameOf = (topic: Topic.Any | Topic.AnyPattern) => (Topic.isPattern(topic) ? topic.pattern : topic.channel)
