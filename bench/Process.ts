/** The side of main.ts: a measured process, started, ordered, ended by its own handle. */
import { type ChildProcess, fork } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Orders, Start, Word } from "./child.ts"

/** @see {@link start} */
export interface Process {
  /** Fails when the process fails or ends, or has not answered in time: by default five minutes, far more than any turn takes. */
  readonly order: <Kind extends keyof Orders>(
    kind: Kind,
    args: Parameters<Orders[Kind]>[0],
    timeoutMillis?: number
  ) => Effect.Effect<Awaited<ReturnType<Orders[Kind]>>, Error>
}

/** What node itself is told. */
export interface Options {
  /** Folder for a CPU profile. */
  readonly profiles?: string | undefined
  /** Lets memory be read after a collection. */
  readonly collect?: boolean
}

/** Starts a peer's role, waits until it is ready, and ends it with the Scope. */
export const start = (order: Start, options: Options = {}): Effect.Effect<Process, Error, Scope.Scope> =>
  Effect.gen(function* () {
    const name = `${order.setting.name}-${order.role}`
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(Path.join(import.meta.dirname, "child.ts"), [JSON.stringify(order)], {
          execArgv: [
            ...(options.profiles === undefined
              ? []
              : ["--cpu-prof", "--cpu-prof-dir", options.profiles, "--cpu-prof-name", `${name}.cpuprofile`]),
            ...(options.collect === true ? ["--expose-gc"] : [])
          ],
          env: { ...process.env, NODE_ENV: "production" },
          stdio: ["ignore", "inherit", "inherit", "ipc"]
        })
      ),
      end
    )
    // Rows begin several orders at once, each of which listens.
    child.setMaxListeners(100)
    yield* answer(
      child,
      name,
      undefined,
      (word) => (word.kind === "ready" ? { result: undefined } : undefined),
      120_000
    )
    let orders = 0
    return {
      order: (kind, args, timeoutMillis = 300_000) =>
        Effect.suspend(() => {
          const id = ++orders
          return answer(
            child,
            `${name}, ${kind}`,
            { id, kind, args },
            (word) => (word.kind === "done" && word.id === id ? { result: word.result } : undefined),
            timeoutMillis
          ) as Effect.Effect<any, Error>
        })
    }
  })

const answer = (
  child: ChildProcess,
  what: string,
  order: object | undefined,
  read: (word: Word) => { readonly result: unknown } | undefined,
  timeoutMillis: number
): Effect.Effect<unknown, Error> =>
  Effect.callback((resume) => {
    const fail = (why: string) => {
      stop()
      resume(Effect.fail(new Error(`${what}: ${why}`)))
    }
    const onMessage = (word: Word) => {
      if (word.kind === "failed") return fail(word.why)
      const found = read(word)
      if (found === undefined) return
      stop()
      resume(Effect.succeed(found.result))
    }
    const onExit = (code: number | null) => fail(`ended by itself (${code})`)
    const timer = setTimeout(() => fail(`no answer within ${timeoutMillis} ms`), timeoutMillis)
    const stop = () => {
      clearTimeout(timer)
      child.off("message", onMessage)
      child.off("exit", onExit)
    }
    if (child.exitCode !== null || !child.connected) return fail(`has ended (${child.exitCode})`)
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
    if (child.connected) child.send({ id: 0, kind: "end" })
  })

/**
 * CPU time of any process of this machine since its start, in microseconds. Counted in nanoseconds for each thread that still lives where the
 * system does so, else in hundredths of a second.
 */
export const cpuOf = (pid: number): number => {
  try {
    const nanos = Fs.readdirSync(`/proc/${pid}/task`).map((thread) => {
      const [running] = Fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")
      return Number(running)
    })
    const sum = nanos.reduce((sum, each) => sum + each, 0)
    if (sum > 0) return sum / 1_000
  } catch {
    // A system without schedstat, or a thread that has just ended.
  }
  return ticksOf(pid)
}

const ticksOf = (pid: number): number => {
  // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th after it.
  const fields = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}
