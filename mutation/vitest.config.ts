import { statSync } from "node:fs"
import { defineConfig, type Plugin } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"
import { current } from "./Rings.ts"

// A few worlds of each simulation: enough to notice what is plainly wrong, for each mutant anew.
process.env["SIMULATION_SEEDS"] = "0.03"

const conditions = ["fiberbus-source"]

/** Leaves out the parts of a test file that are run over a real Redis. */
const withoutRedis: Plugin = {
  name: "without-redis",
  enforce: "pre",
  transform: (code, id) =>
    id.endsWith(".test.ts")
      ? code.replaceAll(/it\.layer\(RedisServer\.layer[^)]*\)\(("[^"]*"), \(it\) =>/g, "describe.skip($1, () =>")
      : undefined
}

/** The first test that fails ends a run: small files come first, which are about one thing. */
class SmallestFirst extends BaseSequencer {
  override sort = async (files: Array<TestSpecification>) => {
    const sizeOf = ({ moduleId }: TestSpecification) => statSync(moduleId).size
    return files.toSorted((one, other) => sizeOf(one) - sizeOf(other))
  }
}

export default defineConfig({
  plugins: [withoutRedis],
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: [...current().tests],
    setupFiles: ["mutation/setup.ts"],
    sequence: { sequencer: SmallestFirst },
    // A loaded machine must not make a test fail; what hangs is ended by it, without a new process.
    testTimeout: 10_000,
    isolate: false
  }
})
