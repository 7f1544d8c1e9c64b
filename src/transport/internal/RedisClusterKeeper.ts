/**
 * Keeps each queue at the master of its slot, over one connection to each master, and one for each that waits for messages.
 *
 * While the keys of a slot are moving, nothing is done about its queues: a step is about several keys, and at neither master would it
 * find all of them. What comes meanwhile waits, as what finds no master does, for at most the time of a command.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as KeySlot from "../KeySlot.ts"
import { TransportError } from "../Transport.ts"
import * as RedisKeeper from "./RedisKeeper.ts"
import type * as RedisLink from "./RedisLink.ts"
import * as RedisNodes from "./RedisNodes.ts"
import * as RedisRouting from "./RedisRouting.ts"
import * as ClusterMap from "./redisClusterMap.ts"
import type * as clusterOptions from "./redisClusterOptions.ts"
import * as ClusterStart from "./redisClusterStart.ts"
import type { Give } from "./redisGive.ts"
import type { Settings } from "./redisOptions.ts"

/** @see {@link make} */
export interface RedisClusterKeeper extends RedisKeeper.RedisKeeper {
  /** Those that are there. */
  readonly masters: () => ReadonlyArray<RedisNodes.Node>
}

/** What the owner is told. */
export interface Owner {
  /** Gives a master the functions, over this connection. */
  readonly load: (link: Pick<RedisLink.RedisLink, "command">, done: () => void) => void
  readonly up: (node: RedisNodes.Node) => void
  readonly down: (node: RedisNodes.Node, error: TransportError, wasUp: boolean) => void
  /** It has no slots any more. */
  readonly removed: (node: RedisNodes.Node) => void
  /** The schedule of attempts of one of them has ended, and all with it. */
  readonly gaveUp: (error: TransportError) => void
}

/** Commands that wait for a master at once. */
const maxHeld = 1_000

/** Connects to all masters, and disconnects when the Scope closes. */
export const make = (
  { at, seeds, settings }: clusterOptions.Cluster,
  owner: Owner,
  give?: Give
): Effect.Effect<RedisClusterKeeper, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const starting = ClusterStart.make()
    const readers = new Set<FollowingReader>()
    const isMissing = () => nodes.uncovered() !== undefined || nodes.masters().some(({ link }) => !link.isUp())
    const nodes: RedisNodes.RedisNodes = RedisNodes.make(
      { ...settings, whileDown: { calls: maxHeld, millis: settings.commandTimeoutMillis } },
      seeds,
      at,
      {
        added: (node) => starting.expect(node.address),
        removed: (node) => {
          starting.settled(node.address, undefined)
          owner.removed(node)
        },
        prepare: (node) => owner.load(node.link, () => {}),
        changed: () => {
          for (const reader of readers) reader.follow()
        },
        up: (node) => {
          owner.up(node)
          starting.settled(node.address, undefined)
        },
        down: (node, error, wasUp) => {
          owner.down(node, error, wasUp)
          starting.settled(node.address, error)
        },
        gaveUp: (error) => {
          owner.gaveUp(error)
          Effect.runFork(nodes.close(error))
        },
        isLooking: isMissing
      },
      give
    )
    yield* Effect.addFinalizer(() => nodes.close(undefined))
    yield* nodes.start
    yield* starting.done

    // The map is by the slot of the queue's name, whose keys all share it.
    const slotOf = (queue: string) => KeySlot.of(`${queue}.requests`)
    return {
      masters: () => nodes.masters().filter(({ link }) => link.isUp()),
      send: (queue, name, args, bytes, done, asBytes = false) =>
        nodes.send(slotOf(queue), name, args, bytes, done, true, asBytes),
      // The second one is never there: so that Redis says TRYAGAIN while the keys are moving, whichever of the others a step is about.
      keysOf: (queue) => ["2", `${queue}.requests`, `${queue}.none`],
      load: (queue, done) => {
        const node = nodes.ownerOf(slotOf(queue))
        if (node === undefined || !node.link.isUp()) return done()
        owner.load(node.link, done)
      },
      demoted: () => nodes.refresh(),
      bytesInFlight: (queue) => nodes.ownerOf(slotOf(queue))?.link.bytesInFlight() ?? 0,
      reader: (queue, lost) => {
        const made = new FollowingReader(nodes, slotOf(queue), settings, lost, () => readers.delete(made))
        readers.add(made)
        return made
      }
    }
  })

