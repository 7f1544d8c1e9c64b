/** `fiberbus ls`: which services there are. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Discovery from "../client/Discovery.ts"
import * as Printable from "../wire/Printable.ts"
import * as DiscoveryOption from "./DiscoveryOption.ts"
import { fromTransportError } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as RedisOption from "./RedisOption.ts"
import * as Table from "./Table.ts"

/** Prints a line per process of each service; nothing where there are none. */
export const ls = Command.make(
  "ls",
  { json: DiscoveryOption.json, connection: RedisOption.flags },
  Effect.fnUntraced(function* ({ connection, json }) {
    const found = yield* Discovery.services().pipe(
      Effect.mapError(fromTransportError),
      Effect.provide(RedisOption.layer(connection))
    )
    if (json) return yield* Output.out(Printable.json(found))
    if (found.length === 0) return yield* Output.err("fiberbus: no process answered")
    yield* Output.out(
      Table.format(
        ["SERVICE", "INSTANCE", "VERSION", "ACTIONS"],
        found.flatMap(({ instances }) => instances.map(toRow))
      )
    )
  })
).pipe(
  Command.withDescription(
    "List the services that processes serve now: service, instance, version, actions. Daebus services do not answer"
  ),
  Command.withShortDescription("List the services that there are"),
  Command.withExamples([{ command: "fiberbus ls", description: "All services" }])
)

const toRow = ({ actions, draining, instance, more, service, version }: Discovery.Ping) => [
  Printable.word(service),
  Printable.word(instance),
  version === undefined ? "-" : Printable.word(version),
  `${draining ? "(draining) " : ""}${[...actions].sort().map(Printable.word).join(", ")}${more === undefined ? "" : `, and ${more} more`}`
]
