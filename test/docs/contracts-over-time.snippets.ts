// The code of docs/contracts-over-time.md: type-checked here, compared with the page by snippets.test.ts, run by nothing.
import { Effect } from "effect"
import { ContractDiff } from "fiberbus/testing"

declare const released: ContractDiff.Contract
declare const current: ContractDiff.Contract

export const snippets = async () => {
  await Effect.runPromise(ContractDiff.assertCompatible(released, current))
}
