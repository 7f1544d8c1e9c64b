/** What became of a run, and of many, for people and for tests. */
import * as Data from "effect/Data"
import * as Diagram from "./Diagram.ts"
import * as Fault from "./Fault.ts"
import { type Event, normalised, trace } from "./History.ts"
import type { Result, Violation } from "./Run.ts"

/** What became of one run. */
export interface Report {
  readonly seed: number
  /** What was broken first, if anything was; the run ends there. */
  readonly violation: Violation | undefined
  /** What went wrong. As `faults` of another run with the seed it makes the same happen again. */
  readonly faults: ReadonlyArray<Fault.Fault>
  /** How many calls ended how: `Success`, `Failure` for declared errors, `Interrupted`, or the `CallError`'s reason. */
  readonly outcomes: { readonly [outcome: string]: number }
  /** All that happened, in order. */
  readonly events: ReadonlyArray<Event>
  /** Virtual milliseconds that it took. */
  readonly millis: number
  /** All that happened as text, the same for each run with the seed: random ids are numbered. */
  readonly trace: string
  /** The messages as text, for people: those of the violation's call, or all of them. */
  readonly diagram: string
  /** The same as a Mermaid sequence diagram. */
  readonly mermaid: string
}

/** What became of many runs. */
export interface Totals {
  readonly seeds: number
  readonly calls: number
  readonly outcomes: { readonly [outcome: string]: number }
  readonly faults: { readonly [fault: string]: number }
}

/** A seed with which something is broken, with few faults that do it. Its message shows them, and the messages that went over. */
export class Falsified extends Data.TaggedError("Falsified")<{
  readonly seed: number
  readonly invariant: string
  readonly faults: ReadonlyArray<Fault.Fault>
  /** Faults that there were before those that are not needed were left out. */
  readonly faultsBefore: number
}> {
  // Not a field: whoever prints an error prints its fields.
  readonly #result: Result
  constructor(fields: Pick<Falsified, "seed" | "invariant" | "faults" | "faultsBefore">, result: Result) {
    super(fields)
    this.#result = result
  }
  /** The run with these few faults. */
  get report(): Report {
    return make(this.seed, this.#result)
  }
  override get message() {
    const { faults, faultsBefore, invariant, seed } = this
    const { history, violation } = this.#result
    return normalised(
      [
        `seed ${seed} breaks "${invariant}": ${violation?.text}`,
        "",
        faults.length === 0 ? "It takes no fault." : `It takes ${faults.length} of ${faultsBefore} faults:`,
        ...faults.map((fault) => `  ${Fault.text(fault)}`),
        "",
        Diagram.text(Diagram.make(history, violation)),
        "",
        `To see it again: Simulation.run({ …, seed: ${seed}, faults: ${JSON.stringify(faults)} })`
      ].join("\n")
    )
  }
}

/** Makes the report of a run. Its texts are made when they are asked for. */
export const make = (seed: number, { faults, history, millis, violation }: Result): Report => ({
  seed,
  violation,
  faults,
  millis,
  outcomes: countOutcomes({ history }),
  events: history.events,
  get trace() {
    return trace(history)
  },
  get diagram() {
    return normalised(Diagram.text(Diagram.make(history, violation)))
  },
  get mermaid() {
    return normalised(Diagram.mermaid(Diagram.make(history, violation)))
  }
})

/** Counts how calls ended. */
export const countOutcomes = ({ history }: Pick<Result, "history">) => {
  const outcomes: Record<string, number> = {}
  for (const event of history.events) {
    if (event._tag !== "CallEnded") continue
    const { outcome } = event
    const name = outcome._tag === "CallError" ? outcome.reason : outcome._tag
    outcomes[name] = (outcomes[name] ?? 0) + 1
  }
  return outcomes
}
