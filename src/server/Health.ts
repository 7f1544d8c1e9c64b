/**
 * How a process is: checks that it runs when `Discovery.health` or `fiberbus health` asks for them.
 *
 * Every service has two of its own, of kind `readiness`: `serving` fails while it shuts down or its pool has broken down, `transport` while the
 * link is anything but `Ready`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Name from "../contract/Name.ts"
import type * as Service from "../contract/Service.ts"
import type { Transport } from "../transport/Transport.ts"
import type * as Discovery from "../wire/Discovery.ts"
import * as Checks from "./internal/checks.ts"
import * as Entry from "./internal/entry.ts"
import { host } from "./internal/host.ts"

/** Two checks of one name about the same service: a mistake in the program, so the layer dies instead of being built. */
export class DuplicateCheck extends Data.TaggedError("DuplicateCheck")<{ readonly check: string }> {
  override get message() {
    return `There are two health checks named ${this.check}`
  }
}

/** What may be said of a check. */
export interface Options {
  /** Time that it may take before it fails and is interrupted. Default 2 seconds, at least a millisecond. */
  readonly timeout?: Duration.Input
  /**
   * - `readiness` (the default): while it fails, the process should get no work.
   * - `liveness`: while it fails, the process should be restarted. It makes the process unready too.
   */
  readonly kind?: Discovery.CheckKind
  /** The one service that it concerns. Default: all that the process serves over the same transport. */
  readonly service?: Service.Any
}

/**
 * Adds a check to the services of the process, for as long as the Layer lives.
 *
 * Shape: it passes where the effect succeeds; text that it succeeds with is its detail, and so is the message of what it fails with: who asks
 * reads it. A defect is logged, and not told.
 * Limits: nothing runs before somebody asks. It never runs twice at a time, and whoever asks within a second of a result gets that one.
 * Errors: throws `InvalidName`; the Layer dies with {@link DuplicateCheck}.
 */
export const check = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  options?: Options
): Layer.Layer<never, never, Transport | Exclude<R, Scope.Scope>> => {
  Name.check("health check", name)
  const timeoutMillis = Math.max(1, Duration.toMillis(Duration.fromInputUnsafe(options?.timeout ?? "2 seconds")))
  return Layer.effectDiscard(
    Effect.gen(function* () {
      const { check } = yield* host
      const clock = yield* Clock.Clock
      const context = yield* Entry.context
      const added = new Checks.Check({
        name,
        kind: options?.kind ?? "readiness",
        service: options?.service?.serviceName,
        timeoutMillis: Math.min(timeoutMillis, maxTimeoutMillis),
        // What it needs besides is in the context, as the Layer's type demands.
        effect: Effect.scoped(effect) as Effect.Effect<unknown, unknown>,
        context: Context.add(context, Clock.Clock, clock)
      })
      if (!(yield* check(added))) return yield* Effect.die(new DuplicateCheck({ check: name }))
    })
  ) as any
}

/** Longest time that a check may be given, in milliseconds. */
const maxTimeoutMillis = 60_000
