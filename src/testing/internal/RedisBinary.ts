/** Finds a redis-server program, and gets one from Debian's packages where there is none. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Debian from "./Debian.ts"
import { CommandFailed, type Machine } from "./Machine.ts"
import { RedisServerError } from "./RedisServerError.ts"

/** A server program that has been seen to run. */
export interface Binary {
  readonly _tag: "Binary"
  readonly file: string
  /** As the program says it, e.g. `7.0.15`. */
  readonly version: string
  /** What its environment needs besides ours: `LD_LIBRARY_PATH` for an unpacked one. */
  readonly env: Readonly<Record<string, string>>
  readonly source: "path" | "installed" | "unpacked"
}

/** The server tests will use: one that runs already, or a program to start. */
export type Found = { readonly _tag: "External"; readonly url: string } | Binary

const names = ["redis-server", "valkey-server"]
const advice = "Install redis-server (or valkey-server) so that it is on PATH, or set REDIS_URL"

/**
 * Decides which server tests use.
 *
 * In this order: `REDIS_URL`; the program in `REDIS_SERVER`; `redis-server`, then `valkey-server`, on the path; on Debian and its kin the package,
 * installed by root, or unpacked into `$XDG_CACHE_HOME/fiberbus/redis` (default `~/.cache`) by anyone else.
 * Errors: `NotFound` when there is no way to get one, `InstallFailed` when the way failed.
 */
export const locate = (machine: Machine): Effect.Effect<Found, RedisServerError> => {
  const url = machine.env.REDIS_URL
  return url === undefined || url === "" ? binary(machine) : Effect.succeed({ _tag: "External", url })
}

/**
 * The same without `REDIS_URL`: a program to start. One that is asked for, by `program` or by `REDIS_SERVER`, is a name on PATH or
 * the path of a file, and no other will do.
 */
export const binary = Effect.fnUntraced(function* (
  machine: Machine,
  program: string | undefined = machine.env.REDIS_SERVER || undefined
): Effect.fn.Return<Binary, RedisServerError> {
  if (program !== undefined) return yield* asked(machine, program)
  const present = yield* search(machine, "path")
  if (present !== undefined) return present
  if (machine.platform !== "linux" || executable(machine.path, "apt-get") === undefined) {
    return yield* new RedisServerError({
      kind: "NotFound",
      operation: "find a Redis for tests",
      detail: `REDIS_URL is not set, PATH has neither ${names.join(" nor ")}, and without apt-get none can be fetched`,
      hint: advice
    })
  }
  return yield* Effect.scoped(machine.uid === 0 ? install(machine) : unpack(machine)).pipe(
    Effect.mapError(
      (failure) =>
        new RedisServerError({
          kind: "InstallFailed",
          operation: `get redis-server with apt-get (${failure.command})`,
          detail: failure.detail,
          hint: advice
        })
    )
  )
})

const asked = Effect.fnUntraced(function* (machine: Machine, program: string) {
  const file = Path.isAbsolute(program)
    ? executable(Path.dirname(program), Path.basename(program))
    : executable(machine.path, program)
  const found = file === undefined ? undefined : yield* probe(machine, file, {}, "path")
  return (
    found ??
    (yield* new RedisServerError({
      kind: "NotFound",
      operation: `find ${program}`,
      detail: file === undefined ? "there is no such program on PATH" : `${file} does not run`,
      hint: "Install it, or choose another one by REDIS_SERVER or the option program"
    }))
  )
})

const install = Effect.fnUntraced(function* (machine: Machine) {
  yield* machine.lock(Path.join(yield* cacheFolder(machine, "redis"), "lock"))
  // Whoever held the lock before may have installed it.
  const meanwhile = yield* search(machine, "installed")
  if (meanwhile !== undefined) return meanwhile
  yield* Debian.install(machine, "redis-server")
  const installed = yield* search(machine, "installed")
  return installed ?? (yield* new CommandFailed({ command: "install", detail: "done, but still not on PATH" }))
})

const unpack = Effect.fnUntraced(function* (machine: Machine) {
  const folder = yield* cacheFolder(machine, "redis")
  yield* machine.lock(Path.join(folder, "lock"))
  const root = Path.join(folder, `debian-${process.arch}`)
  const cached = yield* unpacked(machine, root)
  if (cached !== undefined) return cached
  yield* Debian.unpack(machine, root, ["redis-server", "redis-tools"])
  const fresh = yield* unpacked(machine, root)
  return fresh ?? (yield* new CommandFailed({ command: "unpack", detail: `done, but ${root} has none that runs` }))
})

const search = Effect.fnUntraced(function* (machine: Machine, source: Binary["source"]) {
  for (const name of names) {
    const file = executable(machine.path, name)
    const found = file === undefined ? undefined : yield* probe(machine, file, {}, source)
    if (found !== undefined) return found
  }
  return undefined
})

const unpacked = Effect.fnUntraced(function* (machine: Machine, root: string) {
  const file = executable(Path.join(root, "usr/bin"), "redis-server")
  if (file === undefined) return undefined
  const inherited = machine.env.LD_LIBRARY_PATH
  const folders = [...Debian.libraryFolders(root), ...(inherited ? [inherited] : [])]
  return yield* probe(machine, file, { LD_LIBRARY_PATH: folders.join(":") }, "unpacked")
})

// A program that does not run (another architecture, a library gone after an upgrade) counts as none.
const probe = (machine: Machine, file: string, env: Binary["env"], source: Binary["source"]) =>
  machine.run(file, ["--version"], { env }).pipe(
    Effect.map(
      (text): Binary => ({
        _tag: "Binary",
        file,
        version: /\bv=(\S+)/.exec(text)?.[1] ?? "unknown",
        env,
        source
      })
    ),
    Effect.catch(() => Effect.succeed(undefined))
  )

/** The first file of that name that may be run, in folders as `PATH` has them. */
export const executable = (path: string, name: string): string | undefined =>
  path
    .split(Path.delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => Path.join(folder, name))
    .find((file) => {
      try {
        Fs.accessSync(file, Fs.constants.X_OK)
        return Fs.statSync(file).isFile()
      } catch {
        return false
      }
    })

/**
 * A folder of our own for what is fetched once.
 *
 * What lies in it gets executed, so all of it has to be ours: a home may be missing (`nobody`) or another's (sudo), and
 * in /tmp anyone may have been there before.
 */
export const cacheFolder = (machine: Machine, name: string): Effect.Effect<string, CommandFailed> =>
  Effect.suspend(() => {
    const home = machine.env.XDG_CACHE_HOME || Path.join(machine.env.HOME || Os.homedir(), ".cache")
    const spare = Path.join(Os.tmpdir(), `fiberbus-${machine.uid}`)
    for (const base of [home, spare]) {
      const folder = Path.join(base, "fiberbus", name)
      try {
        Fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
        Fs.accessSync(folder, Fs.constants.W_OK)
        const owners = [base, Path.dirname(folder), folder].map((path) => Fs.lstatSync(path).uid)
        if (owners.every((owner) => owner === process.getuid?.())) return Effect.succeed(folder)
      } catch {
        // Try the next one.
      }
    }
    return Effect.fail(
      new CommandFailed({ command: "mkdir", detail: `neither ${home} nor ${spare} is a folder of our own to write to` })
    )
  })
