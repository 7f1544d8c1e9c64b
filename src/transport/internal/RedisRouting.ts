/**
 * Sends commands to the master of their slot, and on to another one where a reply says so (MOVED, ASK): then they had not been executed.
 * One that could not be executed just now (CLUSTERDOWN, TRYAGAIN, READONLY) is sent again.
 *
 * Those for one slot are executed in the order of their sending, also while the slot moves: what comes behind a command that is sent
 * on waits until the old master has answered all that it was given. What finds no connection, or a cluster that is down, waits as
 * `whileDown` says.
 */
import { performance } from "node:perf_hooks"
import { TransportError } from "../Transport.ts"
import type * as RedisLink from "./RedisLink.ts"
import type { Done, Node, RedisNodes } from "./RedisNodes.ts"
import * as ClusterMap from "./redisClusterMap.ts"
import { type Give, plainly } from "./redisGive.ts"
import type { Settings } from "./redisOptions.ts"

/** What is known of the masters. */
export interface Nodes extends Pick<RedisNodes, "ownerOf" | "learn" | "refresh"> {
  /** Where an ASK sends a command: a node that need not have slots yet. */
  readonly forAsking: (address: ClusterMap.Address) => Node | undefined
}

/** @see {@link make} */
export interface RedisRouting {
  /** As in `RedisNodes`. */
  readonly send: RedisNodes["send"]
  /** A connection or a map is new: what waits for one is sent. */
  readonly release: () => void
  /** Ends what waits for a connection, and all that comes later. */
  readonly close: (error: TransportError) => void
}

/** How often a command is sent on before it ends. */
const maxRedirects = 8
/** How soon a master that would not take a command is asked again. */
export const restMillis = 50

/**
 * What a master says to a command that it has not executed and may soon: until it has met the others again, while the keys of the
 * slot are moving, or as it has become a replica.
 */
export const isResting = (detail: string): boolean => /^(CLUSTERDOWN|TRYAGAIN|READONLY)\b/.test(detail)

interface Parcel {
  readonly slot: number
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly bytes: number
  readonly done: Done
  redirects: number
  /** It may wait for a connection, and be executed by another master than the one that had the slot when it was given. */
  readonly mayWait: boolean
  readonly asBytes: boolean
  /** When waiting for a connection ends; from the first time that there was none. */
  until: number | undefined
}

/** What a slot's present master has not answered yet, and what must wait for that. */
interface Flight {
  readonly node: Node
  count: number
  /** Sent on by the old master; they come first. */
  readonly redirected: Array<Parcel>
  readonly behind: Array<Parcel>
}

