/** Runs a daemon, starts it again by its schedule, and stops it. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import type { Handle, Options, State } from "../Daemon.ts"
import * as TaskMetrics from "../TaskMetrics.ts"
import * as Apart from "./apart.ts"
import * as Followed from "./followed.ts"
import * as WindDown from "./windDown.ts"

/** The waits of a daemon that says nothing: 100 ms doubling to 30 s, varied by a fifth, endless. */
export const defaultRestart: Schedule.Schedule<unknown> = Schedule.jittered(
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("30 seconds")])
)

/** A schedule without waits would take the whole core, and fill the log. */
const shortestWaitMillis = 10

/** Makes the handle of a daemon that is not started; it is stopped for good when the Scope closes. */
export const make = Effect.fnUntraced(function* <E>(
  name: string,
  effect: Effect.Effect<unknown, E, any>,
  options: Options<E>
) {
  const clock = yield* Clock.Clock
  const context = yield* Apart.context
  const runFork = Effect.runForkWith(context)
  const daemon = { daemon: name }
  const steadyMillis = Duration.toMillis(Duration.fromInputUnsafe(options.steadyAfter ?? "1 minute"))
  const followed = yield* Followed.make<State>({ _tag: "Stopped" })
  const gauge = Metric.withAttributes(TaskMetrics.daemonState, daemon)
  const change = (state: State) => {
    followed.set(state)
    gauge.updateUnsafe(state._tag === "Running" ? 1 : state._tag === "GivenUp" ? -1 : 0, context)
  }
  const now = () => clock.currentTimeMillisUnsafe()

  const running = (restarts: number) => change({ _tag: "Running", since: DateTime.makeUnsafe(now()), restarts })

  const supervise = Effect.gen(function* () {
    const begin = Schedule.toStep(options.restart ?? (defaultRestart as Schedule.Schedule<unknown, Cause.Cause<E>>))
    let step = yield* begin
    let restarts = 0
    while (true) {
      const since = now()
      const exit = yield* Effect.exit(Effect.scoped(effect) as Effect.Effect<unknown, E>)
      if (exit._tag === "Success" && options.onSuccess !== "restart") return change({ _tag: "Done", restarts })
      const cause = exit._tag === "Failure" ? exit.cause : undefined
      if (now() - since >= steadyMillis) step = yield* begin
      const wait = yield* step(now(), cause ?? Cause.empty).pipe(
        Effect.map(([, wait]) => Math.max(Duration.toMillis(wait), shortestWaitMillis)),
        Pull.catchDone(() => Effect.undefined)
      )
      if (wait === undefined) {
        change({ _tag: "GivenUp", restarts, cause })
        return yield* Effect.logError(
          `fiberbus: the daemon ${name} is given up after ${restarts} restarts`,
          ...(cause === undefined ? [] : [cause])
        )
      }
      if (cause === undefined) yield* Effect.logDebug(`fiberbus: the daemon ${name} has ended, again in ${wait} ms`)
      else yield* Effect.logError(`fiberbus: the daemon ${name} failed, again in ${wait} ms`, cause)
      change({ _tag: "Waiting", until: DateTime.makeUnsafe(Math.min(now() + wait, farAhead)), restarts, cause })
      yield* Effect.sleep(wait)
      restarts++
      Metric.withAttributes(TaskMetrics.restarts, daemon).updateUnsafe(1, context)
      running(restarts)
    }
  }).pipe(
    // Only the schedule itself can bring this about.
    Effect.catchCause((cause) => {
      change({ _tag: "GivenUp", restarts: 0, cause })
      return Effect.logError(`fiberbus: the restart schedule of the daemon ${name} is broken`, cause)
    }),
    Effect.annotateLogs(daemon)
  )

  let fiber: Fiber.Fiber<void> | undefined
  let closed = false
  // One at a time starts or stops, and goes on when whoever asked for it goes away: it may be the daemon itself.
  const lock = Semaphore.makeUnsafe(1)
  const alone = (effect: Effect.Effect<void>) =>
    Effect.suspend(() => (closed ? Effect.void : Fiber.join(runFork(lock.withPermit(effect)))))
  const start = Effect.sync(() => {
    if (closed || (fiber !== undefined && fiber.pollUnsafe() === undefined)) return
    running(0)
    // On a later turn: what it does first may bring somebody back here, who must find it in its place.
    fiber = runFork(Effect.andThen(Effect.yieldNow, supervise))
  })
  const stop = Effect.suspend(() => {
    if (fiber === undefined || fiber.pollUnsafe() !== undefined) return Effect.void
    return Effect.andThen(
      Fiber.interrupt(fiber),
      Effect.sync(() => change({ _tag: "Stopped" }))
    )
  })
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closed = true
      if (fiber === undefined || fiber.pollUnsafe() !== undefined) return Effect.void
      return Effect.andThen(
        WindDown.fibers([fiber], options.grace ?? 0),
        Effect.sync(() => {
          if (followed.current()._tag !== "Done") change({ _tag: "Stopped" })
        })
      )
    })
  )

  const handle: Handle = {
    name,
    start: alone(start),
    stop: alone(stop),
    restart: alone(Effect.andThen(stop, start)),
    state: Effect.sync(followed.current),
    states: followed.changes
  }
  return handle
})

/** The latest time that a date can hold, in milliseconds. */
const farAhead = 8.64e15
