/** Tests the tests: changes a ring's sources, one place at a time, and sees whether a test notices. @see docs/mutation.md */
import { parseArgs } from "node:util"
import { Stryker } from "@stryker-mutator/core"
import { rings } from "./Rings.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    /** Only these files, or lines of them: `src/wire/Codec.ts:40-60`. May be given several times. */
    file: { type: "string", multiple: true },
    /** Keeps the results of the last run for what has not changed since. */
    again: { type: "boolean", default: false },
    concurrency: { type: "string", default: "2" }
  }
})
const unknown = positionals.find((ring) => !(ring in rings))
if (unknown !== undefined) throw new Error(`no such ring: ${unknown}; there are ${Object.keys(rings).join(", ")}`)

for (const ring of positionals.length === 0 ? Object.keys(rings) : positionals) {
  process.env["FIBERBUS_MUTATION_RING"] = ring
  await new Stryker({
    mutate: values.file ?? [`src/${ring}/**/*.ts`],
    testRunner: "vitest",
    plugins: ["@stryker-mutator/vitest-runner", `${import.meta.dirname}/Prose.ts`],
    ignorers: ["prose"],
    vitest: { configFile: "mutation/vitest.config.ts", related: false },
    coverageAnalysis: "perTest",
    incremental: true,
    incrementalFile: `mutation/reports/${ring}.incremental.json`,
    force: !values.again,
    // Stryker would rewrite it with the API of TypeScript 5. Nothing in it leads out of the project.
    tsconfigFile: "none",
    // The tests, not the compiler, are what is tested; the runner strips the types.
    disableTypeChecks: false,
    concurrency: Number(values.concurrency),
    timeoutMS: 10_000,
    timeoutFactor: 4,
    tempDirName: "mutation/sandbox",
    ignorePatterns: ["mutation/reports", "mutation/sandbox", "dist", "coverage", "bench", ".cache", "biome.json"],
    reporters: ["progress-append-only", "clear-text", "json", "html"],
    jsonReporter: { fileName: `mutation/reports/${ring}.json` },
    htmlReporter: { fileName: `mutation/reports/${ring}.html` },
    clearTextReporter: { reportMutants: false, reportTests: false },
    thresholds: { high: 90, low: 80, break: 80 },
    allowConsoleColors: false
  }).runMutationTest()
}
