import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Ref, Schedule, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Background, Lease, Memory } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisLease from "fiberbus/transport/RedisLease"

class Task extends Background.Service<Task>()("task") {}

const start = Date.parse("2026-03-01T12:00:00Z")
const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/** The clock of a machine that is so many milliseconds off. */
const off = (clock: Clock.Clock, millis: number): Clock.Clock => ({
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis,
  currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + millis),
  currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + BigInt(millis) * 1_000_000n,
  currentTimeNanos: Effect.map(clock.currentTimeNanos, (now) => now + BigInt(millis) * 1_000_000n),
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos,
  sleep: (duration) => clock.sleep(duration)
})

interface Ran {
  readonly replica: number
  /** The time on the true clock. */
  readonly at: number
  readonly token: number | undefined
}

/** A fleet on one store of leases. A replica that crashes says nothing any more, not even that it gives its lease back. */
const fleet = Effect.fnUntraced(function* (options: {
  readonly schedule: Schedule.Schedule<unknown, unknown, unknown>
  readonly skews: ReadonlyArray<number>
  readonly work: (replica: number) => Effect.Effect<unknown>
  readonly ttl?: "1 minute"
}) {
  yield* TestClock.setTime(start)
  const clock = yield* Clock.Clock
  const store = Context.get(yield* Layer.build(Layer.fresh(Lease.layerMemory)), Lease.Lease)
  const ran: Array<Ran> = []
  const crashed = new Set<number>()
  const replica = Effect.fnUntraced(function* (n: number) {
    const unlessCrashed = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.suspend(() => (crashed.has(n) ? Effect.never : effect))
    const run = Effect.gen(function* () {
      ran.push({ replica: n, at: clock.currentTimeMillisUnsafe(), token: yield* Lease.token })
      yield* options.work(n)
    })
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* Background.layer(Task, options.schedule, unlessCrashed(run), {
      oncePerFleet: options.ttl === undefined ? true : { ttl: options.ttl }
    }).pipe(
      Layer.provide(
        Layer.succeed(Lease.Lease, {
          acquire: (ask) => unlessCrashed(store.acquire(ask)),
          renew: (ask) => unlessCrashed(store.renew(ask)),
          release: (ask) => (crashed.has(n) ? Effect.void : store.release(ask))
        })
      ),
      Layer.provide(Layer.fresh(Memory.layer)),
      Layer.provide(Layer.succeed(Clock.Clock, off(clock, options.skews[n]!))),
      Layer.buildWithScope(scope),
      Effect.orDie
    )
    return {
      task: Context.get(context, Task),
      crash: Effect.sync(() => crashed.add(n)),
      close: Scope.close(scope, Exit.void)
    }
  })
  return { ran, replica }
})

const ten = (from: number, to: number) =>
  Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: from, maximum: to }))).check(
    Schema.isMinLength(10),
    Schema.isMaxLength(10)
  )

/** By the day they ran on. */
const perDay = (ran: ReadonlyArray<Ran>) => {
  const days = new Map<string, number>()
  for (const { at } of ran) {
    const day = new Date(at - 2 * hour).toISOString().slice(0, 10)
    days.set(day, (days.get(day) ?? 0) + 1)
  }
  return Object.fromEntries(days)
}

const nightly = Schedule.cron("0 3 * * *", "UTC")

