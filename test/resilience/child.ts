/** Another process, started for a test and killed with its Scope. */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { Effect, type Scope } from "effect"

/** @see {@link make} */
export interface Child {
  readonly pid: number
  /** What it has said so far. */
  readonly lines: ReadonlyArray<string>
  /** Waits for a line. */
  readonly said: (line: string) => Effect.Effect<void>
  /** Waits until it has ended by itself. */
  readonly ended: Effect.Effect<void>
  /** Sends a signal; SIGKILL succeeds when the process is gone. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

/** Starts `test/resilience/worker.ts` in a role. */
export const make = (
  role: "serve" | "replica" | "call" | "group",
  url: string
): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--conditions=fiberbus-source", "test/resilience/worker.ts", role, url], {
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => end(child, "SIGKILL")
    ),
    (child) => {
      const lines: Array<string> = []
      const watchers = new Set<() => void>()
      createInterface(child.stdout).on("line", (line) => {
        lines.push(line)
        for (const watcher of [...watchers]) watcher()
      })
      return {
        pid: child.pid!,
        lines,
        said: (line) =>
          Effect.callback<void>((resume) => {
            const watcher = () => {
              if (!lines.includes(line)) return
              watchers.delete(watcher)
              resume(Effect.void)
            }
            watchers.add(watcher)
            watcher()
            return Effect.sync(() => watchers.delete(watcher))
          }),
        ended: Effect.callback<void>((resume) => {
          if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
          child.once("close", () => resume(Effect.void))
        }),
        signal: (signal) => (signal === "SIGKILL" ? end(child, signal) : Effect.sync(() => void child.kill(signal)))
      }
    }
  )

const end = (child: ChildProcess, signal: NodeJS.Signals) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill(signal)
  })
