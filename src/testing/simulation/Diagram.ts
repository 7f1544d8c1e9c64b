/** A run as a message sequence diagram: rows of what happened, then as text or as Mermaid. */

import * as Presence from "../../wire/Presence.ts"
import * as Fault from "./Fault.ts"
import type { Event, Frame, History } from "./History.ts"
import type { Violation } from "./Run.ts"

/** One row. */
export type Row =
  /** `lost` where it did not arrive. `sentAt` where that is another time worth knowing. */
  | {
      readonly _tag: "Message"
      readonly at: number
      readonly from: string
      readonly to: string
      readonly text: string
      readonly lost: boolean
      /** The steps that it carries, counted from 1. */
      readonly steps: readonly [first: number, last: number] | undefined
    }
  /** Something at one process. */
  | { readonly _tag: "Local"; readonly at: number; readonly process: string; readonly text: string }
  /** Something that concerns all. */
  | { readonly _tag: "Everywhere"; readonly at: number; readonly text: string }

/** @see {@link make} */
export interface Drawing {
  readonly processes: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
}

/** Rows of a drawing; what came before the last of them is left out. */
export const maxRows = 80

/** Chooses what to draw: what concerns the violation's call, or all; and every fault. */
export const make = (history: History, violation: Violation | undefined): Drawing => {
  const focus = violation?.call
  const rows: Array<Row> = []
  for (const event of history.events) {
    for (const row of rowsOf(history, event, focus)) {
      const joined = join(rows.at(-1), row)
      if (joined === undefined) rows.push(row)
      else rows[rows.length - 1] = joined
    }
  }
  if (violation !== undefined) rows.push({ _tag: "Everywhere", at: violation.at, text: `✗ ${violation.text}` })
  const shown = rows.slice(-maxRows)
  const named = new Set<string>()
  for (const row of shown) {
    if (row._tag === "Message") named.add(row.from).add(row.to)
    else if (row._tag === "Local") named.add(row.process)
  }
  // In the order in which they began.
  const processes = new Set<string>()
  for (const event of history.events) {
    if (event._tag === "ProcessStarted" && named.has(event.process)) processes.add(event.process)
  }
  return {
    processes: [...processes],
    rows:
      rows.length > shown.length
        ? [{ _tag: "Everywhere", at: shown[0]!.at, text: `… ${rows.length - shown.length} rows before` }, ...shown]
        : shown
  }
}

/** Steps that follow each other are one row, at the time of the last. */
const join = (before: Row | undefined, row: Row): Row | undefined => {
  if (before?._tag !== "Message" || row._tag !== "Message" || before.steps === undefined || row.steps === undefined) {
    return undefined
  }
  const follows = before.steps[1] + 1 === row.steps[0] && before.from === row.from && before.to === row.to
  return follows && before.text === row.text && before.lost === row.lost
    ? { ...row, steps: [before.steps[0], row.steps[1]] }
    : undefined
}

const rowsOf = (history: History, event: Event, focus: string | undefined): ReadonlyArray<Row> => {
  const { at } = event
  const concerns = (call: string | undefined) => focus === undefined || call === focus
  const local = (process: string, text: string): ReadonlyArray<Row> => [{ _tag: "Local", at, process, text }]
  switch (event._tag) {
    case "FrameArrived":
    case "FrameLost": {
      const { frame } = event
      const call = callOf(history, frame)
      // Who is there is said all the time.
      if (!concerns(call) || Presence.read(frame.json) !== undefined) return []
      const slow =
        event._tag === "FrameArrived" && at - frame.sentAt > 10 ? `, sent at ${Math.round(frame.sentAt)}` : ""
      const why = event._tag === "FrameLost" ? `: ${event.why}` : event.copy > 1 ? ", again" : ""
      return [
        {
          _tag: "Message",
          at,
          from: frame.process,
          to: event.to ?? ownerOf(history, frame),
          text: `${label(frame, call)}${slow}${why}`,
          lost: event._tag === "FrameLost",
          steps: stepsOf(frame)
        }
      ]
    }
    case "CallBegan":
      return concerns(event.call) ? local(event.process, `${event.call}: ${event.what}`) : []
    case "CallEnded": {
      if (!concerns(event.call)) return []
      const { outcome } = event
      const how = outcome._tag === "CallError" ? `${outcome.reason}, started: ${outcome.started}` : outcome._tag
      return local(event.process, `${event.call}: ${how}`)
    }
    case "HandlerBegan":
      return concerns(history.callOf(event.request))
        ? local(event.process, `runs ${history.callOf(event.request) ?? event.what}`)
        : []
    case "ProcessCrashed":
      return local(event.process, "is killed")
    case "ProcessFailed":
      return local(event.process, `fails: ${event.text}`)
    case "ProcessStarted":
      return at === 0 || focus !== undefined ? [] : local(event.process, "starts")
    case "LinkChanged":
      return event.state._tag === "Closed" || event.at === 0
        ? []
        : local(event.process, `link ${event.state._tag}, gaps ${event.state.gaps}`)
    case "FaultBegan":
      return [{ _tag: "Everywhere", at, text: Fault.text(event.fault) }]
    case "Noted":
      if (event.call !== undefined && !concerns(event.call)) return []
      return local(event.process, `${event.name} ${JSON.stringify(event.value) ?? ""}`.trim())
    default:
      return []
  }
}

