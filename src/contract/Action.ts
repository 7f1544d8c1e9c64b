/**
 * One thing a service can be asked to do: its name and the schemas of what goes in and what may come out.
 *
 * Plain data, shared by the service and its callers; nothing runs here.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Name from "./Name.ts"

const TypeId = "~fiberbus/contract/Action"

/** A schema that needs no services, so that both ends can always read what the other wrote. */
export type AnySchema = Schema.Codec<any, any>

/** What an action's parts may be given as: a schema, or the fields of a struct. */
export type SchemaInput = AnySchema | { readonly [field: string]: AnySchema }

/** The schema that a part given as `Input` becomes. */
export type ToSchema<Input> = Input extends AnySchema
  ? Input
  : Input extends Schema.Struct.Fields
    ? Schema.Struct<Input> extends infer Struct extends AnySchema
      ? Struct
      : never
    : never

/** What a service may ask its caller on the way, and what it is told. */
export interface Question<out Ask extends AnySchema = AnySchema, out Answer extends AnySchema = AnySchema> {
  readonly ask: Ask
  readonly answer: Answer
}

/** The questions of an action, by name. */
export interface Questions {
  readonly [name: string]: Question
}

/** Questions as they may be given: schemas, or fields of structs. */
export interface QuestionsInput {
  readonly [name: string]: { readonly ask: SchemaInput; readonly answer: SchemaInput }
}

/** The questions that an input stands for. */
export type ToQuestions<Input extends QuestionsInput> = {
  readonly [Name in keyof Input]: Question<ToSchema<Input[Name]["ask"]>, ToSchema<Input[Name]["answer"]>>
}

/** An action of a service. */
export interface Action<
  in out Name extends string,
  out Payload extends AnySchema = Schema.Void,
  out Success extends AnySchema = Schema.Void,
  out Error extends AnySchema = Schema.Never,
  out Progress extends AnySchema = Schema.Never,
  out Items extends AnySchema = Schema.Never,
  out Asks extends Questions = {}
> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: Name
  readonly payload: Payload
  readonly success: Success
  readonly error: Error
  readonly progress: Progress
  readonly items: Items
  readonly asks: Asks
  readonly annotations: Context.Context<never>
}

/** An action with its parameters forgotten. */
export interface Any extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  readonly payload: AnySchema
  readonly success: AnySchema
  readonly error: AnySchema
  readonly progress: AnySchema
  readonly items: AnySchema
  readonly asks: Questions
  readonly annotations: Context.Context<never>
}

/** What a caller passes and a handler receives. */
export type Payload<A extends Any> = A["payload"]["Type"]
/** What a handler succeeds with and a caller gets. */
export type Success<A extends Any> = A["success"]["Type"]
/** What a handler may fail with, and the caller then fails with. */
export type Error<A extends Any> = A["error"]["Type"]
/** What a handler may send on the way to its result. */
export type Progress<A extends Any> = A["progress"]["Type"]
/** What a handler streams, where an action answers with a stream. */
export type Items<A extends Any> = A["items"]["Type"]

/** True for values made by {@link make}. */
export const isAction = (value: unknown): value is Any => typeof value === "object" && value !== null && TypeId in value

/** Time a call may take from its start to its final answer. 5 seconds where an action says nothing. */
export const Timeout = Context.Reference<Duration.Input>("fiberbus/contract/Action/Timeout", {
  defaultValue: () => "5 seconds"
})

/** Whether handling the same request twice does no harm, so that it may be retried when its fate is unknown. */
export const Idempotent = Context.Reference<boolean>("fiberbus/contract/Action/Idempotent", {
  defaultValue: () => false
})

/**
 * Who handles a request, of all processes that serve the name.
 *
 * - `one` (the default): exactly one of them, at most once.
 * - `live`: every one of them, at most once each, as Daebus has it; the caller gets the first answer.
 * - `durable`: one of them, at least once: the request is kept until it was handled.
 */
export type Delivery = "one" | "live" | "durable"

/** @see {@link Delivery} */
export const Delivery = Context.Reference<Delivery>("fiberbus/contract/Action/Delivery", {
  defaultValue: () => "one"
})

/** What an action's type says once it is annotated as durable: its caller can enqueue, and both sides need `Durable`. */
export interface Durable {
  readonly [DurableId]: typeof DurableId
}

declare const DurableId: unique symbol

/** True for an action whose requests are kept until they were handled. */
export const isDurable = (action: Any): boolean => Context.get(action.annotations, Delivery) === "durable"

/**
 * What a request belongs to: its customer, its account. Nothing where an action says nothing. It must be pure and cheap: it is asked for
 * each call, with the payload as the caller gave it.
 *
 * - {@link Delivery} `one`: requests with the same key go to the same replica, as long as it is there.
 * - `durable`: they are handled one after the other, in the order in which they were enqueued, whatever the number of processes; others don't
 *   wait for them. At most 256 characters count; the empty key is none.
 */
export const Key = Context.Reference<((payload: any) => string) | undefined>("fiberbus/contract/Action/Key", {
  defaultValue: () => undefined
})

/** What becomes of a message of a durable action whose handler died, was interrupted or ran out of time. */
export interface Redelivery {
  /** When it is delivered again; ended, it becomes a dead letter. Default: after 1 second doubling to 1 minute, with jitter. */
  readonly retry?: Schedule.Schedule<unknown, unknown>
  /** How often it is delivered at most, the crashes of processes included. Default 5. */
  readonly deliveries?: number
}

/** In place of what the service's options say. @see {@link Redelivery} */
export const Redelivery = Context.Reference<Redelivery | undefined>("fiberbus/contract/Action/Redelivery", {
  defaultValue: () => undefined
})

