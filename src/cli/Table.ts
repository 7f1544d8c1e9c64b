/** Columns of text, as wide as what is in them. */

/** Rows below a head, the last column not padded. Columns whose head begins with `>` stand at the right. */
export const format = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const isRight = head.map((title) => title.startsWith(">"))
  const all = [head.map((title) => title.replace(/^>/, "")), ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, column) =>
        isRight[column]
          ? cell.padStart(widths[column]!)
          : column === row.length - 1
            ? cell
            : cell.padEnd(widths[column]!)
      )
      .join("  ")
      .trimEnd()
  return all.map(line).join("\n")
}
