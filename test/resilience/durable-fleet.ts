/** The processes that handle durable work, what can be done to them, and what they wrote about it. */
import { type ChildProcess, spawn } from "node:child_process"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Effect, type Scope } from "effect"
import type { Where } from "./durable-worker.ts"

/** A line of the log. */
export interface Line {
  /** `begun`, `done`, `repeated` where its effect was there, or `frozen`. */
  readonly what: string
  readonly pid: number
  readonly id: string
}

/** @see {@link make} */
export interface Fleet {
  /** Kills (SIGKILL) the next one that begins something, so many milliseconds later, and starts another one in its place. */
  readonly kill: (afterMillis: number) => Effect.Effect<void, Error>
  /** Freezes the next one that begins something until others have begun all that it had in hand, and lets it go on. */
  readonly freeze: Effect.Effect<void>
  /** All that was written, in its order over all processes. */
  readonly log: () => ReadonlyArray<Line>
  /** Ids of messages whose effect was had. */
  readonly effects: () => ReadonlySet<string>
}

/** How often one is started that ends before it is ready, as where its Redis is away just then. */
const attempts = 100

/** Starts so many; they end with the Scope. */
export const make = (where: Where, size: number): Effect.Effect<Fleet, Error, Scope.Scope> =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "fiberbus-account-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    )
    mkdirSync(join(directory, "effects"))
    const running = new Set<ChildProcess>()
    const start = Effect.callback<ChildProcess, Error>((resume) => {
      const args = ["test/resilience/durable-worker.ts", JSON.stringify(where), directory]
      const child = spawn(process.execPath, ["--conditions=fiberbus-source", ...args], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      running.add(child)
      child.once("exit", (code, signal) => {
        running.delete(child)
        resume(Effect.fail(new Error(`a worker ended before it was ready: ${code ?? signal}`)))
      })
      createInterface(child.stdout!).on("line", (line) => line === "ready" && resume(Effect.succeed(child)))
    }).pipe(Effect.retry({ times: attempts }))
    const end = (child: ChildProcess) =>
      Effect.callback<void>((resume) => {
        if (!running.has(child)) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => Effect.forEach([...running], end, { discard: true, concurrency: "unbounded" }))
    )
    yield* Effect.all(
      Array.from({ length: size }, () => start),
      { concurrency: "unbounded", discard: true }
    )

    const file = join(directory, "log")
    const log = (): ReadonlyArray<Line> =>
      (existsSync(file) ? readFileSync(file, "utf8") : "")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => {
          const [what = "", pid, id = ""] = line.split(" ")
          return { what, pid: Number(pid), id }
        })
    /** What a process has begun, and neither ended nor lost to another one that began it later. */
    const inHand = (pid: number) => {
      const held = new Set<string>()
      for (const line of log()) {
        if (line.what === "begun" && line.pid === pid) held.add(line.id)
        else if (line.what === "begun" || line.pid === pid) held.delete(line.id)
      }
      return held
    }
    /** At once or not at all: nobody is to read half of it. */
    const decide = (fate: string) => {
      writeFileSync(join(directory, "decided"), fate)
      renameSync(join(directory, "decided"), join(directory, "fate"))
    }
    const frozen = () => log().filter(({ what }) => what === "frozen")
    return {
      kill: (afterMillis) =>
        Effect.gen(function* () {
          decide(`kill ${afterMillis}`)
          yield* untilDefined(() => running.size < size || undefined)
          yield* start
        }),
      freeze: Effect.gen(function* () {
        const before = frozen().length
        decide("freeze")
        const pid = yield* untilDefined(() => frozen()[before]?.pid)
        yield* untilDefined(() => inHand(pid).size === 0 || undefined)
        process.kill(pid, "SIGCONT")
      }),
      log,
      effects: () => new Set(readdirSync(join(directory, "effects")))
    }
  })

const untilDefined = <A>(look: () => A | undefined) =>
  Effect.gen(function* () {
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      yield* Effect.sleep("10 millis")
    }
  })
