/** Redis and nats-server of a run: private, on free ports of 127.0.0.1, gone with the Scope. */
import { spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as RedisServer from "../src/testing/RedisServer.ts"

export interface Brokers {
  readonly redis: { readonly url: string; readonly version: string; readonly pid: number }
  /** Where it is installed: `nats-server` on PATH, or the program that `NATS_SERVER` names. */
  readonly nats: { readonly url: string; readonly version: string; readonly pid: number } | undefined
  /** Limits of what Redis keeps for a slow subscriber: as by default (32 MiB, or 8 MiB for a minute), or none. */
  readonly subscriberBuffers: (limits: "default" | "none") => Effect.Effect<void, Error>
}

export const make: Effect.Effect<Brokers, Error, Scope.Scope> = Effect.gen(function* () {
  const redis = yield* RedisServer.make()
  const pid = Number(/process_id:(\d+)/.exec(String(yield* redis.command("INFO", "server")))?.[1])
  return {
    redis: { url: redis.url, version: redis.version, pid },
    nats: yield* nats,
    subscriberBuffers: (limits) =>
      Effect.asVoid(
        redis.command(
          "CONFIG",
          "SET",
          "client-output-buffer-limit",
          limits === "none" ? "pubsub 0 0 0" : "pubsub 33554432 8388608 60"
        )
      )
  }
})

/** The largest message of the payloads' row does not fit into its default of 1 MiB. */
const maxPayload = 16 * 1_048_576

const nats: Effect.Effect<Brokers["nats"], Error, Scope.Scope> = Effect.gen(function* () {
  const program = process.env["NATS_SERVER"] ?? "nats-server"
  const { status, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" })
  if (status !== 0) return undefined
  const version = /v?(\d[\w.-]*)/.exec(stdout)?.[1] ?? "unknown"
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-bench-nats-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const config = Path.join(folder, "nats.conf")
  Fs.writeFileSync(config, `listen: "127.0.0.1:-1"\nports_file_dir: "${folder}"\nmax_payload: ${maxPayload}\n`)
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(program, ["-c", config], { stdio: "ignore" })),
    (server) =>
      Effect.callback<void>((resume) => {
        if (server.exitCode !== null || server.signalCode !== null) return resume(Effect.void)
        server.once("exit", () => resume(Effect.void))
        server.kill("SIGTERM")
      })
  )
  const url = yield* portOf(folder, server.pid ?? 0)
  return { url, version, pid: server.pid ?? 0 }
})

/** It writes its port into a file, and that it listens shows in a connection. */
const portOf = (folder: string, pid: number): Effect.Effect<string, Error> =>
  Effect.callback((resume) => {
    const until = performance.now() + 10_000
    const look = () => {
      const file = Fs.readdirSync(folder).find((name) => name.endsWith(`${pid}.ports`))
      const found = file === undefined ? "" : Fs.readFileSync(Path.join(folder, file), "utf8")
      const port = Number(/nats:\/\/[^"]*?:(\d+)/.exec(found)?.[1])
      if (port > 0) {
        const socket = Net.connect({ host: "127.0.0.1", port })
        socket.once("connect", () => {
          socket.destroy()
          resume(Effect.succeed(`127.0.0.1:${port}`))
        })
        socket.once("error", () => again())
      } else again()
    }
    const again = () => {
      if (performance.now() > until) return resume(Effect.fail(new Error("nats-server does not start")))
      setTimeout(look, 20)
    }
    look()
  })
