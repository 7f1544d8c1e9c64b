/** What the peers that check with Effect's schemas are given: fiberbus, effect/rpc, and the bare codec. */
import * as Schema from "effect/Schema"

export const payload = {
  id: Schema.Int,
  name: Schema.NonEmptyString,
  email: Schema.String,
  active: Schema.Boolean,
  score: Schema.Finite,
  tags: Schema.Array(Schema.String)
}

export const blob = { id: Schema.Int, text: Schema.String }
