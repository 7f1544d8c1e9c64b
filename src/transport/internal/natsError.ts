/** Turns what the NATS client, the system and the server say into a `TransportError` with advice. */
import { TransportError, type TransportErrorKind } from "../Transport.ts"

/** Where an error happened. */
export interface Place {
  /** As in `TransportError.operation`. */
  readonly operation: string
  readonly sent: TransportError["sent"]
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
}

/** Builds our own error. Only the texts of the given one are read: what else it holds may be a secret. */
export const fromUnknown = (error: unknown, { operation, scrub, sent }: Place): TransportError => {
  const texts = textsOf(error)
  const detail = clean(texts[0] ?? "", scrub)
  const [kind, hint] = advice(texts, codesOf(error))
  return new TransportError({ kind, operation, detail: detail === "" ? "no reason given" : detail, hint, sent })
}

type Advice = readonly [kind: TransportErrorKind, hint: string]

const reach = "Check host and port, and that nats-server runs and listens there"
const certificate: Advice = [
  "ProtocolError",
  "The server's certificate is not trusted: check tls.ca, and that tls.servername is a name in the certificate"
]

/** By the words of the server or of the client. Checked in this order. */
const said: ReadonlyArray<readonly [RegExp, Advice]> = [
  [
    /authorization violation|authentication (expired|revoked)|invalid nkey|nkeys? .*(not supported|required)/i,
    ["AuthenticationFailed", "Check user and password, token or nkeySeed"]
  ],
  [
    /authentication timeout/i,
    ["Timeout", "The server waited too long for the credentials: is it or this process overloaded?"]
  ],
  [
    /permissions violation/i,
    ["PermissionDenied", "Give the user the right in the server's permissions (publish and subscribe, by subject)"]
  ],
  [
    /slow consumer/i,
    ["ConnectionLost", "This process reads too slowly: give it less to do, or raise max_pending in the server"]
  ],
  [/maximum connections/i, ["Unreachable", "The server has no connection left: raise max_connections there"]],
  [
    /maximum payload|max_payload/i,
    ["ProtocolError", "The frame is larger than max_payload of the server: raise it there, or lower maxFrameBytes"]
  ],
  [
    /maximum (control line|subscriptions)/i,
    ["ProtocolError", "A limit of the server is reached: see max_control_line and max_subscriptions there"]
  ],
  [/does not support 'tls'/i, ["ProtocolError", "This server speaks no TLS: use nats://, or switch TLS on there"]],
  [
    /client certificate|certificate required/i,
    ["ProtocolError", "The server wants a client's certificate: give tls.cert and tls.key"]
  ],
  [/altnames|self.signed certificate|certificate has expired|unable to verify/i, certificate],
  [
    /^the answer is not NATS/,
    ["ProtocolError", "What answers there does not speak NATS: check host and port (4222, not 8222)"]
  ],
  [/^the server closed the connection|^closed connection|^connection draining/, ["ConnectionLost", ""]],
  [/^timeout$/i, ["Timeout", reach]],
  [/connection refused/i, ["Unreachable", reach]]
]

const codes: Readonly<Record<string, Advice>> = {
  ECONNREFUSED: ["Unreachable", reach],
  ENOTFOUND: ["Unreachable", "Check the host name"],
  EAI_AGAIN: ["Unreachable", "The host name could not be looked up: check it and the DNS server"],
  EHOSTUNREACH: ["Unreachable", reach],
  ENETUNREACH: ["Unreachable", reach],
  EADDRNOTAVAIL: ["Unreachable", reach],
  ETIMEDOUT: ["Timeout", reach],
  ECONNRESET: ["ConnectionLost", ""],
  EPIPE: ["ConnectionLost", ""]
}

const advice = (texts: ReadonlyArray<string>, found: ReadonlyArray<string>): Advice => {
  for (const [pattern, advise] of said) if (texts.some((text) => pattern.test(text))) return advise
  for (const code of found) {
    const known = codes[code]
    if (known !== undefined) return known
    if (/CERT|SIGNATURE|ISSUER|CRL|SELF_SIGNED/.test(code)) return certificate
  }
  return ["Unknown", ""]
}

/** An error's message, then those of what caused it or is part of it; a name with several addresses has one for each. */
const textsOf = (error: unknown): ReadonlyArray<string> =>
  chain(error)
    .map(({ message }) => message)
    .filter((text) => text !== "")

const codesOf = (error: unknown): ReadonlyArray<string> =>
  chain(error).flatMap((each) => ("code" in each && typeof each.code === "string" ? [each.code] : []))

const chain = (error: unknown, depth = 0): ReadonlyArray<Error> => {
  if (!(error instanceof Error) || depth > 3) return []
  const parts = error instanceof AggregateError ? error.errors : []
  return [error, ...[...parts, error.cause].flatMap((part) => chain(part, depth + 1))]
}

const maxDetail = 300

const clean = (text: string, scrub: (text: string) => string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go
  const safe = scrub(text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").trim())
  return safe.length > maxDetail ? `${safe.slice(0, maxDetail)}…` : safe
}
