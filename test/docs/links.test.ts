import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "vitest"

const folder = resolve(import.meta.dirname, "../../docs")
const files = readdirSync(folder).filter((name) => name.endsWith(".md"))
const read = (file: string) => readFileSync(join(folder, file), "utf8")
const linksOf = (text: string) => Array.from(text.matchAll(/\]\((?!http)([^)#]+)[^)]*\)/g), ([, path]) => path!)

describe("docs", () => {
  for (const file of files) {
    it(`${file} names only files that exist`, () => {
      const missing = linksOf(read(file)).filter((path) => !existsSync(resolve(folder, path)))
      assert.deepStrictEqual(missing, [])
    })
  }

  it("says in api.md what each subpath of the package is for", () => {
    const { exports } = JSON.parse(readFileSync(resolve(folder, "../package.json"), "utf8"))
    const subpaths = Object.keys(exports).map((path) => `\`${join("fiberbus", path)}\``)
    const rows = read("api.md").split("## What to import from where")[1]!
    assert.deepStrictEqual(
      subpaths.filter((path) => !rows.includes(path)),
      []
    )
  })

  it("has an example, or a test of the wire, for each feature of Daebus", () => {
    const [features] = read("daebus.md").split("## What differs on purpose")
    const rows = features!.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    const headings = rows.filter((row) => row.endsWith("| example |"))
    assert.lengthOf(headings, 5)
    assert.isAbove(rows.length, 60)
    for (const row of rows.filter((row) => !headings.includes(row))) {
      const cells = row.slice(2, -2).split(" | ")
      assert.lengthOf(cells, 3, row)
      assert.match(cells[2]!, /\]\(\.\.\/(examples|test\/interop)\//, row)
    }
  })
})