/** Who would have got a frame that never reached the broker: the one that frames on its channel went to. */
const ownerOf = (history: History, { channel, process }: Frame): string => {
  for (const event of history.events) {
    if (event._tag === "FrameArrived" && event.frame.channel === channel) return event.to
  }
  return process
}

const callOf = (history: History, { json }: Frame): string | undefined => {
  const control = json["fiberbus"] ?? {}
  const id = json["request_id"] ?? control.cancel ?? control.credit ?? control.answer
  return typeof id === "string" ? history.callOf(id) : undefined
}

/** What a frame says, in a few words. */
const label = ({ json }: Frame, call: string | undefined): string => {
  const fiberbus = json["fiberbus"] ?? {}
  const of = call === undefined ? "" : ` ${call}`
  if (typeof json["action"] === "string") {
    return `${json["action"]}${of}${fiberbus.attempt === undefined ? "" : ` (attempt ${fiberbus.attempt})`}`
  }
  if (fiberbus.cancel !== undefined) return `cancel${of}`
  if (fiberbus.credit !== undefined) return `room for ${fiberbus.until}${of}`
  if (fiberbus.answer !== undefined) return `answer ${fiberbus.ask}${of}`
  if (json["status"] === undefined) return "message"
  if (fiberbus.alive) return `alive${of}`
  if (fiberbus.ask !== undefined) return `asks ${fiberbus.ask.name}${of}`
  if (json["final"] === false) return `step${of}`
  if (json["status"] !== "error") return `success${of}`
  return `${json["payload"]?.reason?._tag ?? "error"}${of}`
}

const stepsOf = ({ json }: Frame): readonly [number, number] | undefined => {
  const { alive, ask, packed, seq } = json["fiberbus"] ?? {}
  if (json["final"] !== false || alive || ask !== undefined || typeof seq !== "number") return undefined
  return [seq + 1, seq + (packed ? json["payload"].length : 1)]
}

const textOf = (row: Row): string => {
  if (row._tag !== "Message" || row.steps === undefined) return row.text
  const [first, last] = row.steps
  return row.text.replace("step", first === last ? `step ${first}` : `steps ${first} to ${last}`)
}

/** Draws it with a line for each process. */
export const text = ({ processes, rows }: Drawing): string => {
  const width = Math.max(14, ...processes.map((name) => name.length + 4))
  const middle = (process: string) => processes.indexOf(process) * width
  const lines = () => {
    const canvas = Array.from({ length: processes.length * width }, () => " ")
    for (const name of processes) canvas[middle(name)] = "│"
    return canvas
  }
  const stamp = (at: number) => String(Math.round(at)).padStart(7)
  const put = (canvas: Array<string>, from: number, text: string) => {
    for (const [i, char] of [...text].entries()) canvas[from + i] = char
  }
  const row = (at: number, canvas: ReadonlyArray<string>, besides = "") =>
    `${stamp(at)}  ${canvas.join("")}${besides}`.trimEnd()
  const head = lines().map(() => " ")
  for (const name of processes) put(head, middle(name), name)
  const body = rows.map((event) => {
    const canvas = lines()
    if (event._tag === "Everywhere") return `${stamp(event.at)}  ${canvas.join("")}${event.text}`
    if (event._tag === "Local") {
      canvas[middle(event.process)] = "●"
      return row(event.at, canvas, event.text)
    }
    const from = middle(event.from)
    const to = middle(event.to)
    const [left, right] = from < to ? [from, to] : [to, from]
    for (let i = left + 1; i < right; i++) canvas[i] = "─"
    canvas[from] = from < to ? "├" : "┤"
    const head = event.lost ? "✗" : from < to ? "▶" : "◀"
    if (left !== right) canvas[from < to ? right - 1 : left + 1] = head
    return row(event.at, canvas, textOf(event))
  })
  return [`     ms  ${head.join("")}`.trimEnd(), ...body].join("\n")
}

/** Draws it for Mermaid. */
export const mermaid = ({ processes, rows }: Drawing): string => {
  const safe = (text: string) => text.replace(/[;#<>\n]/g, (char) => (char === "#" ? "#35;" : " "))
  const all = processes.length === 1 ? processes[0] : `${processes[0]},${processes.at(-1)}`
  return [
    "sequenceDiagram",
    ...processes.map((name) => `  participant ${name}`),
    ...rows.map((row) => {
      const at = `${Math.round(row.at)} ms `
      if (row._tag === "Message") return `  ${row.from}${row.lost ? "-x" : "->>"}${row.to}: ${at}${safe(textOf(row))}`
      return `  Note over ${row._tag === "Local" ? row.process : all}: ${at}${safe(row.text)}`
    })
  ].join("\n")
}
