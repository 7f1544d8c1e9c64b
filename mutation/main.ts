/** Tests the tests: changes a ring's sources, one place at a time, and sees whether a test notices. @see docs/mutation.md */
import { parseArgs } from "node:util"
import { Stryker } from "@stryker-mutator/core"
import { rings } from "./Rings.ts"
import * as Verdict from "./Verdict.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    /** Only these files, or lines of them: `src/wire/Codec.ts:40-60`. May be given several times. */
    file: { type: "string", multiple: true },
    /** Keeps the results of the last run for what has not changed since. */
    again: { type: "boolean", default: false },
    /** Runs this many, drawn at random from all, and says within which bounds the score of all is. */
    sample: { type: "string" },
    /** Any text; another one draws another sample. */
    seed: { type: "string", default: "1" },
    concurrency: { type: "string", default: "2" }
  }
})
const unknown = positionals.find((ring) => !(ring in rings))
if (unknown !== undefined) throw new Error(`no such ring: ${unknown}; there are ${Object.keys(rings).join(", ")}`)
const count = values.sample === undefined ? undefined : Number(values.sample)
if (count !== undefined && !(Number.isSafeInteger(count) && count > 0)) {
  throw new Error(`--sample is a number of mutants, not ${values.sample}`)
}
if (count !== undefined && values.again) throw new Error("a --sample is run as a whole: leave --again out")

for (const ring of positionals.length === 0 ? Object.keys(rings) : positionals) {
  process.env["FIBERBUS_MUTATION_RING"] = ring
  process.env["FIBERBUS_MUTATION_SAMPLE"] = JSON.stringify({ count, seed: values.seed, root: process.cwd() })
  const report = `mutation/reports/${ring}${count === undefined ? "" : ".sample"}`
  const results = await new Stryker({
    mutate: values.file ?? [`src/${ring}/**/*.ts`],
    testRunner: "vitest",
    plugins: ["@stryker-mutator/vitest-runner", `${import.meta.dirname}/Prose.ts`, `${import.meta.dirname}/Sampler.ts`],
    ignorers: ["prose"],
    checkers: count === undefined ? [] : ["sample"],
    vitest: { configFile: "mutation/vitest.config.ts", related: false },
    coverageAnalysis: "perTest",
    incremental: count === undefined,
    incrementalFile: `${report}.incremental.json`,
    force: count === undefined && !values.again,
    // Stryker would rewrite it with the API of TypeScript 5. Nothing in it leads out of the project.
    tsconfigFile: "none",
    // The tests, not the compiler, are what is tested; the runner strips the types.
    disableTypeChecks: false,
    concurrency: Number(values.concurrency),
    // Longer than what vitest gives a test that hangs, also on a loaded machine: so that only what blocks its process is endless.
    timeoutMS: 40_000,
    timeoutFactor: 4,
    tempDirName: "mutation/sandbox",
    ignorePatterns: ["mutation/reports", "mutation/sandbox", "dist", "coverage", "bench", ".cache", "biome.json"],
    reporters: ["progress-append-only", "clear-text", "json", "html"],
    jsonReporter: { fileName: `${report}.json` },
    htmlReporter: { fileName: `${report}.html` },
    clearTextReporter: { reportMutants: false, reportTests: false },
    thresholds: { high: 90, low: 80, break: count === undefined ? 80 : null },
    allowConsoleColors: false
  }).runMutationTest()
  if (count !== undefined) Verdict.print(ring, results, { count, seed: values.seed })
}
