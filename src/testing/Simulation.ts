/**
 * Runs services and their callers in a world where everything goes wrong, on virtual time, and decides all of it by a seed.
 *
 * ```ts
 * const totals = yield* Simulation.check({
 *   seeds: 1_000,
 *   services: { shop: ShopLive },
 *   clients: {
 *     ann: Effect.gen(function* () {
 *       const shop = yield* Simulation.caller(Shop)
 *       for (let n = 0; n < 10; n++) yield* Effect.exit(shop.buy({ n }))
 *       yield* Simulation.calm
 *       yield* shop.buy({ n: 10 })
 *     })
 *   }
 * })
 * ```
 *
 * See docs/simulation.md.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Request from "../server/Request.ts"
import type { Capabilities, Transport } from "../transport/Transport.ts"
import * as Diagram from "./simulation/Diagram.ts"
import * as Fault from "./simulation/Fault.ts"
import { Here } from "./simulation/Here.ts"
import * as History from "./simulation/History.ts"
import type * as Invariant from "./simulation/Invariant.ts"
import * as Promises from "./simulation/Promises.ts"
import * as Run from "./simulation/Run.ts"
import * as Shrink from "./simulation/Shrink.ts"

export { type Fault, hostile, type Mix, rough } from "./simulation/Fault.ts"
export type { Event, Frame, Outcome } from "./simulation/History.ts"
export { type Invariant, make as invariant } from "./simulation/Invariant.ts"
export * as Promises from "./simulation/Promises.ts"
export { call, caller } from "./simulation/Recorded.ts"

/** Services and clients, what goes wrong, and what must hold all the same. Everything but the first two has a default. */
export interface Options<Outside = never> {
  /** Processes that serve, by name: each builds its Layer on a transport of its own, and again after each crash. */
  readonly services: { readonly [process: string]: Layer.Layer<never, unknown, Transport | Outside> }
  /** Processes that call, by name: they begin when all services serve. One that fails or dies is a violation. */
  readonly clients: {
    readonly [process: string]: Effect.Effect<unknown, unknown, Transport | Scope.Scope | Outside>
  }
  /** What is in no process and outlives them all: a database, say. Built once in a run. */
  readonly outside?: Layer.Layer<Outside, unknown>
  /** What goes wrong: how much of it, or exactly what. Default {@link Fault.rough}. */
  readonly faults?: Fault.Mix | ReadonlyArray<Fault.Fault>
  /** How long things go wrong, from the beginning of the clients on. Default 10 seconds. */
  readonly storm?: Duration.Input
  /** Time that is granted after the storm before {@link calm}. Default 5 seconds. */
  readonly recovery?: Duration.Input
  /** Time after that for the clients to end, and for what they leave behind. Default 5 minutes. */
  readonly limit?: Duration.Input
  /** Default {@link Promises.all}. */
  readonly invariants?: ReadonlyArray<Invariant.Invariant>
  /** What the simulated transport promises. Default: what Redis' pub/sub does. */
  readonly capabilities?: Partial<Capabilities>
}

/** What became of one run. */
export interface Report {
  readonly seed: number
  /** What was broken first, if anything was; the run ends there. */
  readonly violation: Run.Violation | undefined
  /** What went wrong. As `faults` of another run with the seed it makes the same happen again. */
  readonly faults: ReadonlyArray<Fault.Fault>
  /** How many calls ended how: `Success`, `Failure` for declared errors, `Interrupted`, or the `CallError`'s reason. */
  readonly outcomes: { readonly [outcome: string]: number }
  /** All that happened, in order. */
  readonly events: ReadonlyArray<History.Event>
  /** Virtual milliseconds that it took. */
  readonly millis: number
  /** All that happened as text, the same for each run with the seed: random ids are numbered. */
  readonly trace: string
  /** The messages as text, for people: those of the violation's call, or all of them. */
  readonly diagram: string
  /** The same as a Mermaid sequence diagram. */
  readonly mermaid: string
}

/** What became of many runs. */
export interface Totals {
  readonly seeds: number
  readonly calls: number
  readonly outcomes: { readonly [outcome: string]: number }
  readonly faults: { readonly [fault: string]: number }
}

/** A seed with which something is broken, with few faults that do it. Its message shows them, and the messages that went over. */
export class Falsified extends Data.TaggedError("Falsified")<{
  readonly seed: number
  readonly invariant: string
  readonly faults: ReadonlyArray<Fault.Fault>
  /** Faults that there were before those that are not needed were left out. */
  readonly faultsBefore: number
}> {
  // Not a field: whoever prints an error prints its fields.
  readonly #report: Report
  constructor(fields: Pick<Falsified, "seed" | "invariant" | "faults" | "faultsBefore">, report: Report) {
    super(fields)
    this.#report = report
  }
  /** The run with these few faults. */
  get report(): Report {
    return this.#report
  }
  override get message() {
    const { faults, faultsBefore, invariant, report, seed } = this
    return [
      `seed ${seed} breaks "${invariant}": ${report.violation?.text}`,
      "",
      faults.length === 0 ? "It takes no fault." : `It takes ${faults.length} of ${faultsBefore} faults:`,
      ...faults.map((fault) => `  ${Fault.text(fault)}`),
      "",
      report.diagram,
      "",
      `To see it again: Simulation.run({ …, seed: ${seed}, faults: ${JSON.stringify(faults)} })`
    ].join("\n")
  }
}

