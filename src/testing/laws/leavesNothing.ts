/** When its caller goes away, at any moment, or has its answer, nothing of the call stays: no fiber, no call below it, no resource. */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Action from "../../contract/Action.ts"
import type { Bench } from "./Bench.ts"
import * as Generate from "./generate.ts"
import { type Call, type Law, Violation } from "./Law.ts"
import * as Show from "./show.ts"

/** Moves of the clock before the caller goes; without one, turns of the event loop, in which frames are half way. */
const maxMoves = 5
const maxTurns = 6

interface Input {
  readonly call: Call
  readonly moves: number
  readonly turns: number
}

/** @see the file's first line */
export const leavesNothing: Law = {
  name: "leaves nothing open",
  // What is durable is handled to its end, whoever goes away.
  applies: (action) => !Action.isDurable(action),
  prepare: (subject) => ({
    inputs: Arbitrary.all({
      call: subject.calls,
      moves: Generate.upTo(maxMoves),
      turns: Generate.upTo(maxTurns)
    }),
    holds: (bench, { call, moves, turns }: Input) =>
      Effect.gen(function* () {
        const begun = yield* bench.begin(call)
        let moved = 0
        if (moves === 0) yield* bench.turns(turns)
        else yield* bench.advance(bench.timeoutMillis, () => begun.fiber.pollUnsafe() !== undefined || moved++ >= moves)
        const ended = begun.fiber.pollUnsafe() !== undefined
        begun.fiber.interruptUnsafe()
        // Finalizers may take their time.
        yield* bench.advance(bench.timeoutMillis, () => leftOf(bench).length === 0)
        const left = leftOf(bench)
        if (left.length === 0) return
        return yield* new Violation({
          because: ended
            ? "the call has ended, and not all of it"
            : "its caller was interrupted, and not all of it ended",
          cameBack: left.join("\n")
        })
      }),
    show: ({ call, moves, turns }: Input) =>
      `${Show.call(subject.action, call)}\nits caller goes after ${moves === 0 ? `${turns} turns of the event loop` : `${moves} moves of the clock`}`
  })
}

const leftOf = (bench: Bench): ReadonlyArray<string> => {
  const { calls, handlers, resources } = bench.left()
  const lines = handlers.map(({ fibers, handling, request }) => {
    const whose = handling ? "the handler of" : "what was forked below"
    return `${whose} ${request.service}.${request.action} lives on: ${fibers} fiber${fibers === 1 ? "" : "s"}`
  })
  if (calls > 0)
    lines.push(`${calls} call${calls === 1 ? "" : "s"} below it wait${calls === 1 ? "s" : ""} for an answer`)
  if (resources > 0) lines.push(`${resources} resource${resources === 1 ? " is" : "s are"} open`)
  return lines
}
