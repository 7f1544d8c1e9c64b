/**
 * Turns what ioredis, the system and Redis say into a `TransportError` with advice.
 *
 * An ioredis error is never kept: it holds the arguments of its command, that is, the password of a refused AUTH and
 * the payload of a refused PUBLISH. Only the text of its message is read, and that is cleaned too.
 */
import { TransportError } from "../Transport.ts"
import type { Advice } from "./networkError.ts"
import * as networkError from "./networkError.ts"

/** Where an error happened. */
export interface Place extends networkError.Place {
  /** The ACL user, for hints. */
  readonly user: string
  /** The command and the channel, for hints. */
  readonly command?: { readonly name: string; readonly subject: string } | undefined
  readonly tls: boolean
}

/** True when the broker itself refused the command, over a connection that is still good. */
export const isReply = (error: unknown): boolean => error instanceof Error && error.name === "ReplyError"

/** Builds our own error from one of ioredis, of a socket or of Redis. */
export const fromUnknown = (error: unknown, place: Place, besides = ""): TransportError => {
  const said = clean(messageOf(error), place.scrub)
  const text = besides === "" || said.includes(besides) ? said : `${said} (${besides})`
  const code = codeOf(error)
  const [kind, hint] = advice(text, code, place)
  return new TransportError({
    kind,
    operation: place.operation,
    detail: text === "" ? (code ?? "no reason given") : text,
    hint,
    // Redis answers an error before it acts.
    sent: isReply(error) ? "no" : place.sent
  })
}

/** Builds one from the text of an error that came as a part of a reply: what it says of was not done. */
export const fromReply = (text: string, place: Omit<Place, "sent">): TransportError =>
  fromUnknown(Object.assign(new Error(text), { name: "ReplyError" }), { ...place, sent: "no" })

/** What it says, without secrets. */
export const textOf = (error: unknown, scrub: (text: string) => string): string => clean(messageOf(error), scrub)

const advice = (text: string, code: string | undefined, place: Place): Advice => {
  for (const [pattern, advise] of said) if (pattern.test(text)) return advise(place)
  if (code !== undefined) {
    const known = codes[code]
    if (known !== undefined) return known
    if (networkError.isCertificate(code)) return networkError.certificate
    if (/^ERR_(SSL|TLS|OSSL)|^EPROTO$/.test(code)) return place.tls ? notTls : notRedis
  }
  return ["Unknown", ""]
}

const grant = ({ user, command }: Place): string => {
  if (command === undefined) return `Give user ${user} the right, e.g. ACL SETUSER ${user} +ping`
  const name = command.name.toLowerCase()
  if (command.subject === "") return `Give user ${user} the right: ACL SETUSER ${user} +${name}`
  if (name === "set") return `Give user ${user} the right: ACL SETUSER ${user} (+set ~${command.subject})`
  const rights = name.endsWith("publish") ? `+${name}` : `+${name} +${name.replace("subscribe", "unsubscribe")}`
  return `Give user ${user} the right: ACL SETUSER ${user} ${rights} &${command.subject}`
}

const notTls: Advice = [
  "ProtocolError",
  "The TLS handshake failed: check that this port speaks TLS (else use redis://), and which protocol versions and client certificates the server wants"
]
const notRedis: Advice = [
  "ProtocolError",
  "What answers there does not speak Redis' protocol in the clear: check host and port; for a TLS port use rediss:// or tls: true"
]

/** How the detail begins when the server hung up during the handshake. */
export const closedEarly = "the server closed the connection during the handshake"

