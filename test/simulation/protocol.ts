/** How a protocol of fiberbus is simulated: many seeds, what must have happened in them, and the same again. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer, type Scope } from "effect"
import type { Transport } from "fiberbus"
import { Simulation } from "fiberbus/testing"

type Services = { readonly [process: string]: Layer.Layer<never, unknown, Transport.Transport> }
type Clients = { readonly [process: string]: Effect.Effect<unknown, unknown, Transport.Transport | Scope.Scope> }

/** `SIMULATION_SEEDS=10` runs ten times as many. */
const factor = Number(process.env["SIMULATION_SEEDS"] ?? 1)

/** Seeds whose runs are compared with themselves. */
const compared = [1, 2, 3]

/**
 * Simulates a protocol with so many seeds. `outcomes` must all have happened, and every kind of fault: a simulation in which nothing
 * goes wrong shows nothing.
 */
export const protocol = (
  name: string,
  options: Simulation.Options<Services, Clients> & { readonly seeds: number; readonly faults: Simulation.Mix },
  outcomes: ReadonlyArray<string>
) =>
  describe(name, () => {
    it.live(
      `keeps its promises for ${options.seeds} seeds`,
      () =>
        Effect.gen(function* () {
          const totals = yield* Simulation.check({ ...options, seeds: options.seeds * factor })
          assert.deepStrictEqual(
            outcomes.filter((outcome) => totals.outcomes[outcome] === undefined),
            [],
            `outcomes that there were not, of ${JSON.stringify(totals.outcomes)}`
          )
          assert.strictEqual(
            Object.keys(totals.faults).length,
            Object.values(options.faults).filter((amount) => amount > 0).length
          )
        }),
      120_000 * factor
    )

    it.live("goes the same way each time", () =>
      Effect.gen(function* () {
        for (const seed of compared) {
          const first = yield* Simulation.run({ ...options, seed })
          const second = yield* Simulation.run({ ...options, seed })
          assert.isAbove(first.trace.length, 1_000)
          assert.isTrue(first.trace === second.trace, `seed ${seed}`)
          // What went wrong is all there is to a run: as a list it does the same.
          const replayed = yield* Simulation.run({ ...options, seed, faults: first.faults })
          assert.isTrue(replayed.trace === first.trace, `the faults of seed ${seed}`)
        }
      })
    )
  })

/** Does something so many times, `apart` milliseconds after each other, and waits for all. */
export const spread = <A, E, R>(count: number, apart: number, act: (n: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => Effect.andThen(Effect.sleep(n * apart), Effect.exit(act(n))),
    { concurrency: "unbounded", discard: true }
  )
