/** `fiberbus top`: what all services do, again and again. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Terminal from "effect/Terminal"
import * as Discovery from "../client/Discovery.ts"
import * as Printable from "../wire/Printable.ts"
import * as DiscoveryOption from "./DiscoveryOption.ts"
import { ExitStatus, WhenInterrupted } from "./ExitStatus.ts"
import * as Output from "./Output.ts"
import * as Rates from "./Rates.ts"
import * as RedisOption from "./RedisOption.ts"
import { clear, Screen } from "./Screen.ts"
import * as Table from "./Table.ts"

/** Time between two pictures, in milliseconds. */
const everyMillis = 1_000

/** Prints a table each second until `q`, SIGINT or SIGTERM, which is its success; or one table alone. */
export const top = Command.make(
  "top",
  {
    once: Flag.Boolean("once").pipe(
      Flag.withDescription("Look for a second, print one table, and end"),
      Flag.withDefault(false)
    ),
    json: DiscoveryOption.json,
    connection: RedisOption.flags
  },
  Effect.fnUntraced(function* ({ connection, json, once }) {
    ;(yield* WhenInterrupted).status = ExitStatus.success
    const screen = (yield* Screen)()
    const looks = Effect.gen(function* () {
      let before = yield* look
      while (true) {
        yield* Effect.sleep(everyMillis)
        const now = yield* look
        const rates = Array.from(now, ([key, stats]) => Rates.between(before.get(key), stats)).sort(byCalls)
        before = now
        if (json) yield* Output.out(Printable.json(rates))
        else yield* Output.out(toText(rates, once ? { ...screen, clears: false } : screen))
        if (once) return
      }
    })
    const watched = looks.pipe(Effect.scoped, Effect.provide(RedisOption.layer(connection)))
    yield* screen.keys && !once ? Effect.raceFirst(watched, Effect.scoped(pressed)) : watched
  })
).pipe(
  Command.withDescription(
    "Show what all processes do, each second anew: calls and errors per second, handlers that run and requests that wait, " +
      "times of the handlers of the last second, link. q or Ctrl-C stops it"
  ),
  Command.withShortDescription("Show what all services do, live"),
  Command.withExamples([
    { command: "fiberbus top", description: "Live" },
    { command: "fiberbus top --once", description: "One table, for a script" }
  ])
)

const look = Discovery.stats(Discovery.everything).pipe(
  Effect.mapError(DiscoveryOption.fromError),
  Effect.map((all) => new Map(all.map((stats) => [`${stats.service} ${stats.instance}`, stats])))
)

const pressed = Effect.gen(function* () {
  const terminal = yield* Terminal.Terminal
  const inputs = yield* terminal.readInput
  yield* Queue.take(inputs).pipe(
    Effect.repeat({ until: ({ key }) => key.name === "q" || (key.ctrl && key.name === "c") }),
    // Without a keyboard only a signal ends it.
    Effect.catch(() => Effect.never)
  )
})

const byCalls = (one: Rates.Rates, other: Rates.Rates) =>
  other.calls - one.calls || (`${one.service} ${one.instance}` < `${other.service} ${other.instance}` ? -1 : 1)

const head = ["SERVICE", "INSTANCE", ">CALLS/S", ">ERRORS/S", ">RUNNING", ">WAITING", ">P50 MS", ">P99 MS", "LINK"]

const toText = (rates: ReadonlyArray<Rates.Rates>, { clears, rows }: Screen): string => {
  const services = new Set(rates.map(({ service }) => service)).size
  const summary = `${services} services, ${rates.length} processes, ${decimal(rates.reduce((sum, { calls }) => sum + calls, 0))} calls/s`
  // The summary, the head, the line of what is left out, and the last line.
  const room = clears && rows > 0 ? Math.max(1, rows - 4) : rates.length
  const left = rates.length > room ? `\nand ${rates.length - room} more` : ""
  return `${clears ? clear : ""}${summary}\n${Table.format(head, rates.slice(0, room).map(toRow))}${left}`
}

const toRow = (rates: Rates.Rates) => [
  Printable.word(rates.service),
  Printable.word(rates.instance),
  decimal(rates.calls),
  decimal(rates.errors),
  String(rates.running),
  String(rates.waiting),
  rates.p50Millis === undefined ? "-" : decimal(rates.p50Millis),
  rates.p99Millis === undefined ? "-" : decimal(rates.p99Millis),
  Printable.word(rates.state)
]

const decimal = (number: number) => number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0)
