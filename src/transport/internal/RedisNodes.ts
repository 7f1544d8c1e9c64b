/**
 * The masters of a Redis Cluster: who has which slot, a connection to each, and commands to the master of a key.
 *
 * The map of the slots is asked for at the start, every 5 seconds, after each sign that it is old (MOVED, a lost node), and again and
 * again, with growing waits, while something is missing. A command that was sent elsewhere (MOVED, ASK) had not been executed, so it
 * is sent on. Commands to one slot are executed in the order of their sending, also while the slot moves: those that come behind one
 * that is sent on wait until the old master has answered all it was given.
 */
import { performance } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Backoff from "../Backoff.ts"
import * as KeySlot from "../KeySlot.ts"
import { TransportError } from "../Transport.ts"
import * as RedisLink from "./RedisLink.ts"
import * as RedisRouting from "./RedisRouting.ts"
import * as ClusterMap from "./redisClusterMap.ts"
import type { Give } from "./redisGive.ts"
import * as redisGreeting from "./redisGreeting.ts"
import type { Settings } from "./redisOptions.ts"
import * as Waits from "./waits.ts"

/** A master, from the moment it is known to have slots until it has none. */
export interface Node {
  /** `host:port` */
  readonly address: string
  readonly settings: Settings
  /** For commands; never for subscriptions. */
  readonly link: RedisLink.RedisLink
  /** Whether the user may ask it for its role, which shows that it is a master. Unknown before the first connection. */
  readonly mayAsk: () => boolean
}

/** Called exactly once per command: with the reply and the node that gave it, or the error. */
export type Done = (error: TransportError | undefined, reply: unknown, node: Node | undefined) => void

/** What the owner is told. */
export interface Owner {
  /** It has slots now, and is connecting. */
  readonly added: (node: Node) => void
  /** It has none any more; its connection is being closed. */
  readonly removed: (node: Node) => void
  /** A new connection: give the first commands, as in `RedisLink`. */
  readonly prepare?: (node: Node) => void
  /** Slots have other masters now. */
  readonly changed: () => void
  readonly up: (node: Node) => void
  readonly down: (node: Node, error: TransportError, wasUp: boolean) => void
  /** The schedule of attempts of one of them has ended. */
  readonly gaveUp: (error: TransportError) => void
  /** True while something is missing that a new map may bring. */
  readonly isLooking: () => boolean
}

/** @see {@link make} */
export interface RedisNodes {
  /** Asks the addresses that were given, one after the other, and begins to connect to all masters. */
  readonly start: Effect.Effect<void, TransportError>
  readonly masters: () => ReadonlyArray<Node>
  /** The master of a slot (`KeySlot.of`); none while nobody is known to have it. */
  readonly ownerOf: (slot: number) => Node | undefined
  /** The first slot that has no master. */
  readonly uncovered: () => number | undefined
  /**
   * Sends a command to the master of a slot. `bytes` count against `maxBytesInFlight` of that connection, above which it ends with kind
   * `Overloaded`. While there is no connection it waits as `whileDown` says. What may not wait ends at
   * once then, so that it is not executed by the next master. `asBytes`: the texts of its reply are bytes as they came.
   */
  readonly send: (
    slot: number,
    name: string,
    args: ReadonlyArray<string>,
    bytes: number,
    done: Done,
    mayWait?: boolean,
    asBytes?: boolean
  ) => void
  /** Learns from an error reply of a node where a slot is. True if that was a MOVED. */
  readonly learn: (text: string, node: Node) => boolean
  /** Asks for the map, if possible the given node. */
  readonly refresh: (prefer?: Node) => void
  /**
   * Makes sure that a node is a master now. As a replica it would take sharded commands too, and say nothing: a count of 0 while its
   * master's subscribers hear the message, a subscription that hears nothing. Without the right to ask: nothing is known, and no error.
   */
  readonly prove: (node: Node, done: (error: TransportError | undefined) => void) => void
  /** Ends all; what comes later ends with the error, or as closed. */
  readonly close: (error: TransportError | undefined) => Effect.Effect<void>
}

