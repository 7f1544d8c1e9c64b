/** One promise of a transport, and what trying it takes. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Transport, TransportError } from "../../transport/Transport.ts"

/** What the cases are tried on: two transports that hear each other, each with connections of its own. */
export class TwoTransports extends Context.Service<
  TwoTransports,
  {
    readonly here: Transport["Service"]
    readonly there: Transport["Service"]
    /** Makes a third on the same broker, for the cases that close one. Without it those are left out. */
    readonly another?: Effect.Effect<Transport["Service"], TransportError, Scope.Scope>
    /**
     * Takes the broker away from both and brings it back, each done when its Effect succeeds, for the cases about lost links. Without it
     * those are left out. A transport within the process has none.
     */
    readonly outage?: { readonly begin: Effect.Effect<void>; readonly end: Effect.Effect<void> }
  }
>()("fiberbus/testing/TransportConformance/TwoTransports") {}

/** A transport broke a promise. */
export class Nonconformance extends Data.TaggedError("Nonconformance")<{
  readonly what: string
  readonly expected: unknown
  readonly actual: unknown
}> {
  override get message() {
    return `${this.what}: expected ${shown(this.expected)}, got ${shown(this.actual)}`
  }
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 200 ? `${text.slice(0, 200)}… (${text.length} characters)` : text
}

/**
 * What a case relies on. The first four are capabilities: `at-most-once` is `delivery`, `ordered` and `patterns` are those,
 * `exact receivers` is `receivers: "exact"`. The others are what {@link TwoTransports} may offer.
 */
export type Need = "at-most-once" | "ordered" | "exact receivers" | "patterns" | "another" | "outage"

/** One promise. `run` fails with {@link Nonconformance} where it is broken, and never takes longer than {@link caseMillis}. */
export interface Case {
  /** A sentence about behaviour. */
  readonly name: string
  /** Every transport must keep a promise that needs nothing. */
  readonly needs: ReadonlyArray<Need>
  /** Whether these transports promise it, and it can be tried on them. */
  readonly applies: (two: TwoTransports["Service"]) => boolean
  readonly run: Effect.Effect<void, Nonconformance | TransportError, TwoTransports>
}

/** Longest time of one case, in milliseconds of real time: a transport that never answers fails it. */
export const caseMillis = 25_000

/** How long a case waits for something that must come, in milliseconds of real time. */
export const Patience = Context.Reference<number>("fiberbus/testing/TransportConformance/Patience", {
  defaultValue: () => 15_000
})

/** Which of the needs of a case are not there. */
export const missing = ({ needs }: Pick<Case, "needs">, two: TwoTransports["Service"]): ReadonlyArray<Need> =>
  needs.filter((need) => !met[need](two))

const met: Record<Need, (two: TwoTransports["Service"]) => boolean> = {
  "at-most-once": ({ here }) => here.capabilities.delivery === "at-most-once",
  ordered: ({ here }) => here.capabilities.ordered,
  "exact receivers": ({ here }) => here.capabilities.receivers === "exact",
  patterns: ({ here }) => here.capabilities.patterns,
  another: ({ another }) => another !== undefined,
  outage: ({ outage }) => outage !== undefined
}

/** Makes a case. Its Scope is closed at its end. */
export const make = (
  name: string,
  needs: ReadonlyArray<Need>,
  run: (two: TwoTransports["Service"]) => Effect.Effect<void, Nonconformance | TransportError, Scope.Scope>
): Case => ({
  name,
  needs,
  applies: (two) => missing({ needs }, two).length === 0,
  run: Effect.flatMap(TwoTransports, (two) => Effect.raceFirst(Effect.scoped(run(two)), limit))
})

const limit = Effect.callback<never, Nonconformance>((resume) => {
  const timer = setTimeout(
    () => resume(new Nonconformance({ what: "the case", expected: "to end", actual: `nothing in ${caseMillis} ms` })),
    caseMillis
  )
  return Effect.sync(() => clearTimeout(timer))
})
