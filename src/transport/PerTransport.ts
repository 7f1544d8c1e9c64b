/** Things of which a process wants one per transport, shared by all who use them: the inbox, the host. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Tracer from "effect/Tracer"
import { Transport } from "./Transport.ts"

interface Place<A> {
  /** One at a time acquires or releases. */
  readonly lock: Semaphore.Semaphore
  held: { readonly value: A; readonly scope: Scope.Closeable; holders: number } | undefined
}

// What of the first user's context the shared instance keeps: nothing of the request or span it was made in.
const keys: ReadonlyArray<Context.Reference<any>> = [
  Clock.Clock,
  Scheduler.Scheduler,
  Random.Random,
  Logger.CurrentLoggers,
  Metric.MetricRegistry,
  References.MinimumLogLevel,
  References.CurrentLogLevel,
  Tracer.Tracer
]

/**
 * Makes an accessor. The first to ask for a transport's instance acquires it, later ones share it, and it is released when the
 * last Scope that holds it closes. The next one acquires anew, with its own clock, loggers and `settings`.
 */
export const make = <A, E>(
  acquire: (transport: Transport["Service"]) => Effect.Effect<A, E, Scope.Scope>,
  settings: ReadonlyArray<Context.Reference<any>> = []
): Effect.Effect<A, E, Transport | Scope.Scope> => {
  const places = new WeakMap<Transport["Service"], Place<A>>()
  const kept = [...keys, ...settings]

  const placeOf = (transport: Transport["Service"]) => {
    const place: Place<A> = places.get(transport) ?? { lock: Semaphore.makeUnsafe(1), held: undefined }
    places.set(transport, place)
    return place
  }

  return Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const transport = yield* Transport
      const place = placeOf(transport)
      yield* restore(place.lock.take(1))
      // From here to the permit's return nothing interrupts but the acquisition itself.
      if (place.held === undefined) {
        const scope = Scope.makeUnsafe()
        const acquired = yield* Effect.exit(
          restore(
            Effect.updateContext(acquire(transport), (context: Context.Context<never>) => clean(context, scope, kept))
          )
        )
        if (Exit.isFailure(acquired)) {
          yield* Scope.close(scope, acquired)
          yield* place.lock.release(1)
          return yield* acquired
        }
        place.held = { value: acquired.value, scope, holders: 0 }
      }
      const { value } = place.held
      place.held.holders++
      yield* place.lock.release(1)
      yield* Effect.addFinalizer(() => release(place))
      return value
    })
  )
}

const release = <A>(place: Place<A>) =>
  place.lock.withPermit(
    Effect.suspend(() => {
      const { held } = place
      if (held === undefined || --held.holders > 0) return Effect.void
      place.held = undefined
      return Scope.close(held.scope, Exit.void)
    })
  )

const clean = (
  context: Context.Context<never>,
  scope: Scope.Scope,
  keys: ReadonlyArray<Context.Reference<any>>
): Context.Context<Scope.Scope> => {
  let kept: Context.Context<Scope.Scope> = Context.make(Scope.Scope, scope)
  for (const key of keys) {
    const value = context.mapUnsafe.get(key.key)
    if (value !== undefined) kept = Context.add(kept, key, value)
  }
  return kept
}
