// Laws: property tests of a service from its contract alone. They find the bug that is planted here, and how to see it again.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Laws, TestBus } from "fiberbus/testing"

export class Till extends Service.make(
  "till",
  Action.make("share", {
    payload: { cents: Schema.Int, among: Schema.Int },
    success: { each: Schema.String }
  })
) {}

export const TillLive = Handlers.layer(Till, {
  share: ({ among, cents }) => Effect.sync(() => ({ each: String(BigInt(cents) / BigInt(among)) }))
})

// In a test file it is three lines:
//   it.layer(TestBus.layer(TillLive))((it) => {
//     Laws.service(it, Till)
//   })
// Here, without a test runner, each law is an Effect. The seed makes all runs alike; by default they differ.
const program = Effect.forEach(Laws.all(Till, { seed: "example" }), ({ check, name }) =>
  Effect.matchEffect(check, {
    onSuccess: () => Console.log(`${name}: yes`),
    onFailure: (broken) => Console.log(`\n${broken.message}\n`)
  })
)

program.pipe(Effect.provide(TestBus.layer(TillLive)), NodeRuntime.runMain)
