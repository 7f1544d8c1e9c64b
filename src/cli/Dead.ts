/** `fiberbus dead`: shows the messages of a durable service that were set aside, replays or discards them. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as DeadLetters from "../client/DeadLetters.ts"
import * as Service from "../contract/Service.ts"
import type { Durable } from "../transport/Durable.ts"
import type { Transport, TransportError } from "../transport/Transport.ts"
import * as CallOption from "./CallOption.ts"
import { ExitStatus, Failed, fromTransportError, usage } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as RedisOption from "./RedisOption.ts"

const of = {
  service: CallOption.service,
  group: Flag.String("group").pipe(
    Flag.withMetavar("name"),
    Flag.withDescription("Those of a group of listeners: SERVICE is then the name of the topic"),
    Flag.optional
  ),
  partitions: Flag.Int("partitions").pipe(
    Flag.withDescription("How many partitions the contract gives the service. Default 1"),
    Flag.withDefault(1)
  ),
  connection: RedisOption.flags
}

interface Of {
  readonly service: string
  readonly group: Option.Option<string>
  readonly partitions: number
  readonly connection: RedisOption.RedisOption
}

/** Uses letters of theirs. Those that are named must be of a partition that is asked. */
const run = <A>(
  { connection, group, partitions, service }: Of,
  named: ReadonlyArray<string>,
  use: (of: DeadLetters.Of) => Effect.Effect<A, TransportError | Failed, Durable | Transport>
): Effect.Effect<A, Failed> =>
  Effect.gen(function* () {
    yield* CallOption.checkNames(service, "dead")
    if (!(partitions >= 1 && partitions <= Service.maxPartitions))
      return yield* usage(`--partitions is a number from 1 to ${Service.maxPartitions}, not ${partitions}`)
    if (Option.isSome(group) && partitions > 1) return yield* usage("a group of listeners has no partitions")
    const elsewhere = named.find((letter) => partitionOf(letter) >= partitions)
    if (Option.isNone(group) && elsewhere !== undefined)
      return yield* usage(
        `${elsewhere} is a letter of partition ${partitionOf(elsewhere)}: give --partitions, the number in the contract`
      )
    return yield* Effect.mapError(
      use(Option.isSome(group) ? { topic: service, group: group.value } : { serviceName: service, partitions }),
      (error) => (error instanceof Failed ? error : fromTransportError(error))
    )
  }).pipe(
    Effect.provide(Layer.merge(RedisOption.layer(connection), RedisOption.layerDurable(connection))),
    // What Redis may lose is a matter for those who serve.
    Effect.provideService(References.MinimumLogLevel, "Error")
  )

const partitionOf = (letter: string) => Number(/^(\d{1,3}):/.exec(letter)?.[1] ?? 0)

const list = Command.make(
  "list",
  {
    ...of,
    limit: Flag.Int("limit").pipe(
      Flag.withDescription("How many at most, 1 to 10000. Default 100"),
      Flag.withDefault(100)
    ),
    after: Flag.String("after").pipe(
      Flag.withMetavar("letter"),
      Flag.withDescription("Only those that came after this one"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ after, limit, ...given }) {
    if (limit < 1 || limit > 10_000) return yield* usage(`--limit is a number from 1 to 10000, not ${limit}`)
    const letters = yield* run(given, Option.toArray(after), (of) =>
      DeadLetters.list(of, { limit, after: Option.getOrUndefined(after) })
    )
    for (const letter of letters) yield* Output.out(JSON.stringify(summary(letter)))
  })
).pipe(
  Command.withDescription(
    "Print one line of JSON for each, partition by partition and there oldest first, without what they carry"
  )
)

const letter = Argument.String("letter").pipe(Argument.withDescription("As `fiberbus dead list` names it"))

const show = Command.make(
  "show",
  { ...of, letter },
  Effect.fnUntraced(function* ({ letter, ...given }) {
    const found = yield* run(given, [letter], (of) => DeadLetters.find(of, letter))
    if (found === undefined) return yield* gone(letter)
    yield* Output.out(JSON.stringify({ ...summary(found), cause: found.cause, ...contentOf(found) }, undefined, 2))
  })
).pipe(Command.withDescription("Print all that is known of one, its cause and what it carries included"))

const letters = Argument.String("letter").pipe(
  Argument.withDescription("As `fiberbus dead list` names them"),
  Argument.variadic()
)
const all = Flag.Boolean("all").pipe(Flag.withDescription("All that there are"), Flag.withDefault(false))

const changing = (name: "replay" | "discard", one: typeof DeadLetters.replay, every: typeof DeadLetters.replayAll) =>
  Command.make(
    name,
    { ...of, letters, all },
    Effect.fnUntraced(function* ({ all, letters, ...given }) {
      if (all === letters.length > 0) return yield* usage(`name the letters to ${name}, or give --all`)
      if (all) return yield* Output.out(String(yield* run(given, [], every)))
      const missing: Array<string> = []
      yield* run(given, letters, (of) =>
        Effect.forEach(letters, (letter) => Effect.map(one(of, letter), (was) => void (was || missing.push(letter))), {
          discard: true
        })
      )
      yield* Output.out(String(letters.length - missing.length))
      if (missing.length > 0) return yield* gone(missing.join(", "))
    })
  )

const replay = changing("replay", DeadLetters.replay, DeadLetters.replayAll).pipe(
  Command.withDescription("Have some handled once more, or all; prints how many")
)
const discard = changing("discard", DeadLetters.discard, DeadLetters.discardAll).pipe(
  Command.withDescription("Forget some, or all; prints how many")
)

const gone = (letter: string) => new Failed({ status: ExitStatus.refused, text: `there is no dead letter ${letter}` })

const summary = ({ action, appendedAt, buriedAt, deliveries, id, key, letter, reason }: DeadLetters.DeadLetter) => ({
  letter,
  id,
  action,
  reason,
  deliveries,
  ...(key === "" ? undefined : { key }),
  appended: new Date(appendedAt).toISOString(),
  setAside: new Date(buriedAt).toISOString()
})

const contentOf = ({ frame }: DeadLetters.DeadLetter) => {
  const bytes = typeof frame === "string" ? Buffer.from(frame) : Buffer.from(frame)
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? { frame: text } : { base64: bytes.toString("base64") }
}

/** Its subcommands need the rights of a durable service. */
export const dead = Command.make("dead").pipe(
  Command.withDescription("Show, replay or discard the messages of a durable service that were set aside"),
  Command.withSubcommands([list, show, replay, discard])
)
