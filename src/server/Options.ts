/** What can be set for a service's handlers or for a listener, and what holds where nothing is. */
import * as Duration from "effect/Duration"
import * as Schedule from "effect/Schedule"
import type * as Action from "../contract/Action.ts"
import type { Concurrency } from "../policy/Concurrency.ts"
import * as Backoff from "../transport/Backoff.ts"
import type { Request } from "./Request.ts"

/** What happens to requests when as many wait as may. @see {@link Options.backlog} */
export interface Backlog {
  /** Requests that may wait for a slot. Default 1,000. */
  readonly size?: number
  /**
   * - `refuse` (the default): the newcomer gets `Busy`, at once.
   * - `dropOldest`: the one that waits longest gets `Busy`, the newcomer waits. For work whose newest matters most.
   * - `dropNewest`: the newcomer is dropped and counted without an answer; its caller waits for its timeout. For floods whose
   *   answers would cost more than the work.
   *
   * One-way messages and broadcasts get no answer in any case: they are dropped and counted.
   */
  readonly whenFull?: "refuse" | "dropOldest" | "dropNewest"
}

/** Limits and compatibility of a set of handlers. Every field has a default. */
export interface Options {
  /**
   * Handlers that run at once. Default 10, as in Daebus. A `Concurrency` can be changed while it holds, and shared by several services and
   * listeners. `Action.Concurrency` lets one action have less.
   */
  readonly concurrency?: number | Concurrency
  /** Requests that may wait for a slot: their number, 1,000 by default, and what happens beyond it. */
  readonly backlog?: number | Backlog
  /**
   * Whose a request is, say its tenant's. Then waiting requests of different keys are served in turn, and when the backlog is full, room
   * for a key with fewer waiting is made by the one with the most: `whenFull` concerns its newest (or oldest) request. Default: all
   * are alike, first come, first served.
   *
   * It is asked only about requests that have to wait, on the reader's own turn: look at `headers` or `payload`, do not compute. If it
   * throws, that request ends with `RemoteDefect`. There are never more keys than waiting requests.
   */
  readonly fairBy?: (request: Request) => string
  /**
   * Time that a handler has whose request brings no deadline, as those from Daebus don't, from when it takes its slot. Default: none,
   * as in Daebus, so a handler that never ends keeps its slot. At the limit it is interrupted, and the caller gets `DeadlineExceeded`.
   */
  readonly handlerTimeout?: Duration.Input
  /**
   * Time that running handlers have to end at shutdown, before they are interrupted and answered. Default 10 seconds. It is real
   * time; below `TestClock`, which nobody moves at that point, at most one second of it.
   */
  readonly grace?: Duration.Input
  /**
   * When the service's pool (its slots and its backlog) is made anew after it broke down of a defect that is no handler's. What it
   * held is answered: `RemoteDefect` where a handler ran, `Busy` where it waited, and `Busy` for what comes meanwhile. When the schedule ends,
   * the service gives up: it unsubscribes, and `Supervision.launch` fails. A minute without a breakdown begins the schedule anew. Default:
   * at most 5 times, after up to 100 milliseconds doubling to 5 seconds with full jitter.
   */
  readonly restart?: Schedule.Schedule<unknown, unknown>
  /**
   * Who handles a request, of all processes that serve the name: for all actions, whatever their `Action.Delivery` says, but for durable ones,
   * which stay so: their callers keep requests in a queue. A service whose
   * actions are all `live` needs no right but to hear its channel and to answer.
   */
  readonly delivery?: Action.Delivery
  /**
   * What an unknown action gets. Default `reply`: an error. `ignore` where several processes share the service's name with
   * different actions, as Daebus lets them; a caller then waits for its timeout if no process knows the action.
   */
  readonly unknownAction?: "reply" | "ignore"
  /**
   * Channels that answers may be sent to: only callers' inboxes (`caller:…`, the default), any channel that this process does not
   * listen to, or those with one of some prefixes. A request for an answer elsewhere is dropped and counted.
   */
  readonly replyTo?: "inboxes" | "any" | ReadonlyArray<string>
  /**
   * What becomes of the answer to a request that has an id but no `reply_to`. Default `ignore`. `responses` sends it to
   * `<service>.responses`, as Daebus does.
   */
  readonly unaddressed?: "ignore" | "responses"
  /** The version of the service, as `Discovery` tells it: text of your own. Of a service only. */
  readonly version?: string
  /**
   * Whether these handlers answer `$ping`, `$info`, `$stats` and `$health`. Default `all`. With `none` they tell nothing of themselves: their actions
   * are in no answer, and a service that has no others gives none. Of a service only.
   */
  readonly discovery?: "all" | "none"
  /** What holds for its durable actions. */
  readonly durable?: DurableOptions
}

