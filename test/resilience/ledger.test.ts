import { assert, describe, it } from "@effect/vitest"
import { CallError, Transport } from "fiberbus"
import * as Ledger from "./ledger.ts"

const lost = (started: "no" | "unknown") =>
  new CallError.CallError({
    service: "echo_service",
    action: "echo",
    started,
    reason: new Transport.TransportError({ kind: "Timeout", operation: "x", detail: "x", hint: "", sent: started })
  })

/** What the account says of one call after these events. */
const problemsAfter = (events: (ledger: Ledger.Ledger, id: string) => void) => {
  const ledger = Ledger.make()
  for (let i = 0; i < 5_000; i++) {
    const id = ledger.begin()
    ledger.ran(id)
    ledger.ended(id, { id })
  }
  events(ledger, ledger.begin())
  return ledger.balance()
}

describe("the account", () => {
  it("balances when each call ended once and ran at most once", () => {
    const { problems, sent, succeeded, failed } = problemsAfter((ledger, id) => ledger.ended(id, lost("unknown")))
    assert.deepStrictEqual(problems, [])
    assert.deepStrictEqual([sent, succeeded], [5_001, 5_000])
    assert.deepStrictEqual(failed, { "TransportError Timeout unknown": 1 })
  })

  it("finds every way in which it does not", () => {
    const cases: ReadonlyArray<readonly [RegExp, (ledger: Ledger.Ledger, id: string) => void]> = [
      [/has not ended/, () => {}],
      [/ended twice/, (ledger, id) => [1, 2].map(() => ledger.ended(id, lost("unknown")))],
      [/was run 2 times/, (ledger, id) => [ledger.ran(id), ledger.ran(id), ledger.ended(id, { id })]],
      [/answered after 0 runs/, (ledger, id) => ledger.ended(id, { id })],
      [/got the answer to call 7/, (ledger, id) => [ledger.ran(id), ledger.ended(id, { id: "call 7" })]],
      [/was run, but/, (ledger, id) => [ledger.ran(id), ledger.ended(id, lost("no"))]],
      [/told that it was not/, (ledger, id) => [ledger.ended(id, lost("no")), ledger.ran(id)]],
      [/nobody called/, (ledger, id) => [ledger.ran("call 9999"), ledger.ended(id, lost("no"))]]
    ]
    for (const [problem, events] of cases) assert.match(problemsAfter(events).problems.join("\n"), problem)
  })
})
