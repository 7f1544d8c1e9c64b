/** When a message has been handled, or its listener is shut down at any moment, nothing of it stays: no fiber, no resource. */
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Transport } from "../../../transport/Transport.ts"
import { TestBus } from "../../TestBus.ts"
import * as Generate from "../generate.ts"
import { Violation } from "../Law.ts"
import * as Show from "../show.ts"
import * as TopicBench from "./TopicBench.ts"
import type { TopicLaw } from "./TopicLaw.ts"

/** Moves of the clock before the listener is shut down. */
const maxMoves = 5

/** Time of the clock that a shutdown may take, in milliseconds: longer than any grace that is usual. */
const shutdownMillis = 600_000

interface Input {
  readonly message: unknown
  readonly moves: number
}

/** @see the file's first line */
export const leavesNothing: TopicLaw = {
  name: "leaves nothing open",
  applies: () => true,
  prepare: (subject) => {
    const { settings, topic } = subject
    const show = (message: unknown) => Show.value(message, topic.message)
    return {
      inputs: Arbitrary.all({ message: subject.messages, moves: Generate.upTo(maxMoves) }),
      holds: (bench, { message, moves }: Input) =>
        Effect.gen(function* () {
          yield* bench.begin(yield* bench.frameOf(message))
          yield* bench.advance(0, () => false)
          yield* bench.advance(settings.millis, () => leftOf(bench).length === 0)
          const left = leftOf(bench)
          if (left.length > 0) {
            return yield* new Violation({
              because: `${settings.millis} ms after the message, not all of it has ended`,
              given: show(message),
              cameBack: left.join("\n")
            })
          }
          if (settings.system !== undefined) yield* shutDown(subject, settings.system, message, moves, show)
        }),
      show: ({ message }) => show(message)
    }
  }
}

/** Builds a system of its own, and closes it while the message is handled. */
const shutDown = (
  subject: Parameters<typeof TopicBench.make>[0],
  system: Layer.Layer<TestBus | Transport, unknown>,
  message: unknown,
  moves: number,
  show: (message: unknown) => string
): Effect.Effect<void, Violation> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Effect.orDie(Layer.buildWithScope(Layer.fresh(system), scope))
    const bench = yield* Effect.provideContext(TopicBench.make(subject), context)
    const { remarks } = Context.get(context, TestBus)
    yield* remarks.quietly(
      Effect.gen(function* () {
        yield* bench.begin(yield* bench.frameOf(message))
        let moved = 0
        yield* bench.advance(0, () => false)
        yield* bench.advance(subject.settings.millis, () => bench.left().handlers.length === 0 || moved++ >= moves)
        const closing = yield* Effect.forkDetach(Effect.provideContext(Scope.close(scope, Exit.void), context))
        const isOver = () => closing.pollUnsafe() !== undefined && leftOf(bench).length === 0
        yield* bench.advance(shutdownMillis, isOver)
        const left = [...leftOf(bench), ...(closing.pollUnsafe() === undefined ? ["the shutdown has not ended"] : [])]
        if (left.length === 0) return
        return yield* new Violation({
          because: "its listener was shut down, and not all of it ended",
          given: `${show(message)}\nits listener is shut down after ${moves} moves of the clock`,
          cameBack: left.join("\n")
        })
      })
    )
  })

const leftOf = (bench: TopicBench.TopicBench): ReadonlyArray<string> => {
  const { handlers, resources } = bench.left()
  const lines = handlers.map(({ fibers, handling, request }) => {
    const whose = handling ? "the listener to" : "what was forked below the listener to"
    return `${whose} ${request.service} lives on: ${fibers} fiber${fibers === 1 ? "" : "s"}`
  })
  if (resources > 0) lines.push(`${resources} resource${resources === 1 ? " is" : "s are"} open`)
  return lines
}
