/** Import, and the way to a service that answers. */
import { spawnSync } from "node:child_process"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Lab from "../Lab.ts"

/** Runs starting.ts, which prints milliseconds and CPU time. */
const starting = (...args: ReadonlyArray<string>): Effect.Effect<Readonly<Record<string, number>>, Error> =>
  Effect.try({
    try: () => {
      const { status, stderr, stdout } = spawnSync(
        process.execPath,
        [Path.join(import.meta.dirname, "../starting.ts"), ...args],
        {
          encoding: "utf8",
          timeout: 60_000,
          env: { ...process.env, NODE_ENV: "production" }
        }
      )
      if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`)
      return JSON.parse(stdout) as Readonly<Record<string, number>>
    },
    catch: (error) => error as Error
  })

export const row: Lab.Row = {
  key: "start",
  title: "Import and start",
  about:
    "A fresh Node process: the time and the CPU time of importing the package (fiberbus and Moleculer load their Redis client later), and of importing what is needed and starting a service of one action on Redis until it is subscribed. Node's own start is left out. Files are in the system's cache.",
  peers: ["moleculer", "nest", "fiberbus"],
  metrics: [
    { key: "millis", title: "ms", digits: 1, chief: "less" },
    { key: "cpu", title: "CPU ms", digits: 1, chief: "less" }
  ],
  figures: ["millis"],
  run: (lab) =>
    Effect.gen(function* () {
      const rounds = Math.max(lab.rounds, lab.quick ? 1 : 5)
      for (const what of ["import", "service"] as const) {
        yield* Lab.turns(lab, row, what === "import" ? "import" : "service ready on Redis", {
          rounds,
          start: (entry) => Effect.succeed(entry),
          warmUp: (entry) => starting(what, entry.file, lab.brokers.redis.url, entry.build ?? lab.build),
          turn: (entry) => starting(what, entry.file, lab.brokers.redis.url, entry.build ?? lab.build)
        })
      }
    })
}
