/**
 * What a service does, as a Layer: one handler per action of its contract.
 *
 * A missing or misspelt handler, a wrong result, an undeclared error and a missing dependency are compile errors.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import type { StoreOf } from "../transport/Durable.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import type { AskError } from "./AskError.ts"
import * as Entry from "./internal/entry.ts"
import { host } from "./internal/host.ts"
import * as Observed from "./internal/observed.ts"
import * as Place from "./internal/place.ts"
import * as Options from "./Options.ts"
import * as Request from "./Request.ts"
import type * as Response from "./Response.ts"

export { AskError } from "./AskError.ts"
export { DuplicateHandler } from "./internal/host.ts"

/** What a handler gets beside its payload. */
export interface Tools<in Progress, in out Asks extends Action.Questions = {}> {
  /**
   * Sends a step to whoever streams the call. Waits while that caller has no room for it; dies if it does not fit the schema.
   */
  readonly progress: (step: Progress) => Effect.Effect<void>
  /**
   * Asks the caller one of the action's questions and waits for the answer: for `timeout`, and no longer than the call lasts.
   *
   * Errors: `AskError`. Dies if the question does not fit its schema.
   */
  readonly ask: <Name extends keyof Asks & string>(
    name: Name,
    question: Asks[Name]["ask"]["Type"],
    options?: { readonly timeout?: Duration.Input }
  ) => Effect.Effect<Asks[Name]["answer"]["Type"], AskError>
}

/** One handler: the decoded payload in; out the success or a declared error, or a Stream where the action has items. */
export type Handler<A extends Action.Any, R = any> = (
  payload: Action.Payload<A>,
  tools: Tools<Action.Progress<A>, A["asks"]>
) => [Action.Items<A>] extends [never]
  ? Effect.Effect<Action.Success<A> | Response.Sent, Action.Error<A>, R>
  : Stream.Stream<Action.Items<A>, Action.Error<A>, R>

/** A handler for every action of a service. */
export type HandlersOf<S extends Service.Any> = {
  readonly [Name in Service.ActionName<S>]: Handler<S["actions"][Name]>
}

/** What the handlers need, all together. Each request has a Scope of its own, which closes before the answer is sent. */
export type ServicesOf<Handlers> = Exclude<
  {
    readonly [Name in keyof Handlers]: Handlers[Name] extends (
      ...args: any
    ) => Effect.Effect<any, any, infer R> | Stream.Stream<any, any, infer R>
      ? // Where a handler is wrong, TypeScript falls back to one that needs anything: its one error is enough.
        0 extends 1 & R
        ? never
        : R
      : never
  }[keyof Handlers],
  Scope.Scope
>

type NoOthers<Handlers, S extends Service.Any> = {
  readonly [Name in Exclude<
    keyof Handlers,
    Service.ActionName<S>
  >]: `${Name & string} is no action of ${S["serviceName"]}`
}

/**
 * Serves all actions of a service over the `Transport`, from when the Layer is built until its Scope closes: then it takes no
 * more, lets what runs end within `grace`, and answers the rest with `Draining`.
 *
 * Shape: a record of handlers, or an Effect that makes one, which may keep resources and callers in its Scope.
 * Errors: `TransportError` when the channel cannot be subscribed to. Dies with `DuplicateHandler` when the process has a
 * handler for one of the actions on this transport already.
 */
export const layer = <S extends Service.Any, Handlers extends HandlersOf<S>, E = never, R = never>(
  service: S,
  handlers: (Handlers & NoOthers<Handlers, S>) | Effect.Effect<Handlers & NoOthers<Handlers, S>, E, R>,
  options?: Options.Options
): Layer.Layer<never, E | TransportError, Transport | StoreOf<S> | Exclude<R, Scope.Scope> | ServicesOf<Handlers>> => {
  const place = `Handlers.layer at ${Place.ofCaller()}`
  return Layer.effectDiscard(
    Effect.gen(function* () {
      const { claim, serve } = yield* host
      for (const name of Object.keys(service.actions)) yield* claim(service.serviceName, name, place)
      const made: HandlersOf<S> = Effect.isEffect(handlers) ? yield* handlers : handlers
      const context = yield* Entry.context
      const entries = Object.values(service.actions).map((action) =>
        toEntry(service, action, made[action.name as Service.ActionName<S>], context)
      )
      yield* serve(service, entries, Options.resolve(options))
    })
  ) as any
}

