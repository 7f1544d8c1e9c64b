/**
 * The account of durable work: messages are sent while the processes that handle them are killed, frozen and started again, and
 * Redis itself is restarted. At the end every message has an answer, and was handled at least once.
 *
 * `node --conditions=fiberbus-source test/resilience/durable-account.ts [messages] [seed]`
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { Effect, Exit, Layer, Logger, Schedule, Scope } from "effect"
import { Caller, DeadLetters } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import { Ledger } from "./durable-worker.ts"

/** What was found. */
export interface Account {
  readonly sent: number
  readonly answered: number
  /** Ids that no handler finished. */
  readonly unhandled: ReadonlyArray<string>
  readonly answeredWrong: ReadonlyArray<string>
  /** Handlings that ended, and those of them that had ended before for the same message. */
  readonly handlings: number
  readonly repeats: number
  /** Messages with more or fewer than one effect. */
  readonly effects: ReadonlyArray<string>
  /** Pairs of messages of one key that were begun for the first time in another order than that of their sending. */
  readonly disordered: ReadonlyArray<string>
  readonly kills: number
  readonly freezes: number
  readonly restarts: number
  /** What is left in the queue, in hand, and set aside. */
  readonly left: number
  readonly inHand: number
  readonly dead: number
}

/** What is done to whom. */
export interface Plan {
  readonly messages: number
  readonly workers: number
  readonly kills: number
  readonly freezes: number
  /** Restarts of Redis. */
  readonly restarts: number
  readonly seed: number
}

const dice = (seed: number) => {
  let state = seed >>> 0 || 1
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 4_294_967_296
  }
}

