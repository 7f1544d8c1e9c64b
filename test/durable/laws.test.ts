import { it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Action, type Handlers as H, Handlers, Service } from "fiberbus"
import { Laws, TestBus } from "fiberbus/testing"

class TooMuch extends Schema.TaggedError<TooMuch>()("TooMuch", { most: Schema.Finite }) {}

const share = Action.make("share", {
  payload: { cents: Schema.Natural, among: Schema.Natural },
  success: { each: Schema.Natural },
  error: TooMuch
})
const ping = Action.make("ping")

/** The same contract under each guarantee. */
const Tills = {
  one: Service.make("till", share, ping),
  live: Service.make(
    "till",
    share.pipe(Action.annotate(Action.Delivery, "live")),
    ping.pipe(Action.annotate(Action.Delivery, "live"))
  ),
  durable: Service.make(
    "till",
    share.pipe(Action.annotate(Action.Delivery, "durable")),
    ping.pipe(Action.annotate(Action.Delivery, "durable"))
  )
}

/** And the same handlers. */
const handlers = {
  share: ({ among, cents }) =>
    cents > 1_000_000
      ? Effect.fail(new TooMuch({ most: 1_000_000 }))
      : Effect.succeed({ each: Math.floor(cents / (among + 1)) }),
  ping: () => Effect.void
} satisfies H.HandlersOf<typeof Tills.one>

it.layer(TestBus.layer(Handlers.layer(Tills.one, handlers)))("exactly one", (it) => {
  Laws.service(it, Tills.one, { runs: 25 })
})

it.layer(TestBus.layer(Handlers.layer(Tills.live, handlers)))("live", (it) => {
  Laws.service(it, Tills.live, { runs: 25 })
})

it.layer(TestBus.layer(Handlers.layer(Tills.durable, handlers)))("durable", (it) => {
  Laws.service(it, Tills.durable, { runs: 25 })
})
