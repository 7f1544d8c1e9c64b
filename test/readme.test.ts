import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { Effect, Exit, Layer, Logger } from "effect"
import { Laws, TestBus } from "fiberbus/testing"
import { assert, describe, it, vi } from "vitest"

// The example is a program: here it does not run.
vi.mock("@effect/platform-node", async (original) => ({
  ...(await original<object>()),
  NodeRuntime: { runMain: () => {} }
}))

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

  it("shows laws that find the bug of an example, and the report that they give", async () => {
    const { Till, TillLive } = await import("../examples/38_laws.ts")
    const [, code, shown] = /<!-- test\/readme\.test\.ts -->\n```ts\n([\s\S]*?)```[\s\S]*?```\n([\s\S]*?)```/.exec(
      readme
    )!
    assert.lengthOf(code!.trim().split("\n"), 3)

    // The code of the README is run as it stands, with an `it` that notes the tests.
    const tests = new Map<string, Effect.Effect<void, { readonly message: string }>>()
    const run = (text: string) => {
      const quiet = TestBus.layer(TillLive).pipe(Layer.provide(Logger.layer([])))
      const noted = {
        effect: (name: string, test: () => Effect.Effect<void, any, any>) =>
          void tests.set(name, Effect.provide(test(), quiet) as Effect.Effect<void, { readonly message: string }>)
      }
      const layer = () => (_: string, body: (it: typeof noted) => void) => body(noted)
      new Function("it", "TestBus", "TillLive", "Laws", "Till", text)(
        { ...noted, layer },
        TestBus,
        TillLive,
        Laws,
        Till
      )
    }
    const reportOf = async (name: string) => {
      const exit = await Effect.runPromise(Effect.exit(Effect.flip(tests.get(name)!)))
      assert.isTrue(Exit.isSuccess(exit), `${name} finds the bug`)
      return exit._tag === "Success" ? exit.value.message.trim().split("\n") : []
    }
    run(code!)
    assert.deepStrictEqual(Array.from(tests.keys()).slice(0, 2), ["share never dies", "share fits its contract"])

    // How it was found differs from run to run, and where the example stands from machine to machine.
    const alike = (lines: ReadonlyArray<string>) =>
      lines.map((line) =>
        line
          .replace(/^( +found +).*/, "$1…")
          .replace(/(replay: ').*(')/, "$1…$2")
          .replace(/at .*38_laws\.ts:(\d+):\d+\)?$/, "at 38_laws.ts:$1")
      )
    const lines = shown!.trim().split("\n")
    assert.deepStrictEqual(alike(await reportOf("share never dies")), alike(lines))

    // The line to paste brings the same again.
    tests.clear()
    run(lines.at(-1)!.replace(/^ +replay +/, ""))
    assert.deepStrictEqual([...tests.keys()], ["share never dies"])
    assert.deepStrictEqual(alike(await reportOf("share never dies")), alike(lines))
  })
})
