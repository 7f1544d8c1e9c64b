import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const faults = readFileSync(resolve(root, "docs/faults.md"), "utf8")

interface Row {
  readonly cells: ReadonlyArray<string>
  readonly tests: ReadonlyArray<{ readonly file: string; readonly title: string }>
}

/** The rows of all tables: the last cell names tests. */
const rows: ReadonlyArray<Row> = faults
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| --") && !/^\| (#|fault) /.test(line))
  .map((line) => {
    const cells = line.slice(2, -2).split(" | ")
    const tests = cells
      .at(-1)!
      .split("<br>")
      .flatMap((reference) => {
        const [, file, title] = /^`([\w/]+)` (.+)$/.exec(reference) ?? []
        return file === undefined || title === undefined ? [] : [{ file, title }]
      })
    return { cells, tests }
  })

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
const exists = ({ file, title }: Row["tests"][number]) => {
  const path = resolve(root, "test", `${file}.test.ts`)
  return existsSync(path) && hasText(readFileSync(path, "utf8"), title)
}

describe("docs/faults.md", () => {
  it("has the 86 faults of the failure model, in order", () => {
    const numbers = rows.flatMap(({ cells: [first] }) => (/^\d+$/.test(first!) ? [Number(first)] : []))
    assert.deepStrictEqual(
      numbers,
      Array.from({ length: 86 }, (_, i) => i + 1)
    )
  })

  it("names for each fault a test that exists", () => {
    const missing = rows.flatMap(({ tests }) => tests.filter((test) => !exists(test)))
    assert.deepStrictEqual(missing, [])
    assert.deepStrictEqual(
      rows.filter(({ tests }) => tests.length === 0),
      []
    )
    // Nothing stands beside the references that was not read as one.
    for (const { cells, tests } of rows) {
      assert.lengthOf(cells.at(-1)!.split("<br>"), tests.length, cells[0])
    }
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
