/** Takes part in a group that handles what one Redis, or a Redis Cluster, keeps in a queue. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Consumer, Consumption, Done, Entry } from "../Durable.ts"
import type { TransportError } from "../Transport.ts"
import { maxCauseLength } from "./durableMemory.ts"
import { Gathering } from "./Gathering.ts"
import * as RedisKeeper from "./RedisKeeper.ts"
import type { RedisSteps } from "./RedisSteps.ts"
import * as redisReplies from "./redisReplies.ts"

/** What a consumer is told of its own deliveries after a lost connection, at most. */
const maxOwn = 1_000

/** One that is to be settled. */
interface Settling {
  readonly entry: Entry
  readonly frame: string
  readonly replyTo: string
  readonly done: Done
}

/** Who is to be told that something was delayed here. As many as this process consumes. */
export class Wakes {
  private readonly byQueue = new Map<string, Set<() => void>>()

  wake(queue: string): void {
    for (const wake of this.byQueue.get(queue) ?? []) wake()
  }

  /** Those of a queue. */
  of(queue: string): Set<() => void> {
    const wakes = this.byQueue.get(queue) ?? new Set()
    this.byQueue.set(queue, wakes)
    return wakes
  }
}

/** Consumes until the Scope closes, over a connection of its own. */
export const consume = Effect.fnUntraced(function* (
  keeper: RedisKeeper.RedisKeeper,
  { asking, run, runAll, running }: RedisSteps,
  delayed: Wakes,
  consumption: Consumption
): Effect.fn.Return<Consumer, TransportError, Scope.Scope> {
  const { consumer, group, idleMillis, maxDeadLetters, queue, windowMillis } = consumption
  const stream = `${queue}.requests`
  const idle = String(Math.round(idleMillis))
  const window = String(Math.round(windowMillis))
  const wakes = delayed.of(queue)
  let mayMiss = false
  // Redis 8.4 gives silent deliveries with the new ones. What a connection leads to may be older, or newer, than what the last one led to.
  let canClaim = true
  const reader = keeper.reader(queue, () => {
    mayMiss = true
    canClaim = true
  })
  yield* Effect.addFinalizer(() => reader.close)
  yield* reader.start

  /** True if the group was not there. */
  const join = Effect.catchIf(
    Effect.as(asking(queue, "xgroup", ["CREATE", stream, group, "0", "MKSTREAM"]), true),
    ({ detail, kind }: TransportError) => detail.startsWith("BUSYGROUP") || kind === "Overloaded",
    (error) =>
      error.kind === "Overloaded"
        ? // At maxmemory Redis makes no group, and does not look whether there is one: whoever works on it makes room.
          Effect.mapBoth(asking(queue, "xinfo", ["CONSUMERS", stream, group]), {
            onFailure: () => error,
            onSuccess: () => false
          })
        : Effect.succeed(false)
  )
  yield* join

  const settlements = new Gathering<Settling>((queue, gathered, bytes) => {
    const asked = byCaller(gathered)
    const words = [group, window]
    for (let from = 0, to = 0; from < asked.length; from = to) {
      const { replyTo } = asked[from]!
      while (to < asked.length && asked[to]!.replyTo === replyTo) to++
      const ofCaller = asked.slice(from, to)
      const hasKeys = ofCaller.some(({ entry }) => entry.key !== "")
      words.push(replyTo, hasKeys ? "4" : "3", String(ofCaller.length))
      for (const { entry, frame } of ofCaller) {
        words.push(entry.entry, entry.id, frame)
        if (hasKeys) words.push(entry.key)
      }
    }
    runAll("settle", queue, words, asked, bytes, ({ done }, error, outcome) =>
      done(error, outcome === undefined || outcome === "s")
    )
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => settlements.flush()))

  /** What is delivered to one who waits no longer goes back. */
  const giveBack = (entries: ReadonlyArray<Entry>) => {
    for (const entry of entries) {
      run("again", queue, [group, entry.entry, String(entry.deliveries - 1), "0"], 0, () => {})
    }
  }

  const readNew = (max: number) =>
    Effect.callback<ReadonlyArray<Entry>, TransportError>((resume) => {
      let isWanted = true
      const words = ["GROUP", group, consumer, "COUNT", String(max), "BLOCK", String(RedisKeeper.blockMillis)]
      const wait = (claims: boolean) =>
        reader.wait(
          "xreadgroup",
          [...words, ...(claims ? ["CLAIM", idle] : []), "STREAMS", stream, ">"],
          (error, reply) => {
            if (claims && error?.detail.startsWith("ERR syntax error")) {
              canClaim = false
              return isWanted ? wait(false) : undefined
            }
            const entries = error === undefined ? redisReplies.read(reply) : []
            if (!isWanted) return giveBack(entries)
            resume(error === undefined ? Effect.succeed(entries) : Effect.fail(error))
          }
        )
      wait(canClaim)
      return Effect.sync(() => {
        isWanted = false
        // It waits for nothing any more.
        reader.unblock()
      })
    })

  const deliveries = (operation: "claim" | "own", words: ReadonlyArray<string>) =>
    Effect.map(running(operation, queue, [group, consumer, ...words], true), redisReplies.deliveries)

  const read = (max: number): Effect.Effect<ReadonlyArray<Entry>, TransportError> =>
    Effect.suspend(() => {
      if (!mayMiss || !reader.isUp()) return readNew(max)
      mayMiss = false
      return Effect.flatMap(
        Effect.tapError(deliveries("own", [String(maxOwn)]), () =>
          Effect.sync(() => {
            mayMiss = true
          })
        ),
        ({ entries }) => (entries.length > 0 ? Effect.succeed(entries) : readNew(max))
      )
    })

  let cursor = "0"
  let sweepAt = 0
  const promote = Effect.suspend(() => {
    // All lanes are looked at in turn, a part of them each time.
    const sweeps = cursor !== "0" || performance.now() >= sweepAt
    if (sweeps && cursor === "0") sweepAt = performance.now() + idleMillis
    return Effect.map(running("promote", queue, [group, sweeps ? cursor : ""]), (reply) => {
      const [nextMillis, waiting, dead, next] = Array.isArray(reply) ? reply : []
      cursor = String(next ?? "0")
      return { nextMillis: Number(nextMillis), waiting: Math.max(0, Number(waiting)), dead: Number(dead) }
    })
  })

  return {
    read: (max) =>
      Effect.catchIf(
        read(max),
        // The stream or its group has been deleted, or Redis has lost its data; or they are kept by another master now.
        ({ detail }) => detail.startsWith("NOGROUP") || detail.startsWith("UNBLOCKED"),
        (error) =>
          Effect.flatMap(join, (wasGone) =>
            Effect.as(
              wasGone
                ? Effect.logWarning(
                    `fiberbus: the group ${group} of ${stream} was gone and has been made again, what was there is lost: ${error.detail}`
                  )
                : Effect.void,
              []
            )
          )
      ),
    claim: (max) => deliveries("claim", [idle, String(max)]),
    renew: (entries) =>
      Effect.map(running("renew", queue, [group, consumer, ...entries]), (reply) =>
        Array.isArray(reply) ? reply.map(String) : []
      ),
    settle: (entry, { frame, replyTo }, done) =>
      settlements.add(queue, { entry, frame, replyTo, done }, Buffer.byteLength(frame)),
    retry: ({ deliveries, entry }, delayMillis, counts, done) =>
      run(
        "again",
        queue,
        [group, entry, String(counts ? deliveries : deliveries - 1), String(Math.ceil(delayMillis))],
        0,
        (error, reply) => {
          if (delayMillis > 0) delayed.wake(queue)
          done(error, reply === 1)
        }
      ),
    bury: ({ deliveries, entry }, { action, cause, reason }, settlement, done) =>
      run(
        "bury",
        queue,
        [
          group,
          entry,
          String(deliveries),
          String(maxDeadLetters),
          reason,
          cause.slice(0, maxCauseLength),
          action,
          window,
          settlement?.replyTo ?? "",
          settlement === undefined ? "0" : "1",
          settlement?.frame ?? ""
        ],
        0,
        (error, reply) => done(error, reply === 1)
      ),
    promote,
    onDelayed: (wake) => {
      wakes.add(wake)
      return () => wakes.delete(wake)
    },
    leave: Effect.asVoid(running("leave", queue, [group, consumer]))
  }
})

/** Those of one caller one after the other, in the order in which they came. */
const byCaller = (asked: ReadonlyArray<Settling>): ReadonlyArray<Settling> => {
  if (asked.every(({ replyTo }) => replyTo === asked[0]!.replyTo)) return asked
  return [...Map.groupBy(asked, ({ replyTo }) => replyTo).values()].flat()
}
