/** Addresses as text: one by one, and as an environment variable has them, `host:port,host:port`. */
import * as Config from "effect/Config"
import * as Schema from "effect/Schema"

// A host (an IPv6 address in brackets) and maybe a port.
const address = /^(?:\[([\da-fA-F:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/
const read = (text: string): ReadonlyArray<{ readonly host: string; readonly port?: number }> =>
  text.split(",").map((part) => {
    const [, ipv6, host = ipv6 ?? "", port] = address.exec(part.trim()) ?? []
    return port === undefined ? { host } : { host, port: Number(port) }
  })

const Addresses = Schema.String.check(
  Schema.makeFilter((text) => read(text).every(({ host, port = 1 }) => host !== "" && port > 0 && port < 65_536), {
    expected: "addresses as host:port,host:port"
  })
)

/** The addresses in a variable. An address need not have a port. */
export const config = (name: string) => Config.map(Config.schema(Addresses, name), read)

/** True for an address of numbers, which is no name that a certificate bears by itself. */
export const isIp = (host: string): boolean => /^[\d.]+$|:/.test(host)

/** An address as text. */
export const hostAndPort = (host: string, port: number): string => `${host.includes(":") ? `[${host}]` : host}:${port}`
