/** The side of a measured process: says when it is ready, does what main.ts orders, ends when main.ts is gone. */
import type { Run } from "./Meter.ts"

/** What main.ts asks of a child. */
export type Order =
  | { readonly kind: "run"; readonly inFlight: number; readonly millis: number }
  | { readonly kind: "cpu" }
  | { readonly kind: "end" }

/** What a child says. CPU times, user and system together, are in microseconds since it started. */
export type Word =
  | { readonly kind: "ready" }
  | { readonly kind: "run"; readonly run: Run }
  | { readonly kind: "cpu"; readonly micros: number }
  | { readonly kind: "failed"; readonly why: string }

/** Address of the Redis that main.ts has started. */
export const url = process.argv[2] ?? ""

const say = (word: Word) => void process.send?.(word)

const fail = (error: unknown) => {
  process.send?.({ kind: "failed", why: error instanceof Error ? (error.stack ?? error.message) : String(error) }, () =>
    process.exit(1)
  )
}

/** To be called when everything is connected; a client says how it makes calls. */
export const ready = (run?: (inFlight: number, millis: number) => Promise<Run>) => {
  process.on("message", (order: Order) => {
    if (order.kind === "end") return process.exit(0)
    if (order.kind === "cpu") {
      const { user, system } = process.cpuUsage()
      return say({ kind: "cpu", micros: user + system })
    }
    run?.(order.inFlight, order.millis).then((run) => say({ kind: "run", run }), fail)
  })
  say({ kind: "ready" })
}

process.on("disconnect", () => process.exit(0))
// Ctrl-C reaches the whole group; main.ts decides in which order it ends.
process.on("SIGINT", () => {})
process.on("uncaughtException", fail)
process.on("unhandledRejection", fail)