/** What becomes of messages that are kept until they were handled. `Action.Redelivery` goes before `retry` and `deliveries`. */
export interface DurableOptions extends Action.Redelivery {
  /**
   * How long a message may lie with a process that gives no sign of life before another one takes it. Default 30 seconds, at least 100
   * milliseconds. A handler may run for longer: its process says every third of this that it goes on.
   */
  readonly idle?: Duration.Input
  /**
   * How long results are kept after their end: for `receipt`s, and to recognise a message that is sent once more. Default 5 minutes. All
   * who serve one service should say the same.
   */
  readonly window?: Duration.Input
  /** Dead letters that are kept. Default 10,000; beyond it the oldest are dropped, with a warning. */
  readonly deadLetters?: number
}

/** @see {@link DurableOptions} */
export interface DurableSettings extends Required<Action.Redelivery> {
  readonly idleMillis: number
  readonly windowMillis: number
  readonly maxDeadLetters: number
}

/** Options with the defaults where nothing was said. */
export interface Settings {
  readonly concurrency: number | Concurrency
  readonly backlog: Required<Backlog>
  readonly fairBy: ((request: Request) => string) | undefined
  readonly handlerTimeoutMillis: number | undefined
  readonly grace: Duration.Input
  readonly restart: Schedule.Schedule<unknown, unknown>
  readonly delivery: Action.Delivery | undefined
  readonly unknownAction: "reply" | "ignore"
  readonly replyTo: "inboxes" | "any" | ReadonlyArray<string>
  readonly unaddressed: "ignore" | "responses"
  readonly version: string | undefined
  readonly discovery: "all" | "none"
  readonly durable: DurableSettings
}

/** Time without a breakdown, in milliseconds, after which `restart` begins anew. */
export const calmMillis = 60_000

/** The defaults. */
export const defaults: Settings = {
  concurrency: 10,
  backlog: { size: 1_000, whenFull: "refuse" },
  fairBy: undefined,
  handlerTimeoutMillis: undefined,
  grace: "10 seconds",
  restart: Backoff.make({ first: "100 millis", longest: "5 seconds" }).pipe(Schedule.upTo({ times: 5 })),
  delivery: undefined,
  unknownAction: "reply",
  replyTo: "inboxes",
  unaddressed: "ignore",
  version: undefined,
  discovery: "all",
  durable: {
    retry: Backoff.make({ first: "1 second", longest: "1 minute" }),
    deliveries: 5,
    idleMillis: 30_000,
    windowMillis: 300_000,
    maxDeadLetters: 10_000
  }
}

const resolveDurable = (
  { deadLetters, idle, window, ...redelivery }: DurableOptions,
  durable: DurableSettings
): DurableSettings => ({
  ...durable,
  ...redelivery,
  idleMillis: idle === undefined ? durable.idleMillis : Math.max(100, Duration.toMillis(idle)),
  windowMillis: window === undefined ? durable.windowMillis : Duration.toMillis(window),
  maxDeadLetters: deadLetters ?? durable.maxDeadLetters
})

/** Fills in the {@link defaults}. */
export const resolve = ({ backlog, durable, handlerTimeout, ...options }: Options = {}): Settings => ({
  ...defaults,
  ...options,
  durable: durable === undefined ? defaults.durable : resolveDurable(durable, defaults.durable),
  backlog: { ...defaults.backlog, ...(typeof backlog === "number" ? { size: backlog } : backlog) },
  handlerTimeoutMillis: handlerTimeout === undefined ? undefined : Duration.toMillis(handlerTimeout)
})