/** What a connection that waits is given up for. */
const moved = (name: string) =>
  new TransportError({
    kind: "ConnectionLost",
    operation: `use ${name}`,
    detail: "the slot has another master now",
    hint: "",
    sent: "unknown"
  })

/** A connection that waits for messages at the master of a slot, whichever that is. */
class FollowingReader implements RedisKeeper.Reader {
  private readonly nodes: RedisNodes.RedisNodes
  private readonly slot: number
  private readonly settings: Settings
  private readonly lost: () => void
  private readonly closed: () => void
  private current: { readonly node: RedisNodes.Node; readonly link: RedisKeeper.Waiting; tried: boolean } | undefined
  /** Comes as soon as the connection is there, or is known not to be. */
  private next: (() => void) | undefined
  private over = false

  constructor(nodes: RedisNodes.RedisNodes, slot: number, settings: Settings, lost: () => void, closed: () => void) {
    this.nodes = nodes
    this.slot = slot
    this.settings = settings
    this.lost = lost
    this.closed = closed
  }

  readonly isUp = () => this.current?.link.isUp() === true

  // Its master may be away: others are served all the same, and this one is followed when there is one.
  readonly start = Effect.sync(() => this.follow())

  /** Goes to the present master. What waits at another one ends, with nothing. */
  follow() {
    const node = this.nodes.ownerOf(this.slot)
    const before = this.current
    if (this.over || node === undefined || before?.node === node) return
    const link: RedisKeeper.Waiting = RedisKeeper.reader(
      node.settings,
      {
        up: () => this.settle(link),
        down: () => {
          if (this.current?.link === link) this.lost()
          this.settle(link)
        }
      },
      (name, args) => node.link.commandWhenUp(name, args, 0, () => {})
    )
    this.current = { node, link, tried: false }
    if (before !== undefined) {
      this.lost()
      before.link.rebuild(moved(node.settings.name))
      Effect.runFork(before.link.close)
    }
    link.open()
  }

  private settle(link: RedisKeeper.Waiting) {
    if (this.current?.link !== link) return
    this.current.tried = true
    const { next } = this
    this.next = undefined
    next?.()
  }

  wait(name: string, args: ReadonlyArray<string>, done: RedisLink.Done) {
    this.follow()
    const { current } = this
    if (current === undefined) return done(ClusterStart.uncovered(this.settings.name, this.slot), undefined)
    if (!current.tried) {
      this.next = () => this.wait(name, args, done)
      return
    }
    current.link.wait(name, args, (error, reply) => {
      if (error === undefined) return done(undefined, reply)
      // It was given up for the next one.
      if (this.current !== current) return done(undefined, undefined)
      const { node } = current
      const redirect = ClusterMap.readRedirect(error.detail, ClusterMap.hostOf(node.settings))
      if (redirect?.kind === "MOVED") {
        this.nodes.learn(error.detail, node)
        this.follow()
        // Of a master that the map does not take, another answer has to come first.
        if (this.current === current) return void setTimeout(() => done(undefined, undefined), RedisRouting.restMillis)
        return done(undefined, undefined)
      }
      if (redirect === undefined && !RedisRouting.isResting(error.detail)) return done(error, undefined)
      // Its messages are on their way to another master, or this one does not take commands at the moment.
      if (redirect === undefined) this.nodes.refresh()
      setTimeout(() => done(undefined, undefined), RedisRouting.restMillis)
    })
  }

  readonly unblock = () => {
    this.next = undefined
    this.current?.link.unblock()
  }

  readonly close = Effect.suspend(() => {
    this.over = true
    this.closed()
    return this.current?.link.close ?? Effect.void
  })
}
