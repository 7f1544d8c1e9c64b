/** Measures fiberbus beside others, in one run and in turns. @see README.md */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Brokers from "./Brokers.ts"
import * as Build from "./Build.ts"
import * as Goals from "./Goals.ts"
import * as Lab from "./Lab.ts"
import * as Peers from "./Peers.ts"
import * as Report from "./Report.ts"
import * as Results from "./Results.ts"
import * as Rows from "./Rows.ts"
import * as Tables from "./Tables.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string" },
    seconds: { type: "string" },
    /** Keys of rows. */
    only: { type: "string" },
    /** Keys of peers. */
    peers: { type: "string" },
    /** Folder of another build of fiberbus, to be compared with ours. May be given several times. */
    other: { type: "string", multiple: true, default: [] },
    /** Where the results are written to, besides bench/results. */
    json: { type: "string" },
    /** A short look at whether everything works; the figures mean little. */
    quick: { type: "boolean", default: false },
    /** Calls of the row `flat`, in millions. */
    millions: { type: "string" },
    /** Writes the pages of docs, their figures, and the block of the README. */
    report: { type: "boolean", default: false },
    /** Folder for CPU profiles; the figures of such a run mean little. */
    profile: { type: "string" }
  }
})

const positive = (name: string, text: string): number => {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${name} is no positive number: ${text}`)
  return value
}

const chosen = <A extends { readonly key: string }>(name: string, all: ReadonlyArray<A>, text: string | undefined) => {
  if (text === undefined) return all
  const keys = text.split(",")
  const unknown = keys.filter((key) => !all.some((entry) => entry.key === key))
  if (unknown.length > 0) {
    throw new Error(`--${name} does not know ${unknown.join(", ")}, but: ${all.map(({ key }) => key).join(", ")}`)
  }
  return all.filter(({ key }) => keys.includes(key))
}

const program = Effect.gen(function* () {
  const rounds = Math.ceil(positive("rounds", options.rounds ?? (options.quick ? "1" : "3")))
  const millis = positive("seconds", options.seconds ?? (options.quick ? "0.2" : "1")) * 1000
  const rows = chosen("only", Rows.all, options.only)
  const peers = chosen("peers", Peers.all(options.other.map((folder) => Path.resolve(folder))), options.peers)
  const load = Os.loadavg()[0]!
  const brokers = yield* Brokers.make
  const machine = [
    `${Os.availableParallelism()} shared cores (${Os.cpus()[0]?.model.trim()})`,
    `Node ${process.versions.node}`,
    `Redis ${brokers.redis.version}`,
    brokers.nats === undefined ? "no nats-server" : `nats-server ${brokers.nats.version}`,
    `load before the run ${load.toFixed(2)}`
  ].join(", ")
  const lab = Lab.make({
    rounds,
    millis,
    warmUpMillis: options.quick ? 200 : 2_000,
    quick: options.quick,
    profiles: options.profile === undefined ? undefined : Path.resolve(options.profile),
    peers,
    brokers,
    build: yield* Build.make,
    millions: positive("millions", options.millions ?? (options.quick ? "0.01" : "1"))
  })
  console.log(`${machine}\n${rounds} rounds of ${millis / 1000} s; every answer equal to what was sent\n`)

  const at = new Date().toISOString()
  const results = (): Results.Results => ({
    at,
    machine,
    load: load / Os.availableParallelism(),
    options: { rounds, seconds: millis / 1000, quick: options.quick },
    samples: lab.samples,
    failures: lab.failures
  })
  const file = Path.join(import.meta.dirname, "results", `${at.replace(/[:.]/g, "-")}.json`)
  for (const row of rows) {
    if (lab.peersOf(row).length === 0) continue
    const begun = performance.now()
    yield* row.run(lab)
    console.log(`${row.key} took ${((performance.now() - begun) / 60_000).toFixed(1)} minutes\n`)
    // After each row: a run that is cut short has not been for nothing.
    for (const to of [file, ...(options.json === undefined ? [] : [Path.resolve(options.json)])]) {
      Fs.mkdirSync(Path.dirname(to), { recursive: true })
      Fs.writeFileSync(to, `${JSON.stringify(results(), undefined, 1)}\n`)
    }
    console.log(`## ${row.title}\n\n${row.about}\n`)
    for (const of of Tables.casesOf(results(), row)) {
      if (Tables.peersOf(results(), row, of).length > 0) console.log(`${Tables.table(results(), row, of)}\n`)
    }
    const lines = [
      ...Tables.casesOf(results(), row).flatMap((of) => Tables.outcomes(results(), row, of)),
      ...Tables.failures(results(), row)
    ]
    if (lines.length > 0) console.log(`${lines.join("\n")}\n`)
  }

  console.log(`${Goals.table(results(), "measured")}\n`)
  console.log(`All figures: ${Path.relative(process.cwd(), file)}`)
  if (options.report) {
    // Rows that were not asked for stay as they are.
    const all = options.only === undefined ? results() : Results.merge([Report.read(), results()])
    console.log(`Written: ${Report.write(all).join(", ")}`)
  }
  const failed = lab.failures.filter(({ skipped }) => !skipped)
  if (failed.length > 0) {
    console.error(
      `${failed.length} could not be measured: ${failed.map(({ case: of, peer, row }) => `${row}/${of}/${peer}`).join(", ")}`
    )
    process.exitCode = 1
  }
})

NodeRuntime.runMain(Effect.scoped(program))
