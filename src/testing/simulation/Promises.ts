/** The promises of fiberbus, as invariants: what docs/guarantees.md says, and nothing beyond it. */
import * as TimerWheel from "../../policy/TimerWheel.ts"
import type { Event } from "./History.ts"
import * as Invariant from "./Invariant.ts"

/** Calls that are open: when each must have ended. A process that stood still is granted the time it missed. */
export const endsInTime = Invariant.make("every call ends once, in a typed outcome, by its deadline", () => {
  const open = new Map<string, { readonly process: string; due: number }>()
  const frozen = new Set<string>()
  const grace = TimerWheel.resolutionMillis + 1
  const late = (now: number) => {
    for (const [call, { due, process }] of open) {
      if (now > due && !frozen.has(process))
        return { call, text: `${call} has not ended by its deadline, ${due - grace} ms` }
    }
    return undefined
  }
  return {
    along: (event) => {
      switch (event._tag) {
        case "CallBegan":
          open.set(event.call, { process: event.process, due: (event.deadline ?? Number.POSITIVE_INFINITY) + grace })
          return undefined
        case "CallEnded": {
          const { call, outcome } = event
          const overdue = late(event.at)
          if (!open.delete(call)) return { call, text: `${call} has ended twice` }
          return outcome._tag === "Defect" ? { call, text: `${call} died: ${outcome.text}` } : overdue
        }
        case "FaultBegan":
          if (event.fault._tag === "Freeze") frozen.add(event.fault.process)
          return undefined
        case "FaultEnded":
          if (event.fault._tag !== "Freeze") return undefined
          frozen.delete(event.fault.process)
          for (const call of open.values()) {
            if (call.process === event.fault.process) call.due = Math.max(call.due, event.at + grace)
          }
          return undefined
        default:
          return late(event.at)
      }
    },
    end: () => {
      const [call] = open.keys()
      return call === undefined ? undefined : { call, text: `${call} has not ended` }
    }
  }
})

/** Requests whose frames the network repeated: a second run of those is not ours. */
const repeated = () => {
  const requests = new Set<string>()
  return {
    has: (request: string) => requests.has(request),
    note: (event: Event) => {
      if (event._tag === "FrameArrived" && event.copy > 1 && event.frame.json["status"] === undefined)
        requests.add(String(event.frame.json["request_id"]))
    }
  }
}

/**
 * A request runs once in each process that serves it. Attempts after one that ran are made of idempotent actions only.
 * A frame that the network repeated is not held against us.
 */
export const runsOnce = Invariant.make("nothing runs twice silently", ({ history }) => {
  const twice = repeated()
  const ran = new Map<string, Set<string>>()
  const attempts = new Map<string, number>()
  const idempotent = new Map<string, boolean>()
  return {
    along: (event) => {
      twice.note(event)
      if (event._tag === "CallBegan") idempotent.set(event.call, event.idempotent)
      if (event._tag !== "HandlerBegan" || event.request === "" || twice.has(event.request)) return undefined
      const { attempt, process, request, what } = event
      const call = history.callOf(request)
      const key = `${attempt} ${process}`
      const before = ran.get(request) ?? new Set()
      ran.set(request, before)
      if (before.has(key)) return { call, text: `${what} of ${call ?? request} runs a second time in ${process}` }
      before.add(key)
      const first = attempts.get(request) ?? attempt
      attempts.set(request, first)
      if (attempt !== first && call !== undefined && idempotent.get(call) === false) {
        return { call, text: `${what} of ${call} runs again as attempt ${attempt}, but is not idempotent` }
      }
      return undefined
    }
  }
})

/**
 * Of all replicas of a service with `Action.Delivery` `one`, at most one begins each attempt of a call. Not among {@link all}, as `live`
 * is for the others. A frame to one process alone that the network repeated is not held against us.
 */
