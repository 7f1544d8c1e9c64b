/** `fiberbus health`: how a service is, as an exit status. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Discovery from "../client/Discovery.ts"
import * as Printable from "../wire/Printable.ts"
import * as CallOption from "./CallOption.ts"
import * as DiscoveryOption from "./DiscoveryOption.ts"
import { ExitStatus, Failed } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as RedisOption from "./RedisOption.ts"
import * as Table from "./Table.ts"

/** Prints a line per check of each process. Its status tells whether all are ready, or with `--live` whether all live. */
export const health = Command.make(
  "health",
  {
    service: DiscoveryOption.service,
    instance: DiscoveryOption.instance,
    live: Flag.Boolean("live").pipe(
      Flag.withDescription("Judge by the checks of liveness alone, as for a restart. Default: all, as for work"),
      Flag.withDefault(false)
    ),
    any: Flag.Boolean("any").pipe(
      Flag.withDescription("One good process is enough. Default: every one that answers must be"),
      Flag.withDefault(false)
    ),
    timeout: CallOption.timeout,
    json: DiscoveryOption.json,
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ any, connection, instance, json, live, service, timeout }) {
    yield* DiscoveryOption.checkName(service)
    const options = {
      ...DiscoveryOption.toOptions(instance),
      ...(Option.isSome(timeout) ? { timeout: timeout.value } : undefined)
    }
    const all = yield* Discovery.health(service, options).pipe(
      Effect.mapError(DiscoveryOption.fromError),
      Effect.provide(RedisOption.layer(connection))
    )
    const isGood = (one: Discovery.Health) => (live ? one.live : one.ready)
    yield* Output.out(
      json ? Printable.json(all) : Table.format(["INSTANCE", "CHECK", "KIND", "STATUS", "DETAIL"], all.flatMap(toRows))
    )
    const good = all.filter(isGood).length
    if (any ? good > 0 : good === all.length) return
    const text = `${service}: ${all.length - good} of ${all.length} processes are not ${live ? "live" : "ready"}`
    return yield* new Failed({ status: ExitStatus.unhealthy, text })
  })
).pipe(
  Command.withDescription(
    "Ask every process of a service how it is. Exit status: 0 if all are ready, 10 if not, 3 if nobody is there, 4 if nobody answers"
  ),
  Command.withShortDescription("Check the health of a service"),
  Command.withExamples([
    { command: "fiberbus health user_service", description: "Is it ready?" },
    { command: "fiberbus health user_service --live --any", description: "Does any process of it live?" }
  ])
)

const toRows = ({ checks, instance }: Discovery.Health) =>
  checks.map(({ detail, kind, name, status }) => [
    Printable.word(instance),
    Printable.word(name),
    kind,
    status,
    detail === undefined ? "" : Printable.line(detail)
  ])
