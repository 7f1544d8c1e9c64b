/**
 * Reads what the options of every adapter share, and says what is wrong with them.
 *
 * Options may come from plain JavaScript or JSON, so that a wrong type is told here and not deep in a driver. No text quotes a value,
 * which may be a secret.
 */
import * as tls from "node:tls"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Glob from "../../contract/Glob.ts"
import { TransportError, type WhileDown } from "../Transport.ts"

/** Readers for one adapter's options. Each throws the error with kind `InvalidOptions`, which `checked` returns. */
export interface Reader {
  /** The error, for what the adapter itself finds wrong. */
  readonly invalid: (detail: string, hint?: string) => TransportError
  /** What a function makes of the options, or the error that it threw. */
  readonly checked: <A>(read: () => A) => A | TransportError
  /** The empty text is none. */
  readonly text: (name: string, value: unknown) => string | undefined
  /** May be empty. */
  readonly secretText: (name: string, value: unknown) => string
  readonly integer: (name: string, value: unknown, least: number, most: number) => number | undefined
  readonly millis: (name: string, value: Duration.Input | undefined) => number | undefined
  readonly schedule: (name: string, given: unknown) => Schedule.Schedule<unknown, TransportError> | undefined
  readonly prefix: (given: unknown) => string
  readonly whileDown: (given: GivenWhileDown) => WhileDown | undefined
  /** `byAddress` is true where the address asks for TLS, `says` how it does: for the error where `tls` is false. */
  readonly tls: (given: GivenTls | boolean | undefined, byAddress: boolean, says: string) => Secure | undefined
}

/** As an adapter's `whileDown`. */
export type GivenWhileDown = "fail" | { readonly buffer?: number; readonly for?: Duration.Input } | undefined

/** As an adapter's `tls`. */
export interface GivenTls {
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  readonly cert?: string | Uint8Array | undefined
  readonly key?: string | Uint8Array | Redacted.Redacted<string> | undefined
  readonly servername?: string | undefined
  readonly rejectUnauthorized?: boolean | undefined
}

/** What Node's TLS takes besides the host. */
export interface Secure {
  readonly secureContext: tls.SecureContext
  readonly servername?: string
  readonly rejectUnauthorized?: boolean
}

/** Reads the options of the adapter of that name. */
export const reader = (adapter: string): Reader => {
  const invalid: Reader["invalid"] = (detail, hint = "") =>
    new TransportError({
      kind: "InvalidOptions",
      operation: `read the options of ${adapter}`,
      detail,
      hint,
      sent: "no"
    })

  const text: Reader["text"] = (name, value) => {
    if (value === undefined || value === "") return undefined
    if (typeof value !== "string") throw invalid(`${name} is no text`)
    return value
  }

  const integer: Reader["integer"] = (name, value, least, most) => {
    if (value === undefined) return undefined
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
      throw invalid(`${name} is no whole number between ${least} and ${most}`)
    }
    return value
  }

  const millis: Reader["millis"] = (name, value) => {
    if (value === undefined) return undefined
    const read = Option.map(Duration.fromInput(value), Duration.toMillis)
    // A timer of Node takes at most 2^31 - 1 ms.
    if (Option.isNone(read) || !(read.value > 0) || read.value > 2_147_483_647) {
      throw invalid(`${name} is no positive duration of at most 24 days`)
    }
    return read.value
  }

  const secure = ({ ca, cert, key, rejectUnauthorized, servername }: GivenTls): Secure => {
    try {
      const secureContext = tls.createSecureContext({
        ...(ca === undefined
          ? {}
          : { ca: typeof ca === "string" || ca instanceof Uint8Array ? bytes(ca) : ca.map(bytes) }),
        ...(cert === undefined ? {} : { cert: bytes(cert) }),
        ...(key === undefined ? {} : { key: bytes(Redacted.isRedacted(key) ? Redacted.value(key) : key) })
      })
      return {
        secureContext,
        ...(servername === undefined ? {} : { servername }),
        ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized })
      }
    } catch (error) {
      const reason = error instanceof Error && "reason" in error && typeof error.reason === "string" ? error.reason : ""
      const detail = `tls.ca, tls.cert or tls.key cannot be used${reason === "" ? "" : `: ${reason}`}`
      throw invalid(detail, "Give them as PEM")
    }
  }

  return {
    invalid,
    text,
    integer,
    millis,
    checked: (read) => {
      try {
        return read()
      } catch (error) {
        if (error instanceof TransportError) return error
        throw error
      }
    },
    secretText: (name, value) => {
      const plain = Redacted.isRedacted(value) ? Redacted.value(value) : value
      if (typeof plain !== "string") throw invalid(`${name} is neither a text nor a Redacted text`)
      return plain
    },
    schedule: (name, given) => {
      if (given === undefined) return undefined
      if (!Schedule.isSchedule(given)) throw invalid(`${name} is no Schedule`)
      return given as Schedule.Schedule<unknown, TransportError>
    },
    prefix: (given) => {
      const prefix = text("prefix", given) ?? ""
      if (!/^[\x21-\x7e]*$/.test(prefix) || Glob.isGlob(prefix)) {
        throw invalid("prefix has a space, a glob character (* ? [ ] \\) or one that is not printable ASCII")
      }
      return prefix
    },
    whileDown: (given) => {
      if (given === "fail") return undefined
      if (given !== undefined && (typeof given !== "object" || given === null)) {
        throw invalid('whileDown is neither "fail" nor { buffer, for }')
      }
      return {
        calls: integer("whileDown.buffer", given?.buffer, 1, 50_000) ?? 1000,
        millis: millis("whileDown.for", given?.for) ?? 1000
      }
    },
    tls: (given, byAddress, says) => {
      if (given === false && byAddress) throw invalid(`tls is false, but ${says}`)
      if (given === undefined || given === false) return byAddress ? secure({}) : undefined
      if (given === true) return secure({})
      if (typeof given !== "object" || given === null) throw invalid("tls is neither a boolean nor an object")
      return secure(given)
    }
  }
}

const bytes = (value: string | Uint8Array) => (typeof value === "string" ? value : Buffer.from(value))
