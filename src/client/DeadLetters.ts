/**
 * The messages of a durable service, or of a group of durable listeners, that were set aside: their handler failed too often, or
 * nobody could read them. Nothing happens to them until somebody replays or discards them.
 */
import * as Effect from "effect/Effect"
import type * as Service from "../contract/Service.ts"
import type * as Topic from "../contract/Topic.ts"
import { type DeadLetter, Durable } from "../transport/Durable.ts"
import { Transport, type TransportError } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"

export type { DeadLetter } from "../transport/Durable.ts"

/** Whose they are: a service, or what its contract says of it, or its name if it has one partition; a group of listeners to a topic. */
export type Of =
  | Pick<Service.Any, "serviceName" | "partitions">
  | string
  | { readonly topic: Topic.Any | string; readonly group: string }

const on = <A>(
  of: Of,
  use: (
    dead: Durable["Service"]["dead"],
    queues: readonly [string, ...Array<string>]
  ) => Effect.Effect<A, TransportError>
): Effect.Effect<A, TransportError, Durable | Transport> =>
  Effect.gen(function* () {
    const { dead } = yield* Durable
    const { prefix } = yield* Transport
    return yield* use(dead, queuesOf(prefix, of))
  })

const queuesOf = (prefix: string, of: Of): readonly [string, ...Array<string>] => {
  if (typeof of === "string") return [Channels.queue(prefix, of)]
  if ("serviceName" in of) return Channels.partitions(prefix, of.serviceName, of.partitions)
  return [Channels.groupQueue(prefix, typeof of.topic === "string" ? of.topic : of.topic.channel, of.group)]
}

/** A letter's name says which partition it is of, but for the first one. */
const nameIn = (partition: number, letter: string) => (partition === 0 ? letter : `${partition}:${letter}`)

const read = (name: string): { readonly partition: number; readonly letter: string } => {
  const [, partition = "0", letter = name] = /^(\d{1,3}):(.*)$/s.exec(name) ?? []
  return { partition: Number(partition), letter }
}

/** Uses one letter where it is; there is none in a partition that is not there. */
const withLetter = <A>(
  of: Of,
  name: string,
  gone: A,
  use: (dead: Durable["Service"]["dead"], queue: string, letter: string) => Effect.Effect<A, TransportError>
) =>
  on(of, (dead, queues) => {
    const { letter, partition } = read(name)
    const queue = queues[partition]
    return queue === undefined ? Effect.succeed(gone) : use(dead, queue, letter)
  })

/** Lists them, partition by partition, in each oldest first: at most `limit` (100) that come after the letter given. */
export const list = (
  of: Of,
  options: { readonly after?: string | undefined; readonly limit?: number } = {}
): Effect.Effect<ReadonlyArray<DeadLetter>, TransportError, Durable | Transport> =>
  on(of, (dead, queues) => listOf(dead, queues, options.after, options.limit ?? pageSize))

const listOf = Effect.fnUntraced(function* (
  dead: Durable["Service"]["dead"],
  queues: ReadonlyArray<string>,
  after: string | undefined,
  limit: number
) {
  const first = after === undefined ? { partition: 0, letter: undefined } : read(after)
  const found: Array<DeadLetter> = []
  // What is no letter has none after it, in its own partition or the next.
  if (first.letter !== undefined && !/^\d+(-\d+)?$/.test(first.letter)) return found
  for (let partition = first.partition; partition < queues.length && found.length < limit; partition++) {
    const from = partition === first.partition ? first.letter : undefined
    const letters = yield* dead.list(queues[partition]!, { after: from, limit: limit - found.length })
    for (const one of letters) found.push(partition === 0 ? one : { ...one, letter: nameIn(partition, one.letter) })
  }
  return found
})

/** One of them; nothing if it has gone. */
export const find = (
  of: Of,
  letter: string
): Effect.Effect<DeadLetter | undefined, TransportError, Durable | Transport> =>
  withLetter<DeadLetter | undefined>(of, letter, undefined, (dead, queue, name) =>
    Effect.map(dead.find(queue, name), (found) => found && { ...found, letter })
  )

/** How many there are. */
export const size = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> => on(of, sizeOf)

const sizeOf = (dead: Durable["Service"]["dead"], queues: ReadonlyArray<string>) =>
  Effect.map(Effect.forEach(queues, dead.size, { concurrency: 8 }), (sizes) => sizes.reduce((sum, one) => sum + one, 0))

/** Has one handled once more, as if it were new: under its id, whose result is replaced. False if it has gone. */
export const replay = (of: Of, letter: string): Effect.Effect<boolean, TransportError, Durable | Transport> =>
  withLetter(of, letter, false, (dead, queue, name) => dead.replay(queue, name))

/** Forgets one. False if it has gone. */
export const discard = (of: Of, letter: string): Effect.Effect<boolean, TransportError, Durable | Transport> =>
  withLetter(of, letter, false, (dead, queue, name) => dead.discard(queue, name))

/** Replays all that are there when it begins, oldest first, and gives their number. */
export const replayAll = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> => all(of, "replay")

/** Forgets all that are there when it begins, and gives their number. */
export const discardAll = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> => all(of, "discard")

const pageSize = 100

const all = (of: Of, operation: "replay" | "discard") =>
  on(of, (dead, queues) =>
    Effect.map(
      Effect.forEach(queues, (queue) => allIn(dead, queue, operation)),
      (counts) => counts.reduce((sum, one) => sum + one, 0)
    )
  )

const allIn = (dead: Durable["Service"]["dead"], queue: string, operation: "replay" | "discard") =>
  Effect.gen(function* () {
    // Those that are set aside meanwhile, perhaps the same once more, are not among them.
    let left = yield* dead.size(queue)
    let count = 0
    let after: string | undefined
    while (left > 0) {
      const letters = yield* dead.list(queue, { after, limit: Math.min(pageSize, left) })
      if (letters.length === 0) break
      for (const { letter } of letters) {
        if (yield* dead[operation](queue, letter)) count++
        after = letter
      }
      left -= letters.length
    }
    return count
  })
