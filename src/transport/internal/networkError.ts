/** What the system says of a connection, to whichever broker: the kind of error, and advice. */
import type { TransportError, TransportErrorKind } from "../Transport.ts"

/** The kind and the hint of a `TransportError`. */
export type Advice = readonly [kind: TransportErrorKind, hint: string]

/** Where an error happened. */
export interface Place {
  /** As in `TransportError.operation`. */
  readonly operation: string
  readonly sent: TransportError["sent"]
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string
}

/** The peer's certificate was refused here. */
export const certificate: Advice = [
  "ProtocolError",
  "The server's certificate is not trusted: check tls.ca, and that tls.servername is a name in the certificate"
]

/** Where a server of that name is not reached. */
export const reach = (server: string): string => `Check host and port, and that ${server} runs and listens there`

/** By the `code` of an error of Node. */
export const codes = (server: string): Readonly<Record<string, Advice>> => ({
  ECONNREFUSED: ["Unreachable", reach(server)],
  ENOTFOUND: ["Unreachable", "Check the host name"],
  EAI_AGAIN: ["Unreachable", "The host name could not be looked up: check it and the DNS server"],
  EHOSTUNREACH: ["Unreachable", reach(server)],
  ENETUNREACH: ["Unreachable", reach(server)],
  EADDRNOTAVAIL: ["Unreachable", reach(server)],
  ETIMEDOUT: ["Timeout", reach(server)],
  ECONNRESET: ["ConnectionLost", ""],
  EPIPE: ["ConnectionLost", ""]
})

/** True for a `code` that says why a certificate was refused. */
export const isCertificate = (code: string): boolean => /CERT|SIGNATURE|ISSUER|CRL|SELF_SIGNED/.test(code)

const maxDetail = 300

/** A text in one line, without secrets and of a bearable length. */
export const clean = (text: string, scrub: (text: string) => string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go
  const safe = scrub(text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").trim())
  return safe.length > maxDetail ? `${safe.slice(0, maxDetail)}…` : safe
}
