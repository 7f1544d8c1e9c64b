/**
 * Gives tests a real NATS of their own, which starts and ends with a Scope.
 *
 * It listens on a private port of 127.0.0.1, keeps nothing on disk, and dies with the process that started it, however that ends.
 * Time here is real time, also in `it.effect`. Needs nats-server 2.2 or later.
 */
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Certificates from "./internal/Certificates.ts"
import * as Machine from "./internal/Machine.ts"
import * as NatsBinary from "./internal/NatsBinary.ts"
import { NatsServerError } from "./internal/NatsServerError.ts"
import * as OwnServer from "./internal/OwnServer.ts"

export { NatsServerError, NatsServerErrorKind } from "./internal/NatsServerError.ts"

/** What a TLS client needs, as PEM. */
export interface Tls {
  readonly ca: string
  /** A client's certificate, signed by the same authority. Only a server with `clients: "required"` asks for it. */
  readonly cert: string
  readonly key: string
}

/** A NATS for tests. */
export class NatsServer extends Context.Service<
  NatsServer,
  {
    /** `nats://127.0.0.1:…`, or `tls://…`. Holds no credentials. */
    readonly url: string
    /** Stays the same over `restart`. */
    readonly port: number
    /** Set for the variant with TLS. */
    readonly tls: Tls | undefined
    /** E.g. `2.9.10`. */
    readonly version: string
    /** Succeeds when it answers. Does nothing while it runs. */
    readonly start: Effect.Effect<void, NatsServerError>
    /** Ends it in good order (SIGTERM), by force after 5 seconds. Succeeds when it is gone, or was not there. */
    readonly stop: Effect.Effect<void, NatsServerError>
    /** Ends it as a crash would (SIGKILL). Succeeds when it is gone, or was not there. */
    readonly kill: Effect.Effect<void, NatsServerError>
    /** Freezes it (SIGSTOP): connections stay, nothing is answered. Ends with `resume`, `stop` or `kill`. */
    readonly pause: Effect.Effect<void>
    /** Lets a frozen one go on. */
    readonly resume: Effect.Effect<void>
    /** Replaces `config` and lets the running server read it (SIGHUP). It has done so when `logged` shows it. */
    readonly reload: (config: ReadonlyArray<string>) => Effect.Effect<void>
    /** The last lines of its log. */
    readonly logged: () => string
  }
>()("fiberbus/testing/NatsServer") {}

/** How it differs from a plain one. */
export interface Options {
  /** Lines as in nats-server.conf, e.g. `max_payload: 64KB` or `authorization { token: "secret" }`. */
  readonly config?: ReadonlyArray<string>
  /** The port speaks TLS, with certificates made by `openssl`. `clients: "required"` asks clients for theirs. */
  readonly tls?: { readonly clients?: "required" }
}

const host = "127.0.0.1"

/** Starts a server; it ends with the Scope. Errors: `NotFound`, `InstallFailed`, and `StartFailed` with NATS' own words. */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<NatsServer["Service"], NatsServerError, Scope.Scope> {
  const machine = Machine.current()
  const binary = yield* NatsBinary.find(machine)
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-nats-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const failed = (kind: "StartFailed" | "StopFailed", detail: string) =>
    new NatsServerError({
      kind,
      operation: `${kind === "StartFailed" ? "start" : "stop"} ${binary.file}`,
      detail,
      hint: ""
    })
  const certificates =
    options.tls === undefined
      ? undefined
      : yield* Certificates.make(machine, folder).pipe(
          Effect.mapError(({ detail }) => failed("StartFailed", `no certificates for TLS: ${detail}`))
        )

  // Who answers at the port with this name is our server, and not another one that was faster to take the port.
  const name = `fiberbus-${randomUUID()}`
  const file = Path.join(folder, "nats.conf")
  const configure = (port: number, config: ReadonlyArray<string>) => {
    const lines = [
      `listen: "${host}:${port}"`,
      `server_name: "${name}"`,
      ...(certificates === undefined
        ? []
        : [
            "tls {",
            `  cert_file: ${JSON.stringify(certificates.serverCertFile)}`,
            `  key_file: ${JSON.stringify(certificates.serverKeyFile)}`,
            `  ca_file: ${JSON.stringify(certificates.caFile)}`,
            `  verify: ${options.tls?.clients === "required"}`,
            "}"
          ]),
      ...config,
      ""
    ]
    Fs.writeFileSync(file, lines.join("\n"), { mode: 0o600 })
  }

  const { kill, log, pause, port, reload, resume, start, stop } = yield* OwnServer.make({
    program: binary,
    folder,
    args: ["--config", file],
    configure: (port) => configure(port, options.config ?? []),
    answers: (port) => greets(port, name),
    failed
  })

  return {
    url: `${certificates === undefined ? "nats" : "tls"}://${host}:${port}`,
    port,
    tls:
      certificates === undefined
        ? undefined
        : { ca: certificates.ca, cert: certificates.clientCert, key: certificates.clientKey },
    version: binary.version,
    start,
    stop,
    kill,
    pause,
    resume,
    reload: (config) => reload(() => configure(port, config)),
    logged: log
  }
})

/** A server for all who are given this very Layer. @see {@link make} */
export const layer: Layer.Layer<NatsServer, NatsServerError> = Layer.effect(NatsServer, make())

/** The same, configured. @see {@link make} */
export const layerOptions = (options: Options): Layer.Layer<NatsServer, NatsServerError> =>
  Layer.effect(NatsServer, make(options))

/** Succeeds when the server of that name introduces itself at the port. */
const greets = (port: number, name: string): Effect.Effect<void, "not yet"> =>
  Effect.callback((resume) => {
    const socket = Net.connect({ host, port })
    let text = ""
    const notYet = () => resume(Effect.fail("not yet"))
    socket.on("error", notYet)
    socket.on("close", notYet)
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1")
      if (!text.includes("\r\n")) return
      if (text.includes(name)) resume(Effect.void)
      socket.destroy()
    })
    return Effect.sync(() => socket.destroy())
  })
