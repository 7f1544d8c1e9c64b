/** Which names services, actions and topics may bear. Checked once, where they are defined. */
import * as Data from "effect/Data"
import * as Glob from "./Glob.ts"

/** Longest name, in bytes of UTF-8. */
export const maxBytes = 128

/**
 * A name that cannot be used, thrown where it is defined: it is a mistake in the program, found at start.
 *
 * Source: names become channels, log lines and metric labels, hence printable ASCII without spaces or glob characters,
 * at most 128 bytes, and none that JavaScript gives a meaning of its own.
 */
export class InvalidName extends Data.TaggedError("InvalidName")<{
  readonly kind:
    | "service"
    | "action"
    | "topic"
    | "pattern"
    | "group"
    | "question"
    | "prefix"
    | "background task"
    | "daemon"
    | "blueprint"
    | "health check"
  readonly given: string
  readonly why: string
}> {
  override get message() {
    return `The ${this.kind} name ${JSON.stringify(this.given)} cannot be used: ${this.why}`
  }
}

/** Why a name cannot be used, or nothing if it can. */
export const problem = (kind: InvalidName["kind"], name: string): string | undefined => {
  if (name === "") return "it is empty"
  if (name.length > maxBytes) return `it is longer than ${maxBytes} bytes`
  if (!/^[\x21-\x7e]+$/.test(name)) return "it has a character that is not printable ASCII, or a space"
  if (kind !== "pattern" && Glob.isGlob(name)) return "it has a glob character (* ? [ ] \\)"
  if (name === "__proto__") return "JavaScript gives it a meaning of its own"
  if (kind === "action" && name.startsWith("$")) return "names that begin with $ are fiberbus' own, such as $health"
  if (kind === "action" && name === "then") return "a caller with a method `then` would be taken for a Promise"
  return undefined
}

/** Returns the name, or throws {@link InvalidName}. */
export const check = (kind: InvalidName["kind"], name: string): string => {
  const why = problem(kind, name)
  if (why !== undefined) throw new InvalidName({ kind, given: name, why })
  return name
}
