/** One handler, ready to run: what is prepared once per action or listener. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import type * as Action from "../../contract/Action.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import type { SchemaCodec } from "../../wire/SchemaCodec.ts"
import type { Exchange } from "./exchange.ts"
import * as Observed from "./observed.ts"

/** @see the file's first line */
export interface Entry {
  /** The name that requests reach it by; for a listener its channel or pattern. */
  readonly name: string
  /** How many of it may run at once, if that is limited. */
  readonly concurrency: number | undefined
  /** How its messages are delivered again, where it is durable. */
  readonly redelivery?: Action.Redelivery | undefined
  /** Who handles a request, of all processes that serve the name. */
  readonly delivery: Action.Delivery
  /** Whether the handler's result is the answer. A listener answers only by hand. */
  readonly automatic: boolean
  /** What of the message the handler is for. */
  readonly select: (envelope: Envelope.Request) => unknown
  readonly decode: SchemaCodec<any>["decode"]
  readonly handle: (payload: any, exchange: Exchange) => Effect.Effect<unknown, unknown>
  /** The services that were there when the handler's layer was built. */
  readonly context: Context.Context<never>
  readonly observed: Observed.Observed
  /** How answers are written; nothing where a contract has no such part and values are plain JSON. */
  readonly success: SchemaCodec<any> | undefined
  readonly error: SchemaCodec<any> | undefined
  readonly progress: SchemaCodec<any> | undefined
  /** Items of an action that answers with a stream: it lasts for as long as both sides are heard of. */
  readonly items: SchemaCodec<any> | undefined
  readonly asks: ReadonlyMap<string, { readonly ask: SchemaCodec<any>; readonly answer: SchemaCodec<any> }>
  /** The contract, where it is an action. */
  readonly action?: Action.Any
}

/** Who handles an action's requests where a service says it for all of its actions: durable ones stay so, as their requests wait in a queue. */
export const deliveryOf = ({ delivery }: Entry, ofService: Action.Delivery | undefined): Action.Delivery =>
  delivery === "durable" ? delivery : (ofService ?? delivery)

/** Whether its callers have something to say while it runs. */
export const converses = ({ asks, items, progress }: Entry): boolean =>
  items !== undefined || progress !== undefined || asks.size > 0

/** What an entry has that neither streams nor asks. */
export const plain: Pick<Entry, "items" | "asks"> = { items: undefined, asks: new Map() }

/** Stands for the handler of an action that nobody knows: it is only good for a refusal. */
export const unknown: Entry = {
  name: "",
  concurrency: undefined,
  delivery: "live",
  automatic: true,
  select: Effect.succeed,
  decode: Effect.succeed,
  handle: Effect.succeed,
  context: Context.empty(),
  observed: Observed.none,
  success: undefined,
  error: undefined,
  progress: undefined,
  ...plain
}

/** What a handler's layer gives to each of its requests: all that it was built with, but not the span that it was built in. */
export const context: Effect.Effect<Context.Context<never>> = Effect.map(
  Effect.context<Tracer.ParentSpan>() as Effect.Effect<Context.Context<Tracer.ParentSpan>>,
  (context) => Context.omit(Tracer.ParentSpan)(context)
)
