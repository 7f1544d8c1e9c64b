/** What is measured: an action that computes beside one that waits, and the computation itself. */
import * as Schema from "effect/Schema"
import * as Action from "../../src/contract/Action.ts"
import * as Service from "../../src/contract/Service.ts"

const actions = [
  Action.make("compute", { payload: { rounds: Schema.Int }, success: Schema.Int }),
  Action.make("look_up", { payload: { id: Schema.Int }, success: Schema.Int })
] as const

export class Here extends Service.make("here", ...actions) {}
export class Pooled extends Service.make("pooled", ...actions) {}

/** Computes without a pause. The result depends on all rounds, so that none can be left out. */
export const compute = (rounds: number): number => {
  let state = 1
  for (let round = 0; round < rounds; round++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
  return state
}
