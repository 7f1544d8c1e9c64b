// Background: work by a schedule, which others can run now, pause and change, once per process or once per fleet.
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Layer, Logger, Queue, Schedule, Stream } from "effect"
import { Background, Lease, Memory } from "fiberbus"

// A name in types, so that others can hold the task. Where nobody does, a text is enough.
class Report extends Background.Service<Report, string, "no paper">()("report") {}

let paper = 1
const write = Effect.suspend(() => (paper-- > 0 ? Effect.succeed("a report") : Effect.fail("no paper" as const)))

// At three o'clock in the morning in Oslo, also on the days when the clocks change there.
const ReportLive = Background.layer(Report, Schedule.cron("0 3 * * *", "Europe/Oslo"), write)

const byHand = Effect.gen(function* () {
  const report = yield* Report
  yield* Console.log(`now       ${Exit.match(yield* report.runNow, { onSuccess: (it) => it, onFailure: String })}`)
  // A run that fails is logged and counted, and does not stop the next.
  yield* report.runNow
  const { runs } = yield* report.state
  yield* Console.log(`counted   ${runs.succeeded} succeeded, ${runs.failed} failed`)

  paper = 3
  yield* report.reschedule(Schedule.spaced("20 millis"))
  const { runs: after } = yield* report.states.pipe(
    Stream.filter((state) => state.runs.succeeded === 3),
    Stream.runHead,
    Effect.flatMap(Effect.fromOption)
  )
  yield* report.pause
  yield* Console.log(`often     ${after.succeeded} by now, and paused`)
})

class Nightly extends Background.Service<Nightly>()("nightly") {}

// Each process of the fleet has it, and shares the leases: `RedisLease.layer` in earnest, memory here.
const replica = Effect.gen(function* () {
  const once = Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 1 }))
  const work = Effect.flatMap(Lease.token, (token) =>
    Console.log(`fleet     the nightly job runs, under token ${token}`)
  )
  const context = yield* Background.layer(Nightly, once, work, { oncePerFleet: true }).pipe(
    Layer.provide(Layer.fresh(Memory.layer)),
    Layer.build
  )
  return yield* Effect.provide(Nightly, context)
})

const fleet = Effect.gen(function* () {
  const replicas = yield* Effect.all([replica, replica, replica])
  const outcomes = yield* Queue.bounded<string>(3)
  for (const { states } of replicas) {
    yield* states.pipe(
      Stream.filter(({ runs, skipped }) => runs.succeeded + skipped > 0),
      Stream.take(1),
      Stream.runForEach(({ skipped }) => Queue.offer(outcomes, skipped > 0 ? "left it to another" : "ran it")),
      Effect.forkChild
    )
  }
  const all = yield* Effect.all([Queue.take(outcomes), Queue.take(outcomes), Queue.take(outcomes)])
  yield* Console.log(`replicas  ${all.sort().join(", ")}`)
})

const plain = Logger.layer([Logger.make(({ message }) => console.log(`log       ${String(message)}`))])

Effect.gen(function* () {
  yield* Effect.provide(byHand, ReportLive.pipe(Layer.provide(Memory.layer), Layer.provideMerge(plain)))
  yield* Effect.provide(fleet, Lease.layerMemory)
}).pipe(Effect.scoped, NodeRuntime.runMain)
