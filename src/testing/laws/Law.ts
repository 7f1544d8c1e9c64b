/** What holds for every payload that a contract allows, and how it is said that it does not. */
import type * as Arbitrary from "effect/Arbitrary"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Action from "../../contract/Action.ts"
import type * as Service from "../../contract/Service.ts"
import type { Bench } from "./Bench.ts"

/** One generated call: its payload, and what its caller answers to each question in turn, again and again. */
export interface Call {
  readonly payload: unknown
  readonly answers: { readonly [question: string]: ReadonlyArray<unknown> }
}

/** An action under the laws. */
export interface Subject {
  readonly service: Service.Any
  readonly action: Action.Any
  /** Calls that the contract allows. */
  readonly calls: Arbitrary.Arbitrary<Call>
  readonly settings: Settings
}

/** What laws may be told. */
export interface Settings {
  /** Items that are taken of a stream. */
  readonly items: number
  /** Actions that answer alike whether they are called alone or together. */
  readonly isolated: ReadonlyArray<string>
  /** What the services have open. */
  readonly resources: (() => number) | undefined
  /** Real milliseconds for what handlers wait for outside of the clock. */
  readonly outsideMillis: number
}

/** A law does not hold for what was generated. */
export class Violation extends Data.TaggedError("Violation")<{
  readonly because: string
  /** What came back, for people. */
  readonly cameBack: string
  /** What it was about, where that is more than the call. */
  readonly given?: string | undefined
}> {}

/** A law: a name to choose it by, and what is generated and tried. */
export interface Law {
  /** A sentence about an action, without its subject: `never dies`. */
  readonly name: string
  readonly applies: (action: Action.Any, subject: Pick<Subject, "service" | "settings">) => boolean
  /** Prepares it for an action; throws where values of a schema cannot be generated. */
  readonly prepare: (subject: Subject) => Prepared<any>
}

/** A law that is ready to be tried. */
export interface Prepared<Input> {
  readonly inputs: Arbitrary.Arbitrary<Input>
  /** Fails with {@link Violation} where the law does not hold. */
  readonly holds: (bench: Bench, input: Input) => Effect.Effect<unknown, Violation>
  /** For the report; by default the call's payload, and its answers if it has any. */
  readonly show?: (input: Input) => string
}

/** A law about a single call. */
export const ofCall = (
  name: string,
  applies: Law["applies"],
  holds: (bench: Bench, call: Call) => Effect.Effect<unknown, Violation>
): Law => ({ name, applies, prepare: (subject) => ({ inputs: subject.calls, holds }) })
