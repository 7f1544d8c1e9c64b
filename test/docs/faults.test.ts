import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const faults = readFileSync(resolve(root, "docs/faults.md"), "utf8")

/** The cells of a text's tables, row by row, without their headings. */
const cellsOf = (text: string): ReadonlyArray<ReadonlyArray<string>> =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| --") && !line.startsWith("| # "))
    .map((line) => line.slice(2, -2).split(" | "))

const [whatHappens, theTests] = faults.split("\n## The tests\n") as [string, string]

/** What users see: number, fault, outcome. */
const rows = cellsOf(whatHappens)

/** The tests by the number of their row. */
const tests = cellsOf(theTests).map(([number, file, title]) => ({
  number: number!,
  file: /^`([\w/]+)`$/.exec(file!)?.[1] ?? "",
  title: title ?? ""
}))

const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** True if a file has a text with this content; where parts of it are computed, each of them must stand there as well. */
const hasText = (source: string, title: string) =>
  Array.from(source.matchAll(/"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g)).some(([, plain, template]) => {
    if (plain !== undefined) return plain === title
    const parts = template!.split(/\$\{[^}]*\}/)
    if (parts.length === 1 || parts.join("").trim().length < 8) return template === title
    const filled = new RegExp(`^${parts.map(escaped).join("(.+?)")}$`).exec(title)
    return filled?.slice(1).every((part) => source.includes(part)) === true
  })

/** Whether a test of this title is in a file of the tests. */
const exists = ({ file, title }: { readonly file: string; readonly title: string }) => {
  const path = resolve(root, "test", `${file}.test.ts`)
  return existsSync(path) && hasText(readFileSync(path, "utf8"), title)
}

describe("docs/faults.md", () => {
  it("has the 95 faults of the failure model, in order", () => {
    const numbers = rows.flatMap(([first]) => (/^\d+$/.test(first!) ? [Number(first)] : []))
    assert.deepStrictEqual(
      numbers,
      Array.from({ length: 95 }, (_, i) => i + 1)
    )
  })

  it("says of each, once, what happens", () => {
    assert.strictEqual(new Set(rows.map(([number]) => number)).size, rows.length)
    for (const row of [...rows, ...cellsOf(theTests)]) {
      assert.lengthOf(row, 3, row[0])
      assert.isTrue(
        row.every((cell) => cell.trim() !== "" && !cell.includes("<br>")),
        row[0]
      )
    }
  })

  it("names for each a test that exists", () => {
    assert.deepStrictEqual(
      tests.filter((test) => !exists(test)),
      []
    )
    // In the order of the rows: none is without a test, and no test without its row.
    assert.deepStrictEqual(
      [...new Set(tests.map(({ number }) => number))],
      rows.map(([number]) => number)
    )
  })

  it("is checked by something that can fail", () => {
    assert.isFalse(exists({ file: "resilience/faults", title: "a test that nobody wrote" }))
    assert.isFalse(exists({ file: "resilience/nowhere", title: "latency: slower, and nothing is lost" }))
    assert.isFalse(
      exists({
        file: "resilience/faults",
        title: "the fifth of ten requests is eaten: 5 run, once, and none is sent again"
      })
    )
    assert.isTrue(exists({ file: "resilience/faults", title: "latency: slower, and nothing is lost" }))
  })
})
