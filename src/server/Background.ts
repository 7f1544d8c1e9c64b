/**
 * Runs an effect again and again by a Schedule, as a Layer: heartbeats, clean-ups, nightly jobs.
 *
 * The schedule makes ticks, and a tick makes a run. The schedule is asked for the next tick at once, so its waits are from tick to
 * tick, and `overlap` says what becomes of a tick that meets a run. For a pause between the end of a run and the next one use
 * `Daemon.layer(name, Effect.repeat(effect, Schedule.spaced("1 minute")))`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FiberHandle from "effect/FiberHandle"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Name from "../contract/Name.ts"
import type { Lease } from "../transport/Lease.ts"
import type { Transport } from "../transport/Transport.ts"
import * as Apart from "./internal/apart.ts"
import * as Followed from "./internal/followed.ts"
import * as Place from "./internal/place.ts"
import * as Runs from "./internal/runs.ts"
import * as Tasks from "./internal/tasks.ts"
import * as Ticks from "./internal/ticks.ts"

export type { Outcome } from "./internal/runs.ts"
export { DuplicateName } from "./internal/tasks.ts"

/** What can be said about any task. */
interface Common {
  /** Time that runs have to end by themselves when the Layer closes. Default none: they are interrupted. Their finalizers get a second. */
  readonly grace?: Duration.Input
}

/** A task of each process that has it. */
export interface PerProcess extends Common {
  /**
   * What a tick does that meets a run: nothing (`skip`, the default), wait for its end (`queue`, one at most), or run beside it,
   * up to so many at once.
   */
  readonly overlap?: "skip" | "queue" | { readonly beside: number }
  /** Whether there is a run at once, besides those of the schedule. Default `scheduled`: there is none. */
  readonly first?: "scheduled" | "now"
  readonly oncePerFleet?: false
}

/** A task of which the whole fleet makes one run per occurrence of the schedule. */
export interface PerFleet extends Common {
  readonly overlap?: "skip" | "queue"
  /**
   * Each run takes the `Lease` of the task's name, which remembers the occurrences. `ttl` is how long a process that died keeps
   * others from running: 30 seconds by default.
   *
   * The name is the fleet's: tasks of other services that share the store need names of their own, as `orders.nightly`.
   *
   * At most one run per occurrence in the fleet, also where clocks differ or a run is over before the next process wants it. One
   * that dies with its process is not made up for: the next occurrence runs elsewhere. A lease that is lost interrupts the run.
   */
  readonly oncePerFleet: true | { readonly ttl?: Duration.Input }
}

/** How a task has been doing in this process. */
export interface State<A = unknown, E = unknown> {
  readonly paused: boolean
  /** The next tick; nothing when the schedule has ended. */
  readonly nextAt: DateTime.Utc | undefined
  readonly running: number
  /** A run waits for the end of another. */
  readonly waiting: boolean
  /** Runs that have ended. */
  readonly runs: { readonly [outcome in Runs.Outcome]: number }
  /** Ticks that made no run: because of the overlap rule, or because the run is another process's. */
  readonly skipped: number
  readonly last: Last<A, E> | undefined
}

/** The run that ended last. */
export interface Last<A, E> {
  readonly startedAt: DateTime.Utc
  readonly duration: Duration.Duration
  readonly outcome: Runs.Outcome
  readonly exit: Exit.Exit<A, E>
}

/**
 * There was no run. `Running`: by the overlap rule; `Taken`: another process has the lease; `Unreachable`: nobody could be asked for
 * it; `Closed`: the task's Layer is.
 */
export class NotRun extends Schema.TaggedError<NotRun>()("NotRun", {
  task: Schema.String,
  reason: Schema.Literals(["Running", "Taken", "Over", "Early", "Unreachable", "Closed"])
}) {
  override get message() {
    return `the background task ${this.task} was not run: ${this.reason}`
  }
}

