/** Redis' glob patterns over channel names: `*` any text, `?` one byte, `[ab]`, `[^a]`, `[a-z]` one of a set. */

/** True when the text has a character that Redis would read as part of a pattern. */
export const isGlob = (text: string): boolean => /[*?[\]\\]/.test(text)

/**
 * Compiles a pattern to a test of whole channel names, as Redis' PSUBSCRIBE matches them.
 *
 * Shape: a total function; build it once per pattern. Its time grows with the lengths of both at most, never
 * exponentially.
 * Source: `stringmatchlen` of Redis 7.0, on bytes of UTF-8 as there: `é` is two for `?`, and a set holds single bytes. A
 * `[` that is never closed takes the rest as its set, `[]` holds nothing, and the empty name matches only the empty
 * pattern. What a range with an end beyond ASCII holds depends on the build of Redis.
 */
export const matcher = (pattern: string): ((channel: string) => boolean) => {
  const tokens = compile(bytesOf(pattern))
  return (channel) => matches(tokens, bytesOf(channel))
}

/** A byte, one of the two below, or a set as 256 flags. */
type Token = number | Uint8Array

const anyText = -1
const anyByte = -2

const compile = (pattern: string): ReadonlyArray<Token> => {
  const tokens: Array<Token> = []
  const { length } = pattern
  let i = 0
  while (i < length) {
    const char = pattern[i]!
    if (char === "*") {
      if (tokens.at(-1) !== anyText) tokens.push(anyText)
    } else if (char === "?") tokens.push(anyByte)
    else if (char === "[") {
      const negated = pattern[i + 1] === "^"
      const set = new Uint8Array(256)
      i += negated ? 2 : 1
      for (; i < length && pattern[i] !== "]"; i++) {
        if (pattern[i] === "\\" && i + 1 < length) set[pattern.charCodeAt(++i)] = 1
        else if (pattern[i + 1] === "-" && i + 2 < length) {
          const [from, to] = [pattern.charCodeAt(i), pattern.charCodeAt(i + 2)]
          // Whatever ends a range belongs to it, be it a bracket.
          set.fill(1, Math.min(from, to), Math.max(from, to) + 1)
          i += 2
        } else set[pattern.charCodeAt(i)] = 1
      }
      tokens.push(negated ? set.map((flag) => 1 - flag) : set)
    } else {
      if (char === "\\" && i + 1 < length) i++
      tokens.push(pattern.charCodeAt(i))
    }
    i++
  }
  return tokens
}

const matches = (tokens: ReadonlyArray<Token>, channel: string): boolean => {
  if (channel === "") return tokens.length === 0
  let token = 0
  let at = 0
  // Where to go on when the rest does not fit: the last `*` takes one byte more. Those before it need no second try.
  let retryToken = -1
  let retryAt = 0
  while (at < channel.length) {
    const current = tokens[token]
    if (current === anyText) {
      retryToken = ++token
      retryAt = at
    } else if (current !== undefined && fits(current, channel.charCodeAt(at))) {
      token++
      at++
    } else if (retryToken >= 0) {
      token = retryToken
      at = ++retryAt
    } else return false
  }
  while (tokens[token] === anyText) token++
  return token === tokens.length
}

const fits = (token: Token, byte: number) =>
  typeof token === "number" ? token === anyByte || token === byte : token[byte] === 1

const encoder = new TextEncoder()

/** One character per byte of UTF-8. */
const bytesOf = (text: string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is what is meant
  if (/^[\u0000-\u007f]*$/.test(text)) return text
  let bytes = ""
  for (const byte of encoder.encode(text)) bytes += String.fromCharCode(byte)
  return bytes
}
