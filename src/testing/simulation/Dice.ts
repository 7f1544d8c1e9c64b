/**
 * Chance that a seed decides: the same question has the same answer, whatever else was asked before.
 *
 * So a run without one of its faults differs by that fault and what follows from it, not by every later number.
 */

/** A number from 0 up to 1, for a question within a seed. */
export const roll = (seed: number, ...question: ReadonlyArray<string | number>): number => {
  const text = `${seed}/${question.join("/")}`
  // FNV-1a, and the last step of MurmurHash3, which spreads the questions that differ in their end only.
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 4_294_967_296
}

/** A whole number from `least` to `most`, both included. */
export const between = (least: number, most: number, chance: number): number =>
  least + Math.floor(chance * (most - least + 1))
