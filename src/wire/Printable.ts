/** Makes text from the network fit for a terminal: nothing in it moves the cursor, breaks the line or turns it around. */

// C0, DEL and C1; line and paragraph separators; what changes the writing direction; invisible tags; lone surrogates.
const unsafe = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/gu

const toEscape = (char: string): string => {
  let escaped = ""
  for (let i = 0; i < char.length; i++) escaped += `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`
  return escaped
}

/** Replaces every unsafe character by `\uXXXX`, so that the text stays on its line. */
export const line = (text: string): string => text.replace(unsafe, toEscape)

/**
 * Writes JSON, compact or indented by two spaces, with unsafe characters as `\uXXXX`: still JSON, and of the same value.
 * NaN and the infinities, which JSON cannot say, are written as `null`.
 */
export const json = (value: unknown, pretty = false): string =>
  // Of the control characters only the line breaks between the values are left by JSON.stringify.
  (JSON.stringify(value, null, pretty ? 2 : 0) ?? "null").replace(unsafe, (char) =>
    char === "\n" ? char : toEscape(char)
  )

/** A name for a column: as it is if that is one printable word, else as JSON text. */
export const word = (text: string): string =>
  text !== "" && line(text) === text && !/[\s"]/u.test(text) ? text : json(text)

/** Cuts a text to so many characters, the last of which then is `…`. 0 leaves it whole. */
export const cut = (text: string, width: number): string => {
  if (width === 0 || text.length <= width) return text
  let kept = ""
  let count = 0
  for (const char of text) {
    if (++count > width)
      return `${Array.from(kept)
        .slice(0, width - 1)
        .join("")}…`
    kept += char
  }
  return text
}

/**
 * Takes the credentials out of whatever looks like a URL: all from its `://` to the last `@` before a space.
 *
 * For messages of this program only: in a peer's JSON it would take too much.
 */
export const withoutSecrets = (text: string): string =>
  text
    .split(/(\s+)/)
    .map((part) => {
      const start = part.indexOf("://")
      const end = part.lastIndexOf("@")
      return start === -1 || end < start ? part : `${part.slice(0, start)}://***${part.slice(end)}`
    })
    .join("")
