/** What happened in a run, in order: what invariants look at, diagrams are drawn from, and two runs are compared by. */
import type { CallErrorReason } from "../../client/CallError.ts"
import type { LinkState } from "../../transport/LinkState.ts"
import type { Fault } from "./Fault.ts"

/** How a call ended: as its caller saw it. */
export type Outcome =
  /** With its result, or the end of its stream. */
  | { readonly _tag: "Success"; readonly value: unknown }
  /** With an error that the contract declares. */
  | { readonly _tag: "Failure"; readonly error: unknown }
  /** With a `CallError`. */
  | {
      readonly _tag: "CallError"
      readonly reason: CallErrorReason["_tag"]
      readonly started: "no" | "yes" | "unknown"
      readonly text: string
    }
  /** Its caller gave it up, or had enough of its stream. */
  | { readonly _tag: "Interrupted" }
  /** Its caller's process was killed. */
  | { readonly _tag: "Killed" }
  /** It died, or failed with what no contract declares: a bug. */
  | { readonly _tag: "Defect"; readonly text: string }

/** A frame on its way, by its number among those of its sender. */
export interface Frame {
  readonly process: string
  readonly number: number
  readonly channel: string
  readonly text: string
  /** What the text says, as far as it is JSON. */
  readonly json: { readonly [field: string]: any }
  readonly sentAt: number
}

/** One thing that happened. Times are milliseconds since the run began. */
export type Event = { readonly at: number } & (
  | { readonly _tag: "ProcessStarted" | "ProcessCrashed" | "ProcessEnded"; readonly process: string }
  | { readonly _tag: "ProcessFailed"; readonly process: string; readonly text: string }
  | { readonly _tag: "LinkChanged"; readonly process: string; readonly state: LinkState }
  | { readonly _tag: "FaultBegan" | "FaultEnded"; readonly fault: Fault }
  | { readonly _tag: "FrameSent"; readonly frame: Frame }
  /** It did not arrive, or the sender was told that it did not leave. */
  | { readonly _tag: "FrameLost"; readonly frame: Frame; readonly to: string | undefined; readonly why: string }
  /** `copy` is 1, and 2 for the second time. */
  | { readonly _tag: "FrameArrived"; readonly frame: Frame; readonly to: string; readonly copy: number }
  | {
      readonly _tag: "CallBegan"
      readonly call: string
      readonly process: string
      /** The service's action, or what the user called it. */
      readonly what: string
      readonly payload: unknown
      /** When it must have ended; nothing for a stream of items, which ends when it ends. */
      readonly deadline: number | undefined
      readonly idempotent: boolean
      /** It hands its steps or items over. */
      readonly streamed: boolean
      /** Writes what it brings as JSON. */
      readonly encode: ((value: unknown) => unknown) | undefined
    }
  /** A step or item of a streamed call, counted from 1. */
  | {
      readonly _tag: "CallStepped"
      readonly call: string
      readonly process: string
      readonly step: number
      readonly value: unknown
    }
  | { readonly _tag: "CallEnded"; readonly call: string; readonly process: string; readonly outcome: Outcome }
  /** A handler begins to run. `request` is the id of its request; each has an `execution` of its own. */
  | {
      readonly _tag: "HandlerBegan"
      readonly execution: number
      readonly process: string
      readonly request: string
      readonly what: string
      readonly attempt: number
    }
  | {
      readonly _tag: "HandlerEnded"
      readonly execution: number
      readonly process: string
      readonly request: string
      readonly how: "success" | "failure" | "interrupted" | "defect" | "killed"
      /** What it returned, as JSON; nothing where its call is not one of the simulation's, or it answered by hand. */
      readonly value: unknown
    }
  /** What the code under simulation had noted; `call` where it is below the handler of a known call. */
  | {
      readonly _tag: "Noted"
      readonly process: string
      readonly name: string
      readonly value: unknown
      readonly call: string | undefined
    }
)

/** @see {@link make} */
export interface History {
  readonly events: ReadonlyArray<Event>
  /** The label of the call that a request belongs to, as far as a caller of the simulation made it. */
  readonly callOf: (request: string) => string | undefined
  /** The ids of a call's requests. */
  readonly requestOf: (call: string) => string | undefined
  /** Writes what a request's handler returns as JSON, where the call is known. */
  readonly encoded: (request: string, value: unknown) => unknown
}

/** The header by which a call's frames are known. */
export const header = "simulation-call"

/** Begins a history; `tell` is given each event after it was kept. */
export const make = (tell: (event: Event) => void) => {
  const events: Array<Event> = []
  const calls = new Map<string, string>()
  const requests = new Map<string, string>()
  const encoders = new Map<string, (value: unknown) => unknown>()

  const learn = ({ json }: Frame) => {
    const call = json["fiberbus"]?.headers?.[header]
    const id = json["request_id"]
    if (typeof call !== "string" || typeof id !== "string") return
    calls.set(id, call)
    requests.set(call, id)
  }

  const history: History = {
    events,
    callOf: (request) => calls.get(request),
    requestOf: (call) => requests.get(call),
    encoded: (request, value) => encoders.get(calls.get(request) ?? "")?.(value)
  }
  return {
    ...history,
    add: (event: Event) => {
      if (event._tag === "FrameSent") learn(event.frame)
      if (event._tag === "CallBegan" && event.encode !== undefined) encoders.set(event.call, event.encode)
      events.push(event)
      tell(event)
    }
  }
}

/** Replaces each random id of a text by its number in it. */
export const normalised = (text: string): string => {
  const ids = new Map<string, string>()
  return text.replace(uuid, (id) => {
    const known = ids.get(id.slice(0, 13)) ?? `id${ids.size + 1}`
    ids.set(id.slice(0, 13), known)
    return known
  })
}

// Whole, or the part of one that names a process' instance.
const uuid = /\b[0-9a-f]{8}-[0-9a-f]{4}(?:-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?\b/g

/** The whole history as text, a line for each event: two runs with one seed have the same. */
export const trace = (history: History): string =>
  normalised(history.events.map((event) => JSON.stringify(event, plain)).join("\n"))

const plain = (key: string, value: unknown) => {
  // The frame's text says it all, and errors say more by their text than by their fields.
  if (key === "json") return undefined
  if (typeof value === "bigint") return `${value}n`
  return value instanceof Error ? `${value.name}: ${value.message}` : value
}
