/**
 * Asks the server what it is: the master, which one, and whether it has cut us.
 *
 * INFO is asked on each connect (on the subscriber before its first SUBSCRIBE), every 5 seconds on the publisher, and when the
 * subscriber was closed from the other side. Whoever may not ask does without.
 */
import { TransportError } from "../Transport.ts"
import type { Connection } from "./RedisHealth.ts"
import type { RedisLink, Strain } from "./RedisLink.ts"
import type { Settings } from "./redisOptions.ts"

/** @see {@link makeWatch} */
export interface Watch {
  /** Gives the links, and begins to ask. */
  readonly start: (links: Readonly<Record<Connection, RedisLink>>) => void
  readonly stop: () => void
  /** A connection is new and takes commands. */
  readonly prepared: (connection: Connection) => void
  readonly lost: (connection: Connection) => void
  /** Whether the receivers count is exact: only a master that is no part of a cluster knows all subscribers. */
  readonly countsAll: () => boolean
  /** Finds out whether Redis cut the subscriber because it was slow, and calls back only then. */
  readonly explainCut: (strain: Strain, was: (error: TransportError) => void) => void
}

/** What tells a slow reader from one that was closed for another reason, where Redis itself does not count. */
const strainedBytes = 262_144
const strainedMillis = 1000

interface Known {
  readonly runId: string | undefined
  readonly isReplica: boolean
  readonly countsAll: boolean
  /** Slow clients that were cut so far; not all versions count them. */
  readonly cuts: number | undefined
}

const unknown: Known = { runId: undefined, isReplica: false, countsAll: false, cuts: undefined }

const read = (info: string): Known => {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]
  const role = field("role")
  const cuts = field("client_output_buffer_limit_disconnections")
  return {
    runId: field("run_id"),
    isReplica: role !== undefined && role !== "master",
    countsAll: role === "master" && field("cluster_enabled") === "0",
    cuts: cuts === undefined ? undefined : Number(cuts)
  }
}

/** Knows nothing before `start`. */
export const makeWatch = (settings: Settings): Watch => {
  const known: Record<Connection, Known> = { publisher: unknown, subscriber: unknown }
  let links: Readonly<Record<Connection, RedisLink>> | undefined
  let insists = settings.sentinels
  let timer: NodeJS.Timeout | undefined
  let mayAsk = false

  const misplaced = (detail: string, hint: string) =>
    new TransportError({ kind: "Unreachable", operation: `use ${settings.name}`, detail, hint, sent: "no" })
  const demoted = () =>
    misplaced(
      "this Redis is a replica now, not the master",
      "It reconnects until it finds a master: check the address, or give sentinels"
    )

  const learn = (connection: Connection, now: Known) => {
    known[connection] = now
    if (now.isReplica && insists) return links?.[connection].rebuild(demoted())
    // A replica may be meant, as long as it was one from the beginning.
    if (now.countsAll) insists = true
    if (!settings.sentinels) return
    // After a failover each connection finds the new master on its own. The one that came first may still hold on to the old.
    const other: Connection = connection === "publisher" ? "subscriber" : "publisher"
    const { runId } = known[other]
    if (runId !== undefined && now.runId !== undefined && runId !== now.runId) {
      links?.[other].rebuild(misplaced("the master is another server now", ""))
    }
  }

  const ask = () => {
    const publisher = links?.publisher
    if (publisher === undefined || !publisher.isUp() || !mayAsk) return
    publisher.command("info", ["replication"], 0, (error, reply) => {
      if (error !== undefined || typeof reply !== "string" || !insists || !read(reply).isReplica) return
      // The subscriber hangs on the same server, and is not told. It goes first: its loss is what ends the pending calls.
      links?.subscriber.rebuild(demoted())
      publisher.rebuild(demoted())
    })
  }

  return {
    start: (both) => {
      links = both
      const { roleMillis } = settings.defences
      if (roleMillis === undefined) return
      timer = setInterval(ask, roleMillis)
      timer.unref()
    },
    stop: () => clearInterval(timer),
    prepared: (connection) => {
      links?.[connection].command("info", [], 0, (_error, reply) => {
        const answered = typeof reply === "string"
        if (connection === "publisher") mayAsk = answered
        if (answered) learn(connection, read(reply))
      })
    },
    lost: (connection) => {
      known[connection] = connection === "publisher" ? unknown : { ...unknown, cuts: known.subscriber.cuts }
    },
    countsAll: () => known.publisher.countsAll,
    explainCut: (strain, was) => {
      const before = known.publisher.cuts
      // Its answer shows as well that the server is there, and closed the subscriber alone.
      links?.publisher.command("info", [], 0, (error, reply) => {
        if (error !== undefined) return
        const cuts = typeof reply === "string" ? read(reply).cuts : undefined
        if (cuts !== undefined) known.publisher = { ...known.publisher, cuts }
        const strained = strain.bytesRead >= strainedBytes || strain.stalledMillis >= strainedMillis
        const counted = cuts !== undefined && before !== undefined ? cuts > before : undefined
        if (!(counted ?? strained)) return
        was(
          new TransportError({
            kind: "ConnectionLost",
            operation: `listen to ${settings.name}`,
            detail: `Redis cut the subscriber${counted === true ? "" : ", it seems,"} because its messages piled up (client-output-buffer-limit pubsub): ${Math.round(strain.bytesRead / 1024)} KiB had come in within seconds, and this process did not read for up to ${Math.max(0, Math.round(strain.stalledMillis))} ms`,
            hint: "Keep the event loop free and bound what is in flight, or raise that limit",
            sent: "unknown"
          })
        )
      })
    }
  }
}
