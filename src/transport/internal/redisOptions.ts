/** Reads and checks the options of `RedisPubSub` once, before anything connects. */
import * as tls from "node:tls"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { RedisOptions } from "ioredis"
import * as Glob from "../../contract/Glob.ts"
import * as Backoff from "../Backoff.ts"
import type { Options, Tls } from "../RedisPubSub.ts"
import { TransportError, type WhileDown } from "../Transport.ts"
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
export const resolve = (options: Options, defences: Defences): Settings | TransportError => {
  try {
    return settings(options, defences)
  } catch (error) {
    if (error instanceof TransportError) return error
    throw error
  }
}

const invalid = (detail: string, hint = "") =>
  new TransportError({ kind: "InvalidOptions", operation: "read the options of RedisPubSub", detail, hint, sent: "no" })

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
  const secure = readTls(
    options.tls,
    url?.tls ?? false,
    path === undefined && sentinels === undefined ? host : undefined
  )
  const prefix = text("prefix", options.prefix) ?? ""
  if (!/^[\x21-\x7e]*$/.test(prefix) || Glob.isGlob(prefix)) {
    throw invalid("prefix has a space, a glob character (* ? [ ] \\) or one that is not printable ASCII")
  }
  const maxFrameBytes = integer("maxFrameBytes", options.maxFrameBytes, 1, 512 * 1_048_576) ?? 1_048_576
  const maxBytesInFlight =
    integer("maxBytesInFlight", options.maxBytesInFlight, 1, Number.MAX_SAFE_INTEGER) ?? 16 * 1_048_576
  if (maxBytesInFlight < maxFrameBytes) throw invalid("maxBytesInFlight is less than maxFrameBytes")

  const secrets = [password, sentinels?.password].flatMap((secret) =>
    secret === undefined || secret.length < 3 ? [] : [secret, encodeURIComponent(secret)]
  )
  const scheme = secure === undefined ? "redis" : "rediss"
  const address = path === undefined ? { host, port } : { path }
  const at = (host: string, port: number) => `${host.includes(":") ? `[${host}]` : host}:${port}`
  const places = sentinels?.addresses.map(({ host, port }) => at(host, port)).join(",")
  const connectTimeoutMillis = millis("connectTimeout", options.connectTimeout) ?? 5000
  const commandTimeoutMillis = millis("commandTimeout", options.commandTimeout) ?? 2000
  return {
    name:
      sentinels !== undefined
        ? `${scheme}+sentinel://${places}/${sentinels.name}`
        : path === undefined
          ? `${scheme}://${at(host, port)}`
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
    connect: readSchedule("connect", options.connect),
    reconnect: readSchedule("reconnect", options.reconnect) ?? Backoff.reconnect,
    whileDown: readWhileDown(options.whileDown),
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

const readSchedule = (name: string, given: unknown): Schedule.Schedule<unknown, TransportError> | undefined => {
  if (given === undefined) return undefined
  if (!Schedule.isSchedule(given)) throw invalid(`${name} is no Schedule`)
  return given as Schedule.Schedule<unknown, TransportError>
}

const readWhileDown = (given: Options["whileDown"]): WhileDown | undefined => {
  if (given === "fail") return undefined
  if (given !== undefined && (typeof given !== "object" || given === null)) {
    throw invalid('whileDown is neither "fail" nor { buffer, for }')
  }
  return {
    calls: integer("whileDown.buffer", given?.buffer, 1, 50_000) ?? 1000,
    millis: millis("whileDown.for", given?.for) ?? 1000
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

const readTls = (option: Tls | boolean | undefined, byUrl: boolean, host: string | undefined) => {
  if (option === false && byUrl) throw invalid("tls is false, but the url says rediss://")
  if (option === undefined || option === false) return byUrl ? secureOptions({}, host) : undefined
  if (option === true) return secureOptions({}, host)
  if (typeof option !== "object" || option === null) throw invalid("tls is neither a boolean nor an object")
  return secureOptions(option, host)
}

const secureOptions = (option: Tls, host: string | undefined): tls.ConnectionOptions => {
  const { ca, cert, key, rejectUnauthorized } = option
  const servername = option.servername ?? (host === undefined || /^[\d.]+$|:/.test(host) ? undefined : host)
  let secureContext: tls.SecureContext
  try {
    secureContext = tls.createSecureContext({
      ...(ca === undefined
        ? {}
        : { ca: typeof ca === "string" || ca instanceof Uint8Array ? bytes(ca) : ca.map(bytes) }),
      ...(cert === undefined ? {} : { cert: bytes(cert) }),
      ...(key === undefined ? {} : { key: bytes(Redacted.isRedacted(key) ? Redacted.value(key) : key) })
    })
  } catch (error) {
    const reason = error instanceof Error && "reason" in error && typeof error.reason === "string" ? error.reason : ""
    throw invalid(`tls.ca, tls.cert or tls.key cannot be used${reason === "" ? "" : `: ${reason}`}`, "Give them as PEM")
  }
  return {
    secureContext,
    ...(servername === undefined ? {} : { servername }),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized })
  }
}

const bytes = (value: string | Uint8Array) => (typeof value === "string" ? value : Buffer.from(value))

// Options may come from plain JavaScript or JSON, so that a wrong type is told here and not deep in a driver.
const text = (name: string, value: unknown): string | undefined => {
  if (value === undefined || value === "") return undefined
  if (typeof value !== "string") throw invalid(`${name} is no text`)
  return value
}

const secretText = (name: string, value: unknown): string => {
  const plain = Redacted.isRedacted(value) ? Redacted.value(value) : value
  if (typeof plain !== "string") throw invalid(`${name} is neither a text nor a Redacted text`)
  return plain
}

const integer = (name: string, value: unknown, least: number, most: number): number | undefined => {
  if (value === undefined) return undefined
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    throw invalid(`${name} is no whole number between ${least} and ${most}`)
  }
  return value
}

const millis = (name: string, value: Duration.Input | undefined): number | undefined => {
  if (value === undefined) return undefined
  const read = Option.map(Duration.fromInput(value), Duration.toMillis)
  // A timer of Node takes at most 2^31 - 1 ms.
  if (Option.isNone(read) || !(read.value > 0) || read.value > 2_147_483_647) {
    throw invalid(`${name} is no positive duration of at most 24 days`)
  }
  return read.value
}
