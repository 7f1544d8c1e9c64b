/** The side of main.ts: a measured process, started, asked, ended by its own handle. */
import { type ChildProcess, fork } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Order, Word } from "./Child.ts"
import type { Run } from "./Meter.ts"

/** @see {@link start} */
export interface Process {
  readonly run: (inFlight: number, millis: number) => Effect.Effect<Run, Error>
  /** CPU time since its start, in microseconds. */
  readonly cpu: Effect.Effect<number, Error>
}

/** Starts a file of subjects/, waits until it is ready, and ends it with the Scope. */
export const start = (
  file: string,
  options: {
    readonly args: ReadonlyArray<string>
    readonly profiles: string | undefined
  }
): Effect.Effect<Process, Error, Scope.Scope> =>
  Effect.gen(function* () {
    const { args, profiles } = options
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(Path.join(import.meta.dirname, "subjects", `${file}.ts`), args, {
          execArgv:
            profiles === undefined
              ? []
              : ["--cpu-prof", "--cpu-prof-dir", profiles, "--cpu-prof-name", `${file}.cpuprofile`],
          env: { ...process.env, NODE_ENV: "production" },
          stdio: ["ignore", "inherit", "inherit", "ipc"]
        })
      ),
      end
    )
    // Its first word comes by itself.
    yield* ask(child, file, undefined, "ready", 20_000)
    return {
      run: (inFlight, millis) =>
        Effect.map(ask(child, file, { kind: "run", inFlight, millis }, "run", millis + 30_000), ({ run }) => run),
      cpu: Effect.map(ask(child, file, { kind: "cpu" }, "cpu", 10_000), ({ micros }) => micros)
    }
  })

const ask = <Kind extends Word["kind"]>(
  child: ChildProcess,
  file: string,
  order: Order | undefined,
  kind: Kind,
  timeoutMillis: number
): Effect.Effect<Extract<Word, { readonly kind: Kind }>, Error> =>
  Effect.callback((resume) => {
    const fail = (why: string) => {
      stop()
      resume(Effect.fail(new Error(`${file}: ${why}`)))
    }
    const onMessage = (word: Word) => {
      if (word.kind === "failed") return fail(word.why)
      if (word.kind !== kind) return
      stop()
      resume(Effect.succeed(word as Extract<Word, { readonly kind: Kind }>))
    }
    const onExit = (code: number | null) => fail(`ended by itself (${code})`)
    const timer = setTimeout(() => fail(`no answer to ${kind} within ${timeoutMillis} ms`), timeoutMillis)
    const stop = () => {
      clearTimeout(timer)
      child.off("message", onMessage)
      child.off("exit", onExit)
    }
    child.on("message", onMessage)
    child.on("exit", onExit)
    if (order !== undefined) child.send(order)
    return Effect.sync(stop)
  })

// Asked first, so that it can write its profile; after three seconds it is killed.
const end = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    const timer = setTimeout(() => child.kill("SIGKILL"), 3_000)
    child.once("exit", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    if (child.connected) child.send({ kind: "end" } satisfies Order)
  })

/** CPU time of any process of this machine since its start, in microseconds; Linux counts it in hundredths of a second. */
export const cpuOf = (pid: number): number => {
  // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th after it.
  const fields = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}
