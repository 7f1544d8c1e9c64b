/** Reads and checks the options of `RedisPubSub` once, before anything connects. */
import type * as tls from "node:tls"
import type * as Schedule from "effect/Schedule"
import type { RedisOptions } from "ioredis"
import * as Backoff from "../Backoff.ts"
import type { Options } from "../RedisPubSub.ts"
import type { TransportError, WhileDown } from "../Transport.ts"
import { hostAndPort, isIp } from "./addresses.ts"
import { reader } from "./readOptions.ts"
import type { Defences } from "./redisDefences.ts"

/** What a connection needs to know. Holds no secret that could be printed: they are inside the two functions. */
export interface Settings {
  /** As in `Transport.name`. */
  readonly name: string
  readonly address: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly prefix: string
  /** The ACL user. */
  readonly user: string
  readonly tls: boolean
  readonly connectTimeoutMillis: number
  readonly commandTimeoutMillis: number
  readonly maxFrameBytes: number
  readonly maxBytesInFlight: number
  /** Waits before further attempts at the start, if there are any. */
  readonly connect: Schedule.Schedule<unknown, TransportError> | undefined
  /** Waits before the attempts to reconnect. */
  readonly reconnect: Schedule.Schedule<unknown, TransportError>
  readonly whileDown: WhileDown | undefined
  /** The address comes from Sentinels, and must be that of a master. */
  readonly sentinels: boolean
  readonly defences: Defences
  /** Takes the secrets out of a text. */
  readonly scrub: (text: string) => string
  /** Attempts count from 0: each asks another Sentinel first, in case that one is silent. */
  readonly clientOptions: (
    connectionName: string,
    attempt: number
  ) => RedisOptions & { readonly replyMapping: "legacy" }
}

/** Checks the options. Returns the settings, or the error with kind `InvalidOptions`. */
export const resolve = (options: Options, defences: Defences): Settings | TransportError =>
  read.checked(() => settings(options, defences))

const read = reader("RedisPubSub")
const { integer, invalid, millis, secretText, text } = read

const settings = (options: Options, defences: Defences): Settings => {
  const url = options.url === undefined ? undefined : readUrl(secretText("url", options.url))
  if (url !== undefined && (options.host ?? options.port ?? options.socketPath) !== undefined) {
    throw invalid("both url and host, port or socketPath are given", "Give one of them")
  }
  if (options.socketPath !== undefined && (options.host ?? options.port) !== undefined) {
    throw invalid("both socketPath and host or port are given", "Give one of them")
  }
  const sentinels = readSentinels(options)
  if (sentinels !== undefined && (options.url ?? options.host ?? options.port ?? options.socketPath) !== undefined) {
    throw invalid("both sentinels and url, host, port or socketPath are given", "Sentinels know the address")
  }
  const path = url === undefined ? text("socketPath", options.socketPath) : url.path
  const host = (url === undefined ? text("host", options.host) : url.host) ?? "127.0.0.1"
  const port = integer("port", url === undefined ? options.port : url.port, 1, 65_535) ?? 6379
  const username = text("username", options.username) ?? url?.username
  const password = options.password === undefined ? url?.password : secretText("password", options.password)
  const db = integer("db", options.db ?? url?.db, 0, 1_000_000) ?? 0
  const secure = withName(
    read.tls(options.tls, url?.tls ?? false, "the url says rediss://"),
    path === undefined && sentinels === undefined ? host : undefined
  )
  const prefix = read.prefix(options.prefix)
  const maxFrameBytes = integer("maxFrameBytes", options.maxFrameBytes, 1, 512 * 1_048_576) ?? 1_048_576
  const maxBytesInFlight =
    integer("maxBytesInFlight", options.maxBytesInFlight, 1, Number.MAX_SAFE_INTEGER) ?? 16 * 1_048_576
  if (maxBytesInFlight < maxFrameBytes) throw invalid("maxBytesInFlight is less than maxFrameBytes")

  const secrets = [password, sentinels?.password].flatMap((secret) =>
    secret === undefined || secret.length < 3 ? [] : [secret, encodeURIComponent(secret)]
  )
  const scheme = secure === undefined ? "redis" : "rediss"
  const address = path === undefined ? { host, port } : { path }
  const places = sentinels?.addresses.map(({ host, port }) => hostAndPort(host, port)).join(",")
  const connectTimeoutMillis = millis("connectTimeout", options.connectTimeout) ?? 5000
  const commandTimeoutMillis = millis("commandTimeout", options.commandTimeout) ?? 2000
  return {
    name:
      sentinels !== undefined
        ? `${scheme}+sentinel://${places}/${sentinels.name}`
        : path === undefined
          ? `${scheme}://${hostAndPort(host, port)}`
          : `unix://${path}`,
    address,
    sentinels: sentinels !== undefined,
    defences,
    prefix,
    user: username ?? "default",
    tls: secure !== undefined,
    connectTimeoutMillis,
    commandTimeoutMillis,
    maxFrameBytes,
    maxBytesInFlight,
    connect: read.schedule("connect", options.connect),
    reconnect: read.schedule("reconnect", options.reconnect) ?? Backoff.reconnect,
    whileDown: read.whileDown(options.whileDown),
    scrub: (line) => secrets.reduce((rest, secret) => rest.replaceAll(secret, "***"), line),
    clientOptions: (connectionName, attempt) => ({
      ...(sentinels === undefined ? address : sentinelOptions(sentinels, secure, attempt)),
      ...(username === undefined ? {} : { username, password: password ?? "" }),
      ...(password === undefined || password === "" ? {} : { password }),
      ...(secure === undefined ? {} : { tls: secure }),
      db,
      connectionName,
      lazyConnect: true,
      // RedisLink reconnects with a new client: one that has been connected before keeps state that goes wrong later.
      retryStrategy: null,
      // Ours covers the whole way; the search among Sentinels needs one for each of them besides.
      connectTimeout: sentinels === undefined ? 0 : Math.max(1, connectTimeoutMillis / 3),
      ...(sentinels === undefined ? {} : { sentinelCommandTimeout: Math.max(1, connectTimeoutMillis / 3) }),
      disconnectTimeout: 0,
      enableOfflineQueue: false,
      enableReadyCheck: false,
      enableAutoPipelining: false,
      autoResubscribe: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: null,
      disableClientInfo: true,
      // The same replies under RESP3 and, for an old server, RESP2.
      replyMapping: "legacy"
    })
  }
}

