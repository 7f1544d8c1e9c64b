import { spawnSync } from "node:child_process"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const page = readFileSync(resolve(root, "docs/adding-a-transport.md"), "utf8")

/** The blocks of a language, as they stand in the page. */
const blocks = (language: string) =>
  Array.from(page.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g")), ([, code]) => code!)

/** Runs a program of the repository, as a reader would who has pasted it into a file beside the adapter. */
const run = (program: string) => {
  const file = resolve(import.meta.dirname, `guide-${process.pid}.ts`)
  writeFileSync(file, program)
  try {
    return spawnSync(process.execPath, ["--conditions=fiberbus-source", file], { cwd: root, encoding: "utf8" })
  } finally {
    rmSync(file)
  }
}

describe("docs/adding-a-transport.md", () => {
  it("leads from an empty file to a transport that conforms", () => {
    // The script of the page, beside the adapter that its blocks are made of.
    const [script] = blocks("typescript")
    const { status, stderr, stdout } = run(script!.replace('"./Threads.ts"', '"./adding-a-transport.snippets.ts"'))
    assert.strictEqual(status, 0, `${stdout}\n${stderr}`)
    const lines = stdout.split("\n")
    assert.match(lines.find((line) => line.startsWith("threads: "))!, /^threads: \d+ passed, 0 failed, \d+ left out$/)
    assert.isAbove(lines.filter((line) => line.startsWith("  ok    ")).length, 25)
    // The page shows the same.
    const shown = blocks("text").join("\n").split("\n")
    for (const line of shown.filter((line) => /^(threads:| {2}-| {2}ok)/.test(line))) assert.include(lines, line)
    assert.isNotEmpty(shown)
  })

  it("shows every line of that transport", () => {
    const shown = new Set(blocks("ts").flatMap((code) => code.split("\n").map((line) => line.trim())))
    const lines = readFileSync(resolve(import.meta.dirname, "adding-a-transport.snippets.ts"), "utf8").split("\n")
    assert.deepStrictEqual(
      lines.map((line) => line.trim()).filter((line) => line !== "" && !shown.has(line)),
      []
    )
  })

  it("ends with a failure where a promise is broken", () => {
    const [script] = blocks("typescript")
    const broken = script!
      .replace('"./Threads.ts"', '"./adding-a-transport.snippets.ts"')
      .replace(
        "const two =",
        "const make = () => Effect.map(Threads.make(), (threads) => ({ ...threads, send: (c: string, f: string, s: never) => (threads.send(c, f, s), threads.send(c, f, () => {})) }))\nconst two ="
      )
      .replaceAll("yield* Threads.make()", "yield* make()")
    const { status, stdout } = run(broken)
    assert.strictEqual(status, 1, stdout)
    assert.match(stdout, /FAIL {2}carries each frame unchanged/)
  })
})
