import { defineConfig, type Plugin } from "vitest/config"
import { current } from "./Rings.ts"

const conditions = ["fiberbus-source"]
const { tests, testTimeout = 5_000 } = current()

/** Leaves out the parts of a test file that are run over a real Redis. */
const withoutRedis: Plugin = {
  name: "without-redis",
  enforce: "pre",
  transform: (code, id) =>
    id.endsWith(".test.ts")
      ? code.replaceAll(/it\.layer\(RedisServer\.layer[^)]*\)\(("[^"]*"), \(it\) =>/g, "describe.skip($1, () =>")
      : undefined
}

export default defineConfig({
  plugins: [withoutRedis],
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: { include: [...tests], setupFiles: ["mutation/setup.ts"], testTimeout, isolate: false }
})
