import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "..")
const readme = readFileSync(resolve(root, "README.md"), "utf8")
const { scripts } = JSON.parse(readFileSync(resolve(root, "package.json"), "utf8"))

describe("README", () => {
  const blocks = Array.from(readme.matchAll(/<!-- (examples\/\S+) -->\n```ts\n([\s\S]*?)```/g), ([, file, code]) => ({
    file: file!,
    code: code!
  }))

  it("shows examples as they are", () => {
    assert.isNotEmpty(blocks)
    for (const { code, file } of blocks)
      assert.strictEqual(code.trim(), readFileSync(resolve(root, file), "utf8").trim())
  })

  it("shows a first call in under thirty lines", () => {
    assert.isBelow(blocks[0]!.code.trim().split("\n").length, 30)
  })

  it("names only scripts and files that exist", () => {
    for (const [, name] of readme.matchAll(/npm run (?:-s )?([\w:-]+)/g)) assert.property(scripts, name!)
    for (const [, path] of readme.matchAll(/\]\((?!http)([^)#]+)\)/g))
      assert.isTrue(existsSync(resolve(root, path!)), path)
  })
})
