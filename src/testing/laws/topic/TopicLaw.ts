/** What holds for every message that a topic allows, whoever listens to it. */
import type * as Arbitrary from "effect/Arbitrary"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Topic from "../../../contract/Topic.ts"
import type { Transport } from "../../../transport/Transport.ts"
import type { TestBus } from "../../TestBus.ts"
import type { Violation } from "../Law.ts"
import type { TopicBench } from "./TopicBench.ts"

/** A topic under the laws. */
export interface Subject {
  readonly topic: Topic.Any | Topic.AnyPattern
  /** The channel that messages are published to. */
  readonly channel: string
  /** Messages that the contract allows. */
  readonly messages: Arbitrary.Arbitrary<unknown>
  readonly settings: Settings
}

/** What laws may be told. */
export interface Settings {
  /** What the listeners have open. */
  readonly resources: (() => number) | undefined
  /** Milliseconds of the clock that a listener may take for a message. */
  readonly millis: number
  /** Real milliseconds for what listeners wait for outside of the clock. */
  readonly outsideMillis: number
  /** What can be built anew, and shut down. */
  readonly system: Layer.Layer<TestBus | Transport, unknown> | undefined
}

/** A law: a name to choose it by, and what is generated and tried. */
export interface TopicLaw {
  /** A sentence about a topic's listeners, without its subject: `never dies`. */
  readonly name: string
  readonly applies: (topic: Topic.Any | Topic.AnyPattern) => boolean
  /** Prepares it; throws where values of the schema cannot be generated. */
  readonly prepare: (subject: Subject) => Prepared<any>
}

/** A law that is ready to be tried. */
export interface Prepared<Input> {
  readonly inputs: Arbitrary.Arbitrary<Input>
  /** Fails with `Violation` where the law does not hold. */
  readonly holds: (bench: TopicBench, input: Input) => Effect.Effect<unknown, Violation>
  /** For the report; by default the message. */
  readonly show?: (input: Input) => string
}
