/** The program `fiberbus` as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Deferred, Effect, Queue, type Scope } from "effect"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

export interface Ended {
  /** The exit status; nothing when a signal ended it. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Program {
  readonly process: ChildProcess
  readonly nextOut: Effect.Effect<string>
  readonly nextErr: Effect.Effect<string>
  readonly ended: Effect.Effect<Ended>
}

/** Starts it; it is killed when the Scope closes. */
export const start = (
  args: ReadonlyArray<string>,
  env: Record<string, string> = {},
  stdin = "",
  cwd?: string
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, ["--conditions=fiberbus-source", main, ...args], {
        env: { PATH: process.env["PATH"], NO_COLOR: "1", ...env },
        cwd
      })
      const collect = (stream: NodeJS.ReadableStream) => {
        const lines = Effect.runSync(Queue.unbounded<string>())
        let text = ""
        stream.setEncoding("utf8").on("data", (part: string) => {
          text += part
        })
        createInterface({ input: stream }).on("line", (line) => Queue.offerUnsafe(lines, line))
        return { lines, text: () => text }
      }
      const out = collect(child.stdout)
      const err = collect(child.stderr)
      const ended = Deferred.makeUnsafe<Ended>()
      child.on("close", (status) =>
        Deferred.doneUnsafe(ended, Effect.succeed({ status, stdout: out.text(), stderr: err.text() }))
      )
      child.stdin.on("error", () => {})
      child.stdin.end(stdin)
      return {
        process: child,
        nextOut: Queue.take(out.lines),
        nextErr: Queue.take(err.lines),
        ended: Deferred.await(ended)
      }
    }),
    ({ process }) => Effect.sync(() => process.kill("SIGKILL"))
  )

/** Runs it to its end. */
export const run = (args: ReadonlyArray<string>, env?: Record<string, string>, stdin?: string, cwd?: string) =>
  Effect.scoped(Effect.flatMap(start(args, env, stdin, cwd), ({ ended }) => ended))
