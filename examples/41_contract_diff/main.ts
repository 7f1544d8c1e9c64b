// Contracts over time: what breaks for whom when a contract changes, found before it is deployed.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { ContractDiff } from "fiberbus/testing"
import * as current from "./current.ts"
import * as released from "./released.ts"

// From a shell: fiberbus contract diff examples/41_contract_diff/released.ts examples/41_contract_diff/current.ts
const program = Effect.gen(function* () {
  const report = yield* ContractDiff.compare(released, current)
  yield* Console.log(ContractDiff.format(report))

  // Where services are deployed before their callers, and listeners before publishers, this is what counts. In a test that is all:
  const order = { who: ["old callers", "new listeners"] } as const
  const broken = yield* Effect.flip(ContractDiff.assertCompatible(released, current, order))
  yield* Console.log(`\nIn this order:\n\n${broken.message}`)
})

program.pipe(NodeRuntime.runMain)
