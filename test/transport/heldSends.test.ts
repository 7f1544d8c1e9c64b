import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as HeldSends from "../../src/transport/internal/heldSends.ts"
import { TransportError } from "../../src/transport/Transport.ts"

const down = new TransportError({ kind: "ConnectionLost", operation: "test", detail: "down", hint: "", sent: "no" })
const late = () => down

describe("held sends", () => {
  it("are handed over once, in order", () => {
    const held = HeldSends.make({ calls: 3, millis: 60_000 }, 100, late)
    for (const frame of ["a", "b"]) assert.isTrue(held.hold("c", frame, 1, assert.fail))
    const given: Array<string> = []
    held.release((_channel, frame) => given.push(frame))
    held.release((_channel, frame) => given.push(frame))
    assert.deepStrictEqual(given, ["a", "b"])
  })

  it("are not handed over when their time was over before a stalled process could say so", () => {
    const held = HeldSends.make({ calls: 2, millis: 5 }, 100, late)
    const ends: Array<TransportError | undefined> = []
    held.hold("c", "x", 1, (error) => ends.push(error))
    const from = performance.now()
    while (performance.now() - from < 10);
    held.release(assert.fail)
    assert.deepStrictEqual(ends, [down])
  })

  it("are bounded by number and by bytes", () => {
    const held = HeldSends.make({ calls: 2, millis: 60_000 }, 100, late)
    assert.isFalse(held.hold("c", "x", 101, assert.fail))
    assert.isTrue(held.hold("c", "x", 60, () => {}))
    assert.isFalse(held.hold("c", "x", 60, assert.fail))
    assert.isTrue(held.hold("c", "x", 40, () => {}))
    assert.isFalse(held.hold("c", "x", 0, assert.fail))
    held.end(down)
    assert.isFalse(held.hold("c", "x", 1, assert.fail))
    assert.isFalse(HeldSends.make(undefined, 100, late).hold("c", "x", 1, assert.fail))
  })

  it.live("end once when their time is over, or with the link", () =>
    Effect.gen(function* () {
      const held = HeldSends.make({ calls: 2, millis: 20 }, 100, late)
      const error = yield* Effect.callback<TransportError | undefined>((resume) => {
        held.hold("c", "x", 1, (error) => resume(Effect.succeed(error)))
      })
      assert.strictEqual(error, down)
      held.release(assert.fail)
      let ends = 0
      held.hold("c", "x", 1, () => ends++)
      held.end(down)
      held.end(down)
      assert.strictEqual(ends, 1)
    })
  )
})
