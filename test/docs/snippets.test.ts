import { existsSync, readdirSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "vitest"

const docs = resolve(import.meta.dirname, "../../docs")
// A page leaves out what only its file of snippets needs.
const oneLine = (text: string) =>
  text
    .replaceAll(/^export /gm, "")
    .replaceAll(/\s+/g, " ")
    .trim()

// Pages whose code is type-checked: each block stands, whatever its indentation, in the page's .snippets.ts.
const pages = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".snippets.ts"))
  .map((file) => ({ file, page: file.replace(".snippets.ts", ".md") }))

describe("snippets", () => {
  it("are there", () => {
    assert.isNotEmpty(pages)
  })

  for (const { file, page } of pages) {
    it(`of docs/${page} compile: each stands in ${file}`, () => {
      assert.isTrue(existsSync(resolve(docs, page)))
      const checked = oneLine(readFileSync(resolve(import.meta.dirname, file), "utf8"))
      const blocks = Array.from(readFileSync(resolve(docs, page), "utf8").matchAll(/```ts\n([\s\S]*?)```/g))
      assert.isNotEmpty(blocks)
      assert.deepStrictEqual(
        blocks.map(([, code]) => code!).filter((code) => !checked.includes(oneLine(code))),
        []
      )
    })
  }
})
