/** The contract that the tests of the pool and their thread share. */
import { Schema } from "effect"
import { Action, Service } from "fiberbus"

export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", { limit: Schema.BigInt }) {}

export class Jobs extends Service.make(
  "jobs",
  Action.make("square", {
    payload: { n: Schema.BigInt, at: Schema.Date },
    success: { square: Schema.BigInt, at: Schema.Date },
    error: TooLarge
  }),
  Action.make("count", { payload: { to: Schema.Int }, progress: Schema.Date, success: Schema.Int }),
  Action.make("where", { success: Schema.Struct({ thread: Schema.Int, interrupted: Schema.Int, passed: Schema.Int }) }),
  /** Says that it has begun, then waits. */
  Action.make("wait", { progress: Schema.String, success: Schema.String }),
  /** Says that it has begun, then never yields. */
  Action.make("spin", { progress: Schema.String }),
  Action.make("crash", { payload: { how: Schema.Literals(["exit", "throw", "heap", "idle"]) } }),
  Action.make("die"),
  /** Brings what no message can hold. */
  Action.make("function", {
    payload: { as: Schema.Literals(["success", "progress"]) },
    progress: Schema.Any,
    success: Schema.Any
  }),
  Action.make("left", { success: Schema.Finite }),
  Action.make("missing"),
  Action.make("here", { success: Schema.Int })
) {}