interface Sentinels {
  readonly addresses: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly name: string
  readonly username: string | undefined
  readonly password: string | undefined
}

const readSentinels = (options: Options): Sentinels | undefined => {
  const { sentinels } = options
  const name = text("name", options.name)
  const username = text("sentinelUsername", options.sentinelUsername)
  const password =
    options.sentinelPassword === undefined ? undefined : secretText("sentinelPassword", options.sentinelPassword)
  if (sentinels === undefined) {
    if (name !== undefined) throw invalid("name is given without sentinels", "Give the addresses of the Sentinels")
    return undefined
  }
  if (!Array.isArray(sentinels) || sentinels.length === 0) throw invalid("sentinels is not a list of addresses")
  if (name === undefined) throw invalid("sentinels are given without name", "Give the name of the master")
  const addresses = sentinels.map((sentinel: { readonly host?: unknown; readonly port?: unknown }) => ({
    host: text("a sentinel's host", sentinel?.host) ?? "127.0.0.1",
    port: integer("a sentinel's port", sentinel?.port, 1, 65_535) ?? 26_379
  }))
  return { addresses, name, username, password }
}

// One TLS setting for all: with `tls` alone the link to the master stays in the clear, password included.
const sentinelOptions = (
  { addresses, name, username, password }: Sentinels,
  secure: tls.ConnectionOptions | undefined,
  attempt: number
): RedisOptions => {
  const first = attempt % addresses.length
  return {
    sentinels: [...addresses.slice(first), ...addresses.slice(0, first)],
    name,
    role: "master",
    ...(username === undefined ? {} : { sentinelUsername: username }),
    ...(password === undefined ? {} : { sentinelPassword: password }),
    ...(secure === undefined ? {} : { sentinelTLS: secure, enableTLSForSentinelMode: true }),
    updateSentinels: false,
    failoverDetector: false,
    sentinelRetryStrategy: () => null
  }
}

interface Url {
  readonly path?: string
  readonly host?: string
  readonly port?: number
  readonly username?: string
  readonly password?: string
  readonly db?: number
  readonly tls: boolean
}

// Texts about the url quote nothing of it: a password may stand anywhere in one that is not well-formed.
const readUrl = (text: string): Url => {
  if (text.startsWith("/")) return { path: text, tls: false }
  const malformed = "Write redis://host:6379, rediss://host:6379 or unix:///path"
  let url: URL
  let username: string
  let password: string
  let path: string
  try {
    url = new URL(text)
    username = decodeURIComponent(url.username)
    password = decodeURIComponent(url.password)
    path = decodeURIComponent(url.pathname)
  } catch {
    throw invalid("url is not well-formed", `${malformed}; special characters in a password are written as %XX`)
  }
  if (url.search !== "" || url.hash !== "") throw invalid("url has a ? or # part", "Give these settings as options")
  const credentials = { ...(username === "" ? {} : { username }), ...(password === "" ? {} : { password }) }
  if (url.protocol === "unix:") {
    if (url.host !== "" || path.length < 2) throw invalid("url has no path of a socket", malformed)
    return { path, tls: false, ...credentials }
  }
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") throw invalid("url has an unknown scheme", malformed)
  const db = path.replace(/^\//, "")
  if (!/^\d*$/.test(db)) throw invalid("url has a path that is no db number", malformed)
  return {
    // redis://:6379 leaves the host out.
    ...(url.hostname === "" ? {} : { host: decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, "$1") }),
    ...(url.port === "" ? {} : { port: Number(url.port) }),
    ...(db === "" ? {} : { db: Number(db) }),
    ...credentials,
    tls: url.protocol === "rediss:"
  }
}

// The certificate must bear the host's name, where nothing else is said and it is one.
const withName = (
  secure: tls.ConnectionOptions | undefined,
  host: string | undefined
): tls.ConnectionOptions | undefined =>
  secure === undefined || host === undefined || isIp(host) ? secure : { servername: host, ...secure }
