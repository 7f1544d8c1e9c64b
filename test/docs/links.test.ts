import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const folder = resolve(root, "docs")
const files = [
  "README.md",
  "CHANGELOG.md",
  "examples/README.md",
  ...readdirSync(folder)
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)
]
const read = (file: string) => readFileSync(join(root, file), "utf8")
const { exports, files: folders } = JSON.parse(read("package.json"))
const packed: ReadonlyArray<string> = [...folders, "README.md"]

/** Links to places in the repository: the file, and the heading where one is named. */
const linksOf = (file: string) =>
  Array.from(read(file).matchAll(/\]\((?!http)([^)#]*)(?:#([^)]+))?\)/g), ([, path, heading]) => ({
    path: path === "" ? file : relative(root, resolve(root, dirname(file), path!)),
    heading
  }))

/** The headings of a page, as links name them. */
const headingsOf = (file: string) =>
  Array.from(read(file).matchAll(/^#+ (.+)$/gm), ([, text]) =>
    text!
      .toLowerCase()
      .replaceAll(/[^\w -]/g, "")
      .replaceAll(" ", "-")
  )

describe("docs", () => {
  for (const file of files) {
    it(`${file} links only to what exists`, () => {
      const missing = linksOf(file).filter(
        ({ heading, path }) =>
          !existsSync(resolve(root, path)) || (heading !== undefined && !headingsOf(path).includes(heading))
      )
      assert.deepStrictEqual(missing, [])
    })

    it(`${file} links only to what is in the package`, () => {
      const elsewhere = linksOf(file).filter(({ path }) => !packed.includes(path.split("/")[0]!))
      assert.deepStrictEqual(elsewhere, [])
    })

    it(`${file} names only files of the tests and the bench that exist`, () => {
      const named = Array.from(read(file).matchAll(/`((?:test|bench)\/[\w./-]+)`/g), ([, path]) => path!)
      assert.deepStrictEqual(
        named.filter((path) => !existsSync(resolve(root, path))),
        []
      )
    })
  }

  it("says in api.md what each subpath of the package is for", () => {
    const subpaths = Object.keys(exports).map((path) => `\`${join("fiberbus", path)}\``)
    const rows = read("docs/api.md").split("## What to import from where")[1]!
    assert.deepStrictEqual(
      subpaths.filter((path) => !rows.includes(path)),
      []
    )
  })

  it("has an example, or a test of the wire, for each feature of Daebus", () => {
    const [features] = read("docs/daebus.md").split("## What differs on purpose")
    const rows = features!.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    const headings = rows.filter((row) => row.endsWith("| example |"))
    assert.lengthOf(headings, 5)
    assert.isAbove(rows.length, 60)
    for (const row of rows.filter((row) => !headings.includes(row))) {
      const cells = row.slice(2, -2).split(" | ")
      assert.lengthOf(cells, 3, row)
      assert.match(cells[2]!, /\]\(\.\.\/examples\/|`test\/interop\//, row)
    }
  })
})