/** Runs one seed. Never fails: what was broken is in the report. */
export const run = <Outside = never>(options: Options<Outside> & { readonly seed: number }): Effect.Effect<Report> =>
  Effect.map(
    Effect.promise((signal) => Run.run(toPlan(options, options.seed), () => signal.aborted)),
    (result) => toReport(options.seed, result)
  )

/**
 * Runs the seeds from `firstSeed` (1) on, one after the other.
 *
 * Errors: `Falsified` for the first seed that breaks an invariant, after its faults have been shrunk (at most 300 more runs).
 */
export const check = <Outside = never>(
  options: Options<Outside> & { readonly seeds: number; readonly firstSeed?: number }
): Effect.Effect<Totals, Falsified> =>
  Effect.flatMap(
    Effect.promise(async (signal): Promise<Totals | Falsified> => {
      const { firstSeed = 1, seeds } = options
      const outcomes: Record<string, number> = {}
      const faults: Record<string, number> = {}
      const stopped = () => signal.aborted
      for (let seed = firstSeed; seed < firstSeed + seeds && !stopped(); seed++) {
        const result = await Run.run(toPlan(options, seed), stopped)
        if (result.violation !== undefined) return falsified(options, seed, result, result.violation, stopped)
        add(outcomes, countOutcomes(result))
        for (const { _tag } of result.faults) faults[_tag] = (faults[_tag] ?? 0) + 1
      }
      const calls = Object.values(outcomes).reduce((sum, count) => sum + count, 0)
      return { seeds, calls, outcomes, faults }
    }),
    (found): Effect.Effect<Totals, Falsified> =>
      found instanceof Falsified ? Effect.fail(found) : Effect.succeed(found)
  )

/** Waits until all faults are over and everything has had its time to recover. Outside of a simulation it does not wait. */
export const calm: Effect.Effect<void> = Effect.flatMap(Here, (here) =>
  here === undefined ? Effect.void : Effect.sleep(Math.max(0, here.calm() - here.now()))
)

/** Puts something into the run's history, for invariants to see. Outside of a simulation it does nothing. */
export const note = (name: string, value?: unknown): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const here = fiber.getRef(Here)
    if (here === undefined) return Effect.void
    const call = here.callOf(fiber.getRef(Request.Slot)?.id ?? "")
    here.tell({ at: here.now(), _tag: "Noted", process: here.process, name, value, call })
    return Effect.void
  })

const maxTrials = 300

const toPlan = (options: Options<any>, seed: number): Run.Plan => {
  const millis = (duration: Duration.Input | undefined, otherwise: number) =>
    duration === undefined ? otherwise : Duration.toMillis(Duration.fromInputUnsafe(duration))
  return {
    seed,
    services: options.services,
    clients: options.clients,
    outside: options.outside,
    faults: options.faults ?? Fault.rough,
    stormMillis: millis(options.storm, 10_000),
    recoveryMillis: millis(options.recovery, 5_000),
    limitMillis: millis(options.limit, 300_000),
    maxEvents: 200_000,
    invariants: options.invariants ?? Promises.all,
    capabilities: options.capabilities
  }
}

const toReport = (seed: number, { faults, history, millis, violation }: Run.Result): Report => ({
  seed,
  violation,
  faults,
  millis,
  outcomes: countOutcomes({ history }),
  events: history.events,
  get trace() {
    return History.trace(history)
  },
  get diagram() {
    return Diagram.text(Diagram.make(history, violation))
  },
  get mermaid() {
    return Diagram.mermaid(Diagram.make(history, violation))
  }
})

const countOutcomes = ({ history }: Pick<Run.Result, "history">) => {
  const outcomes: Record<string, number> = {}
  for (const event of history.events) {
    if (event._tag !== "CallEnded") continue
    const { outcome } = event
    const name = outcome._tag === "CallError" ? outcome.reason : outcome._tag
    outcomes[name] = (outcomes[name] ?? 0) + 1
  }
  return outcomes
}

const add = (sums: Record<string, number>, more: Readonly<Record<string, number>>) => {
  for (const [name, count] of Object.entries(more)) sums[name] = (sums[name] ?? 0) + count
}

const falsified = async (
  options: Options<any>,
  seed: number,
  first: Run.Result,
  violation: Run.Violation,
  stopped: () => boolean
) => {
  let least = first
  const faults = await Shrink.shrink(
    first.faults,
    async (some) => {
      const result = await Run.run(toPlan({ ...options, faults: some }, seed), stopped)
      if (result.violation?.invariant !== violation.invariant) return false
      least = result
      return true
    },
    maxTrials
  )
  return new Falsified(
    { seed, invariant: violation.invariant, faults, faultsBefore: first.faults.length },
    toReport(seed, least)
  )
}
