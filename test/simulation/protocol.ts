/** How a protocol of fiberbus is simulated: many seeds, what must have happened in them, and the same again. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { Simulation } from "fiberbus/testing"

/** What a protocol is simulated with; whatever its processes need is `outside`. */
interface Options extends Simulation.Settings {
  readonly services: { readonly [process: string]: Layer.Layer<never, unknown, any> }
  readonly clients: { readonly [process: string]: Effect.Effect<unknown, unknown, any> }
  readonly outside?: Layer.Layer<any, unknown>
  readonly seeds: number
  readonly faults: Simulation.Mix
}

type Plain = Simulation.Options<{}, {}>

/** `SIMULATION_SEEDS=10` runs ten times as many. */
const factor = Number(process.env["SIMULATION_SEEDS"] ?? 1)

/** Seeds whose runs are compared with themselves. */
const compared = [1, 2, 3]

/**
 * Simulates a protocol with so many seeds. `outcomes` must all have happened, and every kind of fault: a simulation in which nothing
 * goes wrong shows nothing.
 */
export const protocol = (name: string, options: Options, outcomes: ReadonlyArray<string>) =>
  describe(name, () => {
    const plain = options as unknown as Plain
    it.live(
      `keeps its promises for ${options.seeds} seeds`,
      () =>
        Effect.gen(function* () {
          const totals = yield* Simulation.check({ ...plain, seeds: options.seeds * factor })
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
          const first = yield* Simulation.run({ ...plain, seed })
          const second = yield* Simulation.run({ ...plain, seed })
          assert.isAbove(first.trace.length, 1_000)
          assert.isTrue(first.trace === second.trace, `seed ${seed}`)
          // What went wrong is all there is to a run: as a list it does the same.
          const replayed = yield* Simulation.run({ ...plain, seed, faults: first.faults })
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
