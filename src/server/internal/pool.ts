/** The slots and the backlog of a service or listener: who runs, waits or is refused. Made anew when it breaks down. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Concurrency from "../../policy/Concurrency.ts"
import * as Reason from "../../wire/Reason.ts"
import * as Options from "../Options.ts"
import * as ServerMetrics from "../ServerMetrics.ts"
import { PoolGaveUp } from "../Supervision.ts"
import { Admission, type Gate } from "./admission.ts"
import type { Entry } from "./entry.ts"
import type { Exchange, Link } from "./exchange.ts"

/** @see the file's first line */
export interface Pool extends ServerMetrics.Source {
  /** `restarting` after a breakdown, `closed` when it takes no more. */
  readonly state: "open" | "restarting" | "closed"
  /** False once it takes nothing any more. */
  readonly isOpen: boolean
  /** Whether a request would begin at once. */
  readonly hasRoom: (entry: Entry) => boolean
  /** Begins a request, lets it wait, or refuses it. */
  readonly enter: (exchange: Exchange) => void
  /** Gives the slot of one that has ended to the next. */
  readonly leave: (exchange: Exchange) => void
  /** Refuses all that waits, and makes nothing anew any more. */
  readonly close: (reason: Reason.Sent) => void
}

/** What a pool works with. */
export interface Work {
  readonly link: Link
  /** For metrics and logs. */
  readonly name: string
  readonly entries: ReadonlyArray<Entry>
  readonly settings: Options.Settings
  /** Handles a request that has its slot; `leave` is called once when it has ended, possibly before this returns. */
  readonly begin: (exchange: Exchange) => void
  /** Ends a request that has not begun. */
  readonly refuse: (exchange: Exchange, reason: Reason.Sent) => void
  /** Counts one that has not begun. */
  readonly refused: (reason: string) => void
  /** How long handlers run, on average. */
  readonly meanMillis: () => number
  /** It broke down: what runs is to be stopped and answered. The id finds the cause in the log. */
  readonly brokeDown: (id: string) => void
  /** It broke down too often and stays down. */
  readonly gaveUp: (error: PoolGaveUp) => void
}

/** Longest time in milliseconds that callers are asked to wait before they try again. */
const longestRetryAfterMillis = 30_000

