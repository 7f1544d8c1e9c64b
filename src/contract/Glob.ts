/** Redis' glob patterns over channel names: `*` any text, `?` one character, `[ab]`, `[^a]`, `[a-z]` one of a set. */

/** True when the text has a character that Redis would read as part of a pattern. */
export const isGlob = (text: string): boolean => /[*?[\]\\]/.test(text)

/**
 * Compiles a pattern to a test of whole channel names, as Redis' PSUBSCRIBE matches them.
 *
 * Shape: a total function; build it once per pattern. A `[` that is never closed takes the rest as its set.
 */
export const matcher = (pattern: string): ((channel: string) => boolean) => {
  let source = ""
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i]!
    if (char === "*") {
      source += "[^]*"
      while (pattern[i + 1] === "*") i++
    } else if (char === "?") source += "[^]"
    else if (char === "\\" && i + 1 < pattern.length) source += escape(pattern[++i]!)
    else if (char === "[") {
      const end = pattern.indexOf("]", i + 2)
      const set = pattern.slice(i + 1, end === -1 ? pattern.length : end)
      const negated = set.startsWith("^")
      const members = (negated ? set.slice(1) : set).replace(/[\\\]^[]/g, "\\$&")
      source += members === "" ? (negated ? "[^]" : "[]") : `[${negated ? "^" : ""}${members}]`
      i = end === -1 ? pattern.length : end
    } else source += escape(char)
  }
  const expression = new RegExp(`^${source}$`)
  return (channel) => expression.test(channel)
}

const escape = (char: string) => char.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&")