export const handledByOne = Invariant.make("a request is begun by one process at most", ({ history }) => {
  const began = new Map<string, string>()
  const twice = new Set<string>()
  return {
    along: (event) => {
      if (event._tag === "FrameArrived" && event.copy > 1 && event.frame.channel.includes(".instance:")) {
        twice.add(String(event.frame.json["request_id"]))
      }
      if (event._tag !== "HandlerBegan" || event.request === "" || twice.has(event.request)) return undefined
      const { attempt, process, request, what } = event
      const key = `${request} ${attempt}`
      const before = began.get(key)
      began.set(key, process)
      const call = history.callOf(request)
      return before === undefined
        ? undefined
        : {
            call,
            text: `${what} of ${call ?? request} (attempt ${attempt}) runs in ${process}, and had begun in ${before}`
          }
    }
  }
})

/** What a `CallError` says of the handler is so: `no` that it did not and will not run, `yes` that it did. */
export const saysWhetherItRan = Invariant.make("an outcome says truly whether the handler ran", ({ history }) => {
  const twice = repeated()
  const ran = new Set<string>()
  const denied = new Set<string>()
  return {
    along: (event) => {
      twice.note(event)
      if (event._tag === "HandlerBegan") {
        ran.add(event.request)
        const call = history.callOf(event.request)
        // Of a request that comes twice one may be refused and the other one run.
        if (!denied.has(event.request) || twice.has(event.request)) return undefined
        return { call, text: `${event.what} of ${call} runs, but its caller was told that it did not` }
      }
      if (event._tag !== "CallEnded" || event.outcome._tag !== "CallError") return undefined
      const { call, outcome } = event
      const request = history.requestOf(call)
      if (request !== undefined && twice.has(request)) return undefined
      const did = request !== undefined && ran.has(request)
      if (outcome.started === "no" && request !== undefined) {
        denied.add(request)
        if (did) return { call, text: `${call} ended with ${outcome.reason}, started: no, but it ran` }
      }
      if (outcome.started === "yes" && !did) {
        return { call, text: `${call} ended with ${outcome.reason}, started: yes, but it did not run` }
      }
      return undefined
    }
  }
})

/** A call ends with what a handler of that very request answered, unchanged. */
export const answersItsQuestion = Invariant.make("an answer is the answer to its own question", ({ history }) => {
  const ran = new Set<string>()
  const returned = new Map<string, Set<string>>()
  // Of several finals, as of replicas or attempts, any one may be the answer.
  const finals = new Map<string, Set<string>>()
  return {
    along: (event) => {
      if (event._tag === "HandlerBegan") ran.add(`${event.request} ${event.process}`)
      if (event._tag === "HandlerEnded" && event.value !== undefined) {
        const values = returned.get(event.request) ?? new Set()
        returned.set(event.request, values.add(JSON.stringify(event.value)))
      }
      if (event._tag === "FrameArrived") {
        const { final, request_id, status } = event.frame.json
        if (status === undefined || final === false) return undefined
        const key = `${request_id} ${event.to} ${status === "error" ? "Failure" : "Success"}`
        finals.set(key, (finals.get(key) ?? new Set()).add(event.frame.process))
        return undefined
      }
      if (event._tag !== "CallEnded") return undefined
      const { call, outcome, process } = event
      const request = history.requestOf(call)
      if (request === undefined || (outcome._tag !== "Success" && outcome._tag !== "Failure")) return undefined
      const from = [...(finals.get(`${request} ${process} ${outcome._tag}`) ?? [])]
      if (from.length === 0) return { call, text: `${call} ended with a ${outcome._tag} that nobody sent` }
      if (!from.some((process) => ran.has(`${request} ${process}`))) {
        return { call, text: `${call} was answered by ${from.join(", ")}, where it did not run` }
      }
      if (outcome._tag === "Failure") return undefined
      const said = JSON.stringify(outcome.value)
      const values = returned.get(request)
      // Nothing where handlers answer by hand.
      return values === undefined || values.has(said)
        ? undefined
        : { call, text: `${call} brought ${said}, but its handler returned ${[...values].join(", ")}` }
    }
  }
})

