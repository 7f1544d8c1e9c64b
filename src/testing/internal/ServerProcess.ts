/** One running server, Redis or another: started, watched, ended. */
import { type ChildProcess, spawn } from "node:child_process"
import * as Effect from "effect/Effect"
import { onRealTime } from "./Machine.ts"

/** What is started, and what its environment needs besides ours. */
export interface Program {
  readonly file: string
  readonly env: Readonly<Record<string, string>>
}

/** A server process. It dies with this one, however this one ends. */
export interface ServerProcess {
  readonly pid: number | undefined
  /** Its last words, in one line. */
  readonly log: () => string
  readonly running: () => boolean
  /** Waits for its end. */
  readonly ended: Effect.Effect<void>
  readonly signal: (name: "SIGHUP" | "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT") => void
}

const logBytes = 4_096

/** Starts the program on a configuration file in its own folder. Whether it is ready is another question. */
export const start = (binary: Program, folder: string, args: ReadonlyArray<string>): ServerProcess => {
  const child = spawn(binary.file, args, {
    cwd: folder,
    env: { ...process.env, ...binary.env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let log = ""
  const note = (chunk: Buffer) => {
    log = (log + chunk.toString("utf8")).slice(-logBytes)
  }
  child.stdout.on("data", note)
  child.stderr.on("data", note)
  let over = false
  const watcher = child.pid === undefined ? undefined : watch(child.pid, folder)
  const end = () => {
    over = true
    watcher?.kill("SIGKILL")
  }
  child.once("exit", end)
  child.once("error", (error) => {
    note(Buffer.from(`\n${error.message}`))
    // Also the word for a signal that could not be sent; then it still runs.
    if (child.pid === undefined) end()
  })
  return {
    pid: child.pid,
    log: () => log.trim().split("\n").slice(-4).join(" ").replace(/\s+/g, " "),
    running: () => !over,
    ended: Effect.callback((resume) => {
      if (over) return resume(Effect.void)
      // `close`, not `exit`: the log is complete only then.
      const done = () => resume(Effect.void)
      child.once("close", done)
      return Effect.sync(() => child.off("close", done))
    }),
    signal: (name) => void child.kill(name)
  }
}

// A shell whose input ends when this process ends, be it by SIGKILL: then it ends the server and removes its folder.
// In a session of its own, so that Ctrl-C in the terminal does not end the shell before its work is done.
const watch = (pid: number, folder: string): ChildProcess => {
  const script = 'read _; kill -9 "$0" 2>/dev/null; rm -rf "$1"'
  const watcher = spawn("/bin/sh", ["-c", script, String(pid), folder], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  watcher.once("error", () => {})
  watcher.stdin.on("error", () => {})
  return watcher
}

/** Asks it to end, and after five seconds makes it. False if it outlived that by another five. */
export const stop = (server: ServerProcess): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    for (const name of ["SIGTERM", "SIGKILL"] as const) {
      server.signal(name)
      // A frozen one hears nothing else.
      server.signal("SIGCONT")
      yield* Effect.timeoutOption(server.ended, "5 seconds")
      if (!server.running()) return true
    }
    return false
  }).pipe(onRealTime)

/** Ends it at once, as a crash would. False if it lived on for five seconds. */
export const kill = (server: ServerProcess): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    server.signal("SIGKILL")
    yield* Effect.timeoutOption(server.ended, "5 seconds")
    return !server.running()
  }).pipe(onRealTime)