/** One process that works: started anew when it has gone. */
const start = (url: string, directory: string) =>
  Effect.callback<ChildProcess>((resume) => {
    const child = spawn(
      process.execPath,
      ["--conditions=fiberbus-source", "test/resilience/durable-worker.ts", url, directory],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    createInterface(child.stdout!).on("line", (line) => line === "ready" && resume(Effect.succeed(child)))
  })

const kill = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Does what the plan says and gives the account. */
export const run = (plan: Plan): Effect.Effect<Account, unknown> =>
  Effect.gen(function* () {
    const server = yield* RedisServer.RedisServer
    const { url } = server
    const directory = mkdtempSync(join(tmpdir(), "fiberbus-account-"))
    yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true, force: true })))
    mkdirSync(join(directory, "effects"))
    const random = dice(plan.seed)
    const workers: Array<ChildProcess> = yield* Effect.forEach(
      Array.from({ length: plan.workers }),
      () => start(url, directory),
      { concurrency: "unbounded" }
    )
    yield* Effect.addFinalizer(() => Effect.forEach(workers, kill, { discard: true, concurrency: "unbounded" }))

    let kills = 0
    let freezes = 0
    let restarts = 0
    /** Lets a part of the work be done between two faults: a signal, not a time. */
    const progress = (share: number) =>
      Effect.repeat(Effect.sleep("5 millis"), {
        until: () => readdirSync(join(directory, "effects")).length >= plan.messages * share
      })
    const faults = Effect.gen(function* () {
      const all = [
        ...Array.from({ length: plan.kills }, () => "kill"),
        ...Array.from({ length: plan.freezes }, () => "freeze"),
        ...Array.from({ length: plan.restarts }, () => "restart")
      ]
        .map((fault) => [random(), fault] as const)
        .sort(([one], [other]) => one - other)
      for (const [index, [, fault]] of all.entries()) {
        yield* progress((0.9 * (index + 1)) / (all.length + 1))
        const which = Math.floor(random() * workers.length)
        const worker = workers[which]!
        if (fault === "kill") {
          kills++
          yield* kill(worker)
          workers[which] = yield* start(url, directory)
        } else if (fault === "freeze") {
          freezes++
          worker.kill("SIGSTOP")
          // Longer than a worker may be silent: others take over what it has in hand.
          yield* Effect.sleep("1200 millis")
          worker.kill("SIGCONT")
        } else {
          restarts++
          yield* server.kill
          yield* server.start
        }
      }
    })

    const answers = new Map<string, string>()
    const order: Array<{ readonly id: string; readonly key: string; readonly n: number }> = []
    const counts = new Map<string, number>()
    const message = (index: number) => {
      // A third of them have an order.
      const key = index % 3 === 0 ? `key${index % 12}` : ""
      const n = (counts.get(key) ?? 0) + 1
      counts.set(key, n)
      const sent = { id: `m${index}`, key, n, millis: Math.floor(random() * 60) }
      order.push(sent)
      return sent
    }

    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      RedisStreams.layer({ url, reconnect: Schedule.spaced("20 millis"), commandTimeout: "500 millis" }),
      scope
    )
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const sending = Effect.gen(function* () {
      const ledger = yield* Caller.make(Ledger)
      // In order for those of one key, hence enqueued one after the other; every second one has a caller who waits as well.
      const receipts: Array<Effect.Effect<void, unknown>> = []
      for (let index = 0; index < plan.messages; index++) {
        const sent = message(index)
        const receipt = yield* ledger.book
          .enqueue(sent, { id: sent.id })
          .pipe(Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 200 }))
        receipts.push(
          Effect.map(receipt.await({ timeout: "2 minutes" }), ({ id }) => {
            answers.set(sent.id, id)
          })
        )
        // The same message once more, as by a caller who does not know whether the first one arrived.
        if (index % 10 === 0) {
          receipts.push(
            Effect.map(
              ledger.book.enqueue(sent, { id: sent.id }).pipe(
                Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 200 }),
                Effect.flatMap((again) => again.await({ timeout: "2 minutes" }))
              ),
              ({ id }) => {
                answers.set(sent.id, id)
              }
            )
          )
        }
      }
      yield* Effect.forEach(receipts, (wait) => wait, { concurrency: "unbounded", discard: true })
    })
    yield* Effect.all([faults, Effect.provideContext(Effect.scoped(sending), context)], {
      concurrency: 2,
      discard: true
    })

    const lines = readFileSync(join(directory, "log"), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split(" "))
    const done = lines.filter(([what]) => what === "done")
    const firstBegun = new Map<string, number>()
    for (const [index, [what, , id]] of lines.entries()) {
      if (what === "begun" && !firstBegun.has(id!)) firstBegun.set(id!, index)
    }
    const disordered: Array<string> = []
    const last = new Map<string, { readonly id: string; readonly at: number }>()
    for (const { id, key } of order) {
      if (key === "") continue
      const before = last.get(key)
      const at = firstBegun.get(id) ?? -1
      if (before !== undefined && at < before.at) disordered.push(`${before.id} ${id}`)
      last.set(key, { id, at })
    }
    const finished = new Set(done.map(([, , id]) => id))
    const effects = new Set(readdirSync(join(directory, "effects")))
    const command = (...words: [string, ...Array<string>]) => server.command(...words)
    const pending = (yield* command("XPENDING", "{ledger}.requests", "ledger")) as [number]
    return {
      sent: order.length,
      answered: answers.size,
      unhandled: order.filter(({ id }) => !finished.has(id)).map(({ id }) => id),
      answeredWrong: order.filter(({ id }) => answers.get(id) !== id).map(({ id }) => id),
      handlings: done.length,
      repeats: done.length - finished.size,
      effects: order.filter(({ id }) => !effects.has(id)).map(({ id }) => id),
      disordered,
      kills,
      freezes,
      restarts,
      left: Number(yield* command("XLEN", "{ledger}.requests")),
      inHand: pending[0],
      dead: yield* Effect.provideContext(DeadLetters.size(Ledger), context)
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(RedisServer.layerOptions({ args: ["--appendonly", "yes", "--appendfsync", "everysec"] }))
  )

if (process.argv[1] === import.meta.filename) {
  const messages = Number(process.argv[2] ?? 5_000)
  const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
  const began = performance.now()
  const account = await Effect.runPromise(
    run({ messages, workers: 3, kills: 20, freezes: 3, restarts: 2, seed }).pipe(Effect.provide(Logger.layer([])))
  )
  console.log(`seed ${seed}, ${Math.round((performance.now() - began) / 1000)} s`)
  console.log(JSON.stringify(account, null, 2))
  const good =
    account.answered === account.sent &&
    [account.unhandled, account.answeredWrong, account.effects, account.disordered].every(
      ({ length }) => length === 0
    ) &&
    account.left + account.inHand + account.dead === 0
  process.exit(good ? 0 : 1)
}
