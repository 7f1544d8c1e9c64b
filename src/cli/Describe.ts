/** `fiberbus describe`: what a service can be asked. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Discovery from "../client/Discovery.ts"
import * as Printable from "../wire/Printable.ts"
import * as DiscoveryOption from "./DiscoveryOption.ts"
import * as Output from "./Output.ts"
import * as RedisOption from "./RedisOption.ts"
import * as Shape from "./Shape.ts"

/** Prints each action with its schemas; once where all processes say the same, otherwise for each that differs. */
export const describe = Command.make(
  "describe",
  {
    service: DiscoveryOption.service,
    instance: DiscoveryOption.instance,
    json: DiscoveryOption.json,
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ connection, instance, json, service }) {
    yield* DiscoveryOption.checkName(service)
    const infos = yield* Discovery.info(service, DiscoveryOption.toOptions(instance)).pipe(
      Effect.mapError(DiscoveryOption.fromError),
      Effect.provide(RedisOption.layer(connection))
    )
    if (json) return yield* Output.out(Printable.json(infos))
    const alike = new Map<string, Array<Discovery.Info>>()
    for (const info of infos) {
      const key = JSON.stringify([info.version, info.fiberbus, sorted(info.actions)])
      alike.set(key, [...(alike.get(key) ?? []), info])
    }
    yield* Output.out(Array.from(alike.values(), toText).join("\n\n"))
  })
).pipe(
  Command.withDescription(
    "Describe a service: its actions, what goes in and what may come out. Daebus services do not answer, nor those with discovery: none"
  ),
  Command.withShortDescription("Describe a service and its actions"),
  Command.withExamples([
    { command: "fiberbus describe user_service", description: "For people" },
    { command: "fiberbus describe user_service --json | jq '.[0].actions'", description: "With whole JSON Schemas" }
  ])
)

const sorted = (actions: ReadonlyArray<Discovery.ActionInfo>) =>
  [...actions].sort((one, other) => (one.name < other.name ? -1 : 1))

const toText = (infos: ReadonlyArray<Discovery.Info>): string => {
  const { actions, fiberbus, service, version, withoutSchemas } = infos[0]!
  const names = infos.map(({ instance }) => Printable.word(instance)).join(", ")
  const head = `${Printable.word(service)}${version === undefined ? "" : ` ${Printable.word(version)}`}: ${infos.length} ${
    infos.length === 1 ? "process" : "processes"
  } (${names}), fiberbus ${Printable.word(fiberbus)}`
  const lines = sorted(actions).flatMap((action) => [
    `  ${Printable.word(action.name)}  ${facts(action)}`,
    ...parts(action)
  ])
  return [head, ...(withoutSchemas ? ["  (the schemas are larger than a frame)"] : []), ...lines].join("\n")
}

const facts = ({ concurrency, delivery, idempotent, keyed, timeoutMillis }: Discovery.ActionInfo): string =>
  [
    delivery,
    timeoutMillis === undefined ? "no timeout" : `${timeoutMillis} ms`,
    ...(idempotent ? ["idempotent"] : []),
    ...(keyed ? ["keyed"] : []),
    ...(concurrency === undefined ? [] : [`${concurrency} at once`])
  ].join(", ")

const parts = (action: Discovery.ActionInfo): ReadonlyArray<string> => [
  ...(["payload", "success", "items", "error", "progress"] as const).flatMap((name) => {
    const schema = action[name]
    return schema === undefined ? [] : [`    ${name.padEnd(8)}  ${Shape.toText(schema)}`]
  }),
  ...Object.entries(action.asks ?? {}).map(
    ([name, { answer, ask }]) =>
      `    asks      ${Printable.word(name)}: ${Shape.toText(ask)}, answered by ${Shape.toText(answer)}`
  )
]
