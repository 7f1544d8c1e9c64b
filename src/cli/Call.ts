/** `fiberbus call`: asks a service and prints its answer. */

import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Caller from "../client/Caller.ts"
import * as Printable from "../wire/Printable.ts"
import * as CallOption from "./CallOption.ts"
import { fromCallError, fromTransportError } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as Payload from "./Payload.ts"
import * as RedisOption from "./RedisOption.ts"

/**
 * Prints the result as JSON on stdout, alone; with `--items` the items of a stream. Steps go to stderr, each as `progress` and its JSON. An error is one line on
 * stderr, and the exit status says which.
 */
export const call = Command.make(
  "call",
  {
    service: CallOption.service,
    action: CallOption.action,
    payload: Payload.argument,
    timeout: CallOption.timeout,
    headers: CallOption.headers,
    items: Flag.Boolean("items").pipe(
      Flag.withDescription(
        "The action answers with a stream: print its items on stdout, one per line, for as long as it lasts"
      ),
      Flag.withDefault(false)
    ),
    pretty: Flag.Boolean("pretty").pipe(Flag.withDescription("Indent the result"), Flag.withDefault(false)),
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ service, action, payload: given, timeout, headers, items, pretty, connection }) {
    yield* CallOption.checkNames(service, action)
    const payload = yield* Payload.read(given)
    const program = Effect.gen(function* () {
      const caller = yield* Effect.mapError(Caller.dynamic(service), fromTransportError)
      const options = { ...headers, ...(Option.isSome(timeout) ? { timeout: timeout.value } : undefined) }
      if (items) {
        return yield* caller.items(action, payload, options).pipe(
          Stream.mapError(fromCallError),
          Stream.runForEach((item) => Output.out(Printable.json(item, pretty)))
        )
      }
      yield* caller.stream(action, payload, options).pipe(
        Stream.mapError(fromCallError),
        Stream.runForEach((event) =>
          event._tag === "Progress"
            ? Output.err(`progress ${Printable.json(event.value)}`)
            : Output.out(Printable.json(event.value, pretty))
        )
      )
    })
    yield* Effect.scoped(program).pipe(Effect.provide(RedisOption.layer(connection)))
  })
).pipe(
  Command.withDescription(
    "Call an action of a service. The result is printed on stdout as JSON, steps on the way on stderr as: progress JSON. Exit status: see fiberbus --help"
  ),
  Command.withShortDescription("Call an action of a service and print its result"),
  Command.withExamples([
    { command: `fiberbus call user_service get_user '{"id":"u1"}'`, description: "Call an action" },
    {
      command: `fiberbus call user_service import_users - --timeout "2 minutes" < users.json`,
      description: "Send a file"
    }
  ])
)
