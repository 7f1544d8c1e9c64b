/** The account of every call: two bytes each, so that a run of hours fits into memory. */
import { CallError } from "fiberbus"

/** What a call may end in. */
export type Outcome = { readonly id: string } | CallError.CallError

/** The state of the account; `problems` is empty when it balances. */
export interface Balance {
  readonly sent: number
  readonly succeeded: number
  /** How many handlers began. */
  readonly runs: number
  /** Failures by reason, those of the transport with their kind and `started`. */
  readonly failed: Readonly<Record<string, number>>
  /** What is wrong, call by call; at most twenty. */
  readonly problems: ReadonlyArray<string>
}

/** @see {@link make} */
export interface Ledger {
  /** Opens the next call and gives its id. */
  readonly begin: () => string
  /** The handler has begun this. */
  readonly ran: (id: string) => void
  /** The caller was told this. */
  readonly ended: (id: string, outcome: Outcome) => void
  /** Something else is wrong with it. */
  readonly wrong: (text: string) => void
  readonly balance: () => Balance
}

const name = /^call (\d+)$/
const maxProblems = 20

// What is kept of an outcome.
const none = 0
const success = 1
const notStarted = 2
const failure = 3

/** Begins with no calls. */
export const make = (): Ledger => {
  let outcomes = new Uint8Array(4_096)
  let runs = new Uint8Array(4_096)
  let sent = 0
  let succeeded = 0
  let run = 0
  const failed: Record<string, number> = {}
  const problems: Array<string> = []
  const problem = (text: string) => {
    if (problems.length < maxProblems) problems.push(text)
  }
  const numberOf = (id: string) => {
    const number = Number(name.exec(id)?.[1] ?? -1)
    return number >= 0 && number < sent ? number : undefined
  }
  const grown = (bytes: Uint8Array<ArrayBuffer>) => {
    const larger = new Uint8Array(bytes.length * 2)
    larger.set(bytes)
    return larger
  }

  return {
    begin: () => {
      if (sent === outcomes.length) {
        outcomes = grown(outcomes)
        runs = grown(runs)
      }
      return `call ${sent++}`
    },
    ran: (id) => {
      const number = numberOf(id)
      if (number === undefined) return problem(`${JSON.stringify(id.slice(0, 40))} was run, and nobody called`)
      run++
      runs[number]!++
      if (runs[number]! > 1) problem(`${id} was run ${runs[number]} times`)
      if (outcomes[number] === notStarted) problem(`${id} was run after its caller was told that it was not`)
    },
    ended: (id, outcome) => {
      const number = numberOf(id)
      if (number === undefined) return problem(`${id} ended, and nobody called`)
      if (outcomes[number] !== none) problem(`${id} ended twice`)
      if (!(outcome instanceof CallError.CallError)) {
        succeeded++
        outcomes[number] = success
        if (outcome.id !== id) problem(`${id} got the answer to ${outcome.id}`)
        if (runs[number] !== 1) problem(`${id} was answered after ${runs[number]} runs`)
        return
      }
      const { reason, started } = outcome
      outcomes[number] = started === "no" ? notStarted : failure
      const key = reason._tag === "TransportError" ? `TransportError ${reason.kind} ${started}` : reason._tag
      failed[key] = (failed[key] ?? 0) + 1
      if (started === "no" && runs[number] !== 0) problem(`${id} was run, but: ${outcome.message}`)
      if (reason._tag === "ConnectionLost" && started === "no") problem(`${id} was not sent, but lost its connection`)
    },
    wrong: problem,
    balance: () => {
      const all = [...problems]
      for (let number = 0; number < sent && all.length < maxProblems; number++) {
        if (outcomes[number] === none) all.push(`call ${number} has not ended`)
      }
      return { sent, succeeded, runs: run, failed: { ...failed }, problems: all }
    }
  }
}