/** Makes a pool. Throws a `RangeError` for limits that can be none. */
export const make = (work: Work): Pool => {
  const { begin, brokeDown, entries, gaveUp, link, meanMillis, name, refuse, settings } = work
  const { backlog, concurrency, fairBy } = settings
  let limit: Concurrency.Concurrency
  let openGate: Gate<Exchange>
  let gates: Map<Entry, Gate<Exchange>>
  let bornAt = 0
  let restarts = 0
  let backAt = 0
  let step: ((now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], never, unknown>) | undefined
  let restarting: Fiber.Fiber<void> | undefined
  let closedFor: Reason.Sent | undefined

  const build = () => {
    limit = typeof concurrency === "number" ? Concurrency.makeUnsafe(concurrency) : concurrency
    const built: Admission<Exchange> = new Admission<Exchange>({
      limit,
      backlog,
      start: begin,
      displaced: (exchange) => {
        exchange.untrack()
        full(exchange)
      },
      refused: work.refused,
      broke: (defect) => broke(built, defect)
    })
    openGate = built.gate(Number.POSITIVE_INFINITY)
    gates = new Map()
    for (const entry of entries) {
      if (entry.concurrency !== undefined) gates.set(entry, built.gate(Concurrency.check(entry.concurrency)))
    }
    bornAt = link.wheel.now()
    return built
  }

  const full = (exchange: Exchange) => {
    // What is kept goes back to where it is kept.
    if (backlog.whenFull === "dropNewest" && exchange.delivery === undefined) {
      work.refused("Dropped")
      return link.discards.note("Dropped")
    }
    const slots = Math.min(limit.limitUnsafe(), exchange.gate?.limit ?? Number.POSITIVE_INFINITY)
    // When all that wait now would have run.
    refuse(exchange, busyFor((meanMillis() * ((admission?.waiting ?? 0) + 1)) / slots))
  }

  const wait = (present: Admission<Exchange>, exchange: Exchange, gate: Gate<Exchange>) => {
    let key = ""
    if (fairBy !== undefined) {
      try {
        key = fairBy(exchange)
      } catch (defect) {
        work.refused("RemoteDefect")
        return exchange.die(Cause.die(defect))
      }
    }
    if (present.wait(exchange, gate, key)) exchange.track()
    else full(exchange)
  }

  const broke = (broken: Admission<Exchange>, defect: unknown) => {
    if (admission !== broken) return
    admission = undefined
    const id = crypto.randomUUID()
    restarting = link.fork(recreate(broken, id, Cause.die(defect)))
  }

  const recreate = Effect.fnUntraced(function* (broken: Admission<Exchange>, id: string, cause: Cause.Cause<never>) {
    if (link.wheel.now() - bornAt >= Options.calmMillis) {
      step = undefined
      restarts = 0
    }
    step ??= yield* Schedule.toStep(settings.restart)
    const next = yield* Effect.exit(step(link.wheel.now(), cause))
    const delay = Exit.isSuccess(next) ? Duration.toMillis(next.value[1]) : undefined
    backAt = link.wheel.now() + (delay ?? 0)
    const plan = delay === undefined ? "it stays down" : `it is made anew in ${Math.ceil(delay)} ms`
    yield* Effect.logError(`fiberbus: the pool of ${name} broke down (${id}), ${plan}`, cause).pipe(
      Effect.annotateLogs({ defectId: id })
    )
    if (delay === undefined) closedFor = new Reason.Draining({})
    // What is broken may break again: then what it cannot tell of waits for its deadline.
    yield* Effect.exit(
      Effect.sync(() => release(broken, delay === undefined ? new Reason.Draining({}) : busyFor(delay)))
    )
    yield* Effect.exit(Effect.sync(() => brokeDown(id)))
    if (delay === undefined) return gaveUp(new PoolGaveUp({ service: name, restarts, defectId: id }))
    yield* Effect.sleep(delay)
    restarts++
    yield* Metric.update(Metric.withAttributes(ServerMetrics.restarts, { service: name }), 1)
    admission = build()
  })

  /** Refuses all that waits. */
  const release = (present: Admission<Exchange>, reason: Reason.Sent) => {
    for (const exchange of present.clear()) {
      exchange.untrack()
      refuse(exchange, reason)
    }
  }

  let admission: Admission<Exchange> | undefined = build()

  return {
    get state() {
      if (closedFor !== undefined) return "closed"
      return admission === undefined ? "restarting" : "open"
    },
    get running() {
      return admission?.running ?? 0
    },
    get waiting() {
      return admission?.waiting ?? 0
    },
    get isOpen() {
      return closedFor === undefined
    },
    hasRoom: (entry) => {
      if (closedFor !== undefined || admission === undefined) return false
      const gate = gates.get(entry) ?? openGate
      return gate.running < gate.limit && admission.running < limit.limitUnsafe()
    },
    enter: (exchange) => {
      if (closedFor !== undefined) return refuse(exchange, closedFor)
      const present = admission
      if (present === undefined) return refuse(exchange, busyFor(backAt - link.wheel.now()))
      const { entry } = exchange
      const gate = entry.concurrency === undefined ? openGate : (gates.get(entry) ?? openGate)
      exchange.gate = gate
      try {
        if (!present.start(exchange, gate)) wait(present, exchange, gate)
      } catch (defect) {
        const isLost = !exchange.begun && exchange.place === undefined
        broke(present, defect)
        if (isLost) refuse(exchange, busyFor(backAt - link.wheel.now()))
      }
    },
    leave: ({ gate }) => {
      if (gate === undefined) return
      try {
        gate.admission.release(gate)
      } catch (defect) {
        broke(gate.admission, defect)
      }
    },
    close: (reason) => {
      closedFor = reason
      restarting?.interruptUnsafe()
      try {
        if (admission !== undefined) release(admission, reason)
      } catch (defect) {
        link.log(Effect.logError(`fiberbus: the pool of ${name} broke down while it was closed`, Cause.die(defect)))
      }
    }
  }
}

const busyFor = (millis: number) =>
  new Reason.Busy({ retryAfterMillis: Math.min(Math.max(Math.ceil(millis), 1), longestRetryAfterMillis) })
