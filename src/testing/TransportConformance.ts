/**
 * What every transport must do, as cases for any test runner, or for none.
 *
 * Each case gets two transports on one broker, as two processes would have them, and applies or not by what the
 * transport promises. Channels are new in each case, so that all can share one broker and one pair of transports, one case after
 * the other. Waiting ends on a signal, or on real time as a failure that says what was missing: TestClock plays no part.
 * `docs/adding-a-transport.md` shows them at work.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { type Case, missing, type Need, TwoTransports } from "./conformance/Case.ts"
import { delivery } from "./conformance/delivery.ts"
import { link } from "./conformance/link.ts"
import { names } from "./conformance/names.ts"
import { subscriptions } from "./conformance/subscriptions.ts"

export {
  type Case,
  caseMillis,
  missing,
  type Need,
  Nonconformance,
  Patience,
  TwoTransports
} from "./conformance/Case.ts"

/** All cases, in the order in which a new transport should come to pass them. */
export const cases: ReadonlyArray<Case> = [...delivery, ...subscriptions, ...names, ...link]

/** What became of one case. */
export interface Result {
  readonly name: string
  readonly outcome: "passed" | "failed" | "left out"
  /** Which of its needs are not there. Empty unless it was left out. */
  readonly missing: ReadonlyArray<Need>
  /** What went wrong, or nothing. */
  readonly detail: string
}

/** What became of all. */
export interface Report {
  /** The transport's name. */
  readonly transport: string
  readonly passed: number
  readonly failed: number
  readonly leftOut: number
  readonly results: ReadonlyArray<Result>
}

/**
 * Tries cases one after the other on one pair of transports, without a test runner.
 *
 * Shape: a report, whatever the cases do; `format` makes it readable. Only what fails before the first case (no broker, say) is an
 * error.
 */
export const run = <E, R>(
  cases: ReadonlyArray<Case>,
  makeTransports: Effect.Effect<TwoTransports["Service"], E, R | Scope.Scope>
): Effect.Effect<Report, E, Exclude<R, Scope.Scope>> =>
  Effect.scoped(
    Effect.gen(function* () {
      const two = yield* makeTransports
      const results: Array<Result> = []
      for (const each of cases) results.push(yield* attempt(each, two))
      const count = (outcome: Result["outcome"]) => results.filter((result) => result.outcome === outcome).length
      return {
        transport: two.here.name,
        passed: count("passed"),
        failed: count("failed"),
        leftOut: count("left out"),
        results
      }
    })
  )

const attempt = (each: Case, two: TwoTransports["Service"]): Effect.Effect<Result> => {
  const { name, run } = each
  const needed = missing(each, two)
  if (needed.length > 0) return Effect.succeed({ name, outcome: "left out", missing: needed, detail: "" })
  return Effect.map(Effect.exit(Effect.provideService(run, TwoTransports, two)), (exit) => ({
    name,
    outcome: Exit.isSuccess(exit) ? "passed" : "failed",
    missing: [],
    detail: Exit.isSuccess(exit) ? "" : whyOf(exit.cause)
  }))
}

const whyOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof Error ? `${error.name}: ${error.message}` : Cause.pretty(cause)
}

/** A line per case, what failed with its reason, and what was left out with the need that is not there. */
export const format = ({ failed, leftOut, passed, results, transport }: Report): string =>
  [
    `${transport}: ${passed} passed, ${failed} failed, ${leftOut} left out`,
    ...results.flatMap(({ detail, missing, name, outcome }) => {
      if (outcome === "passed") return [`  ok    ${name}`]
      if (outcome === "left out") return [`  -     ${name} (needs ${missing.join(", ")})`]
      return [`  FAIL  ${name}`, ...detail.split("\n").map((line) => `        ${line}`)]
    })
  ].join("\n")