/**
 * The steps that a call gets are those that were sent, in order, from the first one on; a stream that succeeds has had all. A
 * request that the network repeated runs twice in one process, and what the two runs send is not told apart.
 */
export const nothingLeftOut = Invariant.make("a stream is whole, or says that it is not", ({ history }) => {
  const sent = new Map<string, Array<string>>()
  const from = new Map<string, string>()
  const stepped = new Map<string, number>()
  const streams = new Set<string>()
  const twice = repeated()
  return {
    along: (event) => {
      twice.note(event)
      if (event._tag === "CallBegan" && event.streamed) streams.add(event.call)
      if (event._tag === "FrameSent") {
        const { fiberbus, final, payload, request_id, status } = event.frame.json
        if (status === undefined || final !== false || fiberbus?.ask !== undefined || fiberbus?.alive) return undefined
        const key = `${request_id} ${event.frame.process}`
        const steps = sent.get(key) ?? []
        sent.set(key, steps)
        for (const step of fiberbus?.packed ? payload : [payload]) steps.push(JSON.stringify(step))
        return undefined
      }
      if (event._tag === "FrameArrived") {
        const { request_id, status } = event.frame.json
        // Whoever refused it sends no steps; it may have gone elsewhere then.
        if (status !== undefined && status !== "error" && !from.has(request_id))
          from.set(request_id, event.frame.process)
        return undefined
      }
      if (event._tag !== "CallStepped" && event._tag !== "CallEnded") return undefined
      const { call } = event
      const request = history.requestOf(call)
      if (request === undefined || twice.has(request)) return undefined
      const steps = sent.get(`${request} ${from.get(request)}`) ?? []
      if (event._tag === "CallStepped") {
        const { step, value } = event
        stepped.set(call, step)
        return steps[step - 1] === JSON.stringify(value)
          ? undefined
          : { call, text: `step ${step} of ${call} is ${JSON.stringify(value)}, but ${steps[step - 1]} was sent` }
      }
      const got = stepped.get(call) ?? 0
      return event.outcome._tag !== "Success" || !streams.has(call) || got === steps.length
        ? undefined
        : { call, text: `${call} ended well after ${got} steps, but ${steps.length} were sent` }
    }
  }
})

/** When a run is over, no handler runs for callers that have gone. */
export const leavesNothing = Invariant.make("nothing is left behind", () => {
  const running = new Map<number, Extract<Event, { readonly _tag: "HandlerBegan" }>>()
  return {
    along: (event) => {
      if (event._tag === "HandlerBegan") running.set(event.execution, event)
      if (event._tag === "HandlerEnded") running.delete(event.execution)
      return undefined
    },
    end: () => {
      const [left] = running.values()
      return left === undefined ? undefined : `${left.what} still runs in ${left.process}`
    }
  }
})

/** Calls that begin when all faults are over end with an answer of their service. */
export const recovers = Invariant.make("all is well again after the faults", ({ calm }) => {
  const after = new Set<string>()
  return {
    along: (event) => {
      if (event._tag === "CallBegan" && event.at >= calm()) after.add(event.call)
      if (event._tag !== "CallEnded" || event.outcome._tag !== "CallError" || !after.has(event.call)) return undefined
      const { call, outcome } = event
      return onTheWay.has(outcome.reason)
        ? { call, text: `${call} began at rest, and ended with ${outcome.reason}: ${outcome.text}` }
        : undefined
    }
  }
})

const onTheWay = new Set([
  "NoResponders",
  "Draining",
  "ConnectionLost",
  "DeadlineExceeded",
  "TransportError",
  "CircuitOpen"
])

/** All of them. */
export const all: ReadonlyArray<Invariant.Invariant> = [
  endsInTime,
  runsOnce,
  saysWhetherItRan,
  answersItsQuestion,
  nothingLeftOut,
  leavesNothing,
  recovers
]
