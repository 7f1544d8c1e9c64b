import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Program from "./program.ts"

const root = resolve(import.meta.dirname, "../..")
const released = join(root, "examples/41_contract_diff/released.ts")
const current = join(root, "examples/41_contract_diff/current.ts")

const diff = (...args: ReadonlyArray<string>) => Program.run(["contract", "diff", ...args])

/** A folder with a module of one contract, whose payload is imported from another one. */
const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const path = mkdtempSync(join(tmpdir(), "fiberbus-contract-"))
    symlinkSync(join(root, "node_modules"), join(path, "node_modules"))
    const write = (file: string, text: string) => writeFileSync(join(path, file), text)
    write("package.json", '{ "type": "module" }')
    write("id.ts", 'import { Schema } from "effect"\nexport const Id: Schema.Codec<string> = Schema.String\n')
    write(
      "contract.ts",
      `import { Action, Service, Topic } from ${JSON.stringify(join(root, "src/contract/index.ts"))}
       import { Id } from "./id.ts"
       export class Users extends Service.make("users", Action.make("get", { payload: { id: Id } })) {}
       export const Events = Topic.make("events", { id: Id })
      `
    )
    return { path, write }
  }),
  ({ path }) => Effect.sync(() => rmSync(path, { recursive: true }))
)

describe("fiberbus contract diff", () => {
  it.live("tells who breaks, and says so by its status", () =>
    Effect.gen(function* () {
      const { status, stderr, stdout } = yield* diff(released, current)
      assert.deepStrictEqual([status, stderr], [8, ""])
      assert.include(stdout, "breaks old callers against the new service: orders.place, payload\n  value      {")
      assert.match(stdout, /\n2 breaking, 2 other changes \(\d+ values tried, seed "fiberbus"\)\n$/)
    })
  )

  it.live("is content with what only changes, and with itself", () =>
    Effect.gen(function* () {
      const listeners = yield* diff(released, current, "--who", "old-listeners", "--who", "new-listeners")
      assert.strictEqual(listeners.status, 0)
      assert.include(listeners.stdout, "changes for old listeners of new publishers: orders.shipped, message")
      const itself = yield* diff(current, current)
      assert.strictEqual(itself.status, 0)
      assert.match(itself.stdout, /^no differences were found/)
    })
  )

  it.live("prints JSON, the same again with the same seed", () =>
    Effect.gen(function* () {
      const args = [released, current, "--json", "--seed", "7", "--runs", "20", "--size", "5", "--who", "old-callers"]
      const { status, stdout } = yield* diff(...args)
      assert.strictEqual(status, 8)
      const report = JSON.parse(stdout)
      assert.deepInclude(report, { compatible: false, seed: "7" })
      assert.deepStrictEqual(report.findings, [
        {
          severity: "breaking",
          who: "old callers",
          of: "orders",
          action: "place",
          part: "payload",
          because: "the service refuses the call with InvalidPayload; its handler does not run",
          path: ["count"],
          expected: "Expected a value between 1 and 500",
          witness: { article: "", count: 501, shipping: "express" }
        }
      ])
      assert.strictEqual((yield* diff(...args)).stdout, stdout)
    })
  )

  it.live("takes one export of many", () =>
    Effect.gen(function* () {
      const shipped = yield* diff(`${released}#Shipped`, `${current}#Shipped`)
      assert.strictEqual(shipped.status, 0)
      assert.notInclude(shipped.stdout, "orders.place")
      const missing = yield* diff(`${released}#Nothing`, current)
      assert.deepStrictEqual([missing.status, missing.stdout], [2, ""])
      assert.include(missing.stderr, 'has no export "Nothing"')
    })
  )

  it.live("takes a revision of Git, with what it imports", () =>
    Effect.gen(function* () {
      const { path, write } = yield* folder
      const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: path, stdio: "pipe" })
      git("init", "--quiet")
      git("add", "package.json", "id.ts", "contract.ts")
      git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "first")
      const here = (...args: ReadonlyArray<string>) => Program.run(["contract", "diff", ...args], {}, "", path)
      assert.strictEqual((yield* here("HEAD:contract.ts", "contract.ts")).status, 0)

      // What changes is not the module itself, but what it imports.
      write("id.ts", 'import { Schema } from "effect"\nexport const Id = Schema.String.check(Schema.isMaxLength(9))\n')
      const { status, stdout } = yield* here("HEAD:contract.ts", "./contract.ts", "--json", "--who", "old-callers")
      assert.strictEqual(status, 8)
      assert.deepStrictEqual(
        JSON.parse(stdout).findings.map(({ witness }: { witness: unknown }) => witness),
        [{ id: "a".repeat(10) }]
      )
      assert.strictEqual((yield* here("HEAD:./contract.ts#Users", "HEAD:contract.ts#Users")).status, 0)

      const unknown = yield* here("nowhere:contract.ts", "contract.ts")
      assert.deepStrictEqual([unknown.status, unknown.stdout], [2, ""])
      assert.include(unknown.stderr, "cannot load nowhere:contract.ts: there is no revision nowhere")
      const gone = yield* here("HEAD:gone.ts", "contract.ts")
      assert.deepStrictEqual([gone.status, gone.stdout], [2, ""])
      assert.include(gone.stderr, "'gone.ts' does not exist in")
    }).pipe(Effect.scoped)
  )

  it.live("says what cannot be loaded, and compares nothing then", () =>
    Effect.gen(function* () {
      const { path, write } = yield* folder
      write("throws.ts", 'throw new Error("not today")\n')
      const said = (...args: ReadonlyArray<string>) =>
        Effect.map(Program.run(["contract", "diff", ...args], {}, "", path), ({ status, stderr, stdout }) => {
          assert.deepStrictEqual([status, stdout], [2, ""])
          return stderr
        })
      assert.include(yield* said("gone.ts", "contract.ts"), "cannot load gone.ts: there is no such file")
      assert.include(yield* said("contract.ts", "throws.ts"), "cannot load throws.ts: not today")
      assert.include(yield* said("id.ts", "contract.ts"), "id.ts exports no service and no topic")
      assert.include(yield* said("contract.ts", "contract.ts", "--who", "bob"), "old-callers, new-callers")
      assert.include(yield* said("contract.ts", "contract.ts", "--runs=-1"), "a whole number from 0")
    }).pipe(Effect.scoped)
  )

  it.live("has a status of its own for what could not be compared", () =>
    Effect.gen(function* () {
      const { path, write } = yield* folder
      write(
        "opaque.ts",
        `import { Schema } from "effect"
         import { Action, Service } from ${JSON.stringify(join(root, "src/contract/index.ts"))}
         const isUrl = (value: unknown): value is URL => value instanceof URL
         export const Users = Service.make("users", Action.make("get", { payload: Schema.declare(isUrl) }))
        `
      )
      const { status, stdout } = yield* Program.run(["contract", "diff", "opaque.ts", "opaque.ts"], {}, "", path)
      assert.strictEqual(status, 9)
      assert.include(stdout, "not known for old callers against the new service: users.get, payload")
    }).pipe(Effect.scoped)
  )
})
