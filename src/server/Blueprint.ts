/** Groups Layers under a name, to be mounted into one service or several, as they are or behind a prefix. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Name from "../contract/Name.ts"
import * as Prefixed from "../transport/Prefixed.ts"
import type { Transport } from "../transport/Transport.ts"
import * as Place from "./internal/place.ts"
import * as Tasks from "./internal/tasks.ts"

export { DuplicateName } from "./internal/tasks.ts"

/** A Layer of all that it groups. */
export interface Blueprint<in ROut, out E, out RIn> extends Layer.Layer<ROut, E, RIn> {
  readonly blueprintName: string
}

// Where the prefix was given that the present build is for.
const Mounted = Context.Reference<string | undefined>("fiberbus/server/Blueprint/Mounted", {
  defaultValue: () => undefined
})

/**
 * Groups Layers: handlers, listeners, background tasks, daemons, other blueprints. They are built side by side, as by `Layer.mergeAll`;
 * what they need is asked for once.
 *
 * As any Layer it is built once in a program, wherever it is mounted, unless by {@link prefixed} or `Layer.fresh`.
 * Errors: those of the Layers. Dies with `DuplicateName` when another blueprint of the name is on this transport behind the same
 * prefix, and throws `InvalidName`.
 */
export const make = <const Layers extends readonly [Layer.Any, ...ReadonlyArray<Layer.Any>]>(
  name: string,
  layers: Layers
): Blueprint<
  Layer.Success<Layers[number]>,
  Layer.Error<Layers[number]>,
  Layer.Services<Layers[number]> | Transport
> => {
  Name.check("blueprint", name)
  const place = `Blueprint.make at ${Place.ofCaller()}`
  const claim = Layer.effectDiscard(
    Effect.flatMap(Mounted, (mounted) => Tasks.claim("blueprint", name, mounted ? `${place}, ${mounted}` : place))
  )
  // The name first: two of a kind should be told by it, and not by the first handler that they share.
  const grouped = Layer.provide(Layer.mergeAll(...(layers as readonly [any, ...Array<any>])), claim)
  return Object.assign(grouped, { blueprintName: name }) as any
}

/**
 * Mounts a blueprint behind a prefix: `UsersBlueprint.pipe(Blueprint.prefixed("v2."))`.
 *
 * All names inside bear it: services, topics, background tasks, daemons, and what is called and published there. Callers reach
 * `user_service` as `v2.user_service`, or by `Prefixed.inside("v2.")(Caller.make(Users))`; what lies outside is called from inside
 * by `Prefixed.outside(Caller.make(Payments))`. The link to the broker and the inbox stay one.
 *
 * Each mount is built anew, with all that the blueprint brings itself; what it is provided with from outside is shared.
 * Errors: throws `InvalidName`.
 */
export const prefixed = (prefix: string) => {
  const place = `prefixed at ${Place.ofCaller()}`
  const view = Layer.mergeAll(Prefixed.layer(prefix), Layer.succeed(Mounted, place))
  return <ROut, E, RIn>(blueprint: Layer.Layer<ROut, E, RIn>): Layer.Layer<ROut, E, RIn | Transport> =>
    Layer.provide(Layer.fresh(blueprint), view)
}
