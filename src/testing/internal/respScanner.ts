/** Finds where commands and replies of Redis' protocol end in a stream of bytes, RESP2 or RESP3, without keeping any of them. */

/** One whole command or reply. */
export interface Unit {
  /** Where it ends in the piece that was given last; it may have begun in an earlier one. */
  readonly end: number
  /** Its first byte: `*` of a command, `+`, `-`, `:`, `>` … of a reply. */
  readonly type: string
  /** Its first text, in upper case and cut: a command's name, or what a push is about. */
  readonly word: string
  /** How many values it has, if it is an array: a command's name and arguments. */
  readonly size: number
}

/** Reads the next piece and gives what ends in it. What is not Redis' protocol (TLS, say) gives nothing any more. */
export type Scanner = (piece: Uint8Array) => ReadonlyArray<Unit>

const maxWord = 32
const maxDepth = 32
const maxLengthDigits = 20

const byte = (character: string) => character.charCodeAt(0)
const newline = byte("\n")
const lines = new Set([..."+-:_,#("].map(byte))
const texts = new Set([..."$=!"].map(byte))
/** How many values stand for one element of an aggregate. */
const aggregates = new Map([..."*~>%|"].map((type) => [byte(type), type === "%" || type === "|" ? 2 : 1]))

/** Stands at the beginning of a connection. `from`: a client may send a command as a line, which begins with its name. */
export const make = (from: "client" | "server"): Scanner => {
  let at: "type" | "line" | "length" | "text" | "lost" = "type"
  let type = 0
  // Values that are still to come, per open aggregate; an attribute (`|`) is none itself.
  const open: Array<{ left: number; readonly isValue: boolean }> = []
  let line = ""
  let left = 0
  let unitType = ""
  let word: string | undefined
  let size = 0
  let wanted = 0

  const begin = () => {
    unitType = ""
    word = undefined
    size = 0
  }

  const ended = (): boolean => {
    for (;;) {
      const inner = open.at(-1)
      if (inner === undefined) return true
      inner.left--
      if (inner.left > 0) return false
      open.pop()
      if (inner.isValue) continue
      if (open.length === 0) begin()
      return false
    }
  }

  return (piece) => {
    const units: Array<Unit> = []
    const unit = (end: number) => {
      if (!ended()) return
      units.push({ end, type: unitType, word: (word ?? "").toUpperCase(), size })
      begin()
    }
    for (let i = 0; i < piece.length && at !== "lost"; ) {
      if (at === "text") {
        const taken = Math.min(left, piece.length - i)
        const read = Math.min(taken, wanted)
        for (let j = i; j < i + read; j++) word += String.fromCharCode(piece[j]!)
        wanted -= read
        i += taken
        left -= taken
        if (left > 0) continue
        at = "type"
        unit(i)
        continue
      }
      const code = piece[i++]!
      if (at === "type") {
        const first = String.fromCharCode(code)
        if (unitType === "") unitType = first
        type = code
        line = ""
        if (lines.has(code)) at = "line"
        else if (texts.has(code) || aggregates.has(code)) at = "length"
        else if (from === "client" && open.length === 0 && (/[a-z]/i.test(first) || code === 13 || code === newline)) {
          at = "line"
          if (code !== newline) line = first
          else i--
        } else at = "lost"
        continue
      }
      if (code !== newline) {
        if (line.length < maxWord) line += String.fromCharCode(code)
        if (at === "length" && line.length > maxLengthDigits) at = "lost"
        continue
      }
      const said = line.trim()
      if (at === "line") {
        at = "type"
        // An empty line is no command.
        if (from === "client" && said === "") begin()
        else {
          word ??= said.split(" ", 1)[0]!
          if (from === "client") size = said.split(/ +/).length
          unit(i)
        }
        continue
      }
      const length = Number(said)
      const factor = aggregates.get(type)
      if (said === "" || !Number.isSafeInteger(length) || length < -1) at = "lost"
      else if (factor === undefined) {
        // A text and its end of line; nothing at all where there is none.
        left = length < 0 ? 0 : length + 2
        wanted = word === undefined ? Math.min(length, maxWord) : 0
        if (left > 0) word ??= ""
        at = left === 0 ? "type" : "text"
        if (left === 0) unit(i)
      } else {
        at = "type"
        const isValue = type !== byte("|")
        if (open.length === 0) size = Math.max(0, length)
        if (length > 0) open.push({ left: length * factor, isValue })
        else if (isValue) unit(i)
        else if (open.length === 0) begin()
        if (open.length > maxDepth) at = "lost"
      }
    }
    return units
  }
}