/** After so many maps that were older than ours, one is taken all the same: the cluster has been made anew. */
const maxOlder = 10
/** A node without slots is kept for so long after the last command that an ASK sent there. */
const askedMillis = 60_000

type Verdict = (error: TransportError | undefined) => void

interface Master extends Node {
  asks: boolean
  slots: number
  /** When an ASK last sent a command here, which it may do before it has slots. */
  askedAt: number
  /** A proof is on its way; these wait for the next one. */
  proving: boolean
  unproven: Array<Verdict>
}

/** Knows nobody before `start`. `at` gives the settings for an address, `how` a command is given to a connection. */
export const make = (
  settings: Settings,
  seeds: ReadonlyArray<ClusterMap.Address>,
  at: (address: ClusterMap.Address) => Settings | TransportError,
  owner: Owner,
  how?: Give
): RedisNodes => {
  const known = new Map<string, Master>()
  const map: Array<Master | undefined> = new Array(KeySlot.slots).fill(undefined)
  let ended: TransportError | undefined

  const error = (kind: TransportError["kind"], operation: string, detail: string, hint = "", sent = "no" as const) =>
    new TransportError({ kind, operation, detail, hint, sent })

  // Nodes

  const nodeAt = (address: ClusterMap.Address): Master | undefined => {
    const text = ClusterMap.textOf(address)
    const present = known.get(text)
    if (present !== undefined || ended !== undefined) return present
    const own = at(address)
    if (own instanceof TransportError) return undefined
    const node: Master = {
      address: text,
      settings: own,
      asks: false,
      slots: 0,
      askedAt: Number.NEGATIVE_INFINITY,
      proving: false,
      unproven: [],
      mayAsk: () => node.asks,
      link: RedisLink.make(own, "cluster", {
        prepare: () => {
          node.link.command("info", ["replication"], 0, (_error, reply) => {
            node.asks = typeof reply === "string"
            if (node.asks && isReplica(reply)) refresh(node)
          })
          owner.prepare?.(node)
        },
        up: () => {
          owner.up(node)
          routing.release()
          // It may have been away while the others agreed on something.
          if (started) refresh(node)
        },
        down: (error, wasUp) => {
          owner.down(node, error, wasUp)
          look()
        },
        mayReconnect: () => true,
        gaveUp: owner.gaveUp
      })
    }
    known.set(text, node)
    owner.added(node)
    node.link.open()
    return node
  }

  const give = (slot: number, node: Master | undefined) => {
    const before = map[slot]
    if (before === node) return false
    if (before !== undefined) before.slots--
    if (node !== undefined) node.slots++
    map[slot] = node
    return true
  }

  const settleMap = (changed: boolean) => {
    for (const [address, node] of known) {
      if (node.slots > 0 || performance.now() - node.askedAt < askedMillis) continue
      known.delete(address)
      owner.removed(node)
      Effect.runFork(node.link.close)
    }
    if (!changed) return
    owner.changed()
    routing.release()
  }

  const apply = (ranges: ReadonlyArray<ClusterMap.Range>) => {
    const next: Array<Master | undefined> = new Array(KeySlot.slots).fill(undefined)
    for (const { from, to, master } of ranges) next.fill(nodeAt(master), from, to + 1)
    let changed = false
    for (let slot = 0; slot < KeySlot.slots; slot++) changed = give(slot, next[slot]) || changed
    settleMap(changed)
  }

  // The map

  let started = false
  let asking: "node" | "seeds" | undefined
  let search: Fiber.Fiber<void> | undefined
  let askAgain = false
  let preferred: Node | undefined
  /** Slots that were told of one by one: a map that was asked for before does not have them. */
  let lessons = 0
  let epoch = 0
  let older = 0
  let turn = 0
  let lookTimer: NodeJS.Timeout | undefined
  let looking = false
  let pollTimer: NodeJS.Timeout | undefined
  const waits = Waits.make(Backoff.make({ first: "100 millis", longest: "2 seconds" }))

  const someUp = (): Master | undefined => {
    const up = [...known.values()].filter(({ link }) => link.isUp())
    return up[turn++ % Math.max(1, up.length)]
  }

  const refresh = (prefer?: Node) => {
    if (ended !== undefined) return
    const node = prefer?.link.isUp() === true ? prefer : someUp()
    if (asking === "node" || (asking === "seeds" && node === undefined)) {
      askAgain = true
      preferred = prefer ?? preferred
      return
    }
    // Whoever is there knows better than the search among those that were given, which may take long.
    const how = node === undefined ? "seeds" : "node"
    asking = how
    const asked = lessons
    const heard = (view: View | undefined) => {
      if (ended !== undefined || asking !== how) return
      asking = undefined
      if (view !== undefined && asked === lessons && isNews(view, how)) apply(view.ranges)
      if (askAgain) {
        const next = preferred
        askAgain = false
        preferred = undefined
        refresh(next)
      }
      look()
    }
    if (node !== undefined) {
      askView(node.link, ClusterMap.hostOf(node.settings), (_error, view) => heard(view))
      return
    }
    search = Effect.runFork(Effect.match(ask, { onSuccess: heard, onFailure: () => heard(undefined) }))
  }

  // A master that is cut off from the others goes on telling what was true before they chose another one. Their epoch is higher.
  const isNews = (view: View, how: "node" | "seeds") => {
    // A node that has forgotten everybody says that nobody has anything: the last map is the better guess.
    if (view.ranges.length === 0) return false
    if (how === "node" && view.epoch < epoch && ++older < maxOlder) return false
    older = 0
    epoch = view.epoch
    return true
  }

  // While something is missing; with growing waits, and one at a time.
  const look = () => {
    if (looking || ended !== undefined) return
    if (!owner.isLooking()) return waits.reset()
    looking = true
    waits.next(error("Unreachable", `use ${settings.name}`, "something is missing"), (millis = 1000) => {
      lookTimer = setTimeout(() => {
        looking = false
        if (owner.isLooking()) refresh()
      }, millis)
    })
  }

  const ask: Effect.Effect<View, TransportError> = Effect.gen(function* () {
    let first: TransportError | undefined
    for (const seed of seeds) {
      const own = at(seed)
      if (own instanceof TransportError) return yield* own
      const link = RedisLink.make(own, "cluster", {
        prepare: () => {},
        up: () => {},
        down: () => {},
        mayReconnect: () => false,
        gaveUp: () => {}
      })
      const asked = Effect.andThen(
        Effect.catchIf(
          link.start,
          ({ kind }) => kind === "ConnectionLost",
          (failure) => Effect.flip(redisGreeting.explain(own, failure))
        ),
        Effect.callback<View, TransportError>((resume) =>
          askView(link, seed.host, (failure, view) => {
            if (failure !== undefined) return resume(Effect.fail(noCluster(failure)))
            resume(
              view === undefined || view.ranges.length === 0
                ? Effect.fail(
                    error(
                      "Unreachable",
                      `ask ${own.name} for its cluster`,
                      "it knows no slots",
                      "Is the cluster formed?"
                    )
                  )
                : Effect.succeed(view)
            )
          })
        )
      )
      const result = yield* Effect.result(Effect.ensuring(asked, link.close))
      if (result._tag === "Success") return result.success
      // It was there and refused: so will the others.
      if (!passing.has(result.failure.kind)) return yield* result.failure
      first ??= result.failure
    }
    return yield* first ?? error("InvalidOptions", "connect", "there are no nodes")
  })

  // Proof

  const prove: RedisNodes["prove"] = (node, done) => {
    const master = node as Master
    if (!master.asks) return done(undefined)
    master.unproven.push(done)
    // The server may have answered one that is under way before what is to be proved happened.
    if (!master.proving) askRole(master)
  }

  const askRole = (master: Master) => {
    const asked = master.unproven
    master.unproven = []
    master.proving = true
    master.link.commandWhenUp("info", ["replication"], 0, (failure, reply) => {
      master.proving = false
      const demoted = failure === undefined && isReplica(reply)
      if (demoted) refresh(master)
      const verdict = demoted
        ? new TransportError({
            kind: "ConnectionLost",
            operation: `use ${master.settings.name}`,
            detail: "this node is a replica now, not the master",
            hint: "",
            sent: "unknown"
          })
        : failure
      for (const done of asked) done(verdict)
      if (master.unproven.length > 0 && !master.proving) askRole(master)
    })
  }

  const learn: RedisNodes["learn"] = (text, node) => {
    const redirect = ClusterMap.readRedirect(text, ClusterMap.hostOf(node.settings))
    if (redirect?.kind !== "MOVED") return false
    const target = nodeAt(redirect.to)
    if (target === undefined) return true
    lessons++
    settleMap(give(redirect.slot, target))
    // More may have moved.
    refresh(target)
    return true
  }

  const routing = RedisRouting.make(
    settings,
    {
      ownerOf: (slot) => map[slot],
      forAsking: (address) => {
        const node = nodeAt(address)
        if (node !== undefined) node.askedAt = performance.now()
        return node
      },
      learn,
      refresh
    },
    how
  )

  return {
    start: Effect.gen(function* () {
      const view = yield* ask
      epoch = view.epoch
      apply(view.ranges)
      started = true
      const { roleMillis } = settings.defences
      if (roleMillis === undefined) return
      pollTimer = setInterval(() => refresh(), roleMillis)
      pollTimer.unref()
    }),
    masters: () => [...known.values()],
    ownerOf: (slot) => map[slot],
    uncovered: () => {
      const slot = map.indexOf(undefined)
      return slot === -1 ? undefined : slot
    },
    send: routing.send,
    learn,
    refresh,
    prove,
    close: (error) =>
      Effect.suspend(() => {
        ended ??= error ?? RedisLink.closed(settings.name, "no")
        clearInterval(pollTimer)
        clearTimeout(lookTimer)
        search?.interruptUnsafe()
        routing.close(ended)
        // What waits behind others ends with them.
        return Effect.forEach([...known.values()], ({ link }) => link.close, {
          concurrency: "unbounded",
          discard: true
        })
      })
  }
}

