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

/** Whose they are: a service, or its name; a group of listeners to a topic. */
export type Of = Service.Any | string | { readonly topic: Topic.Any | string; readonly group: string }

const on = <A>(
  of: Of,
  use: (dead: Durable["Service"]["dead"], queue: string) => Effect.Effect<A, TransportError>
): Effect.Effect<A, TransportError, Durable | Transport> =>
  Effect.gen(function* () {
    const { dead } = yield* Durable
    const { prefix } = yield* Transport
    return yield* use(dead, queueOf(prefix, of))
  })

const queueOf = (prefix: string, of: Of): string => {
  if (typeof of === "string") return Channels.queue(prefix, of)
  if ("serviceName" in of) return Channels.queue(prefix, of.serviceName)
  return Channels.groupQueue(prefix, typeof of.topic === "string" ? of.topic : of.topic.channel, of.group)
}

/** Lists them, oldest first: at most `limit` (100) that come after the letter given. */
export const list = (
  of: Of,
  options: { readonly after?: string | undefined; readonly limit?: number } = {}
): Effect.Effect<ReadonlyArray<DeadLetter>, TransportError, Durable | Transport> =>
  on(of, (dead, queue) => dead.list(queue, { after: options.after, limit: options.limit ?? pageSize }))

/** One of them; nothing if it has gone. */
export const find = (
  of: Of,
  letter: string
): Effect.Effect<DeadLetter | undefined, TransportError, Durable | Transport> =>
  on(of, (dead, queue) => dead.find(queue, letter))

/** How many there are. */
export const size = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> =>
  on(of, (dead, queue) => dead.size(queue))

/** Has one handled once more, as if it were new: under its id, whose result is replaced. False if it has gone. */
export const replay = (of: Of, letter: string): Effect.Effect<boolean, TransportError, Durable | Transport> =>
  on(of, (dead, queue) => dead.replay(queue, letter))

/** Forgets one. False if it has gone. */
export const discard = (of: Of, letter: string): Effect.Effect<boolean, TransportError, Durable | Transport> =>
  on(of, (dead, queue) => dead.discard(queue, letter))

/** Replays all that are there when it begins, oldest first, and gives their number. */
export const replayAll = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> => all(of, "replay")

/** Forgets all that are there when it begins, and gives their number. */
export const discardAll = (of: Of): Effect.Effect<number, TransportError, Durable | Transport> => all(of, "discard")

const pageSize = 100

const all = (of: Of, operation: "replay" | "discard") =>
  on(of, (dead, queue) =>
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
  )
