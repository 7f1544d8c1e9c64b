/** One run of a simulation, from its seed to what became of it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Capabilities } from "../../transport/Transport.ts"
import * as Broker from "./Broker.ts"
import type * as Fault from "./Fault.ts"
import * as History from "./History.ts"
import type { Broken, Invariant } from "./Invariant.ts"
import * as Life from "./Life.ts"
import * as Process from "./Process.ts"
import * as Storm from "./Storm.ts"
import * as World from "./World.ts"

/** What a run is made of, with nothing left open. Times are milliseconds. */
export interface Plan {
  readonly seed: number
  readonly services: { readonly [process: string]: Layer.Layer<never, unknown, any> }
  readonly clients: { readonly [process: string]: Effect.Effect<unknown, unknown, any> }
  readonly outside: Layer.Layer<any, unknown> | undefined
  readonly faults: Fault.Mix | ReadonlyArray<Fault.Fault>
  readonly stormMillis: number
  readonly recoveryMillis: number
  readonly limitMillis: number
  readonly maxEvents: number
  readonly invariants: ReadonlyArray<Invariant>
  readonly capabilities: Partial<Capabilities> | undefined
}

/** What was broken, and when. */
export interface Violation {
  readonly invariant: string
  readonly text: string
  /** The call that it is about, if it is about one. */
  readonly call: string | undefined
  readonly at: number
}

/** What became of a run. */
export interface Result {
  /** The first thing that was broken: the run ends with it. */
  readonly violation: Violation | undefined
  readonly faults: ReadonlyArray<Fault.Fault>
  readonly history: History.History
  /** Virtual milliseconds that it lasted. */
  readonly millis: number
}

