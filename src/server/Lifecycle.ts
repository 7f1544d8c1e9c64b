/**
 * Says when a program is ready and when it stops, and does what is to be done then.
 *
 * `Lifecycle.managed` is around the whole: `Supervision.launch(AppLive.pipe(Lifecycle.managed, Layer.provide(TransportLive)))`. In what
 * follows from it, in this order:
 *
 * 1. The Layers are built: the program serves.
 * 2. What {@link waitFor} names is waited for, all at the same time.
 * 3. The hooks of {@link onReady} run, one after the other, in the order in which their Layers were built.
 * 4. The state is `Ready`. Until then it is `Starting`, and the Layer of the whole is not built.
 * 5. When the Scope closes, the state is `Stopping`; the hooks of {@link onStop} run, the last one first; then all Layers close.
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Service from "../contract/Service.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import * as Followed from "./internal/followed.ts"
import * as Place from "./internal/place.ts"
import * as Probe from "./internal/probe.ts"
import * as WindDown from "./internal/windDown.ts"

import * as Supervision from "./Supervision.ts"
import * as TaskMetrics from "./TaskMetrics.ts"

export { DependencyMissing } from "./internal/probe.ts"

/** `waitingFor` names the services that are not there yet. */
export type State =
  | { readonly _tag: "Starting"; readonly waitingFor: ReadonlyArray<string> }
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Stopping" }

interface Hook {
  readonly place: string
  readonly run: Effect.Effect<unknown, unknown>
  readonly timeout: Duration.Input
}

interface Dependency {
  readonly name: string
  readonly wait: Effect.Effect<void, Probe.DependencyMissing>
}

/** The life of the program around. {@link managed} gives it. */
export class Lifecycle extends Context.Service<
  Lifecycle,
  {
    readonly state: Effect.Effect<State>
    readonly states: Stream.Stream<State>
    readonly ready: Effect.Effect<void>
    /** @internal */
    readonly parts: {
      readonly dependencies: Set<Dependency>
      readonly onReady: Set<Hook>
      readonly onStop: Set<Hook>
      readonly begin: Effect.Effect<void, Probe.DependencyMissing, Scope.Scope>
    }
  }
>()("fiberbus/server/Lifecycle") {}

/** The present state: for a health endpoint. */
export const state: Effect.Effect<State, never, Lifecycle> = Effect.flatMap(Lifecycle, ({ state }) => state)
/** The present state, then each change. */
export const states: Stream.Stream<State, never, Lifecycle> = Stream.unwrap(
  Effect.map(Lifecycle, ({ states }) => states)
)
/** Waits until the program is ready. Interrupted when it stops before it was. */
export const ready: Effect.Effect<void, never, Lifecycle> = Effect.flatMap(Lifecycle, ({ ready }) => ready)

/** Time that hooks and dependencies have where nothing is said. */
export const defaults = { onReady: "30 seconds", onStop: "5 seconds", waitFor: "30 seconds" } as const

/**
 * Runs an effect when everything is there, before the program is reported ready.
 *
 * Its failure is logged, and the program goes on; so it does when the hook takes longer than `timeout`, 30 seconds by default, and
 * is interrupted. What must not fail belongs into a Layer.
 */
export const onReady = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options?: { readonly timeout?: Duration.Input }
): Layer.Layer<never, never, Lifecycle | Exclude<R, Scope.Scope>> =>
  hook("onReady", `Lifecycle.onReady at ${Place.ofCaller()}`, effect, options?.timeout)

/**
 * Runs an effect when the program stops, while it still serves and all it stands on is there.
 *
 * The same holds as for {@link onReady}; `timeout` is 5 seconds by default, of real time. It runs also when the program was never ready,
 * but not when one of its Layers failed.
 */
export const onStop = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options?: { readonly timeout?: Duration.Input }
): Layer.Layer<never, never, Lifecycle | Exclude<R, Scope.Scope>> =>
  hook("onStop", `Lifecycle.onStop at ${Place.ofCaller()}`, effect, options?.timeout)

const hook = <A, E, R>(
  when: "onReady" | "onStop",
  place: string,
  effect: Effect.Effect<A, E, R>,
  timeout: Duration.Input = defaults[when]
) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { parts } = yield* Lifecycle
      const run = Effect.provideContext(Effect.scoped(effect), yield* Effect.context<Exclude<R, Scope.Scope>>())
      yield* entered(parts[when], { place, run, timeout })
    })
  )

