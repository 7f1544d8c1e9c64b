/**
 * Builds fiberbus as it is published, into a folder of this run alone: `dist`, or that of another run, may be somebody else's at the same time. Below
 * node_modules neither git nor the formatter looks at it.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const root = Path.join(import.meta.dirname, "..")

/** The folder with `index.js`, until the Scope closes. Dies with the builder's words when nothing came out. */
export const make: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => compile(Path.join(import.meta.dirname, "node_modules/.fiberbus", String(process.pid)))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

const compile = (folder: string): string => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [Path.join(root, "build.ts"), folder], {
    encoding: "utf8"
  })
  if (!Fs.existsSync(Path.join(folder, "index.js"))) throw new Error(`fiberbus does not build:\n${stdout}${stderr}`)
  if (status !== 0) console.warn(`fiberbus has type errors; measured all the same:\n${stdout}${stderr}`)
  // Its effect and its ioredis are those of the root, not those that bench/ has for Moleculer.
  Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(folder, "node_modules"))
  return folder
}
