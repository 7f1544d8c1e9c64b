/** How a service or listener ends: nothing of it is lost without a word, and nothing takes longer than it may. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Reason from "../../wire/Reason.ts"
import { type Report, type Supervised, tell } from "../Supervision.ts"
import type { Link } from "./exchange.ts"
import type { Mount } from "./mount.ts"

/** Time after the grace, in milliseconds, for finalizers of what was interrupted and for the last answers to leave. */
export const lastMillis = 1_000

/**
 * Gives the effect that shuts a mount down. `unsubscribe` is begun at once and not waited for before the rest: a frozen broker must not
 * take the time that handlers have. `finish` takes no more and goes on with what it has: within the same time, before the rest is refused.
 * It tells what it does at level Debug, as most programs that are not supervised end by themselves; a
 * supervisor tells it for all.
 */
export const make = (
  link: Link,
  name: string,
  mount: Mount,
  unsubscribe: Effect.Effect<void>,
  isSupervised: boolean,
  finish?: Effect.Effect<void>
): Supervised => {
  // What waits for a clock that nobody moves would wait for ever.
  const grace = Duration.toMillis(mount.options.grace)
  const graceMillis = link.shutDownClock === undefined ? Math.min(grace, 1_000) : grace
  const clock = link.shutDownClock ?? Clock.Clock.defaultValue()
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  let begun: Fiber.Fiber<Report> | undefined

  const run = Effect.gen(function* () {
    const from = now()
    const running = mount.running()
    const { waiting } = mount.pool
    const refusedBefore = mount.refusals()
    const say = (text: string) => (isSupervised ? Effect.void : Effect.logDebug(`fiberbus: ${name} ${text}`))

    yield* say(`takes no more, ${running} running and ${waiting} waiting`)
    // First of all: what still arrives is answered from now on.
    if (finish === undefined) mount.pool.close(new Reason.Draining({}))
    const left = yield* Effect.forkDetach(unsubscribe, { startImmediately: true })
    if (finish !== undefined) {
      yield* Effect.timeoutOption(finish, graceMillis)
      mount.pool.close(new Reason.Draining({}))
    }
    const inTime = yield* Effect.timeoutOption(mount.idle, Math.max(0, graceMillis - (now() - from)))
    const stopped = Option.isSome(inTime) ? [] : mount.stopAll(new Reason.Draining({}))
    const interrupted = stopped.length
    // Answers are on their way already, so that a finalizer that takes its time keeps none of them.
    // What was heard before it was unsubscribed, and is claimed now, still gets its answer.
    const answered = Effect.andThen(Effect.andThen(Fiber.await(left), mount.claimed), link.outbox.flushed)
    yield* Effect.all([Fiber.awaitAll(stopped), answered], {
      concurrency: 2,
      discard: true
    }).pipe(Effect.timeoutOption(Math.max(0, graceMillis + lastMillis - (now() - from))))
    const report: Report = {
      finished: running - interrupted,
      refused: mount.refusals() - refusedBefore,
      interrupted,
      millis: Math.round(now() - from)
    }
    yield* say(`is shut down, ${tell(report)}`)
    return report
  }).pipe(Effect.provideService(Clock.Clock, clock))

  return {
    name,
    transport: link.transport.name,
    get running() {
      return mount.running()
    },
    get waiting() {
      return mount.pool.waiting
    },
    shutDown: Effect.suspend(() => {
      begun ??= link.fork(run)
      return Fiber.join(begun)
    })
  }
}
