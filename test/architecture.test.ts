import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { assert, describe, it } from "vitest"

const src = resolve(import.meta.dirname, "../src")

/** The rings from the top down: a file imports its own ring and those named for it, nothing else. */
const rings: Record<string, ReadonlyArray<string>> = {
  contract: [],
  wire: ["contract"],
  transport: ["contract", "wire"],
  diff: ["contract", "wire"],
  policy: ["contract", "wire", "transport"],
  client: ["contract", "wire", "transport", "policy"],
  server: ["contract", "wire", "transport", "policy"],
  worker: ["contract", "wire", "transport", "policy", "server"],
  node: ["contract", "wire", "transport", "policy", "client", "server"],
  cli: ["contract", "wire", "diff", "transport", "policy", "client", "server"],
  testing: ["contract", "wire", "diff", "transport", "policy", "client", "server"]
}

/** Unstable modules of Effect, and drivers, are at home in these places only. */
const drivers: Record<string, RegExp> = {
  ioredis: /^(transport\/internal\/[rR]edis|testing\/)/,
  "@nats-io": /^transport\/internal\/[nN]ats/,
  "@effect/platform-node": /^(cli|node|testing|worker)\//,
  "effect/workers": /^worker\//,
  "effect/cli": /^cli\//,
  // Kept out of the root by subpaths of their own: what changes in it concerns only those who use these two.
  "effect/persistence": /^policy\/(CircuitBreaker|RateLimit)\.ts$/
}

const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))

const importsOf = (file: string) =>
  Array.from(
    readFileSync(join(src, file), "utf8").matchAll(
      /(?:^|\n)(?:import|export)\s[^"']*?from\s+"([^"]+)"|import\("([^"]+)"\)/g
    ),
    (match) => match[1] ?? match[2]!
  )

const ringOf = (file: string) => (file.includes("/") ? file.slice(0, file.indexOf("/")) : "")

/** What of a file breaks the rules, given its imports; separate from the reading so that the rules can be tried. */
const violations = (file: string, imports: ReadonlyArray<string>): ReadonlyArray<string> => {
  const ring = ringOf(file)
  return imports.flatMap((specifier) => {
    if (!specifier.startsWith(".")) {
      const allowed = Object.entries(drivers).find(
        ([name]) => specifier === name || specifier.startsWith(`${name}/`)
      )?.[1]
      return allowed === undefined || allowed.test(file) ? [] : [`${file} imports ${specifier}`]
    }
    const target = relative(src, resolve(src, dirname(file), specifier))
    const targetRing = ringOf(target)
    if (ring !== "" && targetRing !== ring && !(rings[ring] ?? []).includes(targetRing))
      return [`${file} imports ${target}`]
    if (target.includes("/internal/") && targetRing !== ring) return [`${file} imports ${target}, which is internal`]
    return []
  })
}

describe("the house", () => {
  it("has only rings that the picture knows", () => {
    const unknown = files.map(ringOf).filter((ring) => ring !== "" && !(ring in rings))
    assert.deepStrictEqual(unknown, [])
    assert.isAbove(files.length, 30)
  })

  it("imports in one direction, and internals of its own ring only", () => {
    assert.deepStrictEqual(
      files.flatMap((file) => violations(file, importsOf(file))),
      []
    )
  })

  it("would notice", () => {
    assert.lengthOf(violations("contract/Action.ts", ["../wire/Codec.ts"]), 1)
    assert.lengthOf(violations("client/Caller.ts", ["../server/Handlers.ts"]), 1)
    assert.lengthOf(violations("client/Caller.ts", ["../transport/internal/RedisLink.ts"]), 1)
    assert.lengthOf(violations("client/Caller.ts", ["ioredis"]), 1)
    assert.lengthOf(violations("transport/RedisPubSub.ts", ["@nats-io/transport-node"]), 1)
    assert.lengthOf(violations("policy/Retry.ts", ["effect/persistence/RateLimiter"]), 1)
    assert.lengthOf(violations("server/Handlers.ts", ["effect/workers/Worker"]), 1)
    assert.lengthOf(violations("server/Handlers.ts", ["../worker/WorkerPool.ts"]), 1)
    assert.lengthOf(violations("policy/Policy.ts", ["../client/CallError.ts"]), 1)
    assert.lengthOf(violations("wire/Codec.ts", ["../transport/Transport.ts"]), 1)
    assert.lengthOf(violations("server/Handlers.ts", ["../wire/Codec.ts", "./internal/host.ts", "effect/Effect"]), 0)
    assert.isAbove(importsOf("server/Handlers.ts").length, 5)
  })
})

/** What a fresh process has loaded after importing one module. */
const loadedBy = (specifier: string): ReadonlyArray<string> => {
  const program = `
    import { registerHooks } from "node:module"
    const loaded = []
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context) } })
    await import(${JSON.stringify(specifier)})
    console.log(JSON.stringify(loaded))`
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--conditions=fiberbus-source", "--input-type=module", "--eval", program],
    { cwd: resolve(src, ".."), encoding: "utf8" }
  )
  assert.strictEqual(status, 0, stderr)
  return JSON.parse(stdout)
}

describe("importing", () => {
  // effect/Schema itself loads a few plain data modules of effect/http (cookies, headers, URL parameters).
  const forbidden =
    /ioredis|@nats-io|platform-node|effect\/dist\/(cli|persistence|rpc|socket|workers)\/|effect\/dist\/http\/Http/

  it("the root loads neither a Redis client nor an HTTP server", () => {
    const loaded = loadedBy("fiberbus")
    assert.isTrue(loaded.some((url) => url.endsWith("src/server/Handlers.ts")))
    assert.deepStrictEqual(
      loaded.filter((url) => forbidden.test(url) || url === "node:http" || url === "node:net"),
      []
    )
  })

  it("contracts load no runtime of ours, no Redis client and no Node built-ins", () => {
    const loaded = loadedBy("fiberbus/contract")
    assert.isTrue(loaded.some((url) => url.endsWith("src/contract/Action.ts")))
    assert.deepStrictEqual(
      loaded.filter((url) => url.startsWith("node:") || forbidden.test(url) || /\/src\/(?!contract\/)/.test(url)),
      []
    )
  })

  it("the transports do load their clients, each its own: the check can fail", () => {
    const redis = loadedBy("fiberbus/transport/RedisPubSub")
    const nats = loadedBy("fiberbus/transport/Nats")
    assert.deepStrictEqual(
      [redis, nats].map((urls) => urls.some((url) => url.includes("ioredis"))),
      [true, false]
    )
    assert.deepStrictEqual(
      [redis, nats].map((urls) => urls.some((url) => url.includes("@nats-io"))),
      [false, true]
    )
  })
})
