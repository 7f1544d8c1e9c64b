/** Callers whose calls are a part of the run's history. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { CallError } from "../../client/CallError.ts"
import * as Caller from "../../client/Caller.ts"
import * as Action from "../../contract/Action.ts"
import type * as Service from "../../contract/Service.ts"
import * as Deadline from "../../policy/Deadline.ts"
import type { StoreOf } from "../../transport/Durable.ts"
import type { Transport, TransportError } from "../../transport/Transport.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import { Here } from "./Here.ts"
import { header, type Outcome } from "./History.ts"

/** What is known of a call before it begins. */
interface About {
  readonly what: string
  readonly payload: unknown
  /** Milliseconds in which it must end; nothing for what may last. */
  readonly within: number | undefined
  readonly idempotent: boolean
  readonly streamed: boolean
  readonly encode: ((value: unknown) => unknown) | undefined
}

/**
 * Makes a caller, as `Caller.make` does, whose calls the invariants watch. Outside of a simulation it is that caller and no more.
 *
 * Errors: `TransportError`, as `Caller.make`.
 */
export const caller = <S extends Service.Any>(
  service: S,
  options?: Caller.Options
): Effect.Effect<Caller.Caller<S>, TransportError, Transport | StoreOf<S> | Scope.Scope> =>
  Effect.flatMap(Here, (here) =>
    Effect.map(Caller.make(service, options), (plain) => {
      if (here === undefined) return plain
      const recorded: Record<string, unknown> = Object.create(null)
      for (const action of Object.values(service.actions)) {
        recorded[action.name] = record(service.serviceName, action, plain[action.name as Service.ActionName<S>])
      }
      return recorded as Caller.Caller<S>
    })
  )

/**
 * Makes any effect a call whose end the invariants watch: it must end `within` that time, of which 10 ms more are granted.
 *
 * For clients that do not use `caller`. Outside of a simulation it is that effect and no more.
 */
export const call =
  (what: string, options: { readonly within: Duration.Input; readonly idempotent?: boolean }) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    beginning(
      {
        what,
        payload: undefined,
        within: millisOf(options.within),
        idempotent: options.idempotent ?? false,
        streamed: false,
        encode: undefined
      },
      ({ ended }) => Effect.onExit(effect, (exit) => Effect.sync(() => ended(exit))),
      effect
    )

const record = (service: string, action: Action.Any, method: any) => {
  const takesNothing = SchemaCodec.isVoid(action.payload)
  const isStream = !SchemaCodec.isNever(action.items)
  const about = (payload: unknown, options: Caller.CallOptions | undefined, streamed: boolean): About => ({
    what: `${service}.${action.name}`,
    payload,
    within: isStream ? undefined : millisOf(options?.timeout ?? Context.get(action.annotations, Action.Timeout)),
    idempotent: Context.get(action.annotations, Action.Idempotent),
    streamed,
    encode: isStream ? undefined : (value) => encoded(action.success, value)
  })
  /** Gives a method the header with its call's label. */
  const recording =
    (run: (...args: ReadonlyArray<any>) => any, wrap: (about: About, run: Run, action: Action.Any) => any) =>
    (...args: ReadonlyArray<any>) => {
      const [payload, options] = takesNothing ? [undefined, args[0]] : [args[0], args[1]]
      const labelled: Run = (label) => {
        if (label === undefined) return run(...args)
        const given = { ...options, headers: { ...options?.headers, [header]: label } }
        return takesNothing ? run(given) : run(payload, given)
      }
      return wrap(about(payload, options, wrap === stream), labelled, action)
    }
  if (isStream) return recording(method, stream)
  return Object.assign(recording(method, unary), { stream: recording(method.stream, stream), send: method.send })
}

type Run = (label: string | undefined) => any

const unary = (about: About, run: Run, { success }: Action.Any): Effect.Effect<unknown, unknown, unknown> =>
  beginning(
    about,
    ({ ended, label }) => Effect.onExit(run(label), (exit) => Effect.sync(() => ended(encodedExit(success, exit)))),
    Effect.suspend(() => run(undefined))
  )

const stream = (about: About, run: Run, action: Action.Any): Stream.Stream<unknown, unknown, unknown> =>
  Stream.unwrap(
    beginning(
      about,
      ({ ended, label, stepped }) =>
        Effect.sync(() => {
          const isItems = !SchemaCodec.isNever(action.items)
          let result: unknown
          let complete = false
          const note = (event: any) => {
            if (isItems) stepped(encoded(action.items, event))
            else if (event._tag === "Progress") stepped(encoded(action.progress, event.value))
            else result = encoded(action.success, event.value)
          }
          const whole: Stream.Stream<unknown, unknown, unknown> = run(label)
          return whole.pipe(
            Stream.tap((event) => Effect.sync(() => note(event))),
            Stream.concat(
              Stream.suspend(() => {
                complete = true
                return Stream.empty
              })
            ),
            Stream.onExit((exit) =>
              Effect.sync(() => {
                // Whoever has enough ends it as well as who interrupts it.
                if (Exit.isFailure(exit)) ended(exit)
                else ended(complete ? Exit.succeed(result) : Exit.interrupt())
              })
            )
          )
        }),
      Effect.sync(() => run(undefined))
    )
  )

const millisOf = (duration: Duration.Input) => Math.max(0, Duration.toMillis(Duration.fromInputUnsafe(duration)))

/** A value as JSON, as it was on the way; itself where its schema takes time for that. */
const encoded = (schema: Action.AnySchema, value: unknown): unknown => {
  const json = SchemaCodec.make(schema).encode(value)
  return Exit.isExit(json) && Exit.isSuccess(json) ? json.value : value
}

const encodedExit = (schema: Action.AnySchema, exit: Exit.Exit<unknown, unknown>) =>
  Exit.isSuccess(exit) ? Exit.succeed(encoded(schema, exit.value)) : exit

interface Begun {
  readonly label: string
  readonly stepped: (value: unknown) => void
  readonly ended: (exit: Exit.Exit<unknown, unknown>) => void
}

const beginning = <A, E, R>(
  about: About,
  within: (begun: Begun) => Effect.Effect<A, E, R>,
  outside: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const here = fiber.getRef(Here)
    if (here === undefined) return outside
    const { now, process, tell } = here
    const label = here.label()
    const left = (fiber.getRef(Deadline.Deadline) ?? Number.POSITIVE_INFINITY) - now()
    const deadline = about.within === undefined ? undefined : now() + Math.min(about.within, left)
    tell({ ...about, _tag: "CallBegan", at: now(), process, call: label, deadline })
    let step = 0
    return within({
      label,
      stepped: (value) => tell({ _tag: "CallStepped", at: now(), process, call: label, step: ++step, value }),
      ended: (exit) => tell({ _tag: "CallEnded", at: now(), process, call: label, outcome: outcomeOf(exit) })
    })
  })

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (Exit.isSuccess(exit)) return { _tag: "Success", value: exit.value }
  const died = exit.cause.reasons.find(Cause.isDieReason)
  if (died !== undefined) return { _tag: "Defect", text: String(died.defect) }
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error instanceof CallError) {
    return { _tag: "CallError", reason: error.reason._tag, started: error.started, text: error.message }
  }
  return error === undefined ? { _tag: "Interrupted" } : { _tag: "Failure", error }
}
