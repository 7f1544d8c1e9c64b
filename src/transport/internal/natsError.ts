/** Turns what the NATS client, the system and the server say into a `TransportError` with advice. */
import { TransportError } from "../Transport.ts"
import type { Advice, Place } from "./networkError.ts"
import * as networkError from "./networkError.ts"

/** Builds our own error. Only the texts of the given one are read: what else it holds may be a secret. */
export const fromUnknown = (error: unknown, { operation, scrub, sent }: Place): TransportError => {
  const texts = textsOf(error)
  const detail = networkError.clean(texts[0] ?? "", scrub)
  const [kind, hint] = advice(texts, codesOf(error))
  return new TransportError({ kind, operation, detail: detail === "" ? "no reason given" : detail, hint, sent })
}

const reach = networkError.reach("nats-server")

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
  [/altnames|self.signed certificate|certificate has expired|unable to verify/i, networkError.certificate],
  [
    /^the answer is not NATS/,
    ["ProtocolError", "What answers there does not speak NATS: check host and port (4222, not 8222)"]
  ],
  [/^the server closed the connection|^closed connection|^connection draining/, ["ConnectionLost", ""]],
  [/^timeout$/i, ["Timeout", reach]],
  [/connection refused/i, ["Unreachable", reach]]
]

const codes = networkError.codes("nats-server")

const advice = (texts: ReadonlyArray<string>, found: ReadonlyArray<string>): Advice => {
  for (const [pattern, advise] of said) if (texts.some((text) => pattern.test(text))) return advise
  for (const code of found) {
    const known = codes[code]
    if (known !== undefined) return known
    if (networkError.isCertificate(code)) return networkError.certificate
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
