/**
 * Gives tests a real Redis: the one in `REDIS_URL`, or one of their own that starts and ends with a Scope.
 *
 * An own server listens on a private port of 127.0.0.1, keeps nothing on disk, and dies with the process that started
 * it, however that ends. Time here is real time, also in `it.effect`. Needs Redis 6 or later.
 */
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Certificates from "./internal/Certificates.ts"
import * as Machine from "./internal/Machine.ts"
import * as OwnServer from "./internal/OwnServer.ts"
import * as RedisBinary from "./internal/RedisBinary.ts"
import * as RedisCommand from "./internal/RedisCommand.ts"
import { RedisServerError } from "./internal/RedisServerError.ts"

export type { Binary, Found } from "./internal/RedisBinary.ts"
export { RedisServerError, RedisServerErrorKind } from "./internal/RedisServerError.ts"

/** What a TLS client needs, as texts (PEM) and files. Give `ca`, and `cert` and `key` if asked, to `tls` of ioredis. */
export interface Tls {
  readonly ca: string
  readonly caFile: string
  /** A client's certificate, signed by the same authority. Only a server with `clients: "required"` asks for it. */
  readonly cert: string
  readonly key: string
}

/** A Redis for tests. */
export class RedisServer extends Context.Service<
  RedisServer,
  {
    /** `redis://…`, `rediss://…` (TLS) or a socket's path, as ioredis takes them. Holds the password if there is one. */
    readonly url: string
    /** Empty when `REDIS_URL` names a socket. */
    readonly host: string
    /** Stays the same over `restart`. 0 when `REDIS_URL` names a socket. */
    readonly port: number
    /** Set for the variant with a socket, and when `REDIS_URL` names one. */
    readonly socketPath: string | undefined
    readonly password: string | undefined
    /** Set for the variant with TLS. */
    readonly tls: Tls | undefined
    /** E.g. `7.0.15`; `unknown` when the server does not tell. */
    readonly version: string
    /** The program that runs it; undefined when not owned. */
    readonly binary: RedisBinary.Binary | undefined
    /** Started here, so that it may be stopped and started. Otherwise these operations fail with `NotOwned`. */
    readonly owned: boolean
    /** Succeeds when it answers. Does nothing while it runs. Whatever it held before is lost. */
    readonly start: Effect.Effect<void, RedisServerError>
    /** Ends it in good order (SIGTERM), by force after 5 seconds. Succeeds when it is gone, or was not there. */
    readonly stop: Effect.Effect<void, RedisServerError>
    /** Ends it as a crash would (SIGKILL). Succeeds when it is gone, or was not there. */
    readonly kill: Effect.Effect<void, RedisServerError>
    /** Freezes it (SIGSTOP): connections stay, nothing is answered. Ends with `resume`, `stop` or `kill`. */
    readonly pause: Effect.Effect<void, RedisServerError>
    /** Lets a frozen one go on. */
    readonly resume: Effect.Effect<void, RedisServerError>
    /** `stop`, then `start`, on the same port. */
    readonly restart: Effect.Effect<void, RedisServerError>
    /**
     * Sends one command over a connection of its own; replies come as ioredis gives them. On an own server with every
     * right, whatever its password and users. Fails after 10 seconds without a reply.
     */
    readonly command: (
      name: string,
      ...args: ReadonlyArray<string | number>
    ) => Effect.Effect<unknown, RedisServerError>
  }
>()("fiberbus/testing/RedisServer") {}

/** How an own server differs from a plain one. @see {@link layerOptions} */
export interface Options {
  /** More arguments of redis-server, e.g. `["--maxclients", "20"]`. They override the rest. Not `--aclfile`: use `acl`. */
  readonly args?: ReadonlyArray<string>
  /** `url` is the path of a socket. The port listens as well. */
  readonly unixSocket?: boolean
  /** The default user's password (`requirepass`); `url` holds it. */
  readonly password?: string
  /** Lines as in redis.conf, e.g. `user alice on >secret ~* &orders.* +subscribe`. */
  readonly acl?: ReadonlyArray<string>
  /** The port speaks TLS only, with certificates made by `openssl`. `clients: "required"` asks clients for theirs. */
  readonly tls?: { readonly clients?: "required" }
  /** The program to start: a name on PATH, e.g. `valkey-server`, or a file's path. Default `REDIS_SERVER`, else what is found. */
  readonly program?: string
}

