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
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Request from "../server/Request.ts"
import type { Capabilities, Transport } from "../transport/Transport.ts"
import * as Fault from "./simulation/Fault.ts"
import { Here } from "./simulation/Here.ts"
import type * as Invariant from "./simulation/Invariant.ts"
import * as Promises from "./simulation/Promises.ts"
import * as Report from "./simulation/Report.ts"
import * as Run from "./simulation/Run.ts"
import * as Shrink from "./simulation/Shrink.ts"

export { type Fault, hostile, type Mix, rough } from "./simulation/Fault.ts"
export type { Event, Frame, Outcome } from "./simulation/History.ts"
export { type Invariant, make as invariant } from "./simulation/Invariant.ts"
export * as Promises from "./simulation/Promises.ts"
export { call, caller } from "./simulation/Recorded.ts"
export { Falsified, type Report, type Totals } from "./simulation/Report.ts"

/** Processes that serve, by name: each builds its Layer on a transport of its own, and again after each crash. */
export type Services = { readonly [process: string]: Layer.Layer<never, any, any> }

/** Processes that call, by name: they begin when all services serve. One that fails or dies is a violation. */
export type Clients = { readonly [process: string]: Effect.Effect<any, any, any> }

/** What services and clients need beside what each process has. */
export type Needs<S extends Services, C extends Clients> = Exclude<
  Layer.Services<S[keyof S]> | Effect.Services<C[keyof C]>,
  Transport | Scope.Scope
>

/**
 * Services and clients, what goes wrong, and what must hold all the same. Everything but the first two has a default.
 *
 * `outside` is what is in no process and outlives them all, a database, say: built once in a run. It must be there where services or
 * clients need anything beside a transport.
 */
export type Options<S extends Services, C extends Clients> = Settings & {
  readonly services: S
  readonly clients: C
} & ([Needs<S, C>] extends [never]
    ? { readonly outside?: never }
    : { readonly outside: Layer.Layer<Needs<S, C>, unknown> })

/** What of the options has a default. */
export interface Settings {
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

/** Runs one seed. Never fails: what was broken is in the report. */
export const run = <S extends Services, C extends Clients>(
  options: Options<S, C> & { readonly seed: number }
): Effect.Effect<Report.Report> =>
  Effect.map(
    Effect.promise((signal) => Run.run(toPlan(options, options.seed), () => signal.aborted)),
    (result) => Report.make(options.seed, result)
  )

/**
 * Runs the seeds from `firstSeed` (1) on, one after the other.
 *
 * Errors: `Falsified` for the first seed that breaks an invariant, after its faults have been shrunk (at most 300 more runs).
 */
export const check = <S extends Services, C extends Clients>(
  options: Options<S, C> & { readonly seeds: number; readonly firstSeed?: number }
): Effect.Effect<Report.Totals, Report.Falsified> =>
  Effect.flatMap(
    Effect.promise(async (signal): Promise<Report.Totals | Report.Falsified> => {
      const { firstSeed = 1, seeds } = options
      const outcomes: Record<string, number> = {}
      const faults: Record<string, number> = {}
      const stopped = () => signal.aborted
      for (let seed = firstSeed; seed < firstSeed + seeds && !stopped(); seed++) {
        const result = await Run.run(toPlan(options, seed), stopped)
        if (result.violation !== undefined) return falsified(options, seed, result, result.violation, stopped)
        add(outcomes, Report.countOutcomes(result))
        for (const { _tag } of result.faults) faults[_tag] = (faults[_tag] ?? 0) + 1
      }
      const calls = Object.values(outcomes).reduce((sum, count) => sum + count, 0)
      return { seeds, calls, outcomes, faults }
    }),
    (found): Effect.Effect<Report.Totals, Report.Falsified> =>
      found instanceof Report.Falsified ? Effect.fail(found) : Effect.succeed(found)
  )

/** Waits until all faults are over and everything has had its time to recover. Outside of a simulation it does not wait. */
export const calm: Effect.Effect<void> = Effect.flatMap(Here, (here) => {
  if (here === undefined) return Effect.void
  const left = () => here.calm() - here.now()
  return Effect.whileLoop({
    while: () => left() > 0,
    body: () => Effect.sleep(Math.min(left(), 1_000)),
    step: () => {}
  })
})

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

/** The options, whatever it is that they need. */
interface Known extends Settings {
  readonly services: Services
  readonly clients: Clients
  readonly outside?: Layer.Layer<any, unknown>
}

const toPlan = (options: Known, seed: number): Run.Plan => {
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

const add = (sums: Record<string, number>, more: Readonly<Record<string, number>>) => {
  for (const [name, count] of Object.entries(more)) sums[name] = (sums[name] ?? 0) + count
}

const falsified = async (
  options: Known,
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
  return new Report.Falsified(
    { seed, invariant: violation.invariant, faults, faultsBefore: first.faults.length },
    least
  )
}
