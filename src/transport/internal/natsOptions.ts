/** Reads and checks the options of `Nats` once, before anything connects. */
import * as tls from "node:tls"
import { type ConnectionOptions, nkeyAuthenticator, type TlsOptions } from "@nats-io/transport-node"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Glob from "../../contract/Glob.ts"
import * as Backoff from "../Backoff.ts"
import type { Options, Tls } from "../Nats.ts"
import { TransportError, type WhileDown } from "../Transport.ts"

/** One of the servers. */
export interface Address {
  readonly host: string
  readonly port: number
  /** For people, without a secret: `nats://127.0.0.1:4222`. */
  readonly name: string
}

/** What the link needs to know. Holds no secret that could be printed: they are inside the two functions. */
export interface Settings {
  /** As in `Transport.name`. */
  readonly name: string
  /** At least one. */
  readonly addresses: ReadonlyArray<Address>
  readonly prefix: string
  readonly tls: boolean
  readonly connectTimeoutMillis: number
  readonly commandTimeoutMillis: number
  /** Undefined: as much as the server takes, 1 MiB at most. */
  readonly maxFrameBytes: number | undefined
  readonly maxBytesInFlight: number
  /** Waits before further attempts at the start, if there are any. */
  readonly connect: Schedule.Schedule<unknown, TransportError> | undefined
  /** Waits before the attempts to reconnect. */
  readonly reconnect: Schedule.Schedule<unknown, TransportError>
  readonly whileDown: WhileDown | undefined
  /** Takes the secrets out of a text. */
  readonly scrub: (text: string) => string
  readonly clientOptions: (address: Address) => ConnectionOptions
}

/** Largest frame where nothing else is said, in bytes. */
export const defaultMaxFrameBytes = 1_048_576

/** Checks the options. Returns the settings, or the error with kind `InvalidOptions`. */
export const resolve = (options: Options): Settings | TransportError => {
  try {
    return settings(options)
  } catch (error) {
    if (error instanceof TransportError) return error
    throw error
  }
}

/** An error of kind `InvalidOptions`. */
export const invalid = (detail: string, hint = ""): TransportError =>
  new TransportError({ kind: "InvalidOptions", operation: "read the options of Nats", detail, hint, sent: "no" })

const settings = (options: Options): Settings => {
  const servers = readServers(options.servers)
  const secured = servers.map(({ tls }) => tls)
  if (secured.includes(true) && secured.includes(false)) throw invalid("some servers are tls:// and some are not")
  const secure = readTls(options.tls, secured.includes(true))
  const scheme = secure === undefined ? "nats" : "tls"
  const addresses = servers.map(({ host, port }): Address => {
    const at = `${host.includes(":") ? `[${host}]` : host}:${port}`
    return { host, port, name: `${scheme}://${at}` }
  })
  const user = text("user", options.user)
  const password = options.password === undefined ? undefined : secretText("password", options.password)
  const token = options.token === undefined ? undefined : secretText("token", options.token)
  const nkeySeed = options.nkeySeed === undefined ? undefined : secretText("nkeySeed", options.nkeySeed)
  if ([user, token, nkeySeed].filter((given) => given !== undefined).length > 1) {
    throw invalid("more than one of user, token and nkeySeed is given", "Give the one that the server asks for")
  }
  if (password !== undefined && user === undefined) throw invalid("password is given without user")
  const authenticator = nkeySeed === undefined ? undefined : readSeed(nkeySeed)
  const prefix = text("prefix", options.prefix) ?? ""
  if (!/^[\x21-\x7e]*$/.test(prefix) || Glob.isGlob(prefix)) {
    throw invalid("prefix has a space, a glob character (* ? [ ] \\) or one that is not printable ASCII")
  }
  const maxFrameBytes = integer("maxFrameBytes", options.maxFrameBytes, 1, 64 * 1_048_576)
  const maxBytesInFlight =
    integer("maxBytesInFlight", options.maxBytesInFlight, 1, Number.MAX_SAFE_INTEGER) ?? 16 * 1_048_576
  if (maxBytesInFlight < (maxFrameBytes ?? defaultMaxFrameBytes)) {
    throw invalid("maxBytesInFlight is less than maxFrameBytes")
  }
  const connectTimeoutMillis = millis("connectTimeout", options.connectTimeout) ?? 5000
  const secrets = [password, token, nkeySeed].filter((secret) => secret !== undefined && secret.length >= 3)
  return {
    name: addresses.map(({ name }) => name).join(","),
    addresses,
    prefix,
    tls: secure !== undefined,
    connectTimeoutMillis,
    commandTimeoutMillis: millis("commandTimeout", options.commandTimeout) ?? 2000,
    maxFrameBytes,
    maxBytesInFlight,
    connect: readSchedule("connect", options.connect),
    reconnect: readSchedule("reconnect", options.reconnect) ?? Backoff.reconnect,
    whileDown: readWhileDown(options.whileDown),
    scrub: (line) => secrets.reduce<string>((rest, secret) => rest.replaceAll(secret!, "***"), line),
    clientOptions: ({ host, port }) => ({
      servers: `${host.includes(":") ? `[${host}]` : host}:${port}`,
      name: "fiberbus",
      ...(user === undefined ? {} : { user, pass: password ?? "" }),
      ...(token === undefined ? {} : { token }),
      ...(authenticator === undefined ? {} : { authenticator }),
      tls: secure === undefined ? null : tlsOptions(host, secure),
      timeout: connectTimeoutMillis,
      // NatsLink connects again with a new client: this one would keep what is published meanwhile, and send it late.
      reconnect: false,
      maxReconnectAttempts: 0,
      ignoreClusterUpdates: true,
      // NatsLink has a heartbeat of its own, which ends also a connection whose socket is full.
      pingInterval: 2_147_483_647,
      noAsyncTraces: true
    })
  }
}

