/** Reads what a node of a Redis Cluster says about who has which slots. */
import * as KeySlot from "../KeySlot.ts"
import { hostAndPort } from "./addresses.ts"
import type { Settings } from "./redisOptions.ts"

/** Where a node is. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** An address as text; one node has one. */
export const textOf = ({ host, port }: Address): string => hostAndPort(host, port)

/** The host of a connection's address. */
export const hostOf = ({ address }: Pick<Settings, "address">): string =>
  "host" in address ? address.host : "127.0.0.1"

/** A master and its slots, from and to, both included. */
export interface Range {
  readonly from: number
  readonly to: number
  readonly master: Address
}

/**
 * Reads the reply of CLUSTER SLOTS; undefined if it is none.
 *
 * A master without a host is where `asked` is: the node does not know its own address, or is told not to say it.
 */
export const readSlots = (reply: unknown, asked: string): ReadonlyArray<Range> | undefined => {
  if (!Array.isArray(reply)) return undefined
  const ranges: Array<Range> = []
  for (const entry of reply as ReadonlyArray<unknown>) {
    const [from, to, master] = Array.isArray(entry) ? (entry as ReadonlyArray<unknown>) : []
    const [host, port] = Array.isArray(master) ? (master as ReadonlyArray<unknown>) : []
    if (!isSlot(from) || !isSlot(to) || from > to || !isPort(port)) return undefined
    const named = typeof host === "string" && host !== "" && host !== "?"
    ranges.push({ from, to, master: { host: named ? host : asked, port } })
  }
  return ranges
}

/** Where a reply sends a command: for good (MOVED), or this once (ASK). */
export interface Redirect {
  readonly kind: "MOVED" | "ASK"
  readonly slot: number
  readonly to: Address
}

/** Reads the text of an error reply, e.g. `MOVED 3999 127.0.0.1:6381`; undefined if it sends nowhere. */
export const readRedirect = (text: string, asked: string): Redirect | undefined => {
  const [, kind, slot, host, port] = /^(MOVED|ASK) (\d+) (\S*):(\d+)/.exec(text) ?? []
  if (kind === undefined || !isSlot(Number(slot)) || !isPort(Number(port))) return undefined
  const known = host === "" || host === "?" ? asked : host!.replace(/^\[(.*)\]$/, "$1")
  return { kind: kind as Redirect["kind"], slot: Number(slot), to: { host: known, port: Number(port) } }
}

const isSlot = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value < KeySlot.slots
const isPort = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65_536
