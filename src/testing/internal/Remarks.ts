/** What fiberbus itself logs below a test: kept, and printed or not. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

/** @see {@link make} */
export interface Remarks {
  readonly loggers: ReadonlySet<Logger.Logger<unknown, unknown>>
  /** Why a handler died, by the id that its caller got; of the last 1,000. */
  readonly causeOf: (defectId: string) => Cause.Cause<unknown> | undefined
  /** The last 1,000 that died, oldest first. */
  readonly defects: () => ReadonlyArray<Defect>
  /** Runs without a word of fiberbus on what goes wrong. What handlers log is printed as ever. */
  readonly quietly: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** What died, and what its log says it was about. */
export interface Defect {
  readonly id: string
  readonly cause: Cause.Cause<unknown>
  readonly about: Readonly<Record<string, unknown>>
}

const maxDefects = 1_000

/** Puts itself before some loggers. */
export const make = (loggers: ReadonlySet<Logger.Logger<unknown, unknown>>): Remarks => {
  const defects = new Map<string, Defect>()
  let quiet = 0

  const isOurs = (message: unknown) => {
    const text = Array.isArray(message) ? message[0] : message
    return typeof text === "string" && text.startsWith("fiberbus")
  }
  const collector = Logger.make<unknown, void>(({ cause, fiber }) => {
    const about = fiber.getRef(References.CurrentLogAnnotations)
    const id = about["defectId"]
    if (typeof id !== "string") return
    defects.set(id, { id, cause, about })
    if (defects.size > maxDefects) for (const oldest of defects.keys()) return void defects.delete(oldest)
  })
  const quietable = (logger: Logger.Logger<unknown, unknown>) =>
    Logger.make<unknown, unknown>((entry) => (quiet > 0 && isOurs(entry.message) ? undefined : logger.log(entry)))

  return {
    loggers: new Set([collector, ...Array.from(loggers, quietable)]),
    causeOf: (id) => defects.get(id)?.cause,
    defects: () => [...defects.values()],
    quietly: (effect) =>
      Effect.acquireUseRelease(
        Effect.sync(() => quiet++),
        () => effect,
        () => Effect.sync(() => quiet--)
      )
  }
}
