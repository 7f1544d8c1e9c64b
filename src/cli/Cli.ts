/** The command line as a whole: its commands, and how it speaks of errors. */
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stdio from "effect/Stdio"
import * as Printable from "../wire/Printable.ts"
import { call } from "./Call.ts"
import { contract } from "./Contract.ts"
import { dead } from "./Dead.ts"
import { describe } from "./Describe.ts"
import * as ExitStatus from "./ExitStatus.ts"
import { health } from "./Health.ts"
import { ls } from "./Ls.ts"
import * as Output from "./Output.ts"
import { send } from "./Send.ts"
import { tap } from "./Tap.ts"
import { top } from "./Top.ts"

const fiberbus = Command.make("fiberbus").pipe(
  Command.withDescription(
    `Talk to services over Redis: fiberbus' own, and Python's Daebus; compare contracts.\n\n  ${ExitStatus.help}`
  ),
  Command.withSubcommands([call, send, tap, ls, describe, health, top, dead, contract])
)

/**
 * Runs a command and returns its exit status. Never fails: what went wrong has been said on stderr, in a line.
 *
 * When it is interrupted, `ExitStatus.WhenInterrupted` holds the status.
 */
export const run = (args: ReadonlyArray<string>, version: string): Effect.Effect<number, never, Command.Environment> =>
  Effect.gen(function* () {
    const stdio = yield* Stdio.Stdio
    const presenter: CliOutput.Presenter = {
      present: (event) => Effect.ignore(Effect.provideService(present(event), Stdio.Stdio, stdio))
    }
    return yield* Command.runWith(fiberbus, { version })(args).pipe(
      Effect.as<number>(ExitStatus.ExitStatus.success),
      Effect.catchCause((cause) => {
        // Its status is told by who interrupted it.
        if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
        const error = Cause.squash(cause)
        if (error instanceof ExitStatus.Failed) {
          return Effect.as(error.text === "" ? Effect.void : complain(error.text), error.status)
        }
        // Its presenter has said it.
        if (error instanceof Error && "_tag" in error && error._tag === "ShowHelp") {
          return Effect.succeed(ExitStatus.ExitStatus.usage)
        }
        const text = Printable.withoutSecrets(
          error instanceof Error ? `${error.name}: ${error.message}` : String(error)
        )
        return Effect.as(complain(`internal error, please report it: ${text}`), ExitStatus.ExitStatus.internal)
      }),
      Effect.provideService(CliOutput.Presenter, presenter),
      Effect.provideService(CliConfig.CliConfig, CliConfig.make({ builtIns })),
      Effect.provide(Logger.layer([logger]))
    )
  })

const builtIns = [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]

const complain = (text: string) => Output.err(`fiberbus: ${text}`)

// Stdout belongs to the commands' results.
const logger = Logger.withConsoleError(
  Logger.make(({ logLevel, message }) =>
    Printable.line(
      Printable.withoutSecrets(
        `fiberbus: ${logLevel.toLowerCase()}: ${(Array.isArray(message) ? message : [message]).join(" ")}`
      )
    )
  )
)

const present = Effect.fnUntraced(function* (event: CliOutput.Presenter.Event) {
  const formatter = yield* CliOutput.Formatter
  switch (event._tag) {
    case "Version":
      return yield* Output.out(event.version)
    case "Help":
      if (event.reason === "Requested") return yield* Output.out(formatter.formatHelpDoc(event.helpDoc))
      return yield* complain(`a command is missing. See: ${event.commandPath.join(" ")} --help`)
    case "InvalidInvocation":
      for (const error of event.errors) yield* complain(Printable.withoutSecrets(error.message.replaceAll(/\s+/g, " ")))
      return yield* Output.err(`See: ${event.commandPath.join(" ")} --help`)
  }
})