const readServers = (given: Options["servers"]) => {
  const plain = Redacted.isRedacted(given) ? Redacted.value(given) : given
  const list: ReadonlyArray<unknown> =
    plain === undefined ? ["127.0.0.1:4222"] : typeof plain === "string" ? plain.split(",") : plain
  if (!Array.isArray(list) || list.length === 0 || list.length > 100) {
    throw invalid("servers is neither an address nor a list of 1 to 100 addresses")
  }
  return list.map(readServer)
}

// Texts about an address quote nothing of it: somebody may have put a password there.
const readServer = (given: unknown) => {
  const malformed = "Write nats://host:4222, tls://host:4222 or host:4222"
  if (typeof given !== "string" || given.trim() === "") throw invalid("an address of servers is no text", malformed)
  const address = given.trim()
  const scheme = /^([a-z]+):\/\//i.exec(address)?.[1]?.toLowerCase()
  if (scheme !== undefined && scheme !== "nats" && scheme !== "tls") {
    throw invalid("an address of servers has an unknown scheme", malformed)
  }
  let url: URL
  try {
    // URL leaves the port of a scheme it knows out, so give it one that it does not.
    url = new URL(`nats://${scheme === undefined ? address : address.slice(scheme.length + 3)}`)
  } catch {
    throw invalid("an address of servers is not well-formed", malformed)
  }
  if (url.username !== "" || url.password !== "") {
    throw invalid("an address of servers holds credentials", "Give user and password, or token, as options")
  }
  if (url.hostname === "" || !/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    throw invalid("an address of servers is more or less than host and port", malformed)
  }
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? 4222 : Number(url.port),
    tls: scheme === "tls"
  }
}

const readSeed = (seed: string) => {
  const authenticator = nkeyAuthenticator(new TextEncoder().encode(seed))
  try {
    authenticator("nonce")
  } catch {
    throw invalid("nkeySeed is no seed", "A user's seed begins with SU")
  }
  return authenticator
}

/** What Node's TLS takes besides the host. */
interface Secure {
  readonly secureContext?: tls.SecureContext
  readonly servername?: string
  readonly rejectUnauthorized?: boolean
}

// What the library does not know it hands on to Node. For an address of numbers it names no host to check against.
const tlsOptions = (host: string, secure: Secure) =>
  ({ host, ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }), ...secure }) as TlsOptions

const readTls = (option: Tls | boolean | undefined, byAddress: boolean): Secure | undefined => {
  if (option === false && byAddress) throw invalid("tls is false, but an address says tls://")
  if (option === undefined || option === false) return byAddress ? {} : undefined
  if (option === true) return {}
  if (typeof option !== "object" || option === null) throw invalid("tls is neither a boolean nor an object")
  const { ca, cert, key, servername, rejectUnauthorized } = option
  try {
    const secureContext = tls.createSecureContext({
      ...(ca === undefined ? {} : { ca: typeof ca === "string" ? ca : [...ca] }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key: Redacted.isRedacted(key) ? Redacted.value(key) : key })
    })
    return {
      secureContext,
      ...(servername === undefined ? {} : { servername }),
      ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized })
    }
  } catch (error) {
    const reason = error instanceof Error && "reason" in error && typeof error.reason === "string" ? error.reason : ""
    throw invalid(`tls.ca, tls.cert or tls.key cannot be used${reason === "" ? "" : `: ${reason}`}`, "Give them as PEM")
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

// Options may come from plain JavaScript or JSON, so that a wrong type is told here and not deep in a driver.
const text = (name: string, value: unknown): string | undefined => {
  if (value === undefined || value === "") return undefined
  if (typeof value !== "string") throw invalid(`${name} is no text`)
  return value
}

const secretText = (name: string, value: unknown): string => {
  const plain = Redacted.isRedacted(value) ? Redacted.value(value) : value
  if (typeof plain !== "string" || plain === "") throw invalid(`${name} is neither a text nor a Redacted text`)
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
