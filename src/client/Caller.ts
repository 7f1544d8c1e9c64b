/**
 * Calls a service, as its contract allows.
 *
 * All callers of a process share one private inbox per transport. Every call ends once: with its success, a declared error, or
 * a `CallError`.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import type { Json } from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import type { Policy } from "../policy/Policy.ts"
import { Durable, NoStore, type StoreOf } from "../transport/Durable.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import * as Balance from "./Balance.ts"
import type { CallError } from "./CallError.ts"
import * as CallMetrics from "./CallMetrics.ts"
import type { Declined } from "./Declined.ts"
import type { Answers } from "./internal/answers.ts"
import * as Attempts from "./internal/attempts.ts"
import * as Call from "./internal/call.ts"
import * as Kept from "./internal/durable.ts"
import { defaultWindow, maxWindow } from "./internal/flow.ts"
import { type Inbox, inbox, MaxPending as MaxPendingOfInbox } from "./internal/inbox.ts"
import type { Members } from "./internal/members.ts"
import * as Prepared from "./internal/method.ts"

export { Declined } from "./Declined.ts"

/** What may be said for one call. */
export interface CallOptions {
  /**
   * Time from the start of the call to its final answer; of an action with `items`, the longest time without a sign of its
   * service. Default: the action's `Action.Timeout`, or 5 seconds.
   */
  readonly timeout?: Duration.Input
  /** Travels with the request; the handler finds it as `Request.current`'s headers. */
  readonly headers?: { readonly [name: string]: string }
  /** In place of the caller's policies; `[]` for none. */
  readonly policies?: ReadonlyArray<Policy>
  /** What the request belongs to, in place of `Action.Key`: `Balance.byKey` sends those of one key to one replica. */
  readonly key?: string
  /** The one replica that it is for. If that is gone, it ends with `NoResponders`; no other one gets it. */
  readonly instance?: string
}

/** What may be said for one streamed call. */
export interface StreamOptions extends CallOptions {
  /** Steps or items that the service may be ahead of the stream's consumer, 1 to 65,536; then it waits. Default 256. */
  readonly window?: number
}

/** An answer to each question that the action may ask. Failing with `Declined` refuses one. */
export type AnswersOf<A extends Action.Any, R> = {
  readonly [Name in keyof A["asks"]]: (
    question: A["asks"][Name]["ask"]["Type"]
  ) => Effect.Effect<A["asks"][Name]["answer"]["Type"], Declined, R>
}

/**
 * Calls that may be in flight over one transport, of all callers of the process together: 1 to 10,000,000, default 50,000. Above that a call
 * ends at once with `TransportError` (`Overloaded`), and nothing was sent. A pending call takes about 1 KB.
 *
 * `Layer.succeed(Caller.MaxPending, 100_000)`, or `Effect.provideService` around {@link make}: read when the first caller of a transport is made,
 * whose value holds until the last one's Scope closes. Another value is a defect.
 */
export const MaxPending: Context.Reference<number> = MaxPendingOfInbox

/** What may be said for all calls of a caller. */
export interface Options {
  /**
   * What is done about each call and each streamed call, the first outermost: `[Retry.policy()]`. Default none: a call is one
   * attempt. One-way messages (`send`) have no answer to judge by and are not concerned.
   */
  readonly policies?: ReadonlyArray<Policy>
  /** Which replica gets a request, of those that are known. Default `Balance.byKey` for actions with `Action.Key`, `Balance.twoRandom` for others. */
  readonly balance?: Balance.Balance
}

/** What one replica answered. */
export interface Gathered<A extends Action.Any> {
  readonly instance: string
  readonly result: Result.Result<Action.Success<A>, Action.Error<A> | CallError>
}

/** What a streamed call brings: any number of steps, then one result. */
export type Event<Progress, Success> = Call.Event<Progress, Success>

type Arguments<Payload, Options> = 0 extends 1 & Payload
  ? [payload: any, options?: Options]
  : [Payload] extends [void]
    ? [options?: Options]
    : {} extends Payload
      ? [payload?: Payload, options?: Options]
      : [payload: Payload, options?: Options]

// Any payload extends void as well, and yet is one.
type Conversing<A extends Action.Any, Options, R> = 0 extends 1 & Action.Payload<A>
  ? [payload: any, options: Options & { readonly answers: AnswersOf<A, R> }]
  : [Action.Payload<A>] extends [void]
    ? [options: Options & { readonly answers: AnswersOf<A, R> }]
    : [payload: Action.Payload<A>, options: Options & { readonly answers: AnswersOf<A, R> }]

