/** Which Redis keeps what: one for all queues, or, of a Redis Cluster, the master of each one's slot. What is kept is the same. */
import type * as Effect from "effect/Effect"
import type { TransportError } from "../Transport.ts"
import * as RedisLink from "./RedisLink.ts"
import { type Give, plainly } from "./redisGive.ts"
import type { Settings } from "./redisOptions.ts"

/** @see the file's first line */
export interface RedisKeeper {
  /** Sends a command about a queue to the Redis that keeps it. `asBytes`: the texts of its reply are bytes as they came. */
  readonly send: (
    queue: string,
    name: string,
    args: ReadonlyArray<string>,
    bytes: number,
    done: RedisLink.Done,
    asBytes?: boolean
  ) => void
  /** What FCALL names as the keys of a queue, their number first. */
  readonly keysOf: (queue: string) => ReadonlyArray<string>
  /** Gives the functions to the Redis that keeps a queue, which has lost them. */
  readonly load: (queue: string, done: () => void) => void
  /** The Redis that keeps a queue says that it is a replica: elsewhere there is a master. */
  readonly demoted: (queue: string, error: TransportError) => void
  /** Bytes on their way to the Redis that keeps a queue. */
  readonly bytesInFlight: (queue: string) => number
  /** Makes a connection that waits for messages of a queue. `lost` is called when one may have been delivered that did not arrive. */
  readonly reader: (queue: string, lost: () => void) => Reader
}

/** One connection, over which one at a time waits for messages. */
export interface Reader {
  /** Connects. Fails with what went wrong; after that it keeps itself up until it is closed. */
  readonly start: Effect.Effect<void, TransportError>
  readonly isUp: () => boolean
  /** Sends the command that waits. A reply of nothing is one without messages. */
  readonly wait: (name: string, args: ReadonlyArray<string>, done: RedisLink.Done) => void
  /** Ends the waiting. Where the user may not say so, it ends by itself. */
  readonly unblock: () => void
  readonly close: Effect.Effect<void>
}

/** What the owner of a connection is told besides. */
export interface Heard {
  readonly up: () => void
  /** It is gone, or could not be made. */
  readonly down: (error: TransportError) => void
}

/** One connection to one Redis, which keeps itself up. @see {@link reader} */
export interface Waiting extends Reader {
  /** Connects, and tries again where that fails. */
  readonly open: () => void
  /** Gives the connection up for another one. */
  readonly rebuild: (error: TransportError) => void
}

/** How long a read waits for messages, in milliseconds. */
export const blockMillis = 2_000

/** Makes the connection to one Redis that is not connected yet. `tell` sends a command to the same one over another connection. */
export const reader = (
  settings: Settings,
  heard: Heard,
  tell: (name: string, args: ReadonlyArray<string>) => void
): Waiting => {
  let clientId = ""
  const link: RedisLink.RedisLink = RedisLink.make(
    { ...settings, commandTimeoutMillis: settings.commandTimeoutMillis + blockMillis },
    "consumer",
    {
      prepare: () =>
        link.command("client", ["ID"], 0, (_, reply) => {
          clientId = typeof reply === "number" ? String(reply) : ""
        }),
      up: heard.up,
      down: (error) => {
        clientId = ""
        heard.down(error)
      },
      mayReconnect: () => true,
      gaveUp: () => {}
    }
  )
  return {
    start: link.start,
    open: link.open,
    isUp: link.isUp,
    wait: (name, args, done) =>
      link.bytesWhenUp(name, args, 0, (error, reply) => {
        done(error, reply)
        // It has become a replica. Nobody else may ever cut a connection that only waits.
        if (error?.detail.startsWith("READONLY")) link.rebuild(error)
      }),
    unblock: () => {
      if (clientId !== "") tell("client", ["UNBLOCK", clientId])
    },
    rebuild: link.rebuild,
    close: link.close
  }
}

/** The keeper that is one Redis, over a connection of its owner's. `load` gives it the functions. */
export const one = (
  settings: Settings,
  link: RedisLink.RedisLink,
  load: (done: () => void) => void,
  give: Give = plainly
): RedisKeeper => ({
  send: (_queue, name, args, bytes, done, asBytes = false) => give(link, name, args, bytes, done, asBytes),
  keysOf: (queue) => ["1", `${queue}.requests`],
  load: (_queue, done) => load(done),
  demoted: (_queue, error) => link.rebuild(error),
  bytesInFlight: link.bytesInFlight,
  reader: (_queue, lost) =>
    reader(settings, { up: () => {}, down: lost }, (name, args) => link.commandWhenUp(name, args, 0, () => {}))
})
