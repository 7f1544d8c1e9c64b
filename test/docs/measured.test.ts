import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "vitest"
import * as Report from "../../bench/Report.ts"

const root = resolve(import.meta.dirname, "../..")
const read = (file: string) => readFileSync(join(root, file), "utf8")

// Where one fails after a change of bench/: `npm run bench:report` writes them from what was measured last.
describe("what was measured", () => {
  const files = Report.files(Report.read(), read("README.md"))

  for (const [file, content] of files) {
    it(`is in ${file} as the report gives it`, () => assert.strictEqual(read(file), content))
  }

  it("is all that docs/figures shows", () => {
    const figures = [...files.keys()].filter((file) => file.startsWith("docs/figures/")).map((file) => file.slice(13))
    assert.isNotEmpty(figures)
    assert.deepStrictEqual(readdirSync(join(root, "docs/figures")).sort(), figures.sort())
  })
})
