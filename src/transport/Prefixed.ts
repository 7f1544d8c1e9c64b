/** A view of a transport whose names all bear a further prefix. It has the same link, and callers the same inbox. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Name from "../contract/Name.ts"
import * as Optional from "./Optional.ts"
import { Transport } from "./Transport.ts"

type Shape = Transport["Service"]

// One view per prefix, so that whatever a process has once per transport it has once per prefix, while somebody has the view:
// prefixes may come and go, as tenants do.
const views = new WeakMap<Shape, Map<string, WeakRef<Shape>>>()
const forgotten = new FinalizationRegistry<readonly [known: Map<string, WeakRef<Shape>>, added: string]>(
  ([known, added]) => {
    // There may be a new one already.
    if (known.get(added)?.deref() === undefined) known.delete(added)
  }
)
const roots = new WeakMap<Shape, Shape>()

/** The transport that a view is of; a transport that is no view itself. */
export const rootOf = (transport: Shape): Shape => roots.get(transport) ?? transport

/** What a view puts before names besides the prefix of its root; empty for a transport that is no view. */
export const addedBy = (transport: Shape): string => transport.prefix.slice(rootOf(transport).prefix.length)

/**
 * Views a transport through a prefix. The same prefix gives the same view; a view of a view bears both, the outer one first.
 *
 * Errors: throws `InvalidName` for a prefix that cannot begin a name.
 */
export const make = (transport: Shape, prefix: string): Shape => {
  if (prefix === "") return transport
  Name.check("prefix", prefix)
  const root = rootOf(transport)
  const added = addedBy(transport) + prefix
  const known = views.get(root) ?? new Map<string, WeakRef<Shape>>()
  views.set(root, known)
  let view = known.get(added)?.deref()
  if (view === undefined) {
    view = viewOf(root, root.prefix + added)
    known.set(added, new WeakRef(view))
    forgotten.register(view, [known, added])
    roots.set(view, root)
  }
  return view
}

/** Asks the root for everything anew each time: it may be the instance of a class, whose methods need it as their `this`. */
const viewOf = (root: Shape, prefix: string): Shape => ({
  prefix,
  get name() {
    return root.name
  },
  get capabilities() {
    return root.capabilities
  },
  get state() {
    return root.state
  },
  get whileDown() {
    return root.whileDown
  },
  send: (channel, frame, sent, pack) => root.send(channel, frame, sent, pack),
  subscribe: (target, receive) => root.subscribe(target, receive),
  ...Optional.of(root),
  watch: (watcher) => root.watch(watcher)
})

/** Gives the view as the transport of what is provided with it. */
export const layer = (prefix: string): Layer.Layer<Transport, never, Transport> => {
  if (prefix !== "") Name.check("prefix", prefix)
  return Layer.effect(
    Transport,
    Effect.map(Transport, (transport) => make(transport, prefix))
  )
}

/** Runs an effect on the view: `Prefixed.inside("v2.")(Caller.make(Users))` calls what is served behind the prefix. */
export const inside =
  (prefix: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Transport> =>
    on((transport) => make(transport, prefix), effect)

/** Runs an effect on the transport with no prefix but its own: for a caller, below a prefix, of a service that is not. */
export const outside = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Transport> =>
  on(rootOf, effect)

const on = <A, E, R>(to: (transport: Shape) => Shape, effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Transport, (transport) => Effect.provideService(effect, Transport, to(transport))) as Effect.Effect<
    A,
    E,
    R | Transport
  >
