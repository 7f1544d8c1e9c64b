// CPU-bound work: one action computes for long, the other answers at once. Start main.ts.
import { Schema } from "effect"
import { Action, Service } from "fiberbus"

export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", { most: Schema.Int }) {}

export class Numbers extends Service.make(
  "numbers",
  Action.make("count_primes", {
    payload: { below: Schema.Int },
    progress: { percent: Schema.Int },
    success: { primes: Schema.Int },
    error: TooLarge
  }),
  Action.make("ping", { success: Schema.String })
) {}