/** Which server `layer` will use, or why there is none. Installs one where that is what it takes. */
export const find: Effect.Effect<RedisBinary.Found, RedisServerError> = Effect.suspend(() =>
  RedisBinary.locate(Machine.current())
)

/**
 * Starts a server of our own; it ends with the Scope. `REDIS_URL` plays no part, for that server cannot be configured.
 *
 * Errors: `NotFound`, `InstallFailed`, and `StartFailed` with Redis' own words.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<RedisServer["Service"], RedisServerError, Scope.Scope> {
  const machine = Machine.current()
  return yield* own(machine, yield* RedisBinary.binary(machine, options.program), options)
})

/**
 * Uses a server that runs already. Nothing is started, stopped or cleaned: choose names that meet no one else's.
 *
 * Errors: `InvalidUrl`; `Unreachable` or `CommandFailed` when it does not answer a PING.
 */
export const fromUrl = Effect.fnUntraced(function* (
  url: string
): Effect.fn.Return<RedisServer["Service"], RedisServerError> {
  const parsed = yield* parse(url)
  const command: RedisServer["Service"]["command"] = (name, ...args) =>
    RedisCommand.send({ url, name: parsed.name }, name, args)
  yield* command("PING")
  // A user with few rights may not ask.
  const info = yield* command("INFO", "server").pipe(Effect.catch(() => Effect.succeed("")))
  const refused = (operation: string) =>
    new RedisServerError({
      kind: "NotOwned",
      operation: `${operation} ${parsed.name}`,
      detail: "this server was not started by the tests",
      hint: "Unset REDIS_URL, or use RedisServer.layerOptions, which always starts its own"
    })
  return {
    url,
    host: parsed.host,
    port: parsed.port,
    socketPath: parsed.socketPath,
    password: parsed.password,
    tls: undefined,
    // Valkey says besides which Redis it is like.
    version: (/valkey_version:(\S+)/.exec(String(info)) ?? /redis_version:(\S+)/.exec(String(info)))?.[1] ?? "unknown",
    binary: undefined,
    owned: false,
    start: refused("start"),
    stop: refused("stop"),
    kill: refused("kill"),
    pause: refused("pause"),
    resume: refused("resume"),
    restart: refused("restart"),
    command
  }
})

/**
 * The server in `REDIS_URL` if that is set, else one of our own: the program in `REDIS_SERVER`, or `redis-server` or `valkey-server` from PATH, and where
 * there is none, Debian's package, got without asking. One server for all who are given this very Layer.
 *
 * Errors: one line that says what to do, where none can be had.
 */
export const layer: Layer.Layer<RedisServer, RedisServerError> = Layer.effect(
  RedisServer,
  Effect.suspend(() => {
    const machine = Machine.current()
    return Effect.flatMap(RedisBinary.locate(machine), (found) =>
      found._tag === "External" ? fromUrl(found.url) : own(machine, found, {})
    )
  })
)

/** Always a server of our own, so that it can be configured, stopped and started. @see {@link make} */
export const layerOptions = (options: Options): Layer.Layer<RedisServer, RedisServerError> =>
  Layer.effect(RedisServer, make(options))

const host = "127.0.0.1"
const controlUser = "fiberbus-testing"

