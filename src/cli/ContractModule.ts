/** Loads contracts from modules: files, or files of a Git revision. */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { registerHooks } from "node:module"
import { extname, resolve } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import type { Contract } from "../diff/ContractDiff.ts"
import { type Failed, usage } from "./ExitStatus.ts"

/**
 * Imports a module, as Node does, and gives its exports, or the one that is named behind `#`.
 *
 * Shape: `path`, or `revision:path` as `git show` takes it; a file of that very name goes first. Of a revision come the module and what it
 * imports by relative paths; packages are those that are installed now.
 * Errors: `Failed` with status 2 where there is no such module, or none that can be loaded.
 */
export const load = (spec: string): Effect.Effect<Contract, Failed> => {
  const at = spec.lastIndexOf("#")
  const [place, name] = at < 1 ? [spec, undefined] : [spec.slice(0, at), spec.slice(at + 1)]
  return Effect.gen(function* () {
    const url = yield* Effect.try({
      try: () => urlOf(place),
      catch: (error) => usage(`cannot load ${place}: ${textOf(error)}`)
    })
    const exports = yield* Effect.tryPromise({
      try: (): Promise<{ readonly [name: string]: unknown }> => import(url),
      catch: (error) => usage(`cannot load ${place}: ${textOf(error)}`)
    })
    if (name === undefined) return exports
    if (!Object.hasOwn(exports, name)) return yield* usage(`${place} has no export ${JSON.stringify(name)}`)
    return { [name]: exports[name] }
  })
}

const textOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split("\n")[0]!.trim()

const urlOf = (place: string): string => {
  const file = resolve(place)
  if (existsSync(file)) return pathToFileURL(file).href
  const [, revision, path] = /^([^:]{2,}):(.+)$/s.exec(place) ?? []
  if (revision === undefined || path === undefined) throw new Error("there is no such file")
  return urlOfRevision(revision, path)
}

/** The query of a module's URL that says of which revision it is. */
const query = "git-revision"

/** Longest module of a revision, in bytes. */
const maxBytes = 16 * 1_048_576

const git = (...args: ReadonlyArray<string>): string => {
  try {
    return execFileSync("git", args, { encoding: "utf8", maxBuffer: maxBytes, stdio: ["ignore", "pipe", "pipe"] })
  } catch (error) {
    const { stderr } = error as { readonly stderr?: string }
    throw new Error(stderr === undefined || stderr.trim() === "" ? `git: ${textOf(error)}` : stderr.trim())
  }
}

const urlOfRevision = (revision: string, path: string): string => {
  if (revision.startsWith("-")) throw new Error(`${revision} is no revision`)
  const root = git("rev-parse", "--show-toplevel").trim()
  const commit = commitOf(revision)
  // As in Git: from the root of the repository, or with a dot from here.
  const url = pathToFileURL(/^\.\.?\//.test(path) ? resolve(path) : resolve(root, path))
  serveRevisions(root)
  url.searchParams.set(query, commit)
  sourceOf(root, url)
  return url.href
}

const commitOf = (revision: string): string => {
  try {
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", `${revision}^{commit}`).trim()
  } catch {
    throw new Error(`there is no revision ${revision}`)
  }
}

const sourceOf = (root: string, url: URL): string => {
  const base = pathToFileURL(`${root}/`).href
  const file = new URL(url)
  file.search = ""
  if (!file.href.startsWith(base)) throw new Error(`${fileURLToPath(file)} is not in the repository ${root}`)
  const path = decodeURIComponent(file.href.slice(base.length))
  return git("-C", root, "show", `${url.searchParams.get(query)}:${path}`)
}

const formats: { readonly [extension: string]: string } = {
  ".ts": "module-typescript",
  ".mts": "module-typescript",
  ".js": "module",
  ".mjs": "module"
}

let serving = false

/** Has Node read modules with that query from Git, and their relative imports too. */
const serveRevisions = (root: string): void => {
  if (serving) return
  serving = true
  const revisionOf = (url: string | undefined) =>
    url?.startsWith("file:") ? (new URL(url).searchParams.get(query) ?? undefined) : undefined
  registerHooks({
    resolve: (specifier, context, next) => {
      const revision = revisionOf(context.parentURL)
      if (revision === undefined || !/^\.\.?\//.test(specifier)) return next(specifier, context)
      const url = new URL(specifier, context.parentURL)
      url.searchParams.set(query, revision)
      return { url: url.href, shortCircuit: true }
    },
    load: (url, context, next) => {
      if (revisionOf(url) === undefined) return next(url, context)
      const format = formats[extname(new URL(url).pathname)]
      if (format === undefined)
        throw new Error(`${new URL(url).pathname} of a revision is no TypeScript or JavaScript module`)
      return { format, source: sourceOf(root, new URL(url)), shortCircuit: true }
    }
  })
}
