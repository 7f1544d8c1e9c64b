/** One Sentinel, started for a test, that watches a master and makes its replica the next one. */
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as RedisServer from "../RedisServer.ts"
import * as FreePort from "./FreePort.ts"
import * as Machine from "./Machine.ts"
import * as RedisCommand from "./RedisCommand.ts"
import { RedisServerError } from "./RedisServerError.ts"
import * as ServerProcess from "./ServerProcess.ts"

/** Succeeds when it knows the replica, so that a failover can happen. `redis-server --sentinel` is all it takes. */
export const make = Effect.fnUntraced(function* (options: {
  readonly name: string
  readonly master: RedisServer.RedisServer["Service"]
  readonly password?: string
  readonly tls?: RedisServer.Tls
}) {
  const { master, name, password, tls } = options
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-sentinel-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const port = yield* FreePort.find
  const home = Path.dirname(tls?.caFile ?? folder)
  const config = [
    "bind 127.0.0.1",
    ...(tls === undefined
      ? [`port ${port}`]
      : [
          "port 0",
          `tls-port ${port}`,
          `tls-ca-cert-file ${tls.caFile}`,
          `tls-cert-file ${Path.join(home, "server.crt")}`,
          `tls-key-file ${Path.join(home, "server.key")}`,
          "tls-auth-clients no",
          "tls-replication yes"
        ]),
    `dir ${folder}`,
    ...(password === undefined ? [] : [`requirepass ${password}`]),
    `sentinel monitor ${name} 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds ${name} 1500`,
    `sentinel failover-timeout ${name} 3000`
  ]
  Fs.writeFileSync(Path.join(folder, "sentinel.conf"), `${config.join("\n")}\n`)
  yield* Effect.acquireRelease(
    Effect.sync(() => ServerProcess.start(master.binary!, folder, [Path.join(folder, "sentinel.conf"), "--sentinel"])),
    ServerProcess.kill
  )
  const command = (...args: ReadonlyArray<string>) =>
    RedisCommand.send(
      {
        url: `redis://${password === undefined ? "" : `:${password}@`}127.0.0.1:${port}`,
        name: `sentinel ${port}`
      },
      "SENTINEL",
      args
    )
  if (tls !== undefined) {
    yield* Effect.callback<void>((resume) => {
      const look = () => {
        const socket = Net.connect({ host: "127.0.0.1", port })
        socket.once("connect", () => {
          socket.destroy()
          resume(Effect.void)
        })
        socket.once("error", () => setTimeout(look, 20))
      }
      look()
    })
  } else {
    yield* command("REPLICAS", name).pipe(
      Effect.filterOrFail(
        (replicas) => String(replicas).includes("master-link-status,ok"),
        () =>
          new RedisServerError({
            kind: "ClusterFailed",
            operation: "start a Sentinel",
            detail: "it knows no replica",
            hint: ""
          })
      ),
      Effect.retry(Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "60 seconds" }))),
      Machine.onRealTime
    )
  }
  return { host: "127.0.0.1", port, command }
})