/** One handler that was given by its own Layer; {@link serve} waits for it. */
export interface Provided<in out S extends Service.Any, in out ActionName extends string> {
  readonly _: unique symbol
  readonly service: (_: S) => S
  readonly action: (_: ActionName) => ActionName
}

/** The handlers that a service needs to be served, each by its own Layer. */
export type ProvidedOf<S extends Service.Any> = {
  readonly [Name in Service.ActionName<S>]: Provided<S, Name>
}[Service.ActionName<S>]

/**
 * Gives the handler of one action by its own Layer. Nothing is served until {@link serve} has them all.
 *
 * Shape: a handler, or an Effect that makes one. Write the Effect's handler as an arrow (`Effect.map(Database, (db) => ({ id }) =>
 * …)`): TypeScript does not tell the payload's type to a generator inside another, where it silently is `any`: give it there.
 * Errors: dies with `DuplicateHandler`, as {@link layer}.
 */
export const handler = <
  S extends Service.Any,
  const Name extends keyof S["actions"] & string,
  R,
  E = never,
  R2 = never
>(
  service: S,
  name: Name,
  handler: Handler<S["actions"][Name], R> | Effect.Effect<Handler<S["actions"][Name], R>, E, R2>
): Layer.Layer<Provided<S, Name>, E, Transport | Exclude<R | R2, Scope.Scope>> => {
  const place = `Handlers.handler at ${Place.ofCaller()}`
  return Layer.effect(
    providedKey(service, name),
    Effect.gen(function* () {
      const { claim } = yield* host
      yield* claim(service.serviceName, name, place)
      const made = (Effect.isEffect(handler) ? yield* handler : handler) as Handler<any>
      return toEntry(service, service.actions[name]!, made, yield* Entry.context)
    })
  ) as any
}

/** Serves a service whose handlers are given by {@link handler}; what is missing shows in the Layer's requirements. */
export const serve = <S extends Service.Any>(
  service: S,
  options?: Options.Options
): Layer.Layer<never, TransportError, Transport | StoreOf<S> | ProvidedOf<S>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { serve } = yield* host
      const context = yield* Effect.context<never>()
      const entries = Object.keys(service.actions).map((name) => Context.getUnsafe(context, providedKey(service, name)))
      yield* serve(service, entries, Options.resolve(options))
    })
  ) as any

const providedKey = (service: Service.Any, name: string) =>
  Context.Service<any, Entry.Entry>(`fiberbus/server/Handlers/${service.serviceName}/${name}`)

const toEntry = (
  service: Service.Any,
  action: Action.Any,
  handler: Handler<any>,
  context: Context.Context<never>
): Entry.Entry => {
  const optional = (schema: Action.AnySchema) => (SchemaCodec.isNever(schema) ? undefined : SchemaCodec.make(schema))
  const items = optional(action.items)
  // What it needs besides is in the context, as the Layer's type demands.
  const handle = handler as (payload: unknown, tools: Tools<unknown>) => unknown
  return {
    name: action.name,
    action,
    concurrency: Context.get(action.annotations, Action.Concurrency),
    delivery: Context.get(action.annotations, Action.Delivery),
    redelivery: Context.get(action.annotations, Action.Redelivery),
    automatic: true,
    select: (envelope) => envelope.payload,
    decode: SchemaCodec.make(action.payload).decode,
    handle:
      items === undefined
        ? (payload) => handle(payload, tools) as Effect.Effect<unknown, unknown>
        : (payload, exchange) =>
            exchange.isAwaited
              ? Stream.runForEachArray(handle(payload, tools) as Stream.Stream<unknown, unknown>, (items) =>
                  exchange.sendItems(items)
                )
              : // It may have no end, and nobody would end it.
                Effect.sync(() => exchange.link.discards.note("NobodyWaits")),
    context,
    observed: Observed.action(service.serviceName, action.name, context),
    success: SchemaCodec.make(action.success),
    error: SchemaCodec.make(action.error),
    progress: optional(action.progress),
    items,
    asks: new Map(
      Object.entries(action.asks).map(([name, { answer, ask }]) => [
        name,
        { ask: SchemaCodec.make(ask), answer: SchemaCodec.make(answer) }
      ])
    )
  }
}

// The same for every request: the fiber knows whose step it is.
const tools: Tools<unknown, any> = {
  progress: (step) => Effect.flatMap(Request.exchange("progress"), (exchange) => exchange.sendProgress(step)),
  ask: (name, question, options) =>
    Effect.flatMap(Request.exchange("ask"), (exchange) => exchange.ask(name, question, options?.timeout))
}