describe("Of ten replicas", () => {
  it.effect.prop(
    "exactly one runs each occurrence of a nightly job, however their clocks differ and however long it takes",
    [ten(-30_000, 30_000), Schema.Literals([0, 1, 1_000, 29_000, 61_000, 2 * hour])],
    ([skews, took]) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { ran, replica } = yield* fleet({ schedule: nightly, skews, work: () => Effect.sleep(took) })
          yield* Effect.forEach(skews, (_, n) => replica(n))
          yield* TestClock.adjust(3 * day)
          assert.deepStrictEqual(perDay(ran), { "2026-03-02": 1, "2026-03-03": 1, "2026-03-04": 1 })
          const tokens = ran.map(({ token }) => token!)
          assert.deepStrictEqual(
            tokens,
            [...tokens].sort((a, b) => a - b)
          )
          assert.strictEqual(new Set(tokens).size, 3)
        })
      ),
    { arbitrary: { runs: 25 } }
  )

  it.effect.prop(
    "some are started just before the time, or end just then, and it is still one run",
    [ten(-2_000, 2_000), ten(-5_000, 5_000)],
    ([skews, starts]) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { ran, replica } = yield* fleet({ schedule: nightly, skews, work: () => Effect.sleep(100) })
          const night = start + 15 * hour
          // One that is there in any case, so that somebody is.
          yield* replica(0)
          const scope = yield* Effect.scope
          for (const [n, offset] of starts.entries()) {
            if (n === 0) continue
            yield* Effect.sleep(night - start + offset).pipe(
              Effect.andThen(replica(n)),
              Effect.flatMap(({ close }) => Effect.andThen(Effect.sleep(1_000 * n), close)),
              Effect.provideService(Scope.Scope, scope),
              Effect.forkScoped
            )
          }
          yield* TestClock.adjust(day)
          assert.deepStrictEqual(perDay(ran), { "2026-03-02": 1 })
        })
      ),
    { arbitrary: { runs: 25 } }
  )

  it.effect.prop(
    "one at a time does what recurs by an interval, never twice within nine tenths of it",
    [ten(0, 59_999)],
    ([phases]) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { ran, replica } = yield* fleet({
            schedule: Schedule.spaced("1 minute"),
            skews: phases.map(() => 0),
            work: () => Effect.sleep(10)
          })
          const scope = yield* Effect.scope
          for (const [n, phase] of phases.entries()) {
            yield* Effect.sleep(phase).pipe(
              Effect.andThen(replica(n)),
              Effect.provideService(Scope.Scope, scope),
              Effect.forkScoped
            )
          }
          yield* TestClock.adjust(hour)
          const gaps = ran.slice(1).map(({ at }, index) => at - ran[index]!.at)
          assert.isAtLeast(Math.min(...gaps), 0.9 * minute)
          assert.isAtMost(Math.max(...gaps), minute)
          assert.isAtLeast(ran.length, 58)
        })
      ),
    { arbitrary: { runs: 25 } }
  )

  it.effect("another runs the next occurrence when one has crashed in its run, and none makes up for that", () =>
    Effect.gen(function* () {
      const skews = [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
      const { ran, replica } = yield* fleet({ schedule: nightly, skews, work: () => Effect.sleep("10 minutes") })
      const replicas = yield* Effect.forEach(skews, (_, n) => replica(n))
      yield* TestClock.adjust(15 * hour + minute)
      assert.lengthOf(ran, 1)
      yield* replicas[ran[0]!.replica]!.crash
      yield* TestClock.adjust(day)
      assert.deepStrictEqual(perDay(ran), { "2026-03-02": 1, "2026-03-03": 1 })
      assert.notStrictEqual(ran[1]!.replica, ran[0]!.replica)
    })
  )

  it.effect("a short interval pauses for the time to live of a crashed one's lease, then goes on", () =>
    Effect.gen(function* () {
      const skews = [0, 5, 10]
      const schedule = Schedule.spaced("1 second")
      const { ran, replica } = yield* fleet({ schedule, skews, work: () => Effect.sleep(500), ttl: "1 minute" })
      const replicas = yield* Effect.forEach(skews, (_, n) => replica(n))
      yield* TestClock.adjust(10_200)
      const crashedAt = ran.at(-1)!
      yield* replicas[crashedAt.replica]!.crash
      yield* TestClock.adjust(2 * minute)
      const next = ran.find(({ at }) => at > crashedAt.at)!
      assert.notStrictEqual(next.replica, crashedAt.replica)
      assert.isAtLeast(next.at - crashedAt.at, minute)
      assert.isAtMost(next.at - crashedAt.at, minute + 2_000)
      assert.isAbove(ran.length, 60)
    })
  )

  it.effect("one that closes gives the lease back, and another goes on with the next occurrence", () =>
    Effect.gen(function* () {
      const skews = [0, 5, 10]
      const schedule = Schedule.spaced("10 seconds")
      const { ran, replica } = yield* fleet({ schedule, skews, work: () => Effect.never, ttl: "1 minute" })
      const replicas = yield* Effect.forEach(skews, (_, n) => replica(n))
      yield* TestClock.adjust(25_000)
      assert.lengthOf(ran, 1)
      yield* replicas[ran[0]!.replica]!.close
      yield* TestClock.adjust(10_000)
      assert.lengthOf(ran, 2)
      assert.notStrictEqual(ran[1]!.replica, ran[0]!.replica)
    })
  )

  it.effect("one whose clock is a year ahead keeps nobody from anything, and is told", () =>
    Effect.gen(function* () {
      const { ran, replica } = yield* fleet({
        schedule: Schedule.spaced("1 minute"),
        skews: [0, 365 * day],
        work: () => Effect.void
      })
      const mad = yield* replica(1)
      yield* TestClock.adjust(5 * minute)
      assert.lengthOf(ran, 0)
      assert.deepInclude(yield* mad.task.state, { skipped: 5 })
      yield* replica(0)
      yield* TestClock.adjust(5 * minute)
      assert.lengthOf(ran, 5)
    })
  )

  it.effect("each says what it did not do, and may be asked to run it now if nobody else does", () =>
    Effect.gen(function* () {
      const skews = [0, 5]
      const { ran, replica } = yield* fleet({ schedule: nightly, skews, work: () => Effect.sleep("1 hour") })
      const [first, second] = yield* Effect.all([replica(0), replica(1)])
      yield* TestClock.adjust(15 * hour + minute)
      assert.lengthOf(ran, 1)
      const [busy, idle] = ran[0]!.replica === 0 ? [first, second] : [second, first]
      assert.strictEqual((yield* Effect.flip(idle.task.runNow)).reason, "Taken")
      assert.strictEqual((yield* Effect.flip(busy.task.runNow)).reason, "Running")
      assert.deepInclude(yield* idle.task.state, { skipped: 1, running: 0 })
      yield* TestClock.adjust(hour)
      // A run that somebody asked for takes no occurrence from the schedule.
      const asked = yield* Effect.forkChild(idle.task.runNow)
      yield* TestClock.adjust(hour)
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(asked)))
      yield* TestClock.adjust(day)
      assert.deepStrictEqual(perDay(ran), { "2026-03-02": 2, "2026-03-03": 1 })
    })
  )

  it.effect("a run whose lease is lost is interrupted and counted as such", () =>
    Effect.gen(function* () {
      const skews = [0]
      const { ran, replica } = yield* fleet({ schedule: nightly, skews, work: () => Effect.never })
      const only = yield* replica(0)
      yield* TestClock.adjust(15 * hour + minute)
      assert.lengthOf(ran, 1)
      yield* only.crash
      yield* TestClock.adjust(minute)
      const { runs, last } = yield* only.task.state
      assert.strictEqual(runs.lost, 1)
      assert.strictEqual(last?.outcome, "lost")
    })
  )
})

