/** Finds a nats-server program, and gets one from Debian's packages where there is none. */
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Debian from "./Debian.ts"
import { CommandFailed, type Machine } from "./Machine.ts"
import { NatsServerError } from "./NatsServerError.ts"
import * as RedisBinary from "./RedisBinary.ts"

/** A server program that has been seen to run. */
export interface Binary {
  readonly file: string
  /** As the program says it, e.g. `2.9.10`. */
  readonly version: string
  readonly env: Readonly<Record<string, string>>
}

const advice = "Install nats-server (2.2 or later) so that it is on PATH"

/**
 * The program tests will start: `nats-server` on the path; on Debian and its kin the package, installed by root, or unpacked
 * into `$XDG_CACHE_HOME/fiberbus/nats` (default `~/.cache`) by anyone else.
 *
 * Errors: `NotFound` when there is no way to get one, `InstallFailed` when the way failed. Never nothing: a test without its
 * server must fail.
 */
export const find = Effect.fnUntraced(function* (machine: Machine): Effect.fn.Return<Binary, NatsServerError> {
  const present = yield* probe(machine, machine.path)
  if (present !== undefined) return present
  if (machine.platform !== "linux" || RedisBinary.executable(machine.path, "apt-get") === undefined) {
    return yield* new NatsServerError({
      kind: "NotFound",
      operation: "find a NATS for tests",
      detail: "PATH has no nats-server, and without apt-get none can be fetched",
      hint: advice
    })
  }
  return yield* Effect.scoped(fetch(machine)).pipe(
    Effect.mapError(
      ({ command, detail }) =>
        new NatsServerError({
          kind: "InstallFailed",
          operation: `get nats-server with apt-get (${command})`,
          detail,
          hint: advice
        })
    )
  )
})

const fetch = Effect.fnUntraced(function* (machine: Machine) {
  const folder = yield* RedisBinary.cacheFolder(machine, "nats")
  yield* machine.lock(Path.join(folder, "lock"))
  const root = Path.join(folder, `debian-${process.arch}`)
  const path =
    machine.uid === 0 ? machine.path : Path.join(root, "usr/sbin") + Path.delimiter + Path.join(root, "usr/bin")
  // Whoever held the lock before may have got it.
  const meanwhile = yield* probe(machine, path)
  if (meanwhile !== undefined) return meanwhile
  yield* machine.uid === 0 ? Debian.install(machine, "nats-server") : Debian.unpack(machine, root, ["nats-server"])
  const got = yield* probe(machine, path)
  return got ?? (yield* new CommandFailed({ command: "install", detail: `done, but ${path} has none that runs` }))
})

// A program that does not run (another architecture) counts as none.
const probe = (machine: Machine, path: string): Effect.Effect<Binary | undefined> => {
  const file = RedisBinary.executable(path, "nats-server")
  if (file === undefined) return Effect.succeed(undefined)
  return machine.run(file, ["--version"]).pipe(
    Effect.map((text) => ({ file, version: /\bv([\d.]+)/.exec(text)?.[1] ?? "unknown", env: {} })),
    Effect.catch(() => Effect.succeed(undefined))
  )
}
