/** Runs services as the whole of a process: shuts them down together, and fails when one of them cannot go on. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"

/**
 * What admits the requests of a service or listener broke down again and again, and is not made anew any more (`restart` of its options).
 * It takes no requests: the process should end, and be started again by whatever watches it.
 */
export class PoolGaveUp extends Schema.TaggedError<PoolGaveUp>()("PoolGaveUp", {
  /** The service, or the listener's topic. */
  service: Schema.String,
  /** How often it had been made anew. */
  restarts: Schema.Finite,
  /** Finds what it broke down of in the log. */
  defectId: Schema.String
}) {
  override get message() {
    return `${this.service} takes no more requests: its pool broke down again after ${this.restarts} restarts (${this.defectId})`
  }
}

/** How a shutdown went. */
export interface Report {
  /** Handlers that ran and ended by themselves. */
  readonly finished: number
  /** Requests that were not begun. */
  readonly refused: number
  /** Handlers that were interrupted when their grace was over. */
  readonly interrupted: number
  readonly millis: number
}

/** A service or listener, as its supervisor sees it. @internal */
export interface Supervised {
  /** Its name, and what it is heard over. */
  readonly name: string
  readonly transport: string
  readonly running: number
  readonly waiting: number
  /** Shuts it down, once; then it tells how that went. */
  readonly shutDown: Effect.Effect<Report>
}

/** Who is told of the services that are built below it. @internal */
export interface Supervisor {
  readonly gaveUp: (error: PoolGaveUp) => void
  readonly supervised: Set<Supervised>
  /** What comes before the services shut down, while they still answer. */
  readonly before: Set<Effect.Effect<void>>
}

/** Nobody supervises where nothing is said. @internal */
export const Supervisor = Context.Reference<Supervisor | undefined>("fiberbus/server/Supervision/Supervisor", {
  defaultValue: () => undefined
})

/**
 * Builds a layer and keeps it until it is interrupted, like `Layer.launch`. Then all its services and listeners shut down side by side,
 * before anything they need is closed. Lines at level Info tell what is served, and how the shutdown went.
 *
 * Errors: those of the layer, and {@link PoolGaveUp}, which a built Layer has no way to fail with.
 */
export const launch = <A, E, R>(
  layer: Layer.Layer<A, E, R>
): Effect.Effect<never, E | PoolGaveUp, Exclude<R, Scope.Scope>> =>
  Effect.gen(function* () {
    const failed = yield* Deferred.make<never, PoolGaveUp>()
    const supervisor: Supervisor = {
      gaveUp: (error) => Deferred.doneUnsafe(failed, Exit.fail(error)),
      supervised: new Set(),
      before: new Set()
    }
    const built = yield* Effect.provideService(Layer.build(layer), Supervisor, supervisor)
    // Told to the loggers that the layer brings, if it brings any.
    yield* Effect.addFinalizer(() =>
      Effect.forEach(supervisor.before, (hooks) => hooks, { concurrency: "unbounded", discard: true }).pipe(
        Effect.andThen(shutDown(supervisor.supervised)),
        Effect.provideContext(built)
      )
    )
    yield* Effect.provideContext(announce(supervisor.supervised), built)
    return yield* Deferred.await(failed)
  }).pipe(Effect.scoped)

const announce = (all: ReadonlySet<Supervised>) => {
  const names = new Map<string, Set<string>>()
  for (const { name, transport } of all) names.set(transport, (names.get(transport) ?? new Set()).add(name))
  return Effect.forEach(
    names,
    ([transport, names]) => Effect.logInfo(`fiberbus: serving ${[...names].join(", ")} over ${transport}`),
    { discard: true }
  )
}

const shutDown = Effect.fnUntraced(function* (all: ReadonlySet<Supervised>) {
  const running = sum(all, ({ running }) => running)
  const waiting = sum(all, ({ waiting }) => waiting)
  yield* Effect.logInfo(`fiberbus: shutting down, ${running} running and ${waiting} waiting`)
  const reports = yield* Effect.forEach(all, ({ shutDown }) => shutDown, { concurrency: "unbounded" })
  const report: Report = {
    finished: sum(reports, ({ finished }) => finished),
    refused: sum(reports, ({ refused }) => refused),
    interrupted: sum(reports, ({ interrupted }) => interrupted),
    millis: Math.max(0, ...reports.map(({ millis }) => millis))
  }
  yield* Effect.logInfo(`fiberbus: shut down, ${tell(report)}`)
})

const sum = <A>(all: Iterable<A>, of: (one: A) => number) => Array.from(all, of).reduce((sum, value) => sum + value, 0)

/** A report in words. @internal */
export const tell = ({ finished, interrupted, millis, refused }: Report) =>
  `${finished} finished, ${refused} refused, ${interrupted} interrupted, ${millis} ms`