/** Runs a plan. Nothing of it goes on afterwards. */
export const run = async (plan: Plan, stopped: () => boolean): Promise<Result> => {
  const { clients, seed, services, stormMillis } = plan
  const world = World.make()
  let violation: Violation | undefined
  let begun = Number.POSITIVE_INFINITY
  const breaks = (invariant: string, broken: Broken | undefined) => {
    if (broken === undefined || violation !== undefined) return
    const { call, text } = typeof broken === "string" ? { call: undefined, text: broken } : broken
    violation = { invariant, text, call, at: world.now() }
  }

  const history = History.make((event) => {
    if (event._tag === "ProcessFailed") breaks("processes end well", `${event.process} failed: ${event.text}`)
    for (const { along, name } of watches) if (along !== undefined) breaks(name, along(event))
    if (history.events.length >= plan.maxEvents) breaks(endsName, `more than ${plan.maxEvents} things happened`)
  })
  // What comes after it in the same turn is no part of it.
  const tell = (event: History.Event) => {
    if (violation === undefined) history.add(event)
  }
  let going = 0
  let lastFault = 0
  // A stop takes as long as it takes.
  const calm = () =>
    going > 0 ? Number.POSITIVE_INFINITY : Math.max(begun + stormMillis, lastFault) + plan.recoveryMillis
  const watches = plan.invariants.map(({ name, start }) => ({
    name,
    ...start({ history, calm })
  }))

  const storm = Storm.make({
    ...plan,
    services: Object.keys(services),
    clients: Object.keys(clients),
    millis: stormMillis,
    isOver: () => world.now() < begun || world.now() >= begun + stormMillis
  })
  const broker = Broker.make({ world, seed, tell, fateOf: storm.fateOf })
  const registry = new Map()
  const labels = new Map<string, number>()
  let executions = 0

  // What stands outside of all processes outlives them.
  const outsideLife = Life.make()
  const outsideScope = Scope.makeUnsafe()
  const outsideContext = Life.context({ world, life: outsideLife, seed, name: "outside", registry, seen: () => {} })
  const isOver = () => violation !== undefined || stopped()
  let outside: Exit.Exit<Context.Context<never>, unknown> = Exit.succeed(Context.empty())
  if (plan.outside !== undefined) {
    const building = Effect.runForkWith(outsideContext)(
      Layer.buildWithMemoMap(plan.outside as Layer.Layer<never, unknown>, Layer.makeMemoMapUnsafe(), outsideScope)
    )
    await world.run(plan.limitMillis, () => building.pollUnsafe() !== undefined || stopped())
    outside = building.pollUnsafe() ?? Exit.die(new Error("it did not come to an end"))
  }
  if (Exit.isFailure(outside)) breaks("what stands outside is built", String(Cause.squash(outside.cause)))

  const shared: Process.Shared = {
    broker,
    seed,
    tell,
    registry,
    outside: Exit.isSuccess(outside) ? outside.value : Context.empty(),
    calm,
    label: (process) => {
      const number = (labels.get(process) ?? 0) + 1
      labels.set(process, number)
      return `${process}#${number}`
    },
    execution: () => ++executions,
    history,
    capabilities: plan.capabilities
  }

  const processes = new Map<string, Process.Process>()
  let unready = 0
  let outageUntil = 0
  const serve = (name: string) => {
    const layer = services[name]!
    const program = Process.serving(layer, () => unready--)
    unready++
    const process = Process.make(shared, name, program)
    processes.set(name, process)
    if (world.now() < outageUntil) process.link.cut("both", outageUntil - world.now(), "the broker is gone")
  }

  const afflict = (fault: Fault.TimedFault) =>
    world.at(begun + fault.at, () => {
      tell({ at: world.now(), _tag: "FaultBegan", fault })
      going++
      apply(fault, () => {
        going--
        lastFault = world.now()
        tell({ at: world.now(), _tag: "FaultEnded", fault })
      })
    })

  const apply = (fault: Fault.TimedFault, over: () => void): void => {
    const { millis } = fault
    const later = (act: () => void) =>
      void world.at(world.now() + millis, () => {
        act()
        over()
      })
    if (fault._tag === "Outage") {
      outageUntil = Math.max(outageUntil, world.now() + millis)
      for (const { link } of processes.values()) link.cut("both", millis, "the broker is gone")
      return later(() => {})
    }
    const process = processes.get(fault.process)
    if (process === undefined) return over()
    const again = () => {
      // Who was told to end may have been killed meanwhile: it is started again once.
      if (fault.process in services && processes.get(fault.process) === process) serve(fault.process)
    }
    switch (fault._tag) {
      case "Cut":
        process.link.cut(fault.connections, millis, "the connection was reset")
        return later(() => {})
      case "Partition":
        process.link.part(millis)
        return later(() => {})
      case "Freeze":
        process.life.freeze()
        return later(() => process.life.thaw())
      case "Stop":
        process.onEnd(() => later(again))
        return process.stop()
      case "Crash":
        process.crash()
        return later(again)
    }
  }

  for (const name of Object.keys(services)) serve(name)
  const starting = await world.run(plan.limitMillis, () => isOver() || unready === 0)
  if (starting !== "over") breaks("services start", "not all of them came to serve")

  begun = world.now()
  for (const fault of storm.timed) afflict(fault)
  const running = Object.entries(clients).map(([name, program]) => {
    const process = Process.make(shared, name, program)
    processes.set(name, process)
    return process
  })
  const ended = () => running.every(({ exit, life }) => exit() !== undefined || life.isDead())
  const until = begun + stormMillis + plan.recoveryMillis + plan.limitMillis
  const clientsEnded = await world.run(until, () => isOver() || ended())
  if (clientsEnded !== "over") {
    const waiting = running.filter(({ exit, life }) => exit() === undefined && !life.isDead()).map(({ name }) => name)
    const stands = clientsEnded === "stuck" ? `, and time stands still at ${world.now()} ms` : ""
    breaks(endsName, `${waiting.join(", ")} did not come to an end${stands}`)
  }
  // What callers left behind has its own deadlines.
  const resting = () => {
    for (const process of processes.values()) if (process.running() > 0) return false
    return world.now() >= calm()
  }
  await world.run(until + plan.limitMillis, () => isOver() || resting())
  if (violation === undefined && !stopped()) for (const { end, name } of watches) breaks(name, end?.())

  const millis = world.now()
  for (const process of processes.values()) process.stop()
  const stopping = () => [...processes.values()].every(({ exit, life }) => life.isDead() || exit() !== undefined)
  const result: Result = {
    violation,
    faults: storm.happened(),
    history: { ...history, events: [...history.events] },
    millis
  }
  // After a violation handlers may run that nobody waits for.
  if (violation === undefined) await world.run(world.now() + plan.limitMillis, () => stopped() || stopping())
  for (const { life } of processes.values()) life.end()
  const closing = Effect.runForkWith(outsideContext)(Scope.close(outsideScope, Exit.void))
  await world.run(world.now() + plan.limitMillis, () => closing.pollUnsafe() !== undefined)
  outsideLife.end()
  return result
}

const endsName = "a run comes to an end"
