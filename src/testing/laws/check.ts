/** Tries a law on an action: as many calls as asked for, the smallest one that breaks it, and a report. */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Transport } from "../../transport/Transport.ts"
import * as Calm from "../internal/Calm.ts"
import { TestBus } from "../TestBus.ts"
import * as Bench from "./Bench.ts"
import { type Law, type Prepared, type Subject, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** A law does not hold. The message is the report. */
export class LawBroken extends Data.TaggedError("LawBroken")<{
  readonly service: string
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
export interface Plan {
  readonly law: Law
  readonly subject: () => Subject
  readonly service: string
  readonly action: string
  readonly tuning: Tuning
  readonly replay: string | undefined
  /** How the contract is called in the line to paste. */
  readonly contract: string
  /** A new system for each run, in place of the one that is there. */
  readonly system: Layer.Layer<TestBus | Transport, unknown> | undefined
}

/** Tries. */
export const run = (plan: Plan): Effect.Effect<void, LawBroken | LawNotTried, TestBus | Transport> =>
  Effect.gen(function* () {
    const subject = yield* derived(plan, plan.subject)
    const prepared = yield* derived(plan, () => plan.law.prepare(subject))
    const { maxShrinks = 500, runs = 100, seed, size = 10 } = plan.tuning
    const result = yield* Arbitrary.checkEffect(prepared.inputs, (input) => evaluate(plan, subject, prepared, input), {
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
        return yield* broken(plan, subject, prepared, result, runs)
      case "Exhausted":
        return yield* notTried(
          plan,
          `too few of the generated values fit its schema (seed ${result.seed}): give \`payloads\``
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

const evaluate = (plan: Plan, subject: Subject, prepared: Prepared<any>, input: unknown) => {
  const once = Effect.gen(function* () {
    const bus = yield* TestBus
    yield* Effect.addFinalizer(() => Effect.ignore(Calm.calm(bus)))
    const bench = yield* Bench.make(subject)
    yield* bus.remarks.quietly(prepared.holds(bench, input))
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

const derived = <A>(plan: Plan, make: () => A): Effect.Effect<A, LawNotTried> =>
  Effect.try({
    try: make,
    catch: (error) =>
      notTried(
        plan,
        `no values can be generated: ${error instanceof Error ? error.message : error}. Give \`payloads\` for the action`
      )
  })

const notTried = ({ action, law, service }: Plan, why: string) =>
  new LawNotTried({ law: law.name, message: `"${law.name}" was not tried on ${service}.${action}: ${why}` })

const broken = (
  plan: Plan,
  subject: Subject,
  { show }: Prepared<any>,
  result: Arbitrary.Falsified<any, Violation>,
  runs: number
) => {
  const { action, contract, law, service } = plan
  const violation =
    result.failure._tag === "PropertyError"
      ? result.failure.error
      : new Violation({ because: "the law does not hold", cameBack: "" })
  const { because, cameBack } = violation
  const given =
    violation.given ?? (show === undefined ? Show.call(subject.action, result.shrunkInput) : show(result.shrunkInput))
  const replay = writeReplay(action, law.name, result.replay)
  const found =
    plan.replay === undefined
      ? `in run ${result.runs} of ${runs}, made smaller ${result.shrinks} time${result.shrinks === 1 ? "" : "s"}`
      : "by replaying it"
  const message = [
    `${service}.${action} breaks the law "${law.name}": ${because}`,
    "",
    ...column("payload", given),
    ...column("came back", cameBack),
    ...column("found", found),
    ...column("replay", `Laws.service(it, ${contract}, { replay: ${quoted(replay)} })`)
  ].join("\n")
  return withoutStack(
    () => new LawBroken({ service, action, law: law.name, given, cameBack, because, replay, message })
  )
}

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
