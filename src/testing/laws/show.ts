/** Values and outcomes in the words of a report. */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import * as ExitModule from "effect/Exit"
import * as Formatter from "effect/Formatter"
import { CallError } from "../../client/CallError.ts"
import type * as Action from "../../contract/Action.ts"
import * as Printable from "../../wire/Printable.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Answered } from "./Bench.ts"
import type { Call } from "./Law.ts"

const maxLength = 2_000

/** A value: as JSON on the wire where it can be written, on one line if it is short. */
export const value = (value: unknown, schema?: Action.AnySchema): string => {
  const written = schema === undefined ? undefined : encoded(schema, value)
  const text = written === undefined ? Formatter.format(value) : JSON.stringify(written)
  if (text.length <= 100) return Printable.cut(text, maxLength)
  return Printable.cut(
    written === undefined ? Formatter.format(value, { space: 2 }) : JSON.stringify(written, null, 2),
    maxLength
  )
}

const encoded = (schema: Action.AnySchema, value: unknown): unknown => {
  const exit = SchemaCodec.make(schema).encode(value)
  return ExitModule.isExit(exit) && ExitModule.isSuccess(exit) ? exit.value : undefined
}

/** The payload of a call, and what its caller answers. */
export const call = (action: Action.Any, { answers, payload }: Call): string => {
  const shown = SchemaCodec.isVoid(action.payload) ? "none" : value(payload, action.payload)
  const questions = Object.entries(answers).map(
    ([name, given]) => `\n${name}: ${given.map((answer) => value(answer, action.asks[name]!.answer)).join(", ")}`
  )
  return shown + questions.join("")
}

/** How a call ended. */
export const answered = (action: Action.Any, { cause, exit, millis, steps }: Answered): string => {
  const before = steps.length === 0 ? "" : `after ${steps.length} step${steps.length === 1 ? "" : "s"}: `
  if (exit === undefined) return `${before}nothing, in ${millis} ms`
  // The cause tells more than the id that finds it in a log.
  return before + (cause === undefined ? outcome(action, exit) : defect(cause))
}

/** A handler that died, with its cause. */
export const defect = (cause: Cause.Cause<unknown>): string => `RemoteDefect (started: yes)\n${pretty(cause)}`

/** Why something died. */
export const cause = (cause: Cause.Cause<unknown>): string => pretty(cause)

/** A success, a declared error or a `CallError`. */
export const outcome = (action: Action.Any, exit: Exit.Exit<unknown, unknown>): string => {
  if (ExitModule.isSuccess(exit)) {
    return SchemaCodec.isVoid(action.success) ? "success" : `success ${value(exit.value, action.success)}`
  }
  const failure = exit.cause.reasons.find(Cause.isFailReason)
  if (failure === undefined) return pretty(exit.cause)
  const { error } = failure
  if (error instanceof CallError) return `${error.reason._tag} (started: ${error.started}), ${error.reason.message}`
  return `declared error ${value(error, action.error)}`
}

const maxFrames = 3

// The first frames of a stack tell where; the runtime's own do not.
const pretty = (cause: Cause.Cause<unknown>) => {
  const lines = Cause.pretty(cause).split("\n")
  const frames = lines.filter((line) => /^ +at /.test(line) && !line.includes("node_modules"))
  return [...lines.filter((line) => !/^ +at /.test(line)), ...frames.slice(0, maxFrames)].join("\n")
}