/** Nothing is on its way. */
export const make = (settings: Settings, nodes: Nodes, give: Give = plainly): RedisRouting => {
  const flights = new Map<number, Flight>()
  let held: Array<Parcel> = []
  /** Their slots: what comes later waits behind them. */
  const heldOf = new Set<number>()
  let waitingBytes = 0
  let heldTimer: NodeJS.Timeout | undefined
  let restTimer: NodeJS.Timeout | undefined
  let ended: TransportError | undefined

  const error = (kind: TransportError["kind"], operation: string, detail: string, hint = "") =>
    new TransportError({ kind, operation, detail, hint, sent: "no" })
  const unowned = (slot: number) =>
    error("Unreachable", `use ${settings.name}`, `no master has slot ${slot}`, "Check CLUSTER INFO of its nodes")

  const send = (parcel: Parcel) => {
    if (ended !== undefined) return parcel.done(ended, undefined, undefined)
    const flight = flights.get(parcel.slot)
    const node = nodes.ownerOf(parcel.slot)
    if (flight !== undefined && (flight.redirected.length > 0 || flight.behind.length > 0 || flight.node !== node)) {
      return wait(flight.behind, parcel)
    }
    if (node === undefined || !node.link.isUp() || heldOf.has(parcel.slot)) return hold(parcel, node)
    if (node.link.bytesInFlight() + parcel.bytes > settings.maxBytesInFlight) {
      return parcel.done(overloaded(node), undefined, node)
    }
    const present = flight ?? { node, count: 0, redirected: [], behind: [] }
    if (flight === undefined) flights.set(parcel.slot, present)
    present.count++
    hand(node, parcel, (failure, reply) => {
      answered(parcel, present, failure, reply)
      if (--present.count === 0) land(parcel.slot, present)
    })
  }

  const hand = ({ link }: Node, { args, asBytes, bytes, name }: Parcel, done: RedisLink.Done) => {
    const sharded = name === "spublish"
    if (sharded || name === "publish") link.publish(args[0]!, args[1]!, bytes, done, sharded)
    else give(link, name, args, bytes, done, asBytes)
  }

  const overloaded = (node: Node) =>
    error(
      "Overloaded",
      `send over ${node.settings.name}`,
      `${settings.maxBytesInFlight} bytes are waiting for Redis`,
      "Send slower, or raise maxBytesInFlight"
    )

  const wait = (line: Array<Parcel>, parcel: Parcel) => {
    if (waitingBytes + parcel.bytes > settings.maxBytesInFlight) {
      const node = nodes.ownerOf(parcel.slot)
      return parcel.done(node === undefined ? unowned(parcel.slot) : overloaded(node), undefined, node)
    }
    waitingBytes += parcel.bytes
    line.push(parcel)
  }

  const answered = (parcel: Parcel, flight: Flight, failure: TransportError | undefined, reply: unknown) => {
    const { node } = flight
    const redirect =
      failure === undefined ? undefined : ClusterMap.readRedirect(failure.detail, ClusterMap.hostOf(node.settings))
    if (redirect === undefined) {
      if (failure !== undefined && isResting(failure.detail)) return rest(parcel, node, failure)
      return parcel.done(failure, reply, node)
    }
    if (++parcel.redirects > maxRedirects) {
      return parcel.done(
        error("Unreachable", `send over ${settings.name}`, `sent on ${maxRedirects} times: ${failure?.detail}`),
        undefined,
        node
      )
    }
    if (redirect.kind === "ASK") return askThere(parcel, redirect.to)
    nodes.learn(failure!.detail, node)
    wait(flight.redirected, parcel)
  }

  const rest = (parcel: Parcel, node: Node, failure: TransportError) => {
    if (!failure.detail.startsWith("TRYAGAIN")) nodes.refresh()
    // Its time is the limit, not how often it was sent on: it may be so each time until the slot has arrived.
    parcel.redirects = 0
    restTimer ??= setTimeout(() => {
      restTimer = undefined
      release()
    }, restMillis)
    hold(parcel, node, failure)
  }

  // The slot is half way there. The keys that have left are told of one by one, so the map stays.
  const askThere = (parcel: Parcel, to: ClusterMap.Address) => {
    const node = nodes.forAsking(to)
    // Once it is there, the old master is asked again.
    if (node === undefined || !node.link.isUp()) return hold(parcel, node)
    node.link.commandWhenUp("asking", [], 0, () => {})
    hand(node, parcel, (failure, reply) =>
      failure !== undefined && isResting(failure.detail)
        ? rest(parcel, node, failure)
        : parcel.done(failure, reply, node)
    )
  }

  const land = (slot: number, { behind, node, redirected }: Flight) => {
    flights.delete(slot)
    const all = [...redirected, ...behind]
    for (const parcel of all) waitingBytes -= parcel.bytes
    const isLost = !node.link.isUp()
    for (const parcel of all) {
      if (isLost && !parcel.mayWait) parcel.done(absent(node), undefined, node)
      else send(parcel)
    }
  }

  // Waiting for a connection

  const hold = (parcel: Parcel, node: Node | undefined, reason?: TransportError) => {
    if (node === undefined) nodes.refresh()
    const limits = settings.whileDown
    const now = performance.now()
    if (
      limits === undefined ||
      !parcel.mayWait ||
      (parcel.until !== undefined && parcel.until <= now) ||
      held.length >= limits.calls ||
      waitingBytes + parcel.bytes > settings.maxBytesInFlight
    ) {
      return parcel.done(reason ?? (node === undefined ? unowned(parcel.slot) : absent(node)), undefined, node)
    }
    heldOf.add(parcel.slot)
    parcel.until ??= now + limits.millis
    waitingBytes += parcel.bytes
    held.push(parcel)
    heldTimer ??= setTimeout(expire, Math.max(1, parcel.until - now))
  }

  // One that is there has others waiting for it.
  const absent = (node: Node) =>
    node.link.isUp()
      ? error("Unreachable", `send over ${node.settings.name}`, "it does not take commands at the moment", "Try again")
      : node.link.refusal()

  const release = () => {
    if (held.length === 0) return
    const all = held
    held = []
    heldOf.clear()
    for (const parcel of all) waitingBytes -= parcel.bytes
    // What has no connection still comes back here, behind those before it.
    for (const parcel of all) send(parcel)
  }

  const expire = () => {
    heldTimer = undefined
    // Ends what is late, and waits on for the rest.
    release()
  }

  return {
    send: (slot, name, args, bytes, done, mayWait = true, asBytes = false) =>
      send({ slot, name, args, bytes, done, mayWait, asBytes, redirects: 0, until: undefined }),
    release,
    close: (error) => {
      ended = error
      clearTimeout(heldTimer)
      clearTimeout(restTimer)
      const waiting = held
      held = []
      for (const parcel of waiting) parcel.done(error, undefined, undefined)
    }
  }
}
