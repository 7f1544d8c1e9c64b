/** Tries a law on an action or a topic: as many inputs as asked for, the smallest one that breaks it, and a report. */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Transport } from "../../transport/Transport.ts"
import * as Calm from "../internal/Calm.ts"
import { TestBus } from "../TestBus.ts"
import { Violation } from "./Law.ts"

/** A law does not hold. The message is the report. */
export class LawBroken extends Data.TaggedError("LawBroken")<{
  /** The service, or the channel or pattern of a topic. */
  readonly service: string
  /** The action; `message` for a topic. */
  readonly action: string
  readonly law: string
  /** The smallest input found, what came back, and why that is wrong: texts for people. */
  readonly given: string
  readonly cameBack: string
  readonly because: string
  /** Give it to the option `replay`. */
  readonly replay: string
  readonly message: string
}> {}

/** A law could not be tried, so nothing is known. */
export class LawNotTried extends Data.TaggedError("LawNotTried")<{
  readonly law: string
  readonly message: string
}> {}

/** A `replay` that names no law and action of the contract. Thrown where it is given. */
export class UnknownReplay extends Data.TaggedError("UnknownReplay")<{ readonly replay: string }> {
  override get message() {
    return `nothing here is to be replayed by ${JSON.stringify(this.replay)}: is its law among \`laws\`, its action in the contract?`
  }
}

/** How a law is tried. */
export interface Tuning {
  /** Calls that are tried. Default 100. */
  readonly runs?: number
  /** How large the values become. Default 10. */
  readonly size?: number
  /** The same seed brings the same calls. Default a new one each time; the report's `replay` has it. */
  readonly seed?: number | string
  /** Smaller inputs that are tried after the first that breaks the law. Default 500. */
  readonly maxShrinks?: number
}

/** Everything that a check is made of. */
export interface Plan<Bench> {
  readonly law: string
  /** For the report: `till.share`. */
  readonly subject: string
  readonly service: string
  readonly action: string
  /** Prepares the law; throws where values of a schema cannot be generated. */
  readonly prepare: () => Tried<Bench, any>
  readonly bench: Effect.Effect<Bench, never, TestBus | Transport | Scope.Scope>
  readonly tuning: Tuning
  readonly replay: string | undefined
  /** The line to paste, around what is to be replayed. */
  readonly line: (replay: string) => string
  /** What is named where nothing can be generated. */
  readonly source: string
  /** A new system for each run, in place of the one that is there. */
  readonly system: Layer.Layer<TestBus | Transport, unknown> | undefined
}

/** A prepared law, and how its inputs are shown. */
export interface Tried<Bench, Input> {
  readonly inputs: Arbitrary.Arbitrary<Input>
  readonly holds: (bench: Bench, input: Input) => Effect.Effect<unknown, Violation>
  readonly show: (input: Input) => string
}

/** Tries. */
export const run = <Bench>(plan: Plan<Bench>): Effect.Effect<void, LawBroken | LawNotTried, TestBus | Transport> =>
  Effect.gen(function* () {
    const tried = yield* prepared(plan)
    const { maxShrinks = 500, runs = 100, seed, size = 10 } = plan.tuning
    const result = yield* Arbitrary.checkEffect(tried.inputs, (input) => evaluate(plan, tried, input), {
      runs,
      size,
      seed,
      maxShrinks,
      replay: plan.replay
    })
    switch (result._tag) {
      case "Passed":
        return
      case "Falsified":
        return yield* broken(plan, tried, result, runs)
      case "Exhausted":
        return yield* notTried(
          plan,
          `too few of the generated values fit its schema (seed ${result.seed}): give \`${plan.source}\``
        )
      case "ReplayMismatch":
        // What was recorded is mended.
        if (result.reason === "PropertyPassed") return
        return yield* notTried(
          plan,
          `the recorded case is another one now (${result.reason}): run it without \`replay\``
        )
    }
  })

const evaluate = <Bench>(plan: Plan<Bench>, tried: Tried<Bench, any>, input: unknown) => {
  const once = Effect.gen(function* () {
    const bus = yield* TestBus
    yield* Effect.addFinalizer(() => Effect.ignore(Calm.calm(bus)))
    const bench = yield* plan.bench
    yield* bus.remarks.quietly(tried.holds(bench, input))
    return true
  }).pipe(Effect.scoped)
  return Effect.catchCause(
    plan.system === undefined ? once : Effect.provide(once, plan.system, { local: true }),
    (cause): Effect.Effect<never, Violation> => {
      if (Cause.hasInterrupts(cause)) return Effect.failCause(cause as Cause.Cause<never>)
      const violation = cause.reasons.find(Cause.isFailReason)?.error
      return Effect.fail(
        violation instanceof Violation
          ? violation
          : new Violation({ because: "the law could not be tried on it", cameBack: Cause.pretty(cause) })
      )
    }
  )
}

const prepared = <Bench>(plan: Plan<Bench>): Effect.Effect<Tried<Bench, any>, LawNotTried> =>
  Effect.try({
    try: plan.prepare,
    catch: (error) =>
      notTried(
        plan,
        `no values can be generated: ${error instanceof Error ? error.message : error}. Give \`${plan.source}\` for it`
      )
  })

const notTried = ({ law, subject }: Plan<any>, why: string) =>
  new LawNotTried({ law, message: `"${law}" was not tried on ${subject}: ${why}` })

const broken = <Bench>(
  plan: Plan<Bench>,
  { show }: Tried<Bench, any>,
  result: Arbitrary.Falsified<any, Violation>,
  runs: number
) => {
  const { action, law, service, subject } = plan
  const violation =
    result.failure._tag === "PropertyError"
      ? result.failure.error
      : new Violation({ because: "the law does not hold", cameBack: "" })
  const { because, cameBack } = violation
  const given = violation.given ?? show(result.shrunkInput)
  const replay = writeReplay(action, law, result.replay)
  const found =
    plan.replay === undefined
      ? `in run ${result.runs} of ${runs}, made smaller ${result.shrinks} time${result.shrinks === 1 ? "" : "s"}`
      : "by replaying it"
  const message = [
    `${subject} breaks the law "${law}": ${because}`,
    "",
    ...column(action === messageOf ? "message" : "payload", given),
    ...column("came back", cameBack),
    ...column("found", found),
    ...column("replay", plan.line(quoted(replay)))
  ].join("\n")
  return withoutStack(() => new LawBroken({ service, action, law, given, cameBack, because, replay, message }))
}

/** Stands for the action where a law is about the messages of a topic. */
export const messageOf = "message"

// Where in here it was made helps nobody.
const withoutStack = <A>(make: () => A): A => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

const column = (name: string, text: string): ReadonlyArray<string> =>
  text.split("\n").map((line, index) => `  ${(index === 0 ? name : "").padEnd(11)}${line}`)

const quoted = (text: string) => (text.includes("'") ? JSON.stringify(text) : `'${text}'`)

/** One text for what is to be tried again: the action, the law, and where Effect's generators found it. */
const writeReplay = (action: string, law: string, token: string) => `${action}: ${law}: ${token}`

/** The parts of such a text; nothing where it is none. */
export const readReplay = (
  replay: string
): { readonly action: string; readonly law: string; readonly token: string } | undefined => {
  const [, action, law, token] = /^([^:]+): ([^:]+): (.+)$/s.exec(replay) ?? []
  return action === undefined || law === undefined || token === undefined ? undefined : { action, law, token }
}