/** What holds a task. Whatever is done with it concerns this process only, not its fleet. */
export interface Handle<out A = unknown, out E = unknown> {
  readonly name: string
  /**
   * Runs it now, paused or not, and gives the run's exit. Interrupting this leaves the run alone. With `overlap: "queue"` it joins
   * the run that waits.
   */
  readonly runNow: Effect.Effect<Exit.Exit<A, E>, NotRun>
  /** Lets ticks pass without a run until {@link resume}. What runs goes on. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /**
   * Takes another schedule from now on, in place of one that goes on or has ended. Fails as the schedule's first step does. Nothing
   * else happens once the task's Layer has closed.
   */
  readonly reschedule: <ES, RS>(schedule: Schedule.Schedule<unknown, unknown, ES, RS>) => Effect.Effect<void, ES, RS>
  readonly state: Effect.Effect<State<A, E>>
  /** The present state, then each change. A reader that falls behind by more than 16 misses the oldest. */
  readonly states: Stream.Stream<State<A, E>>
}

/** A task by a name of its own in types, whose Layer gives the {@link Handle}. */
export interface Task<Self, Name extends string, A, E>
  extends Context.ServiceClass<Self, `fiberbus/server/Background/${Name}`, Handle<A, E>> {
  readonly taskName: Name
}

/**
 * Names a task, so that others can hold it: `class Reports extends Background.Service<Reports>()("reports") {}`. Say what it succeeds
 * and fails with where the exits of {@link Handle} are of interest: `Background.Service<Reports, Summary, ReportError>()`.
 *
 * Errors: throws `InvalidName`.
 */
export const Service =
  <Self, A = unknown, E = unknown>() =>
  <const N extends string>(name: N): Task<Self, N, A, E> => {
    Name.check("background task", name)
    const key = Context.Service<Self, Handle<A, E>>()(`fiberbus/server/Background/${name}`)
    return Object.assign(key, { taskName: name }) as any
  }

type AnyTask = Task<any, string, any, any>
type SelfOf<T> = T extends Task<infer Self, any, any, any> ? Self : never
type SuccessOf<T> = T extends Task<any, any, infer A, any> ? A : unknown
type ErrorOf<T> = T extends Task<any, any, any, infer E> ? E : unknown

/**
 * Runs the effect at each tick of the schedule, from when the Layer is built until its Scope closes.
 *
 * A run that fails or dies is logged and counted, and the next one comes. Each has a Scope of its own. `Schedule.cron` takes a time zone:
 * `Schedule.cron("0 3 * * *", "Europe/Oslo")`. Without a {@link Service} before it a name will do; there is then nothing to hold.
 * Errors: those of the schedule's first step, such as a cron expression that cannot be read. Dies with `DuplicateName` when another
 * task of the name is on this transport, and throws `InvalidName`.
 */
export const layer: {
  <T extends AnyTask | string, R, ES = never, RS = never>(
    task: T,
    schedule: Schedule.Schedule<unknown, unknown, ES, RS>,
    effect: Effect.Effect<SuccessOf<T>, ErrorOf<T>, R>,
    options?: PerProcess
  ): Layer.Layer<SelfOf<T>, ES, Transport | RS | Exclude<R, Scope.Scope>>
  <T extends AnyTask | string, R, ES = never, RS = never>(
    task: T,
    schedule: Schedule.Schedule<unknown, unknown, ES, RS>,
    effect: Effect.Effect<SuccessOf<T>, ErrorOf<T>, R>,
    options: PerFleet
  ): Layer.Layer<SelfOf<T>, ES, Transport | Lease | RS | Exclude<R, Scope.Scope>>
} = (
  task: AnyTask | string,
  schedule: Schedule.Schedule<unknown, unknown, any, any>,
  effect: Effect.Effect<any, any, any>,
  options: PerProcess | PerFleet = {}
): Layer.Layer<any, any, any> => {
  const place = `Background.layer at ${Place.ofCaller()}`
  const name = typeof task === "string" ? Name.check("background task", task) : task.taskName
  const made = Effect.flatMap(Tasks.claim("background task", name, place), (whole) =>
    make(whole, schedule, effect, options)
  )
  return typeof task === "string" ? (Layer.effectDiscard(made) as Layer.Layer<any, any, any>) : Layer.effect(task, made)
}