/** What one node thinks, and how far it has followed the others' decisions. */
interface View {
  readonly ranges: ReadonlyArray<ClusterMap.Range>
  /** 0 where the user may not ask. */
  readonly epoch: number
}

const askView = (
  link: RedisLink.RedisLink,
  host: string,
  done: (error: TransportError | undefined, view: View | undefined) => void
) => {
  let epoch = 0
  link.commandWhenUp("cluster", ["info"], 0, (_error, reply) => {
    epoch = typeof reply === "string" ? Number(/^cluster_current_epoch:(\d+)/m.exec(reply)?.[1] ?? 0) : 0
  })
  link.commandWhenUp("cluster", ["slots"], 0, (error, reply) => {
    const ranges = error === undefined ? ClusterMap.readSlots(reply, host) : undefined
    done(error, ranges === undefined ? undefined : { ranges, epoch })
  })
}

/** What may be otherwise at another node, or later. */
export const passing: ReadonlySet<TransportError["kind"]> = new Set(["Unreachable", "Timeout", "ConnectionLost"])

const isReplica = (info: unknown) => typeof info === "string" && /^role:slave/m.test(info)

const noCluster = (failure: TransportError) =>
  /cluster support disabled/i.test(failure.detail)
    ? new TransportError({
        kind: "InvalidOptions",
        operation: failure.operation,
        detail: "this Redis is no node of a cluster",
        hint: "Use RedisPubSub",
        sent: "no"
      })
    : failure