const own = Effect.fnUntraced(function* (
  machine: Machine.Machine,
  binary: RedisBinary.Binary,
  options: Options
): Effect.fn.Return<RedisServer["Service"], RedisServerError, Scope.Scope> {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "fiberbus-redis-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )
  const failed = (kind: "StartFailed" | "StopFailed", detail: string, hint = "") =>
    new RedisServerError({
      kind,
      operation: `${kind === "StartFailed" ? "start" : "stop"} ${binary.file}`,
      detail,
      hint
    })
  const certificates =
    options.tls === undefined
      ? undefined
      : yield* Certificates.make(machine, folder).pipe(
          Effect.mapError(({ detail }) =>
            failed("StartFailed", `no certificates for TLS: ${detail}`, "Is openssl installed?")
          )
        )

  // The socket lies in our own folder and is opened after the port: who answers there is our server, ready, and not
  // another one that was faster to take the port. Its user is ours too, so commands work whatever the test configures.
  const socketPath = Path.join(folder, "redis.sock")
  const controlPassword = randomBytes(16).toString("hex")
  const control: RedisCommand.Address = {
    url: socketPath,
    name: binary.file,
    login: { username: controlUser, password: controlPassword }
  }
  const command: RedisServer["Service"]["command"] = (name, ...args) => RedisCommand.send(control, name, args)

  const configure = (port: number) => {
    const lines = [
      `bind ${host}`,
      ...(certificates === undefined
        ? [`port ${port}`]
        : [
            "port 0",
            `tls-port ${port}`,
            `tls-ca-cert-file ${JSON.stringify(certificates.caFile)}`,
            `tls-cert-file ${JSON.stringify(certificates.serverCertFile)}`,
            `tls-key-file ${JSON.stringify(certificates.serverKeyFile)}`,
            `tls-auth-clients ${options.tls?.clients === "required" ? "yes" : "no"}`
          ]),
      `unixsocket ${JSON.stringify(socketPath)}`,
      "unixsocketperm 700",
      `dir ${JSON.stringify(folder)}`,
      'save ""',
      "appendonly no",
      "daemonize no",
      ...(options.password === undefined ? [] : [`requirepass ${JSON.stringify(options.password)}`]),
      `user ${controlUser} on >${controlPassword} ~* &* +@all`,
      ...(options.acl ?? []),
      ""
    ]
    Fs.writeFileSync(Path.join(folder, "redis.conf"), lines.join("\n"), { mode: 0o600 })
  }

  const { kill, pause, port, restart, resume, start, stop } = yield* OwnServer.make({
    program: binary,
    folder,
    args: [Path.join(folder, "redis.conf"), ...(options.args ?? [])],
    configure,
    answers: () =>
      // An answer, if not the hoped for, is one.
      Effect.catchIf(
        command("PING"),
        (error) => error.kind === "CommandFailed",
        () => Effect.void
      ),
    failed
  })

  const password = options.password
  const login = password === undefined ? "" : `:${encodeURIComponent(password)}@`
  const query = password === undefined ? "" : `?password=${encodeURIComponent(password)}`
  const scheme = certificates === undefined ? "redis" : "rediss"
  return {
    url: options.unixSocket === true ? `${socketPath}${query}` : `${scheme}://${login}${host}:${port}`,
    host,
    port,
    socketPath: options.unixSocket === true ? socketPath : undefined,
    password,
    tls:
      certificates === undefined
        ? undefined
        : {
            ca: certificates.ca,
            caFile: certificates.caFile,
            cert: certificates.clientCert,
            key: certificates.clientKey
          },
    version: binary.version,
    binary,
    owned: true,
    start,
    stop,
    kill,
    pause,
    resume,
    restart,
    command
  }
})

const parse = (url: string) =>
  Effect.try({
    try: () => {
      if (url.startsWith("/") && !url.startsWith("//")) {
        const [socketPath = "", query = ""] = url.split("?")
        const password = new URLSearchParams(query).get("password") ?? undefined
        return { host: "", port: 0, socketPath, password, name: socketPath }
      }
      const parsed = new URL(url)
      if (parsed.protocol !== "redis:" && parsed.protocol !== "rediss:") throw new Error("unknown scheme")
      const password = parsed.password === "" ? undefined : decodeURIComponent(parsed.password)
      const port = parsed.port === "" ? 6379 : Number(parsed.port)
      const name = `${parsed.protocol}//${parsed.host}`
      return { host: parsed.hostname.replace(/^\[|\]$/g, ""), port, socketPath: undefined, password, name }
    },
    // Not the text itself: it may hold a password.
    catch: () =>
      new RedisServerError({
        kind: "InvalidUrl",
        operation: "read REDIS_URL",
        detail: "it is not the address of a Redis",
        hint: "Write redis://host:port, rediss://host:port or the path of a socket"
      })
  })
