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
      if (sent.has(call)) return { call, text: `${call} is sent twice` }
      sent.add(call)
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