it.effect("A store of leases that breaks is told as a run that died, not taken for the end of the task", () =>
  Effect.gen(function* () {
    const broken = Effect.die(new Error("a bug in the store"))
    const { task } = yield* Background.layer(Task, Schedule.spaced("1 minute"), Effect.void, {
      oncePerFleet: true
    }).pipe(
      Layer.provide(Layer.succeed(Lease.Lease, { acquire: () => broken, renew: () => broken, release: () => broken })),
      Layer.provide(Layer.fresh(Memory.layer)),
      Layer.build,
      Effect.map((context) => ({ task: Context.get(context, Task) }))
    )
    assert.isTrue(Exit.hasDies(yield* task.runNow))
    yield* TestClock.adjust("1 minute")
    const { runs, last } = yield* task.state
    assert.strictEqual(runs.died, 2)
    assert.strictEqual(last?.outcome, "died")
  })
)

it.layer(RedisServer.layer, { excludeTestServices: true })("Three replicas over one Redis", (it) => {
  it.effect("run a job one at a time; when one loses its connection another takes over with a higher token", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const runs = yield* Queue.unbounded<{ readonly replica: number; readonly token: number }>()
      const running = yield* Ref.make(0)
      const interrupted = yield* Deferred.make<number>()
      const replicas = yield* Effect.forEach([0, 1, 2], (replica) =>
        Effect.gen(function* () {
          const proxy = yield* Faults.proxy({ host: server.host, port: server.port })
          const job = Effect.gen(function* () {
            assert.strictEqual(yield* Ref.getAndUpdate(running, (n) => n + 1), 0)
            yield* Effect.addFinalizer(() => Ref.update(running, (n) => n - 1))
            yield* Queue.offer(runs, { replica, token: (yield* Lease.token)! })
            yield* Effect.never
          }).pipe(Effect.onInterrupt(() => Deferred.succeed(interrupted, replica)))
          yield* Background.layer("job", Schedule.spaced("50 millis"), job, {
            oncePerFleet: { ttl: "500 millis" }
          }).pipe(
            Layer.provide(RedisLease.layer({ url: proxy.through(server.url) })),
            Layer.provide(Layer.fresh(Memory.layer)),
            Layer.build
          )
          return proxy
        })
      )
      const first = yield* Queue.take(runs)
      yield* replicas[first.replica]!.refuse
      yield* replicas[first.replica]!.cut
      assert.strictEqual(yield* Deferred.await(interrupted), first.replica)
      const second = yield* Queue.take(runs)
      assert.notStrictEqual(second.replica, first.replica)
      assert.isAbove(second.token, first.token)
    })
  )
})