const make = Effect.fnUntraced(function* (
  name: string,
  schedule: Schedule.Schedule<unknown, unknown, any, any>,
  effect: Effect.Effect<unknown, unknown, any>,
  options: PerProcess | PerFleet
): Effect.fn.Return<Handle, any, any> {
  const clock = yield* Clock.Clock
  const overlap = options.overlap ?? "skip"
  const context = yield* Apart.context

  const followed = yield* Followed.make<State>({
    paused: false,
    nextAt: undefined,
    running: 0,
    waiting: false,
    runs: { succeeded: 0, failed: 0, died: 0, interrupted: 0, lost: 0 },
    skipped: 0,
    last: undefined
  })
  const change = (part: Partial<State>) => followed.set({ ...followed.current(), ...part })

  const runs = Runs.make<unknown, unknown>({
    name,
    effect: Apart.traced(Effect.scoped(effect), `background ${name}`, context) as Effect.Effect<unknown, unknown>,
    context,
    limit: typeof overlap === "object" ? Math.max(1, Math.floor(overlap.beside) || 1) : 1,
    queue: overlap === "queue",
    lease: options.oncePerFleet === true ? {} : options.oncePerFleet || undefined,
    onEnd: (startedAt, outcome, exit, millis) => {
      const { runs } = followed.current()
      change({
        runs: { ...runs, [outcome]: runs[outcome] + 1 },
        last: { startedAt: DateTime.makeUnsafe(startedAt), duration: Duration.millis(millis), outcome, exit }
      })
    },
    onSkip: () => change({ skipped: followed.current().skipped + 1 }),
    onChange: () => change({ running: runs.running(), waiting: runs.isWaiting() })
  })
  // Runs end after the last tick: see the order of what follows.
  yield* Effect.addFinalizer(() => runs.close(options.grace ?? 0))

  const show = (tick: Ticks.Tick | undefined) =>
    change({
      nextAt: tick !== undefined && Number.isFinite(tick.atMillis) ? DateTime.makeUnsafe(tick.atMillis) : undefined
    })

  const drive = (ticks: Ticks.Ticks<unknown>, first: Ticks.Tick | undefined) =>
    Effect.gen(function* () {
      let tick = first
      while (tick !== undefined) {
        show(tick)
        yield* Ticks.until(tick.atMillis)
        if (!followed.current().paused) runs.ask(tick)
        tick = Ticks.after(tick, yield* ticks(Math.max(tick.atMillis, clock.currentTimeMillisUnsafe())))
      }
      show(undefined)
      yield* Effect.logDebug(`fiberbus: the schedule of the background task ${name} has ended`)
    }).pipe(
      Effect.catchCause((cause) => {
        show(undefined)
        return Effect.logError(`fiberbus: the schedule of the background task ${name} is broken`, cause)
      }),
      Effect.annotateLogs("task", name)
    )

  let closed = false
  yield* Effect.addFinalizer(() => Effect.sync(() => show(undefined)))
  const driver = yield* FiberHandle.make<void, never>()
  yield* Effect.addFinalizer(() => Effect.sync(() => (closed = true)))
  const follow = Effect.fnUntraced(function* <ES, RS>(schedule: Schedule.Schedule<unknown, unknown, ES, RS>) {
    const ticks = yield* Ticks.make(schedule)
    // Here, so that a schedule which cannot even begin is known to whoever gave it.
    const first = yield* ticks(clock.currentTimeMillisUnsafe())
    // A driver that is closed would interrupt whoever asks.
    if (closed) return
    yield* FiberHandle.run(driver, Effect.provideContext(drive(ticks, first), context))
  })
  yield* follow(schedule)
  if (!options.oncePerFleet && (options as PerProcess).first === "now") runs.ask(undefined)

  const handle: Handle = {
    name,
    runNow: Effect.suspend(() => Deferred.await(runs.ask(undefined).done)).pipe(
      Effect.mapError((reason) => new NotRun({ task: name, reason }))
    ),
    pause: Effect.sync(() => change({ paused: true })),
    resume: Effect.sync(() => change({ paused: false })),
    reschedule: follow,
    state: Effect.sync(followed.current),
    states: followed.changes
  }
  return handle
})
