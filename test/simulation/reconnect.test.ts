import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Action, Handlers, Service } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol, spread } from "./protocol.ts"

const Slow = Service.make("slow", Action.make("work", { payload: { millis: Schema.Finite }, success: Schema.Finite }))
const SlowLive = Handlers.layer(
  Slow,
  { work: ({ millis }) => Effect.as(Effect.sleep(millis), millis) },
  { concurrency: 20 }
)

const calling = Effect.gen(function* () {
  const slow = yield* Simulation.caller(Slow)
  yield* spread(30, 330, (n) => slow.work({ millis: (n * 113) % 900 }, { timeout: 500 + n * 100 }))
  yield* Simulation.calm
  yield* spread(3, 100, () => slow.work({ millis: 10 }))
})

/** Whoever had sent its request before a gap cannot be answered any more, and need not wait for its deadline to hear so. */
const gapsEndCalls = Simulation.invariant("a gap ends at once what had been sent", ({ history }) => {
  const open = new Map<string, string>()
  const gaps = new Map<string, number>()
  let ending: ReadonlyArray<string> = []
  let at = 0
  return {
    along: (event) => {
      const left = event.at > at ? ending.find((call) => open.has(call)) : undefined
      if (left !== undefined) return { call: left, text: `${left} waits on, though its answer cannot come any more` }
      if (event._tag === "CallBegan") open.set(event.call, event.process)
      if (event._tag === "CallEnded") open.delete(event.call)
      if (event._tag === "LinkChanged" && event.state.gaps > (gaps.get(event.process) ?? 0)) {
        gaps.set(event.process, event.state.gaps)
        at = event.at
        ending = [...open].flatMap(([call, process]) =>
          process === event.process && history.requestOf(call) !== undefined ? [call] : []
        )
      }
      return undefined
    }
  }
})

/** A request is sent within the time that calls wait for the link, or not at all, and once. */
const heldOnce = Simulation.invariant("a call that waits for the link is sent once, in time", ({ history }) => {
  const began = new Map<string, number>()
  const sent = new Set<string>()
  return {
    along: (event) => {
      if (event._tag === "CallBegan") began.set(event.call, event.at)
      if (event._tag !== "FrameSent" || event.frame.json["action"] === undefined) return undefined
      const call = history.callOf(String(event.frame.json["request_id"]))
      if (call === undefined) return undefined
      // It may be sent elsewhere, where nobody has begun it.
      const key = `${call} ${event.frame.json["fiberbus"]?.route ?? 1}`
      if (sent.has(key)) return { call, text: `${call} is sent twice` }
      sent.add(key)
      return event.at - began.get(call)! > 2_010
        ? { call, text: `${call} is sent after it waited too long` }
        : undefined
    }
  }
})

protocol(
  "links that break",
  {
    services: { slow: SlowLive },
    clients: { ann: calling, bob: calling },
    seeds: 150,
    faults: { cuts: 8, partitions: 2, outages: 2, freezes: 1 },
    invariants: [...Simulation.Promises.all, gapsEndCalls, heldOnce]
  },
  ["Success", "NoResponders", "DeadlineExceeded", "ConnectionLost", "TransportError"]
)

// A laptop's lid that closes while a call waits for the link: when it opens, the link may be back before any timer has been looked at.
describe("a process that stands still while a call waits for its link", () => {
  const standing = (stillFor: number) =>
    Simulation.run({
      services: { slow: SlowLive },
      clients: {
        ann: Effect.gen(function* () {
          const slow = yield* Simulation.caller(Slow)
          yield* Effect.sleep(150)
          yield* Effect.exit(slow.work({ millis: 1 }, { timeout: "3 seconds" }))
        })
      },
      seed: 1,
      faults: [
        { _tag: "Cut", process: "ann", connections: "publisher", at: 100, millis: 600 },
        { _tag: "Freeze", process: "ann", at: 300, millis: stillFor }
      ]
    })
  const endOf = ({ events }: Simulation.Report) => ({
    sent: events.some((event) => event._tag === "FrameSent" && event.frame.json["action"] !== undefined),
    ends: events.flatMap((event) => (event._tag === "CallEnded" ? [event.outcome] : []))
  })

  it.live("does not send it when its deadline is over", () =>
    Effect.gen(function* () {
      const { ends, sent } = endOf(yield* standing(5_000))
      assert.isFalse(sent)
      assert.deepInclude(ends[0], { _tag: "CallError", reason: "DeadlineExceeded", started: "no" })
    })
  )

  it.live("does not send it when it has waited for longer than calls wait", () =>
    Effect.gen(function* () {
      const { ends, sent } = endOf(yield* standing(2_000))
      assert.isFalse(sent)
      assert.deepInclude(ends[0], { _tag: "CallError", reason: "TransportError", started: "no" })
    })
  )

  it.live("sends it when it is still in time", () =>
    Effect.gen(function* () {
      const { ends, sent } = endOf(yield* standing(700))
      assert.isTrue(sent)
      assert.deepInclude(ends[0], { _tag: "Success" })
    })
  )
})