/** One action, ready to be called. */
export interface Method<A extends Action.Any> {
  /** Calls and waits for the result. The timeout covers all attempts that the policies make, and the waits between them. */
  (...args: Arguments<Action.Payload<A>, CallOptions>): Effect.Effect<Action.Success<A>, Action.Error<A> | CallError>
  /**
   * Calls and streams the steps as they come, then the result. The timeout covers the whole call; ending the stream early stops
   * the handler. A fiberbus service waits for a slow consumer (`window`); of others at most 1,024 steps wait, then the stream fails.
   * A step that was lost ends the stream with `ConnectionLost`.
   */
  readonly stream: (
    ...args: Arguments<Action.Payload<A>, StreamOptions>
  ) => Stream.Stream<Event<Action.Progress<A>, Action.Success<A>>, Action.Error<A> | CallError>
  /**
   * Fires and forgets: the number of processes the request reached, as far as the transport can tell; 0 is no error.
   */
  readonly send: (...args: Arguments<Action.Payload<A>, CallOptions>) => Effect.Effect<number, CallError>
  /**
   * Calls every replica that is known, and waits until each has answered or its time is over: one entry for each, none where no replica
   * announces itself, as of Daebus services or those served `live`. Waits up to 100 ms for them to do so where the caller has just been made.
   */
  readonly gather: (...args: Arguments<Action.Payload<A>, CallOptions>) => Effect.Effect<ReadonlyArray<Gathered<A>>>
}

/** One action that asks its caller on the way, ready to be called: every question needs its answer. */
export interface AskingMethod<A extends Action.Any> {
  /** @see {@link Method} */
  <R = never>(...args: Conversing<A, CallOptions, R>): Effect.Effect<Action.Success<A>, Action.Error<A> | CallError, R>
  readonly stream: <R = never>(
    ...args: Conversing<A, StreamOptions, R>
  ) => Stream.Stream<Event<Action.Progress<A>, Action.Success<A>>, Action.Error<A> | CallError, R>
}

/**
 * One action that answers with a stream, ready to be called.
 *
 * The items come in order and none twice; one that was lost ends the stream with `ConnectionLost`. The service waits while the
 * consumer is `window` items behind, and ending the stream early stops it. There is no limit to how long the stream lasts: it
 * ends with `DeadlineExceeded` when nothing is heard of the service for the `timeout`.
 */
export type StreamMethod<A extends Action.Any> = (
  ...args: Arguments<Action.Payload<A>, StreamOptions>
) => Stream.Stream<Action.Items<A>, Action.Error<A> | CallError>

/**
 * One durable action, ready to be called: its requests are kept until they were handled, at least once each, whoever goes away.
 *
 * A call is the same as of any action, but its timeout ends only the waiting: the `DeadlineExceeded` names the receipt by which the
 * result can still be had. While the store cannot be reached a call appends its request again under the same id, which is safe.
 */
export interface DurableMethod<A extends Action.Any> {
  /** Has the request handled and waits for the result. */
  (...args: Arguments<Action.Payload<A>, CallOptions>): Effect.Effect<Action.Success<A>, Action.Error<A> | CallError>
  /** Has the request kept, to be handled when its turn comes, and does not wait for that. */
  readonly enqueue: (...args: Arguments<Action.Payload<A>, Kept.EnqueueOptions>) => Effect.Effect<Receipt<A>, CallError>
  /** Asks about a request by its id, also in another process than the one that enqueued it. */
  readonly receipt: (id: string) => Receipt<A>
}

/** What can be asked about a request that is kept. */
export interface Receipt<A extends Action.Any> extends Kept.Receipt<Action.Success<A>, Action.Error<A>> {}

export type { EnqueueOptions } from "./internal/durable.ts"

/** The method of an action, by what it does. */
export type MethodOf<A extends Action.Any> = A extends Action.Durable
  ? DurableMethod<A>
  : [Action.Items<A>] extends [never]
    ? keyof A["asks"] extends never
      ? Method<A>
      : AskingMethod<A>
    : StreamMethod<A>

/** A caller of a service: a {@link MethodOf} each action, by its name. */
export type Caller<S extends Service.Any> = { readonly [Name in Service.ActionName<S>]: MethodOf<S["actions"][Name]> }

/**
 * Makes a caller, usable while the Scope is open.
 *
 * Errors: `TransportError` when the inbox cannot be subscribed to. It is confirmed before this succeeds.
 */
