/**
 * Writes channel names as NATS subjects and reads them back.
 *
 * A subject is dot-separated tokens, none of them empty, without spaces; `*` and `>` are wildcards, and names that begin with
 * `$` or `_INBOX` are the server's. A plain name (`users`, `sensors.kitchen`, `caller:8f14…`) is its own subject. Anything else is
 * written as `%XX` of its UTF-8, and an empty token as a bare `%`. Source: naming rules in docs.nats.io, subjects.
 */

/** Longest subject in bytes; the server ends connections whose protocol line is longer than 4,096 in all. */
export const maxBytes = 3_500

const plain = /^[\w:\-/@#]+(?:\.[\w:\-/@#]+)*$/
const reserved = /^_INBOX(?:\.|$)/

/** The subject of a channel. Every name has one, and no two names share one. Half a surrogate pair becomes U+FFFD first. */
export const fromChannel = (channel: string): string => {
  if (plain.test(channel) && !reserved.test(channel)) return channel
  const subject = channel.split(".").map(token).join(".")
  return reserved.test(subject) ? `%5F${subject.slice(1)}` : subject
}

const token = (text: string): string => (text === "" ? "%" : text.replace(/[^\w:\-/@#]+/gu, escaped))

const escaped = (text: string): string =>
  Array.from(Buffer.from(text, "utf8"), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("")

/** The channel of a subject. One that is not of our writing stands for itself. */
export const toChannel = (subject: string): string => {
  if (!subject.includes("%")) return subject
  try {
    const channel = subject
      .split(".")
      .map((text) => (text === "%" ? "" : decodeURIComponent(text)))
      .join(".")
    return fromChannel(channel) === subject ? channel : subject
  } catch {
    return subject
  }
}

/**
 * The narrowest subject with a wildcard under which every channel of a Redis glob can be found. It finds others too.
 *
 * `sensors.*` and `sensors.k?tchen` are found under `sensors.>`; `sens*` only under `>`: a glob's `*` takes dots as well, and
 * NATS has nothing for a part of a token.
 */
export const overPattern = (pattern: string): string => {
  const literal = /^[^*?[\]\\]*/.exec(pattern)![0]
  const dot = literal.lastIndexOf(".")
  return dot < 0 ? ">" : `${fromChannel(literal.slice(0, dot))}.>`
}
