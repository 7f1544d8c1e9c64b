/** What the output of a live command can do. */
import * as Context from "effect/Context"

/** @see the file's first line */
export interface Screen {
  /** It is a terminal that takes control sequences: a new picture replaces the one before. */
  readonly clears: boolean
  /** Somebody may press keys. */
  readonly keys: boolean
  /** Lines that fit; 0 where that is not known. */
  readonly rows: number
}

/** That of this process; another one can be provided. */
export const Screen = Context.Reference<() => Screen>("fiberbus/cli/Screen", {
  defaultValue: () => () => ({
    clears: process.stdout.isTTY === true && process.env["TERM"] !== "dumb",
    keys: process.stdin.isTTY === true,
    rows: process.stdout.rows ?? 0
  })
})

/** Goes to the upper left corner and wipes the screen. */
export const clear = "\u001b[H\u001b[2J"
