/** What `call` and `send` have in common: whom they ask for what, and the headers. */

import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CallOptions } from "../client/Caller.ts"
import * as Name from "../contract/Name.ts"
import { type Failed, usage } from "./ExitStatus.ts"

/** The service's name. */
export const service = Argument.String("service").pipe(Argument.withDescription("The service, e.g. user_service"))

/** The action's name. */
export const action = Argument.String("action").pipe(Argument.withDescription("The action, e.g. get_user"))

/** `--header name=value`, any number of times; the last of a name wins. */
export const headers = Flag.String("header").pipe(
  Flag.withMetavar("name=value"),
  Flag.withDescription("A header for the handler; may be repeated"),
  Flag.filterMap(
    (text) => {
      const end = text.indexOf("=")
      return end < 1 ? Option.none() : Option.some([text.slice(0, end), text.slice(end + 1)] as const)
    },
    () => "name=value"
  ),
  Flag.atLeast(0),
  Flag.map(
    (entries): Pick<CallOptions, "headers"> => (entries.length === 0 ? {} : { headers: Object.fromEntries(entries) })
  )
)

/** `--timeout`: milliseconds, or a number and its unit. */
export const timeout = Flag.String("timeout").pipe(
  Flag.withMetavar("duration"),
  Flag.withDescription('Time until the final answer: milliseconds, or e.g. "2 seconds". Default 5 seconds'),
  Flag.filterMap(
    (text) =>
      Option.filter(
        /^\d+(\.\d+)?$/.test(text)
          ? Option.some(Duration.millis(Number(text)))
          : Duration.fromInput(text as Duration.Input),
        (duration) => Duration.toMillis(duration) > 0 && Duration.isFinite(duration)
      ),
    () => 'milliseconds, or e.g. "2 seconds"'
  ),
  Flag.optional
)

/** Checks the names. Errors: `Failed` with status 2 for a name that no service or action can have. */
export const checkNames = (service: string, action: string): Effect.Effect<void, Failed> => {
  const why = Name.problem("service", service)
  if (why !== undefined) return Effect.fail(usage(`the service name ${JSON.stringify(service)} cannot be used: ${why}`))
  return action === "" ? Effect.fail(usage("the action's name is empty")) : Effect.void
}
