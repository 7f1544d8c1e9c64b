/** Calls an action under the laws, on the clock of the bus, and tells all that is known of how they end. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { CallError } from "../../client/CallError.ts"
import * as CallerModule from "../../client/Caller.ts"
import * as Action from "../../contract/Action.ts"
import { resolutionMillis } from "../../policy/TimerWheel.ts"
import { Transport } from "../../transport/Transport.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Running } from "../internal/Activity.ts"
import * as Calm from "../internal/Calm.ts"
import { TestBus } from "../TestBus.ts"
import { type Call, type Subject, Violation } from "./Law.ts"
import * as Raw from "./raw.ts"

/** How a call ended. */
export interface Answered {
  /** Nothing when it had not ended some time after its deadline; a stream of items then was ended by its consumer. */
  readonly exit: Exit.Exit<unknown, unknown> | undefined
  /** Progress or items. */
  readonly steps: ReadonlyArray<unknown>
  /** Time of the clock that it took. */
  readonly millis: number
  /** Why the handler died, as its service logs it. */
  readonly cause: Cause.Cause<unknown> | undefined
}

/** A call on its way. */
export interface Begun {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly steps: ReadonlyArray<unknown>
  readonly at: number
}

/** @see {@link make} */
export interface Bench extends Subject {
  readonly transport: Transport["Service"]
  /** Time that a call has. */
  readonly timeoutMillis: number
  /** Calls, and moves the clock until the call has ended, at most some time beyond its deadline. */
  readonly call: (call: Call) => Effect.Effect<Answered, Violation>
  /** Begins a call; time stands still. */
  readonly begin: (call: Call) => Effect.Effect<Begun>
  /** Moves the clock until these have ended. */
  readonly finish: (begun: ReadonlyArray<Begun>) => Effect.Effect<ReadonlyArray<Answered>, Violation>
  /** Moves the clock from sleeper to sleeper, for so many milliseconds at most, until something is true. */
  readonly advance: (millis: number, isDone: () => boolean) => Effect.Effect<void, Violation>
  /** Lets so many turns of the event loop pass. */
  readonly turns: (count: number) => Effect.Effect<void>
  /** Sends a frame by hand and waits for its answer. */
  readonly raw: (message: object, text?: string) => Effect.Effect<Raw.Answer | undefined, Violation>
  /** Why a handler died, by the id that its caller got. */
  readonly causeOf: (defectId: string) => Cause.Cause<unknown> | undefined
  /** What has begun since the bench was made, and still lives. */
  readonly left: () => Left
}

/** What lives on. */
export interface Left {
  readonly handlers: ReadonlyArray<Running>
  readonly calls: number
  readonly resources: number
}

/** Time beyond its deadline by which a call must have ended: what its timer rounds up to. */
export const slackMillis = 2 * resolutionMillis

/** Questions that a call answers; then it declines, so that no handler asks without end. */
const maxAnswered = 100

/** Prepares calls of an action. Those that were begun are interrupted when the Scope closes. */
export const make = (subject: Subject): Effect.Effect<Bench, never, TestBus | Transport | Scope.Scope> =>
  Effect.gen(function* () {
    const bus = yield* TestBus
    const transport = yield* Transport
    const scope = yield* Effect.scope
    const { action, service, settings } = subject
    const { activity, remarks, traffic } = bus
    const caller: Record<string, any> = yield* Effect.orDie(CallerModule.make(service))
    const method = caller[action.name]
    const timeoutMillis = Duration.toMillis(Context.get(action.annotations, Action.Timeout))
    const now = () => activity.clock.currentTimeMillisUnsafe()
    const handlersBefore = new Set(activity.running().map(({ request }) => request))
    const callsBefore = traffic.open(now()).length
    const resourcesBefore = settings.resources?.() ?? 0

    const request = ({ answers, payload }: Call, steps: Array<unknown>): Effect.Effect<unknown, unknown> => {
      const options = Object.keys(action.asks).length === 0 ? {} : { answers: answering(answers) }
      const args = SchemaCodec.isVoid(action.payload) ? [options] : [payload, options]
      const note = (step: unknown) => Effect.sync(() => void steps.push(step))
      if (!SchemaCodec.isNever(action.items)) {
        const items: Stream.Stream<unknown, unknown> = method(...args)
        return Stream.runForEach(Stream.take(items, settings.items), note)
      }
      if (SchemaCodec.isNever(action.progress)) return method(...args)
      const events: Stream.Stream<any, unknown> = method.stream(...args)
      return CallerModule.onProgress(note)(events)
    }

    const restless = ({ message }: Calm.NotSettled) =>
      new Violation({ because: "the system does not come to rest", cameBack: message })

    const advance: Bench["advance"] = (millis, isDone) =>
      Effect.mapError(
        Effect.suspend(() => {
          const until = now() + millis
          return Effect.flatMap(Calm.advance(bus, until, isDone, settings.outsideMillis), () =>
            isDone() ? Effect.void : Effect.andThen(activity.clock.setTime(until), Calm.calm(bus))
          )
        }),
        restless
      )

    const begin: Bench["begin"] = (call) =>
      Effect.suspend(() => {
        const steps: Array<unknown> = []
        const at = now()
        return Effect.map(Effect.forkIn(request(call, steps), scope), (fiber) => ({ fiber, steps, at }))
      })

    const finish: Bench["finish"] = (begun) =>
      Effect.flatMap(
        advance(timeoutMillis + slackMillis, () => begun.every(({ fiber }) => fiber.pollUnsafe() !== undefined)),
        () =>
          Effect.forEach(begun, ({ at, fiber, steps }) => {
            const exit = fiber.pollUnsafe()
            fiber.interruptUnsafe()
            return Effect.as(Effect.mapError(Calm.calm(bus), restless), {
              exit,
              steps,
              millis: now() - at,
              cause: causeOf(exit)
            })
          })
      )

    const causeOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
      const reason = exit === undefined ? undefined : callErrorOf(exit)?.reason
      return reason?._tag === "RemoteDefect" ? remarks.causeOf(reason.id) : undefined
    }

    return {
      ...subject,
      transport,
      timeoutMillis,
      advance,
      begin,
      finish,
      turns,
      call: (call) =>
        Effect.flatMap(begin(call), (begun) => Effect.map(finish([begun]), ([answered]) => answered as Answered)),
      raw: (message, text) =>
        Raw.send(transport, scope, message, text, (isDone) => advance(timeoutMillis + slackMillis, isDone)),
      causeOf: remarks.causeOf,
      left: () => ({
        handlers: activity.running().filter(({ request }) => !handlersBefore.has(request)),
        calls: Math.max(0, traffic.open(now()).length - callsBefore),
        resources: (settings.resources?.() ?? 0) - resourcesBefore
      })
    }
  })

const turns = (count: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let left = count
    const pass = () => {
      if (left-- <= 0) return resume(Effect.void)
      turn = setImmediate(pass)
    }
    let turn = setImmediate(pass)
    return Effect.sync(() => clearImmediate(turn))
  })

/** The `CallError` that a call ended with, if it did. */
export const callErrorOf = (exit: Exit.Exit<unknown, unknown>): CallError | undefined => {
  const error = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
  return error instanceof CallError ? error : undefined
}

const answering = (answers: Call["answers"]) => {
  let asked = 0
  return Object.fromEntries(
    Object.entries(answers).map(([name, given]) => {
      let next = 0
      const answer = () =>
        ++asked > maxAnswered
          ? Effect.fail(new CallerModule.Declined({ why: `${maxAnswered} questions were answered` }))
          : Effect.succeed(given[next++ % given.length])
      return [name, answer]
    })
  )
}
