/** A measured process: plays one role of one peer, does what main.ts orders, ends when main.ts is gone. */
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import type { Burst, Plan, Run } from "./Meter.ts"
import * as Payload from "./Payload.ts"
import type { Client, Peer, Setting } from "./Peer.ts"

/** What a process is started as. */
export interface Start {
  /** Of peers/, without `.ts`. */
  readonly file: string
  readonly role: "serve" | "connect" | "listen" | "idle"
  readonly setting: Setting
  /** Listeners, or idle services. */
  readonly count: number
}

/** What main.ts can order, and what the answer is. */
export interface Orders {
  readonly run: (plan: Plan) => Promise<Run>
  readonly burst: (args: { readonly count: number; readonly limitMillis: number }) => Promise<Burst>
  readonly hold: (args: { readonly count: number }) => void
  /** Milliseconds from the call to the last item. */
  readonly stream: (args: { readonly count: number }) => Promise<number>
  /** Milliseconds until the last publish was confirmed. */
  readonly publish: (args: { readonly count: number }) => Promise<number>
  /** Of a listener: resolves when each listener of the process has got so many messages since the last such order. */
  readonly heard: (args: { readonly count: number }) => Promise<void>
  readonly usage: () => Usage
}

/** Of the process so far: CPU time, user and system, in microseconds; memory in bytes, after a collection where `--expose-gc` is on. */
export interface Usage {
  readonly cpu: number
  readonly rss: number
  readonly heap: number
}

export type Word =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly id: number; readonly result: unknown }
  | { readonly kind: "failed"; readonly why: string }

const say = (word: Word) => void process.send?.(word)

const fail = (error: unknown) => {
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.send?.({ kind: "failed", why } satisfies Word, () => process.exit(1))
}

process.on("disconnect", () => process.exit(0))
// Ctrl-C reaches the whole group; main.ts decides in which order it ends.
process.on("SIGINT", () => {})
process.on("uncaughtException", fail)
process.on("unhandledRejection", fail)

const { count, file, role, setting } = JSON.parse(process.argv[2] ?? "{}") as Start

/** Counts what listeners hear, and checks it: each gets every message, in order. */
const hearing = () => {
  const heardOf = new Map<number, number>()
  let messages = 0
  let wanted = Number.POSITIVE_INFINITY
  let done = () => {}
  const check = () => {
    if (messages < wanted * count) return
    messages -= wanted * count
    wanted = Number.POSITIVE_INFINITY
    done()
  }
  return {
    heard: (message: Payload.Payload) => {
      // Listeners of one process are given the same messages: after all of them, each id has come `count` times.
      const before = heardOf.get(message.id) ?? 0
      // In full once: nine more comparisons would cost as much as a delivery.
      if (before === 0 ? !Payload.same(Payload.make(message.id), message) : message.tags.length !== 3) {
        fail(new Error(`heard ${JSON.stringify(message)}`))
      }
      if (before + 1 === count) heardOf.delete(message.id)
      else heardOf.set(message.id, before + 1)
      messages++
      check()
    },
    until: (messagesEach: number) =>
      new Promise<void>((resolve) => {
        wanted = messagesEach
        done = () => {
          if (heardOf.size > 0) fail(new Error(`${heardOf.size} messages did not reach every listener`))
          resolve()
        }
        check()
      })
  }
}

const begin = async () => {
  const { peer } = (await import(pathToFileURL(Path.join(import.meta.dirname, "peers", `${file}.ts`)).href)) as {
    readonly peer: Peer
  }
  const ear = hearing()
  let client: Client = {}
  if (role === "serve") await peer.serve!(setting)
  else if (role === "listen") await peer.listen!(setting, count, ear.heard)
  else if (role === "idle") await peer.idle!(setting, count)
  else client = await peer.connect!(setting)

  const orders: Orders = {
    run: (plan) => client.calls!.run(plan),
    burst: ({ count, limitMillis }) => client.calls!.burst(count, limitMillis),
    hold: ({ count }) => client.calls!.hold(count),
    stream: async ({ count }) => {
      const begun = performance.now()
      let next = 0
      await client.stream!(count, (item) => {
        if (!Payload.same(Payload.make(next), item)) {
          throw new Error(`item ${next} of the stream is ${JSON.stringify(item)}`)
        }
        next++
      })
      if (next !== count) throw new Error(`the stream ended after ${next} of ${count} items`)
      return performance.now() - begun
    },
    publish: async ({ count }) => {
      const begun = performance.now()
      await client.publish!(count)
      return performance.now() - begun
    },
    heard: ({ count }) => ear.until(count),
    usage: () => {
      globalThis.gc?.()
      const { system, user } = process.cpuUsage()
      const { heapUsed, rss } = process.memoryUsage()
      return { cpu: user + system, rss, heap: heapUsed }
    }
  }
  process.on("message", (order: { readonly id: number; readonly kind: keyof Orders | "end"; readonly args: any }) => {
    if (order.kind === "end") return process.exit(0)
    new Promise((resolve) => resolve(orders[order.kind as "run"](order.args))).then(
      (result) => say({ kind: "done", id: order.id, result }),
      fail
    )
  })
  say({ kind: "ready" })
}

begin().catch(fail)
