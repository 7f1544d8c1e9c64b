/** Skips what `Rings.ts` leaves out by name. */
import { beforeEach } from "vitest"
import { current } from "./Rings.ts"

const without = new Set(current().without)

beforeEach(({ skip, task }) => skip(without.has(task.name)))
