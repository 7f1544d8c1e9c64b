/** `fiberbus send`: tells a service something and waits for no answer. */

import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Caller from "../client/Caller.ts"
import { Transport } from "../transport/Transport.ts"
import * as CallOption from "./CallOption.ts"
import { ExitStatus, Failed, fromCallError, fromTransportError } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as Payload from "./Payload.ts"
import * as RedisOption from "./RedisOption.ts"

/** Prints the number of processes it reached; 0 is the status of no responders. */
export const send = Command.make(
  "send",
  {
    service: CallOption.service,
    action: CallOption.action,
    payload: Payload.argument,
    headers: CallOption.headers,
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ service, action, payload: given, headers, connection }) {
    yield* CallOption.checkNames(service, action)
    const payload = yield* Payload.read(given)
    const program = Effect.gen(function* () {
      const { capabilities } = yield* Transport
      const caller = yield* Effect.mapError(Caller.dynamic(service), fromTransportError)
      const receivers = yield* Effect.mapError(caller.send(action, payload, headers), fromCallError)
      yield* Output.out(String(receivers))
      if (receivers > 0) return
      const text =
        capabilities.receivers === "exact"
          ? `${service}.${action}: nobody listens on the service's channel`
          : `${service}.${action}: no receivers seen, but this Redis cannot count all of them`
      return yield* new Failed({ status: ExitStatus.noResponders, text })
    })
    yield* Effect.scoped(program).pipe(Effect.provide(RedisOption.layer(connection)))
  })
).pipe(
  Command.withDescription(
    "Send a one-way message to a service: no answer is asked for. Prints how many processes it reached"
  ),
  Command.withShortDescription("Send a one-way message and print how many it reached"),
  Command.withExamples([{ command: `fiberbus send audit log_event '{"key":"k1"}'`, description: "Fire and forget" }])
)
