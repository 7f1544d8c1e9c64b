/** The computer the tests run on: its environment, its commands, and a lock that its processes share. */
import { execFile, spawn } from "node:child_process"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A command could not be run, ended with an error, or ran longer than its limit. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{
  readonly command: string
  readonly detail: string
}> {}

/** What finding and starting a server needs to know and to do. Tests hand in another one. */
export interface Machine {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Folders with programs, as in `PATH`. */
  readonly path: string
  readonly platform: NodeJS.Platform
  /** The user's number; undefined where there is none (Windows). */
  readonly uid: number | undefined
  /** Runs a command to its end and gives its standard output. At most five minutes and 8 MiB. */
  readonly run: (
    command: string,
    args: ReadonlyArray<string>,
    options?: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> }
  ) => Effect.Effect<string, CommandFailed>
  /** Holds the lock on a file while the Scope is open. Waits ten minutes at most. */
  readonly lock: (file: string) => Effect.Effect<void, CommandFailed, Scope.Scope>
}

const commandLimitMillis = 300_000
const lockLimitSeconds = 600

const lastLine = (text: string) => text.trim().split("\n").at(-1) ?? ""

const run: Machine["run"] = (command, args, options) =>
  Effect.callback((resume) => {
    const failed = (detail: string) =>
      resume(Effect.fail(new CommandFailed({ command: [command, ...args].join(" "), detail })))
    const child = execFile(
      command,
      args,
      {
        cwd: options?.cwd,
        env: { ...process.env, LC_ALL: "C", ...options?.env },
        timeout: commandLimitMillis,
        maxBuffer: 8 * 1024 * 1024
      },
      (error, stdout, stderr) => {
        if (error === null) return resume(Effect.succeed(stdout))
        if (error.killed === true) return failed(`stopped after ${commandLimitMillis} ms`)
        failed(lastLine(stderr) || lastLine(stdout) || lastLine(error.message))
      }
    )
    // A question on the terminal must fail instead of waiting.
    child.stdin?.on("error", () => {})
    child.stdin?.end()
    return Effect.sync(() => child.kill())
  })

// flock(1) holds the lock for a shell that waits for the end of its input. However this process ends, that input ends
// too, so no lock is ever stale. Installing is for Debian, where flock is essential.
const lock: Machine["lock"] = (file) =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.callback<ReturnType<typeof spawnLock>, CommandFailed>((resume) => {
        const failed = (detail: string) => resume(Effect.fail(new CommandFailed({ command: `flock ${file}`, detail })))
        const child = spawnLock(file)
        child.once("error", (error) => failed(error.message))
        child.once("exit", () => failed(`not obtained within ${lockLimitSeconds} seconds`))
        child.stdin.on("error", () => {})
        child.stdout.once("data", () => resume(Effect.succeed(child)))
      }),
      (child) => Effect.sync(() => child.stdin.end())
    )
  )

const spawnLock = (file: string) =>
  spawn("flock", ["-w", String(lockLimitSeconds), file, "sh", "-c", "echo held; read _ || true"], {
    stdio: ["pipe", "pipe", "ignore"]
  })

/** This computer, as it is now. */
export const current = (): Machine => ({
  env: process.env,
  path: process.env.PATH ?? "",
  platform: process.platform,
  uid: process.getuid?.(),
  run,
  lock
})

/** Gives an effect the real clock: processes and sockets do not live in the virtual time of `it.effect`. */
export const onRealTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, Clock.Clock.defaultValue())
