/** What is found, as it is put together. */
import * as Effect from "effect/Effect"
import type { AnySchema } from "../../contract/Action.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Finding, Who } from "../ContractDiff.ts"
import * as Part from "./part.ts"

/** Findings, and how many values were tried. */
export interface Found {
  readonly findings: ReadonlyArray<Finding>
  readonly tried: number
}

/** What a finding is about. */
export type Subject = Pick<Finding, "of" | "action" | "part">

/** A finding without a value. */
export const structural = (severity: Finding["severity"], who: Who, subject: Subject, because: string): Finding => ({
  ...subject,
  severity,
  who,
  because,
  path: [],
  expected: undefined,
  instead: undefined,
  witness: undefined
})

/** Compares a part in one direction, and says what the problems mean to somebody. */
export const ofPart = (
  who: Who,
  subject: Subject,
  writer: AnySchema,
  reader: AnySchema,
  refused: string,
  settings: Part.Settings
): Effect.Effect<Found> => {
  if (SchemaCodec.isNever(writer)) return Effect.succeed({ findings: [], tried: 0 })
  return Effect.map(Part.compare(writer, reader, settings), ({ missing, problems, tried }) => {
    const findings = problems.map(
      ({ expected, kind, path, witness }): Finding => ({
        ...subject,
        severity: kind === "refused" ? "breaking" : "change",
        who,
        because: kind === "refused" ? refused : readings[kind],
        path,
        expected: kind === "refused" ? expected : undefined,
        instead: kind === "defaulted" || kind === "changed" ? expected : undefined,
        witness
      })
    )
    return {
      findings: missing === undefined ? findings : [...findings, structural("unknown", who, subject, missing)],
      tried
    }
  })
}

const readings = {
  dropped: "it is read without this",
  defaulted: "this is added when it is read",
  changed: "it is read as another value"
} as const

/** One after the other. */
export const all = (each: ReadonlyArray<Effect.Effect<Found>>): Effect.Effect<Found> =>
  Effect.map(Effect.all(each), (found) => ({
    findings: found.flatMap(({ findings }) => findings),
    tried: found.reduce((sum, { tried }) => sum + tried, 0)
  }))

/** Findings that need no values. */
export const only = (...findings: ReadonlyArray<Finding>): Effect.Effect<Found> =>
  Effect.succeed({ findings, tried: 0 })
