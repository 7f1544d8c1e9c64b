/** Says what a sample says: what survived, the score, and the bounds for the score of all. */
import { relative } from "node:path"
import type { MutantResult } from "@stryker-mutator/api/core"
import { interval } from "./Sample.ts"
import { notDrawn } from "./Sampler.ts"

const percent = (share: number) => `${(100 * share).toFixed(1)} %`

/**
 * Prints a sample's survivors and score. The command fails unless the lower bound is 80 % or more: a sample that shows
 * less may come from a ring that is below.
 */
export const print = (
  ring: string,
  results: ReadonlyArray<MutantResult>,
  { count, seed }: { readonly count: number; readonly seed: string }
): void => {
  const all = results.filter(({ status }) => status !== "Ignored")
  const drawn = all.filter(({ statusReason }) => statusReason !== notDrawn)
  if (drawn.length !== Math.min(count, all.length)) {
    throw new Error(`drew ${drawn.length} of ${all.length} mutants instead of ${count}: this is no sample`)
  }
  const many = (...statuses: ReadonlyArray<MutantResult["status"]>) =>
    drawn.filter(({ status }) => statuses.includes(status)).length
  for (const { fileName, location, mutatorName, replacement, status } of drawn) {
    if (status !== "Survived" && status !== "NoCoverage") continue
    const place = `${relative(process.cwd(), fileName)}:${location.start.line}:${location.start.column}`
    console.log(`${status} ${place} ${mutatorName}: ${replacement}`)
  }
  const found = many("Killed", "Timeout")
  const tried = found + many("Survived", "NoCoverage")
  const { from, to } = interval(found, tried)
  console.log(
    `This is a sample: ${drawn.length} of the ${all.length} mutants of ${ring}, drawn with the seed ${seed}.\n` +
      `killed ${many("Killed")}, endless ${many("Timeout")}, survived ${many("Survived")}, ` +
      `not run ${many("NoCoverage")}, not loaded ${drawn.length - tried}\n` +
      `score of the sample: ${percent(found / tried)}; of all, with 95 % confidence: ${percent(from)} to ${percent(to)}\n` +
      (from < 0.8 ? "It does not show that the ring has 80 %." : "It shows that the ring has 80 %.")
  )
  if (from < 0.8) process.exitCode = 1
}
