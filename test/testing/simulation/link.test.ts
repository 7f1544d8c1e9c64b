import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TransportConformance } from "fiberbus/testing"
import * as Broker from "../../../src/testing/simulation/Broker.ts"
import type * as Fault from "../../../src/testing/simulation/Fault.ts"
import * as Life from "../../../src/testing/simulation/Life.ts"
import * as Link from "../../../src/testing/simulation/Link.ts"
import * as World from "../../../src/testing/simulation/World.ts"

const network = (fateOf: Broker.Broker["fateOf"] = () => undefined) => {
  const world = World.make()
  const broker = Broker.make({ world, seed: 1, tell: () => {}, fateOf })
  const connect = (process: string) => Link.make(broker, process, Life.make())
  return { world, connect }
}

// The cases go by real time: the world is kept going beside them.
describe("The simulated transport", () => {
  it.layer(
    Layer.effect(
      TransportConformance.TwoTransports,
      Effect.gen(function* () {
        const { connect, world } = network()
        let over = false
        const going = (async () => {
          while (!over) {
            await world.run(Number.POSITIVE_INFINITY, () => over)
            await new Promise((resolve) => setImmediate(resolve))
          }
        })()
        yield* Effect.addFinalizer(() =>
          Effect.promise(() => {
            over = true
            return going
          })
        )
        return { here: connect("here").transport, there: connect("there").transport }
      })
    )
  )((it) => {
    // The world has its own ways to close and to cut; see below.
    const plain = TransportConformance.cases.filter(
      ({ needs }) => !needs.includes("another") && !needs.includes("outage")
    )
    for (const { applies, name, run } of plain) {
      it.effect(name, () =>
        Effect.gen(function* () {
          assert.isTrue(applies(yield* TransportConformance.TwoTransports))
          yield* run
        })
      )
    }
  })
})

describe("A simulated link", () => {
  /** What comes of a frame that ann sends to bob every 100 ms, ten times, under a fault. */
  const sending = (
    act: (links: { readonly ann: Link.Link; readonly bob: Link.Link; readonly at: World.World["at"] }) => void,
    fate?: Fault.FrameFault["_tag"]
  ) =>
    Effect.promise(async () => {
      const { connect, world } = network((process, frame) =>
        fate !== undefined && process === "ann" && frame === 3
          ? ({ _tag: fate, process, frame, millis: 250 } as any)
          : undefined
      )
      const ann = connect("ann")
      const bob = connect("bob")
      const got: Array<string> = []
      const ends: Array<string> = []
      const states: Array<string> = []
      ann.transport.watch(({ _tag, gaps }) => states.push(`ann ${_tag} ${gaps}`))
      bob.transport.watch(({ _tag, gaps }) => states.push(`bob ${_tag} ${gaps}`))
      Effect.runFork(
        Effect.scoped(
          Effect.andThen(
            bob.transport.subscribe({ _tag: "Channel", channel: "bob" }, (frame) => got.push(String(frame))),
            Effect.never
          )
        )
      )
      for (let n = 0; n < 10; n++) {
        world.at(100 + n * 100, () =>
          ann.transport.send("bob", String(n), (error, receivers) =>
            ends.push(error === undefined ? `${n}: ${receivers}` : `${n}: ${error.kind} ${error.sent}`)
          )
        )
      }
      act({ ann, bob, at: world.at })
      await world.run(20_000, () => false)
      // Each sending ends once, whatever happens.
      assert.sameMembers(
        ends.map((end) => end.slice(0, 1)),
        [..."0123456789"]
      )
      return { got: got.join(""), ends: ends.filter((end) => !end.endsWith(": 1")), states }
    })

  it.live("carries all in order while nothing is wrong", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* sending(() => {}), { got: "0123456789", ends: [], states: [] })
    })
  )

  it.live("does to a frame what its fault says", () =>
    Effect.gen(function* () {
      const nothing = () => {}
      assert.deepStrictEqual(yield* sending(nothing, "Lost"), { got: "013456789", ends: [], states: [] })
      assert.deepStrictEqual((yield* sending(nothing, "Twice")).got, "01223456789")
      assert.deepStrictEqual((yield* sending(nothing, "Late")).got, "0123456789")
      assert.deepStrictEqual((yield* sending(nothing, "Overtaken")).got, "0134256789")
      const refused = yield* sending(nothing, "Refused")
      assert.deepStrictEqual([refused.got, refused.ends], ["013456789", ["2: Unreachable no"]])
      const unconfirmed = yield* sending(nothing, "Unconfirmed")
      assert.deepStrictEqual([unconfirmed.got, unconfirmed.ends], ["0123456789", ["2: Timeout unknown"]])
    })
  )

  it.live("loses what comes while the receiver's subscriber is down, and says that there was a gap", () =>
    Effect.gen(function* () {
      const { ends, got, states } = yield* sending(
        ({ at, bob }) => void at(350, () => bob.cut("subscriber", 200, "test"))
      )
      assert.strictEqual(got, "012" + "56789")
      assert.deepStrictEqual(states, ["bob Degraded 1", "bob Ready 1"])
      // Nobody was there: the broker knows.
      assert.deepStrictEqual(ends, ["3: 0", "4: 0"])
    })
  )

  it.live("holds what is sent while the publisher is down, for as long as frames wait", () =>
    Effect.gen(function* () {
      const short = yield* sending(({ ann, at }) => void at(350, () => ann.cut("publisher", 200, "test")))
      assert.deepStrictEqual(short, { got: "0123456789", ends: [], states: ["ann Degraded 0", "ann Ready 0"] })
      const long = yield* sending(({ ann, at }) => void at(350, () => ann.cut("publisher", 1_300, "test")))
      assert.strictEqual(long.got, "012" + "6789")
      assert.deepStrictEqual(long.ends, ["3: ConnectionLost no", "4: ConnectionLost no", "5: ConnectionLost no"])
    })
  )

  it.live("does not know of what was on its way when the publisher was lost", () =>
    Effect.gen(function* () {
      const { ends, states } = yield* sending(({ ann, at }) => void at(401, () => ann.cut("both", 100, "test")))
      assert.deepStrictEqual(ends, ["3: ConnectionLost unknown"])
      assert.deepStrictEqual(states, ["ann Degraded 1", "ann Ready 1"])
    })
  )

  it.live("delays what meets a short partition, and is lost by a long one that it cannot see at first", () =>
    Effect.gen(function* () {
      const short = yield* sending(({ at, bob }) => void at(350, () => bob.part(300)))
      assert.deepStrictEqual(short, { got: "0123456789", ends: [], states: [] })
      // The broker goes on counting who cannot hear it.
      const long = yield* sending(({ at, bob }) => void at(350, () => bob.part(7_000)))
      assert.deepStrictEqual(long, { got: "012", ends: [], states: ["bob Degraded 1", "bob Ready 1"] })
      const sender = yield* sending(({ ann, at }) => void at(350, () => ann.part(3_000)))
      assert.strictEqual(sender.got, "012")
      assert.include(sender.ends, "3: Timeout unknown")
      assert.deepStrictEqual(sender.states, ["ann Degraded 1", "ann Ready 1"])
    })
  )

  it.live("is closed for good by its process' end", () =>
    Effect.gen(function* () {
      const { ends, got, states } = yield* sending(({ ann, at }) => void at(750, ann.close))
      assert.strictEqual(got, "0123456")
      assert.deepStrictEqual(ends, ["7: Closed no", "8: Closed no", "9: Closed no"])
      assert.deepStrictEqual(states, ["ann Closed 0"])
    })
  )
})
