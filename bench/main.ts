/** Measures fiberbus beside a hand-written floor and Moleculer, in one run and in turns. @see README.md */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as RedisServer from "../src/testing/RedisServer.ts"
import * as Build from "./Build.ts"
import * as Figures from "./Figures.ts"
import * as Process from "./Process.ts"
import * as Subjects from "./Subjects.ts"

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    seconds: { type: "string", default: "1.5" },
    only: { type: "string" },
    /** Calls in flight. */
    flights: { type: "string", default: "1,100" },
    /** Folder of another build of fiberbus, to be compared with ours. May be given several times. */
    other: { type: "string", multiple: true, default: [] },
    /** Folder for CPU profiles; the figures of such a run mean little. */
    profile: { type: "string" }
  }
})

const positive = (name: string, text: string): number => {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${name} is no positive number: ${text}`)
  return value
}
const rounds = Math.ceil(positive("rounds", options.rounds))
const millis = positive("seconds", options.seconds) * 1000
const flights = options.flights.split(",").map((text) => positive("flights", text))

/** Long enough for the optimising compiler; once per subject and number of calls in flight. */
const warmUpMillis = 2_000
/** Before each measurement, not counted: caches and sockets are another subject's until then. */
const leadMillis = 150

const program = Effect.gen(function* () {
  const known = Subjects.all(
    Build.make(),
    options.other.map((folder) => Path.resolve(folder))
  )
  const wanted = options.only?.split(",") ?? known.map(({ key }) => key)
  const subjects = known.filter(({ key }) => wanted.includes(key))
  if (subjects.length !== wanted.length) {
    return yield* Effect.fail(new Error(`--only knows: ${known.map(({ key }) => key).join(", ")}`))
  }

  const redis = yield* RedisServer.make()
  const redisPid = Number(/process_id:(\d+)/.exec(String(yield* redis.command("INFO", "server")))?.[1])
  const redisCpu = Effect.sync(() => Process.cpuOf(redisPid))
  const machine = [
    `${Os.availableParallelism()} cores (${Os.cpus()[0]?.model.trim()})`,
    `Node ${process.versions.node}`,
    `Redis ${redis.version}`,
    `load before: ${Os.loadavg()[0]!.toFixed(2)}`
  ].join(", ")

  const running = yield* Effect.forEach(subjects, (subject) =>
    Effect.gen(function* () {
      const settings = {
        args: [redis.url, ...(subject.build === undefined ? [] : [subject.build, `echo_${known.indexOf(subject)}`])],
        profiles: options.profile === undefined ? undefined : Path.resolve(options.profile)
      }
      const server = subject.server === undefined ? undefined : yield* Process.start(subject.server, settings)
      const client = yield* Process.start(subject.client, settings)
      return { subject, server, client }
    })
  )

  for (const { client } of running) for (const inFlight of flights) yield* client.run(inFlight, warmUpMillis)

  const results: Array<Figures.Round> = []
  for (let round = 0; round < rounds; round++) {
    for (const inFlight of flights) {
      for (const { subject, server, client } of running) {
        yield* client.run(inFlight, leadMillis)
        const cpu = Effect.all([client.cpu, server?.cpu ?? Effect.succeed(0), redisCpu])
        const [client0, server0, redis0] = yield* cpu
        const run = yield* client.run(inFlight, millis)
        const [client1, server1, redis1] = yield* cpu
        results.push({
          subject: subject.key,
          inFlight,
          round,
          ...run,
          clientCpu: client1 - client0,
          serverCpu: server === undefined ? undefined : server1 - server0,
          redisCpu: server === undefined ? undefined : redis1 - redis0
        })
      }
    }
  }

  const folder = Path.join(import.meta.dirname, "results")
  Fs.mkdirSync(folder, { recursive: true })
  const at = new Date().toISOString()
  const file = Path.join(folder, `${at.replace(/[:.]/g, "-")}.json`)
  Fs.writeFileSync(file, `${JSON.stringify({ at, machine, options, rounds: results }, undefined, 2)}\n`)

  console.log(`${machine}\n${rounds} rounds of ${millis / 1000} s each, medians; every answer equal to what was sent\n`)
  for (const inFlight of flights) console.log(`${Figures.table(subjects, results, inFlight)}\n`)
  console.log(`All figures: ${Path.relative(process.cwd(), file)}`)
})

NodeRuntime.runMain(Effect.scoped(program))
