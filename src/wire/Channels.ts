/** Which channel carries what. Every channel name of the library is built here. */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Glob from "../contract/Glob.ts"
import * as Service from "../contract/Service.ts"
import * as Crc16 from "./Crc16.ts"

/** Longest channel that an answer is sent to, in bytes. */
export const maxReplyToBytes = 256

/** Requests to a service. Source: Daebus subscribes every process of a service to its bare name. */
export const service = (prefix: string, serviceName: string): string => prefix + serviceName

/** Requests to one process of a service, and what callers say about those on their way; see `wire/Control`. */
export const instance = (prefix: string, serviceName: string, by: string): string =>
  `${prefix}${serviceName}.instance:${by}`

/** Which processes serve a service; see `wire/Presence`. */
export const instances = (prefix: string, serviceName: string): string => `${prefix}${serviceName}.instances`

/** Questions to all processes that serve anything; see `wire/Discovery`. */
export const who = (prefix: string): string => `${prefix}fiberbus.who`

/** True for the channel that a request to a service is sent on: the service's own, or that of one of its processes. */
export const leadsTo = (channel: string, serviceChannel: string): boolean =>
  channel === serviceChannel || channel.startsWith(`${serviceChannel}.instance:`)

/** The key by which one of several processes has a request for itself. A digest, so that it tells nothing of the request. */
export const claim = (prefix: string, serviceName: string, digest: string): string =>
  `${prefix}fiberbus:claim:${serviceName}:${digest}`

/** Answers to requests that name no channel for them, where a service is told to send those. Source: Daebus. */
export const unaddressed = (prefix: string, serviceName: string): string => `${prefix}${serviceName}.responses`

/** What inbox names begin with, and so the channels a service answers to by default. Source: Daebus' `caller:<uuid>`. */
export const inboxPrefix = (prefix: string): string => `${prefix}caller:`

/** A new private inbox: nobody can guess its name (122 random bits). */
export const inbox = (prefix: string): string => inboxPrefix(prefix) + randomUUID()

/**
 * What is kept for a service, or for the listeners to a topic: the first part of the names of all their keys. The braces are Redis'
 * hash tag, which keeps them in one slot of a cluster.
 */
export const queue = (prefix: string, name: string): string => `${prefix}{${name}}`

/**
 * The partitions of what is kept for a service. The first one bears the name of the whole, which it is where there is but one; the mark behind
 * the braces of the others keeps them apart from a service of such a name.
 *
 * Names are hashed to slots, whose masters have ranges of them. So that each gets its share, partition n has the first of the names
 * `<name>/<n>:0`, `:1`, … that leads to its place: the slots from that of the first partition on are halved, then quartered, and so on, as the bits of n
 * in reverse say. The place does not depend on their number.
 */
export const partitions = (prefix: string, name: string, count: number): readonly [string, ...Array<string>] => {
  const first = Crc16.slotOf(name)
  return [
    queue(prefix, name),
    ...Array.from({ length: count - 1 }, (_, i) => `${queue(prefix, placed(name, i + 1, first))}#`)
  ]
}

/** Slots of one place: there are 128, as many as partitions at most. */
const width = Crc16.slots / Service.maxPartitions

const placed = (name: string, partition: number, first: number): string => {
  let reversed = 0
  for (let bit = 1; bit < Service.maxPartitions; bit <<= 1) reversed = (reversed << 1) | (partition & bit ? 1 : 0)
  for (let n = 0; ; n++) {
    const tag = `${name}/${partition}:${n}`
    if (Math.floor(((Crc16.slotOf(tag) - first + Crc16.slots) % Crc16.slots) / width) === reversed) return tag
  }
}

/** Which of so many partitions has a message: by its key, or by its id where it has none. Source: ours; Redis' CRC16, for writers in other languages. */
export const partitionOf = (id: string, key: string, count: number): number =>
  count === 1 ? 0 : Crc16.of(key === "" ? id : key) % count

/** What is kept for one group of listeners to a topic, in the same slot as the topic's own. */
export const groupQueue = (prefix: string, topic: string, group: string): string => `${queue(prefix, topic)}:${group}`

/** Messages of a topic, or of all topics that match a pattern. */
export const topic = (prefix: string, channel: string): string => prefix + channel

/**
 * What publishers and listeners of a topic say about the numbers of its messages; see `wire/Numbers`. Its name begins otherwise than the
 * topic's, so that a pattern of topics does not match it.
 */
export const numbers = (prefix: string, channel: string): string => `${prefix}numbers:${channel}`

/** The same for all topics that match a pattern. */
export const numbersPattern = (prefix: string, glob: string): string => pattern(numbers(prefix, ""), glob)

/** The key by which one listener of a group has a message for itself. */
export const groupClaim = (prefix: string, topic: string, group: string, message: string): string =>
  claim(prefix, `${topic}:${group}`, message)

/** A pattern behind a prefix, whose own glob characters stand for themselves. */
export const pattern = (prefix: string, glob: string): string => prefix.replace(/[*?[\]\\]/g, "\\$&") + glob

/** The name without the prefix, as contracts know it; nothing for a channel of another system. */
export const withoutPrefix = (prefix: string, channel: string): string | undefined =>
  channel.startsWith(prefix) ? channel.slice(prefix.length) : undefined

/** True for a text that may be used as a channel to answer to: printable, no glob, at most 256 bytes. */
export const isAddress = (channel: string): boolean =>
  plainAddress.test(channel) ||
  (channel !== "" &&
    Buffer.byteLength(channel) <= maxReplyToBytes &&
    !Glob.isGlob(channel) &&
    !/[\p{Cc}\p{Cf}\p{Z}\p{Cs}]/u.test(channel))

// What nearly all look like: letters, digits, and marks that are no glob.
const plainAddress = /^[\w:.\-/@#]{1,256}$/