/** A part of the action cannot be kept: thrown by {@link annotate} where an action that streams or asks is made durable. */
export class NotDurable extends Data.TaggedError("NotDurable")<{
  readonly action: string
  readonly part: "items" | "asks"
}> {
  override get message() {
    return `The action ${this.action} has ${this.part}, which need a caller who is there: it cannot be durable`
  }
}

/** The parts of an action that ends in one result. */
export interface CallParts<
  Payload extends SchemaInput,
  Success extends SchemaInput,
  Error extends SchemaInput,
  Progress extends SchemaInput,
  Asks extends QuestionsInput
> {
  readonly payload?: Payload
  readonly success?: Success
  readonly error?: Error
  /** Steps that the handler may send before its result. */
  readonly progress?: Progress
  /** Questions that the handler may ask its caller before its result. */
  readonly asks?: Asks
}

/** The parts of an action that answers with a stream. */
export interface StreamParts<Payload extends SchemaInput, Error extends SchemaInput, Items extends SchemaInput> {
  readonly payload?: Payload
  readonly error?: Error
  /** One of what the handler's `Stream` emits, and its caller's. */
  readonly items: Items
}

/**
 * Handlers of the action that a service runs at once, below its own limit. No limit of its own where an action says nothing. Requests that
 * wait for it keep no others from free slots. A whole number of at least 1.
 */
export const Concurrency = Context.Reference<number | undefined>("fiberbus/contract/Action/Concurrency", {
  defaultValue: () => undefined
})

/**
 * Describes an action.
 *
 * Shape: each part is a Schema or the fields of a struct. Left out, `payload` and `success` are `Schema.Void`,
 * `error` and `progress` are `Schema.Never`. With `items` the action answers with a Stream of them in place of a result.
 * Values cross as `Schema.toCodecJson` writes them, so a Date or a Map may be part of them.
 * Errors: throws `InvalidName` for a name that cannot be used.
 */
export const make: {
  <
    const Name extends string,
    Items extends SchemaInput,
    Payload extends SchemaInput = Schema.Void,
    Error extends SchemaInput = Schema.Never
  >(
    name: Name,
    parts: StreamParts<Payload, Error, Items>
  ): Action<Name, ToSchema<Payload>, Schema.Void, ToSchema<Error>, Schema.Never, ToSchema<Items>>
  <
    const Name extends string,
    Payload extends SchemaInput = Schema.Void,
    Success extends SchemaInput = Schema.Void,
    Error extends SchemaInput = Schema.Never,
    Progress extends SchemaInput = Schema.Never,
    Asks extends QuestionsInput = {}
  >(
    name: Name,
    parts?: CallParts<Payload, Success, Error, Progress, Asks>
  ): Action<
    Name,
    ToSchema<Payload>,
    ToSchema<Success>,
    ToSchema<Error>,
    ToSchema<Progress>,
    Schema.Never,
    ToQuestions<Asks>
  >
} = (
  name: string,
  parts: Partial<CallParts<any, any, any, any, QuestionsInput> & StreamParts<any, any, any>> = {}
): any => {
  Name.check("action", name)
  const asks: Record<string, Question> = Object.create(null)
  for (const [question, { answer, ask }] of Object.entries(parts.asks ?? {})) {
    asks[Name.check("question", question)] = { ask: asSchema(ask), answer: asSchema(answer) }
  }
  return Object.assign(Object.create(Proto), {
    name,
    payload: toSchema(parts.payload, Schema.Void),
    success: toSchema(parts.success, Schema.Void),
    error: toSchema(parts.error, Schema.Never),
    progress: toSchema(parts.progress, Schema.Never),
    items: toSchema(parts.items, Schema.Never),
    asks,
    annotations: Context.empty()
  })
}

/**
 * Adds a fact about the action that policies read: `Action.make("get", …).pipe(Action.annotate(Action.Timeout, "1 second"))`.
 * The action given is left as it was.
 *
 * Errors: throws {@link NotDurable}.
 */
export const annotate: {
  (key: typeof Delivery, value: "durable"): <A extends Any>(self: A) => A & Durable
  <A extends Any>(self: A, key: typeof Delivery, value: "durable"): A & Durable
  <I, S>(key: Context.Key<I, S>, value: NoInfer<S>): <A extends Any>(self: A) => A
  <A extends Any, I, S>(self: A, key: Context.Key<I, S>, value: NoInfer<S>): A
} = dual(3, <A extends Any, I, S>(self: A, key: Context.Key<I, S>, value: S): A => {
  const annotated: A = Object.assign(Object.create(Proto), self, {
    annotations: Context.add(self.annotations, key, value)
  })
  if (isDurable(annotated)) {
    const part = annotated.items.ast._tag !== "Never" ? "items" : Object.keys(annotated.asks).length > 0 ? "asks" : ""
    if (part !== "") throw new NotDurable({ action: annotated.name, part })
  }
  return annotated
}) as any

const Proto = {
  [TypeId]: TypeId,
  pipe() {
    // biome-ignore lint/complexity/noArguments: Effect's own way of being pipeable
    return pipeArguments(this, arguments)
  }
}

const toSchema = (input: SchemaInput | undefined, otherwise: AnySchema): AnySchema =>
  input === undefined ? otherwise : asSchema(input)

/** The schema that an input stands for: itself, or the struct of its fields. */
export const asSchema = (input: SchemaInput): AnySchema =>
  Schema.isSchema(input) ? (input as AnySchema) : (Schema.Struct(input as Schema.Struct.Fields) as any as AnySchema)