/** By the words of the broker or of ioredis. Checked in this order. */
const said: ReadonlyArray<readonly [RegExp, (place: Place) => Advice]> = [
  [
    /^WRONGPASS|invalid password|invalid username-password/,
    () => ["AuthenticationFailed", "Check username and password"]
  ],
  [
    /^NOAUTH|Authentication required/,
    () => ["AuthenticationFailed", "This Redis wants a password: give password (and username for an ACL user)"]
  ],
  [/^NOPERM/, (place) => ["PermissionDenied", grant(place)]],
  [/^OOM/, () => ["Overloaded", "Redis has no memory left (maxmemory): let consumers make room, or give it more"]],
  [
    /^WRONGTYPE/,
    () => ["Unknown", "Another program keeps something else under this name: choose a prefix, or another name"]
  ],
  [/^DENIED/, () => ["PermissionDenied", "Redis is in protected mode: set a password or a bind address there"]],
  [/^LOADING/, () => ["Unreachable", "Redis is loading its data: try again, or give connect a schedule"]],
  [/^READONLY/, () => ["Unreachable", "This Redis is a replica: connect to the master"]],
  [
    /^All sentinels are unreachable.*(WRONGPASS|NOAUTH)/,
    () => ["AuthenticationFailed", "Check sentinelUsername and sentinelPassword"]
  ],
  [
    /^All sentinels are unreachable/,
    () => ["Unreachable", "Check the addresses of the Sentinels and the master's name"]
  ],
  [/^MASTERDOWN/, () => ["Unreachable", "This replica has lost its master: connect to the master"]],
  [
    /max number of clients/,
    () => ["Unreachable", "Redis has no connection left: raise maxclients there, or close idle ones"]
  ],
  [
    /DB index is out of range|invalid DB index/,
    () => ["InvalidOptions", "Choose a db that this Redis has (pub/sub is the same in all of them)"]
  ],
  [/^CLUSTERDOWN/, () => ["Unreachable", "The Redis cluster is down"]],
  [/^TRYAGAIN/, () => ["Unreachable", "The keys of this slot are on their way to another master: try again"]],
  [/^NOREPLICAS/, () => ["Unreachable", "min-replicas-to-write wants replicas that this master has not: try again"]],
  [/^the answer is not Redis' protocol|protocol error/i, () => notRedis],
  [
    /certificate required/i,
    () => ["ProtocolError", "The server wants a client's certificate: give tls.cert and tls.key"]
  ],
  [/altnames|self.signed certificate|certificate has expired|unable to verify/i, () => networkError.certificate],
  [/wrong version number|packet length too long|before secure TLS/i, () => notTls],
  [new RegExp(`^${closedEarly}: `), ({ tls }) => (tls ? notTls : notRedis)],
  [/^the server closed the connection/, () => ["ConnectionLost", ""]]
]

const codes: Readonly<Record<string, Advice>> = {
  ...networkError.codes("Redis"),
  ENOENT: ["Unreachable", "Check the socket path, and that Redis runs with this unixsocket"],
  EACCES: ["Unreachable", "This process may not open the socket: check its permissions (unixsocketperm)"],
  ENOTSOCK: ["Unreachable", "The path is no socket"]
}

const codeOf = (error: unknown): string | undefined => {
  if (!(error instanceof Error)) return undefined
  if ("code" in error && typeof error.code === "string") return error.code
  return undefined
}

const messageOf = (error: unknown): string => {
  if (!(error instanceof Error)) return "an unknown error"
  // A name with several addresses: the message is empty, each address has its own.
  if (error instanceof AggregateError) {
    const texts = error.errors.map(messageOf).filter((text) => text !== "")
    if (texts.length > 0) return texts.join(", ")
  }
  // OpenSSL's message is a line of file names; the reason is the part for people.
  if ("library" in error && "reason" in error && typeof error.reason === "string") return error.reason
  // "Last reply" would be a payload.
  if (error.message.startsWith("Command queue state error")) {
    return /Last error: (.*)$/s.exec(error.message)?.[1] ?? "protocol error: a reply that nothing had asked for"
  }
  const foreign = /^Unknown RESP type \d+ ("?.*"?)\. Please/s.exec(error.message)?.[1]
  if (foreign !== undefined)
    return `the answer is not Redis' protocol, it has ${JSON.stringify(foreign.slice(1, -1))} where a type should be`
  if (error.message.startsWith("Connection is closed")) return "the server closed the connection"
  return error.message
}

const clean = (text: string, scrub: (text: string) => string): string =>
  networkError.clean(
    text.replace(/,? with args beginning with.*$/s, "").replace(/\.? Please report this\.?$/, ""),
    scrub
  )
