/** The context of what runs on its own: built below a request, or within a span, it is no part of that. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { Deadline } from "../../policy/Deadline.ts"
import * as Request from "../Request.ts"

/** The context that is here, without the request and the span it may belong to. */
export const context: Effect.Effect<Context.Context<never>> = Effect.map(Effect.context<never>(), (here) =>
  here.pipe(Context.omit(Tracer.ParentSpan), Context.add(Request.Slot, undefined), Context.add(Deadline, undefined))
)

/** Gives an effect a span that begins a trace, where a tracer was installed. */
export const traced = <A, E>(
  effect: Effect.Effect<A, E, any>,
  name: string,
  context: Context.Context<never>
): Effect.Effect<A, E, any> =>
  context.mapUnsafe.has(Tracer.TracerKey) && Context.get(context, References.TracerEnabled)
    ? effect.pipe(Effect.withSpan(name, { root: true }, { captureStackTrace: false }))
    : effect
