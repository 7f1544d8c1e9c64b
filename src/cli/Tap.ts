/** `fiberbus tap`: shows what passes over channels. */
import * as Clock from "effect/Clock"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Glob from "../contract/Glob.ts"
import { type Target, Transport } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"
import * as Printable from "../wire/Printable.ts"
import * as Reading from "../wire/Reading.ts"
import * as Backlog from "./Backlog.ts"
import { ExitStatus, fromTransportError, usage, WhenInterrupted } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as RedisOption from "./RedisOption.ts"
import * as Sighting from "./Sighting.ts"

/** Prints a line per message until it is stopped by SIGINT or SIGTERM, which is its success. */
export const tap = Command.make(
  "tap",
  {
    channels: Argument.String("channel").pipe(
      Argument.withDescription("A channel, or a glob pattern (* ? [ab]): quote it"),
      Argument.variadic({ min: 1 })
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print a JSON object with everything per line"),
      Flag.withDefault(false)
    ),
    width: Flag.Int("width").pipe(
      Flag.withMetavar("characters"),
      Flag.withDescription("Cut payloads to so many characters; 0 leaves them whole. Default 120"),
      Flag.filter(
        (width) => width >= 0,
        () => "0 or more"
      ),
      Flag.withDefault(120)
    ),
    presence: Flag.Boolean("presence").pipe(
      Flag.withDescription("Show also what processes say of being there"),
      Flag.withDefault(false)
    ),
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ channels, json, width, presence, connection }) {
    ;(yield* WhenInterrupted).status = ExitStatus.success
    if (channels.includes("")) return yield* usage("a channel's name is empty")
    const program = Effect.gen(function* () {
      const transport = yield* Transport
      const { maxFrameBytes } = transport.capabilities
      const backlog = yield* Backlog.make
      const clock = yield* Clock.Clock

      // Requests to a service go to its processes, each on a channel of its own.
      const processes = transport.capabilities.patterns
        ? channels.filter((channel) => !Glob.isGlob(channel)).map((channel) => Channels.instance("", channel, "*"))
        : []
      const targets = [...channels, ...processes].map((channel) => toTarget(transport.prefix, channel))
      yield* Effect.forEach(targets, ({ target }, index) =>
        hearing(transport, index >= channels.length)(target, (frame, channel) => {
          // Each target that fits brings the frame once more: only the first counts.
          if (targets.slice(0, index).some(({ matches }) => matches(channel))) return
          backlog.offer({
            timeMillis: clock.currentTimeMillisUnsafe(),
            channel: Channels.withoutPrefix(transport.prefix, channel) ?? channel,
            frame
          })
        })
      ).pipe(Effect.mapError(fromTransportError))
      const names = channels.map(Printable.word).join(", ")
      yield* Output.err(`listening on ${names} at ${transport.name}`)
      if (!transport.capabilities.patterns) {
        yield* Output.err(
          "this transport has no patterns: requests that go to one process of a service, on a channel of its own, are not shown"
        )
      }

      const isShown = ({ frame }: Sighting.Sighting) =>
        presence || Reading.read(frame, maxFrameBytes).kind !== "presence"
      const print = ({ sightings, dropped }: Backlog.Batch) => {
        const lines = sightings
          .flatMap((sighting) => Sighting.each(sighting, maxFrameBytes))
          .filter(isShown)
          .map((sighting) =>
            json ? Sighting.toJson(sighting, maxFrameBytes) : Sighting.toLine(sighting, maxFrameBytes, width)
          )
        if (dropped > 0) lines.push(droppedLine(clock.currentTimeMillisUnsafe(), dropped, json))
        return lines.length === 0 ? Effect.void : Output.out(lines.join("\n"))
      }
      yield* Effect.forever(Effect.flatMap(backlog.take, print)).pipe(
        // What had come before the signal is still printed, if the reader takes it.
        Effect.onInterrupt(() =>
          Effect.flatMap(backlog.rest, print).pipe(Effect.timeoutOption("1 second"), Effect.ignore)
        )
      )
    })
    yield* Effect.scoped(program).pipe(Effect.provide(RedisOption.layer(connection)))
  })
).pipe(
  Command.withDescription(
    "Show what passes over channels, a line per message: time (UTC), channel, kind (request, reply, message, garbage), " +
      "action or outcome, id, payload. Ctrl-C stops it"
  ),
  Command.withShortDescription("Show what passes over channels"),
  Command.withExamples([
    { command: "fiberbus tap user_service 'caller:*'", description: "The requests to a service, and all answers" },
    { command: "fiberbus tap '*' --json | jq .message", description: "Everything, for a program" }
  ])
)

/** Subscribes; where it is only to see more, a user who may not does without. */
const hearing =
  (transport: Transport["Service"], isBesides: boolean): Transport["Service"]["subscribe"] =>
  (target, receive) =>
    Effect.catchIf(
      transport.subscribe(target, receive),
      ({ kind }) => isBesides && kind === "PermissionDenied",
      () => Effect.void
    )

const toTarget = (
  prefix: string,
  channel: string
): { readonly target: Target; readonly matches: (channel: string) => boolean } => {
  if (!Glob.isGlob(channel)) {
    const name = Channels.topic(prefix, channel)
    return { target: { _tag: "Channel", channel: name }, matches: (other) => other === name }
  }
  const pattern = Channels.pattern(prefix, channel)
  return { target: { _tag: "Pattern", pattern }, matches: Glob.matcher(pattern) }
}

const droppedLine = (timeMillis: number, count: number, json: boolean): string => {
  const time = new Date(timeMillis).toISOString()
  return json
    ? Printable.json({ time, kind: "dropped", count })
    : `${time.slice(11)} - dropped - - ${count} messages: they come faster than this output takes them`
}
