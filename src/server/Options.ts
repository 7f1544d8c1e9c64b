/** What can be set for a service's handlers or for a listener, and what holds where nothing is. */
import type * as Duration from "effect/Duration"

/** Limits and compatibility of a set of handlers. Every field has a default. */
export interface Options {
  /** Handlers that run at once. Default 10, as in Daebus. */
  readonly concurrency?: number
  /** Requests that may wait for a slot. Default 1,000; at the limit callers get `Busy`, one-way messages are dropped and counted. */
  readonly backlog?: number
  /**
   * Time that running handlers have to end at shutdown, before they are interrupted and answered. Default 10 seconds. It is real
   * time; below `TestClock`, which nobody moves at that point, at most one second of it.
   */
  readonly grace?: Duration.Input
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
}

/** The defaults. */
export const defaults: Required<Options> = {
  concurrency: 10,
  backlog: 1_000,
  grace: "10 seconds",
  unknownAction: "reply",
  replyTo: "inboxes",
  unaddressed: "ignore"
}

/** Options with the defaults where nothing was said. */
export const resolve = (options: Options | undefined): Required<Options> => ({ ...defaults, ...options })
