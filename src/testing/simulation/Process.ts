/** A simulated process: a scope with fibers, a link and a life of its own. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Request from "../../server/Request.ts"
import * as Response from "../../server/Response.ts"
import { type Capabilities, Transport } from "../../transport/Transport.ts"
import type { Broker } from "./Broker.ts"
import { Here } from "./Here.ts"
import type { Event, History } from "./History.ts"
import * as Life from "./Life.ts"
import * as Link from "./Link.ts"

/** @see {@link make} */
export interface Process {
  readonly name: string
  readonly life: Life.Life
  readonly link: Link.Link
  /** Its program's end, if it has ended. */
  readonly exit: () => Exit.Exit<unknown, unknown> | undefined
  /** Handlers that run. */
  readonly running: () => number
  /** Kills it. */
  readonly crash: () => void
  /** Ends it well: its finalizers run, and its link is closed. */
  readonly stop: () => void
  /** Calls back when it has ended, however. */
  readonly onEnd: (ended: () => void) => void
}

/** What all processes of a run share. */
export interface Shared {
  readonly broker: Broker
  readonly seed: number
  readonly tell: (event: Event) => void
  readonly registry: Map<any, any>
  readonly outside: Context.Context<never>
  readonly calm: () => number
  readonly label: (process: string) => string
  readonly execution: () => number
  readonly history: Pick<History, "callOf" | "encoded">
  readonly capabilities: Partial<Capabilities> | undefined
}

/** Starts a process with a program of its own. */
export const make = (
  shared: Shared,
  name: string,
  program: Effect.Effect<unknown, unknown, any>,
  life = Life.make()
): Process => {
  const { broker } = shared
  const { world } = broker
  const ends: Array<() => void> = []
  const calls = new Set<string>()
  const executions = new Map<number, string>()
  // What the dead still hold says nothing more.
  const tell = (event: Event) => {
    if (life.isDead()) return
    if (event._tag === "CallBegan") calls.add(event.call)
    if (event._tag === "CallEnded") calls.delete(event.call)
    shared.tell(event)
  }
  const link = Link.make(broker, name, life, {
    promised: shared.capabilities,
    threw: (defect) =>
      tell({ at: world.now(), _tag: "ProcessFailed", process: name, text: `a callback threw ${defect}` })
  })
  const handled = new WeakSet<object>()
  let exit: Exit.Exit<unknown, unknown> | undefined

  /** A fiber that carries a request is its handler's, or one of those that this forked: the first is the handler's. */
  const seen = (fiber: Fiber.Fiber<unknown, unknown>) => {
    const request = fiber.getRef(Request.Slot)
    if (request === undefined || handled.has(request)) return
    handled.add(request)
    const execution = shared.execution()
    const { action, attempt, id, service } = request
    executions.set(execution, id)
    const what = action === "" ? service : `${service}.${action}`
    tell({ at: world.now(), _tag: "HandlerBegan", execution, process: name, request: id, what, attempt })
    fiber.addObserver((exit) => {
      executions.delete(execution)
      const value =
        Exit.isSuccess(exit) && exit.value !== Response.sent ? shared.history.encoded(id, exit.value) : undefined
      tell({ at: world.now(), _tag: "HandlerEnded", execution, process: name, request: id, how: howOf(exit), value })
    })
  }

  const context = Context.merge(
    shared.outside,
    Life.context({ world, life, seed: shared.seed, name, registry: shared.registry, seen })
  ).pipe(
    Context.add(Transport, link.transport),
    Context.add(Here, {
      process: name,
      now: world.now,
      tell,
      calm: shared.calm,
      callOf: shared.history.callOf,
      label: () => shared.label(name)
    })
  )
  tell({ at: world.now(), _tag: "ProcessStarted", process: name })
  const fiber = Effect.runForkWith(context)(Effect.scoped(program) as Effect.Effect<unknown, unknown>)
  fiber.addObserver((ended) => {
    if (life.isDead()) return
    exit = ended
    link.close()
    if (Exit.isFailure(ended) && !Cause.hasInterruptsOnly(ended.cause)) {
      tell({ at: world.now(), _tag: "ProcessFailed", process: name, text: String(Cause.squash(ended.cause)) })
    } else tell({ at: world.now(), _tag: "ProcessEnded", process: name })
    for (const end of ends) end()
  })

  return {
    name,
    life,
    link,
    exit: () => exit,
    running: () => (life.isDead() ? 0 : executions.size),
    crash: () => {
      if (life.isDead() || exit !== undefined) return
      life.end()
      link.kill()
      const at = world.now()
      shared.tell({ at, _tag: "ProcessCrashed", process: name })
      for (const [execution, request] of executions) {
        const value = undefined
        shared.tell({ at, _tag: "HandlerEnded", execution, process: name, request, how: "killed", value })
      }
      for (const call of calls) {
        shared.tell({ at, _tag: "CallEnded", call, process: name, outcome: { _tag: "Killed" } })
      }
      for (const end of ends) end()
    },
    stop: () => life.within(() => fiber.interruptUnsafe()),
    onEnd: (ended) => {
      if (life.isDead() || exit !== undefined) ended()
      else ends.push(ended)
    }
  }
}

/** The program of a service: its Layer, until it is stopped. `ready` is called when it serves. */
export const serving = (layer: Layer.Layer<never, unknown, any>, ready: () => void) =>
  Effect.gen(function* () {
    // A process builds everything anew.
    yield* Layer.buildWithMemoMap(layer, Layer.makeMemoMapUnsafe(), yield* Scope.Scope)
    ready()
    return yield* Effect.never
  })

const howOf = (exit: Exit.Exit<unknown, unknown>) => {
  if (Exit.isSuccess(exit)) return "success"
  if (Cause.hasDies(exit.cause)) return "defect"
  return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failure"
}
