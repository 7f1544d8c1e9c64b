/** `fiberbus contract`: contracts over time. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ContractDiff from "../diff/ContractDiff.ts"
import * as Printable from "../wire/Printable.ts"
import * as ContractModule from "./ContractModule.ts"
import { ExitStatus, Failed, usage } from "./ExitStatus.ts"
import * as Output from "./Output.ts"

/** Most random values of one schema that may be asked for. */
const maxRuns = 100_000

const natural = (name: string, most: number, description: string) =>
  Flag.Int(name).pipe(
    Flag.withDescription(description),
    Flag.filter(
      (number) => number >= 0 && number <= most,
      () => `a whole number from 0 to ${most}`
    ),
    Flag.optional
  )

const who = Flag.String("who").pipe(
  Flag.withMetavar("whom"),
  Flag.withDescription(
    "Only what concerns old-callers, new-callers, old-listeners or new-listeners; may be repeated. Default all"
  ),
  Flag.filterMap(
    (text) => Option.fromUndefinedOr(ContractDiff.everyone.find((one) => one.replace(" ", "-") === text)),
    () => "old-callers, new-callers, old-listeners or new-listeners"
  ),
  Flag.atLeast(0)
)

/** Prints the report, or with `--json` its findings as one object. Something that breaks is told by the exit status. */
const diff = Command.make(
  "diff",
  {
    old: Argument.String("old").pipe(
      Argument.withDescription("The old revision: path[#Export] or revision:path[#Export]")
    ),
    now: Argument.String("new").pipe(Argument.withDescription("The new revision")),
    json: Flag.Boolean("json").pipe(Flag.withDescription("Print the findings as JSON"), Flag.withDefault(false)),
    runs: natural("runs", maxRuns, "Random values of each schema. Default 100"),
    size: natural("size", 1_000, "How large they become. Default 10"),
    seed: Flag.String("seed").pipe(
      Flag.withDescription("Another seed brings other values. Default fiberbus"),
      Flag.optional
    ),
    who
  },
  Effect.fnUntraced(function* ({ old, now, json, runs, size, seed, who }) {
    const before = yield* ContractModule.load(old)
    const after = yield* ContractModule.load(now)
    const options: ContractDiff.Options = {
      ...(Option.isSome(runs) ? { runs: runs.value } : undefined),
      ...(Option.isSome(size) ? { size: size.value } : undefined),
      ...(Option.isSome(seed) ? { seed: seed.value } : undefined),
      ...(who.length > 0 ? { who } : undefined)
    }
    const report = yield* ContractDiff.compare(before, after, options).pipe(
      Effect.mapError((error) => usage(`${error.which === "old" ? old : now} exports no service and no topic`))
    )
    const compatible = ContractDiff.isCompatible(report)
    yield* Output.out(json ? Printable.json({ compatible, ...report }) : ContractDiff.format(report))
    if (compatible) return
    const breaks = report.findings.some(({ severity }) => severity === "breaking")
    return yield* new Failed({ status: breaks ? ExitStatus.incompatible : ExitStatus.notCompared, text: "" })
  })
).pipe(
  Command.withDescription(
    "Compare two revisions of a contract: values of the one are written as on the wire and read by the other, in both directions. Modules are imported as Node does, so they run"
  ),
  Command.withShortDescription("Find what breaks between two revisions of a contract"),
  Command.withExamples([
    { command: "fiberbus contract diff main:src/contract.ts src/contract.ts", description: "A branch against main" },
    {
      command: "fiberbus contract diff old.ts#Users new.ts#Users --who old-callers",
      description: "Only what breaks old callers"
    }
  ])
)

/** @see the file's first line */
export const contract = Command.make("contract").pipe(
  Command.withDescription("Work with contracts: services and topics that modules export"),
  Command.withShortDescription("Find what breaks between two revisions of a contract"),
  Command.withSubcommands([diff])
)
