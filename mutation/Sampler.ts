/**
 * Lets Stryker run a sample only. It has no option for that, but asks a checker about each mutant before it runs it:
 * this one turns away those that are not drawn, and in Stryker's score they don't count.
 */
import { relative } from "node:path"
import { type Checker, CheckStatus } from "@stryker-mutator/api/check"
import type { Mutant } from "@stryker-mutator/api/core"
import { declareFactoryPlugin, PluginKind } from "@stryker-mutator/api/plugin"
import { draw } from "./Sample.ts"

/** Stands where a compiler's message would, with a mutant that was not drawn. */
export const notDrawn = "not in the sample"

const make = (): Checker => ({
  init: async () => {},
  // One group of all: a draw needs to see the whole.
  group: async (mutants) => [mutants.map(({ id }) => id)],
  check: async (mutants: Array<Mutant>) => {
    const { count, root, seed } = JSON.parse(process.env["FIBERBUS_MUTATION_SAMPLE"] ?? "")
    const drawn = new Set(
      draw(
        mutants.map((mutant) => ({ ...mutant, fileName: relative(root, mutant.fileName) })),
        count,
        seed
      ).map(({ id }) => id)
    )
    return Object.fromEntries(
      mutants.map(({ id }) => [
        id,
        drawn.has(id)
          ? { status: CheckStatus.Passed as const }
          : { status: CheckStatus.CompileError as const, reason: notDrawn }
      ])
    )
  }
})

export const strykerPlugins = [declareFactoryPlugin(PluginKind.Checker, "sample", make)]