export const make = <S extends Service.Any>(
  service: S,
  options?: Options
): Effect.Effect<Caller<S>, TransportError, Transport | StoreOf<S> | Scope.Scope> =>
  Effect.gen(function* () {
    const shared = yield* inbox
    const context = yield* Effect.context<never>()
    const durable = Option.getOrUndefined(yield* Effect.serviceOption(Durable))
    const actions = Object.values(service.actions)
    const router = actions.some(isRouted) ? yield* shared.router(service.serviceName) : undefined
    const caller: Record<string, unknown> = Object.create(null)
    for (const action of actions) {
      const metrics = CallMetrics.make(service.serviceName, action.name, context)
      if (Action.isDurable(action) && durable === undefined) {
        return yield* Effect.die(new NoStore({ name: `${service.serviceName}.${action.name}` }))
      }
      const members = isRouted(action) ? router?.members(action.name) : undefined
      caller[action.name] = toMethod(shared, service, action, metrics, members, options, durable)
    }
    return caller as Caller<S>
  }) as any

// The others are all asked, each time.
const isRouted = ({ annotations }: Action.Any) => Context.get(annotations, Action.Delivery) === "one"

const toMethod = (
  inbox: Inbox,
  { partitions, serviceName: service }: Service.Any,
  action: Action.Any,
  metrics: CallMetrics.CallMetrics,
  members: Members | undefined,
  caller: Options | undefined,
  durable: Durable["Service"] | undefined
) => {
  const keyOf = Context.get(action.annotations, Action.Key)
  const codec = (schema: Action.AnySchema) => (SchemaCodec.isNever(schema) ? undefined : SchemaCodec.make(schema))
  const method = Prepared.method(inbox, service, action.name, {
    timeoutMillis: toTimeout(Context.get(action.annotations, Action.Timeout)),
    annotations: action.annotations,
    metrics,
    members,
    choose: (caller?.balance ?? (keyOf === undefined ? Balance.twoRandom : Balance.byKey)).begin(
      members?.roll ?? Math.random
    ),
    keyOf,
    // Without content a request still carries an object, which is what Daebus' handlers expect.
    payload: SchemaCodec.isVoid(action.payload) ? emptyObject : SchemaCodec.make(action.payload),
    success: SchemaCodec.make(action.success),
    error: codec(action.error),
    progress: codec(action.progress),
    items: codec(action.items),
    asks: Object.keys(action.asks).length === 0 ? undefined : new Map(Object.entries(action.asks).map(toAsk))
  })
  const usual = resolve(method, caller, undefined, undefined)
  const settingsOf = (options: CallOptions | undefined, payload: unknown) =>
    options === undefined && keyOf === undefined ? usual : resolve(method, caller, options, payload)
  // What may be left out is a struct without a field that must be there.
  const absent = action.payload.ast._tag === "Objects" ? {} : undefined
  const using = SchemaCodec.isVoid(action.payload)
    ? <A>(run: Run<A>) =>
        (options?: CallOptions) =>
          run(method, undefined, settingsOf(options, undefined), options)
    : <A>(run: Run<A>) =>
        (given?: unknown, options?: CallOptions) => {
          const payload = given === undefined ? absent : given
          return run(method, payload, settingsOf(options, payload), options)
        }
  if (Action.isDurable(action) && durable !== undefined) {
    const kept = Kept.make(method, durable, partitions)
    return Object.assign(
      using((_, payload, settings) => Kept.unary(kept, payload, settings)),
      {
        enqueue: using((_, payload, settings, options) => Kept.enqueue(kept, payload, options ?? {}, settings)),
        receipt: (id: string) => Kept.receipt(kept, id)
      }
    )
  }
  if (method.items !== undefined) return using(streamed)
  return Object.assign(using(unary), { stream: using(streamed), send: using(Call.oneWay), gather: using(gathered) })
}

const gathered: Run<Effect.Effect<ReadonlyArray<Gathered<any>>>> = (method, payload, settings) => {
  const { members } = method
  return members === undefined
    ? Effect.succeed([])
    : Effect.flatMap(members.router.settled, () =>
        Effect.forEach(
          members.list,
          ({ by }) =>
            Effect.map(Effect.result(unary(method, payload, { ...settings, instance: by })), (result) => ({
              instance: by,
              result
            })),
          { concurrency: "unbounded" }
        )
      )
}

const toAsk = ([name, { answer, ask }]: [string, Action.Question]) =>
  [name, { ask: SchemaCodec.make(ask), answer: SchemaCodec.make(answer) }] as const

// Without policies a call pays for none.
const unary: Run<Effect.Effect<any, any>> = (method, payload, settings) =>
  (settings.policies.length === 0 ? Call.unary : Attempts.unary)(method, payload, settings)

const streamed: Run<Stream.Stream<Event<any, any>, any>> = (method, payload, settings) =>
  (settings.policies.length === 0 ? Call.streamed : Attempts.streamed)(method, payload, settings)

type Run<A> = (method: Prepared.Method, payload: unknown, settings: Prepared.Settings, options?: CallOptions) => A

