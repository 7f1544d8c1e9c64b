/** Reads and checks the options of `Nats` once, before anything connects. */
import { type ConnectionOptions, nkeyAuthenticator, type TlsOptions } from "@nats-io/transport-node"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import * as Backoff from "../Backoff.ts"
import type { Options } from "../Nats.ts"
import type { TransportError, WhileDown } from "../Transport.ts"
import { hostAndPort, isIp } from "./addresses.ts"
import { reader, type Secure } from "./readOptions.ts"

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
export const resolve = (options: Options): Settings | TransportError => read.checked(() => settings(options))

const read = reader("Nats")

/** An error of kind `InvalidOptions`. */
export const invalid = read.invalid

const settings = (options: Options): Settings => {
  const servers = readServers(options.servers)
  const secured = servers.map(({ tls }) => tls)
  if (secured.includes(true) && secured.includes(false)) throw invalid("some servers are tls:// and some are not")
  const secure = read.tls(options.tls, secured.includes(true), "an address says tls://")
  const scheme = secure === undefined ? "nats" : "tls"
  const addresses = servers.map(
    ({ host, port }): Address => ({ host, port, name: `${scheme}://${hostAndPort(host, port)}` })
  )
  const user = read.text("user", options.user)
  const password = options.password === undefined ? undefined : secretText("password", options.password)
  const token = options.token === undefined ? undefined : secretText("token", options.token)
  const nkeySeed = options.nkeySeed === undefined ? undefined : secretText("nkeySeed", options.nkeySeed)
  if ([user, token, nkeySeed].filter((given) => given !== undefined).length > 1) {
    throw invalid("more than one of user, token and nkeySeed is given", "Give the one that the server asks for")
  }
  if (password !== undefined && user === undefined) throw invalid("password is given without user")
  const authenticator = nkeySeed === undefined ? undefined : readSeed(nkeySeed)
  const prefix = read.prefix(options.prefix)
  const maxFrameBytes = read.integer("maxFrameBytes", options.maxFrameBytes, 1, 64 * 1_048_576)
  const maxBytesInFlight =
    read.integer("maxBytesInFlight", options.maxBytesInFlight, 1, Number.MAX_SAFE_INTEGER) ?? 16 * 1_048_576
  if (maxBytesInFlight < (maxFrameBytes ?? defaultMaxFrameBytes)) {
    throw invalid("maxBytesInFlight is less than maxFrameBytes")
  }
  const connectTimeoutMillis = read.millis("connectTimeout", options.connectTimeout) ?? 5000
  const secrets = [password, token, nkeySeed].filter((secret) => secret !== undefined && secret.length >= 3)
  return {
    name: addresses.map(({ name }) => name).join(","),
    addresses,
    prefix,
    tls: secure !== undefined,
    connectTimeoutMillis,
    commandTimeoutMillis: read.millis("commandTimeout", options.commandTimeout) ?? 2000,
    maxFrameBytes,
    maxBytesInFlight,
    connect: read.schedule("connect", options.connect),
    reconnect: read.schedule("reconnect", options.reconnect) ?? Backoff.reconnect,
    whileDown: read.whileDown(options.whileDown),
    scrub: (line) => secrets.reduce<string>((rest, secret) => rest.replaceAll(secret!, "***"), line),
    clientOptions: ({ host, port }) => ({
      servers: hostAndPort(host, port),
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

// What the library does not know it hands on to Node. For an address of numbers it names no host to check against.
const tlsOptions = (host: string, secure: Secure) =>
  ({ host, ...(isIp(host) ? {} : { servername: host }), ...secure }) as TlsOptions

const secretText = (name: string, value: unknown): string => {
  const plain = read.secretText(name, value)
  if (plain === "") throw invalid(`${name} is neither a text nor a Redacted text`)
  return plain
}
