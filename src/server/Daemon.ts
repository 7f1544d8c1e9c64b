/**
 * Keeps an effect running, as a Layer: a consumer, a poller, a connection of one's own. It is started again when it fails, can be
 * stopped and started by name, and ends with its Layer.
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Name from "../contract/Name.ts"
import * as Prefixed from "../transport/Prefixed.ts"
import { Transport } from "../transport/Transport.ts"
import * as Place from "./internal/place.ts"
import * as Supervisor from "./internal/supervisor.ts"
import * as Tasks from "./internal/tasks.ts"

export { defaultRestart } from "./internal/supervisor.ts"
export { DuplicateName } from "./internal/tasks.ts"

/** @see {@link layer} */
export interface Options<E = unknown> {
  /**
   * Waits before it is started again after it failed, died or was interrupted from within; its input is the Cause. When the schedule
   * ends, the daemon is given up, loudly. A wait is at least 10 ms. Default: {@link defaultRestart}.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<E>>
  /** A run that has lasted so long begins the schedule anew. Default 1 minute. */
  readonly steadyAfter?: Duration.Input
  /** Whether it starts with its Layer. Default true. */
  readonly autoStart?: boolean
  /** What becomes of one that succeeds: it is done (`end`, the default), or it is started again as if it had failed. */
  readonly onSuccess?: "end" | "restart"
  /** Time that it has to end by itself when its Layer closes. Default none: it is interrupted. Its finalizers get a second. */
  readonly grace?: Duration.Input
}

/**
 * How a daemon is: `Stopped` (not started, or stopped on purpose), `Running`, `Waiting` to be started again, `Done` (it
 * succeeded), or `GivenUp` (its schedule has ended). `restarts` counts since it was last started on purpose.
 */
export type State =
  | { readonly _tag: "Stopped" }
  | { readonly _tag: "Running"; readonly since: DateTime.Utc; readonly restarts: number }
  | {
      readonly _tag: "Waiting"
      readonly until: DateTime.Utc
      readonly restarts: number
      readonly cause: Cause.Cause<unknown> | undefined
    }
  | { readonly _tag: "Done"; readonly restarts: number }
  | { readonly _tag: "GivenUp"; readonly restarts: number; readonly cause: Cause.Cause<unknown> | undefined }

/** What holds a daemon. */
export interface Handle {
  readonly name: string
  /** Starts it if it neither runs nor waits, with its schedule at the beginning. Nothing happens once its Layer has closed. */
  readonly start: Effect.Effect<void>
  /** Interrupts it, and succeeds when its finalizers have ended. Interrupting this leaves that alone. */
  readonly stop: Effect.Effect<void>
  /** `stop`, then `start`. */
  readonly restart: Effect.Effect<void>
  readonly state: Effect.Effect<State>
  /** The present state, then each change. A reader that falls behind by more than 16 misses the oldest. */
  readonly states: Stream.Stream<State>
}

/** No daemon of this name is on the transport. */
export class UnknownDaemon extends Schema.TaggedError<UnknownDaemon>()("UnknownDaemon", {
  name: Schema.String,
  /** Those that are. */
  known: Schema.Array(Schema.String)
}) {
  override get message() {
    return `no daemon is named ${this.name}; ${this.known.length === 0 ? "there is none" : `there are ${this.known.join(", ")}`}`
  }
}

/** The daemons of the transport and its views, by their names. */
export const all: Effect.Effect<ReadonlyMap<string, Handle>, never, Transport> = Effect.scoped(
  Effect.map(Tasks.tasks, ({ daemons }) => new Map(daemons))
)

/** Finds a daemon by its name: below a prefix by the part behind it. Errors: {@link UnknownDaemon}. */
export const get = (name: string): Effect.Effect<Handle, UnknownDaemon, Transport> =>
  Effect.gen(function* () {
    const added = Prefixed.addedBy(yield* Transport)
    const known = yield* all
    const found = known.get(added + name)
    return found ?? (yield* new UnknownDaemon({ name: added + name, known: [...known.keys()] }))
  })

/** Starts a daemon by its name. */
export const start = (name: string) => Effect.flatMap(get(name), (daemon) => daemon.start)
/** Stops a daemon by its name. */
export const stop = (name: string) => Effect.flatMap(get(name), (daemon) => daemon.stop)
/** Stops a daemon by its name and starts it again. */
export const restart = (name: string) => Effect.flatMap(get(name), (daemon) => daemon.restart)

/** A daemon by a name of its own in types, whose Layer gives the {@link Handle}. */
export interface Named<Self, N extends string>
  extends Context.ServiceClass<Self, `fiberbus/server/Daemon/${N}`, Handle> {
  readonly daemonName: N
}

/**
 * Names a daemon in types: `class Indexer extends Daemon.Service<Indexer>()("indexer") {}`.
 *
 * Errors: throws `InvalidName`.
 */
export const Service =
  <Self>() =>
  <const N extends string>(name: N): Named<Self, N> => {
    Name.check("daemon", name)
    const key = Context.Service<Self, Handle>()(`fiberbus/server/Daemon/${name}`)
    return Object.assign(key, { daemonName: name }) as any
  }

type AnyNamed = Named<any, string>
type SelfOf<D> = D extends Named<infer Self, any> ? Self : never

/**
 * Runs the effect until the Scope of the Layer closes, and again when it ends before.
 *
 * A run that fails or dies is logged and counted. Each has a Scope of its own, closed before the next one begins.
 * Errors: dies with `DuplicateName` when another daemon of the name is on this transport, and throws `InvalidName`.
 */
export const layer = <D extends AnyNamed | string, A, E, R>(
  daemon: D,
  effect: Effect.Effect<A, E, R>,
  options: Options<E> = {}
): Layer.Layer<SelfOf<D>, never, Transport | Exclude<R, Scope.Scope>> => {
  const place = `Daemon.layer at ${Place.ofCaller()}`
  const name = typeof daemon === "string" ? Name.check("daemon", daemon) : daemon.daemonName
  const made = Effect.gen(function* () {
    const { daemons } = yield* Tasks.tasks
    const whole = yield* Tasks.claim("daemon", name, place)
    const handle = yield* Supervisor.make(whole, effect, options)
    yield* Effect.acquireRelease(
      Effect.sync(() => daemons.set(whole, handle)),
      () => Effect.sync(() => daemons.delete(whole))
    )
    if (options.autoStart ?? true) yield* handle.start
    return handle
  })
  return (typeof daemon === "string" ? Layer.effectDiscard(made) : Layer.effect(daemon, made)) as any
}