/**
 * Runs a streamed call: gives every step to a function, in order, and succeeds with the result, as Daebus' `on_progress` does.
 *
 * `users.import_users.stream({ rows }).pipe(Caller.onProgress((step) => Effect.log(step)))`
 */
export const onProgress =
  <Progress, X, E2, R2>(step: (progress: Progress) => Effect.Effect<X, E2, R2>) =>
  <Success, E, R>(stream: Stream.Stream<Event<Progress, Success>, E, R>): Effect.Effect<Success, E | E2, R | R2> =>
    Effect.suspend(() => {
      let result: { readonly value: Success } | undefined
      return Effect.flatMap(
        Stream.runForEach(stream, (event): Effect.Effect<unknown, E2, R2> => {
          if (event._tag === "Progress") return step(event.value)
          result = event
          return Effect.void
        }),
        // A call's stream ends with its result or fails.
        () =>
          result === undefined
            ? Effect.die(new Error("the stream ended without a result"))
            : Effect.succeed(result.value)
      )
    })

/** Calls a service by names and plain JSON, without a contract: for tools, gateways and first steps. */
export interface Dynamic {
  readonly call: (action: string, payload?: Json, options?: CallOptions) => Effect.Effect<Json, CallError>
  readonly stream: (
    action: string,
    payload?: Json,
    options?: StreamOptions
  ) => Stream.Stream<Event<Json, Json>, CallError>
  /** Of an action with `items`: these, for as long as the stream lasts. */
  readonly items: (action: string, payload?: Json, options?: StreamOptions) => Stream.Stream<Json, CallError>
  readonly send: (action: string, payload?: Json, options?: CallOptions) => Effect.Effect<number, CallError>
}

/**
 * Makes a caller without a contract. Nothing is checked, so that services of any name and kind can be reached. A declared error of
 * the service arrives as `RemoteError`: its text, and as `payload` what the service sent, where `failure` is the error's JSON. No
 * action is known to be idempotent.
 *
 * Errors: `TransportError`, as {@link make}.
 */
export const dynamic = (
  service: string,
  options?: Options
): Effect.Effect<Dynamic, TransportError, Transport | Scope.Scope> =>
  Effect.gen(function* () {
    const shared = yield* inbox
    const router = yield* shared.router(service)
    const choose = (options?.balance ?? Balance.byKey).begin(router.members("").roll)
    const metrics = CallMetrics.make("*", "*", yield* Effect.context<never>())
    const method = (action: string, items?: SchemaCodec.SchemaCodec<any>) =>
      Prepared.method(shared, service, action, {
        timeoutMillis: 5_000,
        annotations: Context.empty(),
        metrics,
        members: router.members(action),
        choose,
        keyOf: undefined,
        payload: undefined,
        success: undefined,
        error: undefined,
        progress: undefined,
        items,
        asks: undefined
      })
    const using =
      <A>(run: Run<A>, items?: SchemaCodec.SchemaCodec<any>) =>
      (action: string, payload: Json = {}, perCall?: CallOptions): A => {
        const prepared = method(action, items)
        return run(prepared, payload, resolve(prepared, options, perCall, undefined))
      }
    return {
      call: using(unary),
      stream: using(streamed),
      items: using(streamed, asTheyCome),
      send: using(Call.oneWay)
    }
  })

const asTheyCome: SchemaCodec.SchemaCodec<any> = { decode: Exit.succeed, encode: Exit.succeed }

const emptyObject: SchemaCodec.SchemaCodec<any> = {
  decode: () => Effect.void,
  encode: () => Effect.succeed({})
}

const resolve = (
  method: Prepared.Method,
  caller: Options | undefined,
  options: (StreamOptions & { readonly answers?: Answers }) | undefined,
  payload: unknown
): Prepared.Settings => ({
  timeoutMillis: options?.timeout === undefined ? method.timeoutMillis : toTimeout(options.timeout),
  headers: options?.headers,
  key: options?.key ?? keyOf(method, payload),
  instance: options?.instance,
  policies: options?.policies ?? caller?.policies ?? none,
  window: Math.min(maxWindow, Math.max(1, Math.floor(options?.window ?? defaultWindow))),
  answers: options?.answers
})

// A payload that is none of the action's ends the call by its schema.
const keyOf = ({ keyOf }: Prepared.Method, payload: unknown): string | undefined => {
  if (keyOf === undefined) return undefined
  try {
    return keyOf(payload)
  } catch {
    return undefined
  }
}

const none: ReadonlyArray<Policy> = []

// An infinite timeout becomes 24 days, the longest a timer can wait: every call ends.
const toTimeout = (timeout: Duration.Input) =>
  Math.min(Math.max(0, Duration.toMillis(Duration.fromInputUnsafe(timeout))), 2_147_483_647)
