/**
 * Contracts over time: what breaks when a service and those who call it, or publishers and listeners, are of two revisions.
 *
 * Values are made from the one revision's schemas, written as on the wire, and read with the other's, in both directions. Nothing is
 * sent, and no handler runs.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Actions from "./internal/actions.ts"
import * as Contracts from "./internal/contracts.ts"
import type { Settings } from "./internal/part.ts"
import * as Show from "./internal/show.ts"
import * as Topics from "./internal/topics.ts"

export type { AnyTopic, Contract } from "./internal/contracts.ts"

/** Whom a finding concerns: callers against a service, listeners to publishers, of the respective other revision. */
export type Who = "old callers" | "new callers" | "old listeners" | "new listeners"

/** All of them. */
export const everyone: ReadonlyArray<Who> = ["old callers", "new callers", "old listeners", "new listeners"]

/**
 * How bad it is. `breaking`: something is refused, not read or not there. `change`: all is read, and something is dropped, defaulted
 * or otherwise than before. `unknown`: it could not be found out.
 */
export type Severity = "breaking" | "change" | "unknown"

/** One thing that the other revision does otherwise. */
export interface Finding {
  readonly severity: Severity
  readonly who: Who
  /** The service or the topic, by its old name. */
  readonly of: string
  /** The action, where it is about one. */
  readonly action: string | undefined
  /** `payload`, `success`, `error`, `progress`, `items`, `question <name>`, `answer to <name>`, `message`; or what else of the contract. */
  readonly part: string
  /** What happens. */
  readonly because: string
  /** Where in the value. */
  readonly path: ReadonlyArray<string>
  /** What was expected there. */
  readonly expected: string | undefined
  /** What is read there instead, as JSON. */
  readonly instead: string | undefined
  /** The smallest value found that shows it, as JSON on the wire. */
  readonly witness: Schema.Json | undefined
}

/** All that was found. */
export interface Report {
  readonly findings: ReadonlyArray<Finding>
  /** Values that were tried. */
  readonly tried: number
  readonly seed: string | number
}

/** What can be set. */
export interface Options {
  /** Random values for each schema, beside those at its branches and bounds. Default 100. */
  readonly runs?: number
  /** How large they become. Default 10. */
  readonly size?: number
  /** Another seed brings other values. Default always the same, so that the same contracts have the same report. */
  readonly seed?: string | number
  /** Whom the findings are to concern. Default {@link everyone}. */
  readonly who?: ReadonlyArray<Who>
}

/** The two revisions do not get on. The message is the report. */
export class Incompatible extends Data.TaggedError("Incompatible")<{
  readonly report: Report
  readonly message: string
}> {}

/** Neither revision has a service or a topic, so nothing was compared. */
export class NoContract extends Data.TaggedError("NoContract")<{ readonly which: "old" | "new" }> {
  override get message() {
    return `The ${this.which} revision has no service and no topic`
  }
}

/**
 * Compares two revisions of a service, of a topic, or of all that a module exports.
 *
 * Shape: what was not found is not proven: bounds and branches of the schemas are all tried, but what depends on a filter's own
 * code is found by random values or not at all.
 * Errors: {@link NoContract}.
 */
export const compare = (
  old: Contracts.Contract,
  now: Contracts.Contract,
  options: Options = {}
): Effect.Effect<Report, NoContract> =>
  Effect.gen(function* () {
    const { runs = 100, seed = "fiberbus", size = 10, who = everyone } = options
    const settings: Settings = { runs: Math.max(0, runs), seed, size: Math.max(0, size) }
    const [before, after] = [Contracts.read(old), Contracts.read(now)]
    for (const [which, { services, topics }] of [
      ["old", before],
      ["new", after]
    ] as const) {
      if (services.length + topics.length === 0) return yield* new NoContract({ which })
    }
    const found = [
      yield* Actions.compare(Contracts.pairServices(before, after), settings),
      yield* Topics.compare(Contracts.pairTopics(before, after), settings)
    ]
    return {
      findings: found
        .flatMap(({ findings }) => findings)
        .filter((finding) => who.includes(finding.who))
        .sort((one, other) => order.indexOf(one.severity) - order.indexOf(other.severity)),
      tried: found.reduce((sum, { tried }) => sum + tried, 0),
      seed
    }
  })

const order: ReadonlyArray<Severity> = ["breaking", "unknown", "change"]

/** True where nothing breaks, and everything could be compared. */
export const isCompatible = ({ findings }: Report): boolean => findings.every(({ severity }) => severity === "change")

/**
 * Compares, and fails with the report where something breaks or could not be compared: for tests.
 *
 * `await Effect.runPromise(ContractDiff.assertCompatible(released, current))`
 * Errors: {@link Incompatible}, {@link NoContract}.
 */
export const assertCompatible = (
  old: Contracts.Contract,
  now: Contracts.Contract,
  options?: Options
): Effect.Effect<Report, Incompatible | NoContract> =>
  Effect.flatMap(compare(old, now, options), (report) =>
    isCompatible(report) ? Effect.succeed(report) : Effect.fail(new Incompatible({ report, message: format(report) }))
  )

/** The report for people. */
export const format = (report: Report): string => Show.report(report)