/**
 * Waits for a service to be there before the program is reported ready, by asking its channel: with a fiberbus service for an answer,
 * with a Daebus service for the broker's word that somebody is subscribed. Nothing runs there, and no registry is needed.
 *
 * Two programs may wait for each other, for each serves while it waits. It asks again by `schedule`, every 500 ms with some jitter
 * by default, for `timeout`, 30 seconds by default; then the Layer of the whole fails with `DependencyMissing`. Asking
 * takes the rights of a caller.
 */
export const waitFor = (
  service: Service.Any | string,
  options?: { readonly timeout?: Duration.Input; readonly schedule?: Schedule.Schedule<unknown> }
): Layer.Layer<never, never, Lifecycle | Transport> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { parts } = yield* Lifecycle
      const name = typeof service === "string" ? service : service.serviceName
      const context = yield* Effect.context<Transport>()
      const wait = Effect.provideContext(
        Probe.awaited(name, options?.timeout ?? defaults.waitFor, options?.schedule),
        context
      )
      yield* entered(parts.dependencies, { name, wait })
    })
  )

/** Whether anybody serves a service now, found out as {@link waitFor} does. */
export const isServed = (service: Service.Any | string): Effect.Effect<boolean, TransportError, Transport> =>
  Probe.probe(typeof service === "string" ? service : service.serviceName)

const entered = <A>(set: Set<A>, value: A) =>
  Effect.acquireRelease(
    Effect.sync(() => set.add(value)),
    () => Effect.sync(() => set.delete(value))
  )

const make = Effect.gen(function* () {
  const context = yield* Effect.context<never>()
  const followed = yield* Followed.make<State>({ _tag: "Starting", waitingFor: [] })
  const isReady = yield* Deferred.make<void>()
  const change = (state: State) => {
    followed.set(state)
    TaskMetrics.ready.updateUnsafe(state._tag === "Ready" ? 1 : 0, context)
  }
  const parts = { dependencies: new Set<Dependency>(), onReady: new Set<Hook>(), onStop: new Set<Hook>() }

  const begin = Effect.gen(function* () {
    const stop = yield* Effect.cached(
      Effect.suspend(() => {
        change({ _tag: "Stopping" })
        Deferred.doneUnsafe(isReady, Effect.interrupt)
        return Effect.forEach([...parts.onStop].reverse(), runHook(WindDown.withinReal), { discard: true })
      })
    )
    yield* Effect.addFinalizer(() => stop)
    // Under Supervision.launch services shut down before any Layer closes; the hooks come before that.
    const supervisor = yield* Supervision.Supervisor
    if (supervisor !== undefined) yield* entered(supervisor.before, stop)
    const waiting = new Set([...parts.dependencies].map(({ name }) => name))
    const show = () => change({ _tag: "Starting", waitingFor: [...waiting] })
    show()
    yield* Effect.forEach(
      parts.dependencies,
      ({ name, wait }) =>
        Effect.andThen(
          wait,
          Effect.sync(() => {
            waiting.delete(name)
            show()
          })
        ),
      { concurrency: "unbounded", discard: true }
    )
    yield* Effect.forEach(parts.onReady, runHook(WindDown.within), { discard: true })
    change({ _tag: "Ready" })
    Deferred.doneUnsafe(isReady, Effect.void)
  })

  return Lifecycle.of({
    state: Effect.sync(followed.current),
    states: followed.changes,
    ready: Deferred.await(isReady),
    parts: { ...parts, begin }
  })
})

const runHook =
  (within: typeof WindDown.within) =>
  ({ place, run, timeout }: Hook): Effect.Effect<void> =>
    run.pipe(
      within(timeout),
      Effect.flatMap((ended) =>
        ended._tag === "Some"
          ? Effect.void
          : Effect.logError(`fiberbus: the hook of ${place} was interrupted: it took longer than its time`)
      ),
      Effect.catchCause((cause: Cause.Cause<unknown>) =>
        Effect.logError(`fiberbus: the hook of ${place} failed`, cause)
      )
    )

/**
 * Gives a program its life: see the order at the top of this file.
 *
 * Errors: `DependencyMissing` beside the program's own; all Layers are then closed again.
 */
export const managed = <ROut, E, RIn>(
  app: Layer.Layer<ROut, E, RIn>
): Layer.Layer<ROut | Lifecycle, E | Probe.DependencyMissing, Exclude<RIn, Lifecycle>> =>
  Layer.effectDiscard(Effect.flatMap(Lifecycle, ({ parts }) => parts.begin)).pipe(
    Layer.provideMerge(app),
    Layer.provideMerge(Layer.effect(Lifecycle, make))
  )
