/**
 * Which processes serve a service, as its callers know it: what they announce, and what is learned of them by sending to them.
 *
 * One for each service and transport, as long as somebody calls it. Nobody waits for it: while no process is known, requests go to the
 * service's own channel, which all hear.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import { type Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import type * as Discards from "../../wire/Discards.ts"
import * as LongTexts from "../../wire/LongTexts.ts"
import * as Presence from "../../wire/Presence.ts"
import type { Inbox } from "./inbox.ts"
import { Instance, Members } from "./members.ts"

/** Processes of one service that are remembered at most; of more, none is added. */
export const maxInstances = 1_024

/** A process that nothing was heard of for so long is given up, in milliseconds: three beats that did not come. */
export const silenceMillis = 6_500

/** A process with calls that nothing was heard of for so long, and up to twice as long, is asked for a sign, in milliseconds. */
export const probeMillis = 250

/** A process that owes a sign for so long gets no new calls while there is another, in milliseconds. */
export const suspectMillis = 1_000

/** How long the last frames of a process that has gone may take, where the transport has no barrier for them all, in milliseconds. */
export const lastWordsMillis = 200

/** The same of one that had said that it takes no more: it ended what it had, and its answers may be slower than its leaving. */
export const leaversWordsMillis = 2_000

/** Barriers that are passed before silence counts: a process that answers does so in less than three ways there and back of our own. */
const barriers = 3

/** A look that comes so much too late says that this process itself stood still, in milliseconds. */
const stallMillis = 1_000

/** Actions whose processes are kept ready for whoever calls next; those of more are looked up by each caller. */
const maxGroups = 1_024

/** Who asks for all replicas waits so long for their first announcements, in milliseconds. */
export const settleMillis = 100

/** How often a silent process is looked for while nothing is called, in milliseconds. */
const lookMillis = 2_000

/** @see the file's first line */
export class Router {
  private readonly transport: Transport["Service"]
  private readonly inbox: Inbox
  private readonly wheel: TimerWheel.TimerWheel
  private readonly serviceChannel: string
  private readonly instanceOf: (by: string) => string
  private readonly instances = new Map<string, Instance>()
  private readonly groups = new Map<string, Members>()
  private readonly random: Random.Random
  private readonly probe: string
  private readonly watching = new Timer(() => this.watch())
  private readonly looking = new Timer(() => this.look())
  private watchedAt = 0
  private lookedAt = 0
  private closed = false
  private readonly openedAt: number
  /** Goes up with each watch: by it calls note that their process was heard, without a look at the clock. */
  tick = 0
  /** Goes up whenever another process may be chosen than before. */
  version = 0

  constructor(options: {
    readonly inbox: Inbox
    readonly transport: Transport["Service"]
    readonly prefix: string
    readonly service: string
    readonly wheel: TimerWheel.TimerWheel
    readonly random: Random.Random
  }) {
    const { inbox, prefix, random, service, transport, wheel } = options
    this.transport = transport
    this.inbox = inbox
    this.wheel = wheel
    this.random = random
    this.serviceChannel = Channels.service(prefix, service)
    this.instanceOf = (by) => Channels.instance(prefix, service, by)
    this.openedAt = wheel.now()
    this.probe = Presence.write({ _tag: "Probe", replyTo: inbox.channel })
  }

  private get isExact() {
    return this.transport.capabilities.receivers === "exact"
  }

  /** Those that take an action, whoever comes and goes. */
  members(action: string): Members {
    let members = this.groups.get(action)
    if (members === undefined) {
      members = new Members(this, action, this.random)
      // Of a caller without a contract there may be any number.
      if (this.groups.size < maxGroups) this.groups.set(action, members)
    }
    return members
  }

  /** Asks who is there. */
  ask() {
    this.transport.send(this.serviceChannel, Presence.write({ _tag: "Who" }), ignoreSent)
  }

  /** Waits until those that are there have had the time to say so. */
  get settled(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { barrier, capabilities } = this.transport
      const left = this.openedAt + settleMillis - this.wheel.now()
      if (left <= 0) return Effect.void
      if (!capabilities.inProcess || barrier === undefined) return Effect.sleep(left)
      // The question, then the answer.
      const passing = Effect.callback<void>((resume) => barrier.call(this.transport, () => resume(Effect.void)))
      return Effect.repeat(passing, { times: 3 })
    })
  }

  /** Something was announced. */
  hear(presence: Presence.Presence) {
    if (this.closed) return
    if (presence._tag === "Here") this.onHere(presence)
    else if (presence._tag === "Gone") this.leaving(this.instances.get(presence.by))
    else if (presence._tag === "Up") {
      const instance = this.instances.get(presence.by)
      if (instance !== undefined) this.heard(instance, this.wheel.now())
    }
  }

  private onHere({ actions, by, pack, texts }: Presence.Here) {
    const now = this.wheel.now()
    const present = this.instances.get(by)
    if (present === undefined && this.instances.size >= maxInstances) return
    const instance = present ?? new Instance(by, this.instanceOf(by), this.tick)
    const isNews = present === undefined || instance.isLeaving || !instance.takesOnly(actions)
    if (present === undefined) this.instances.set(by, instance)
    instance.isLeaving = false
    instance.pack = pack
    instance.texts = LongTexts.isTaken(texts)
    instance.take(actions)
    this.heard(instance, now)
    if (isNews) this.update()
    if (this.transport.capabilities.inProcess || this.looking.tick >= 0) return
    this.lookedAt = now
    this.wheel.add(this.looking, lookMillis)
  }

  private heard(instance: Instance, now: number) {
    instance.heardAt = now
    instance.probedAt = undefined
    if (!instance.isSuspected) return
    instance.isSuspected = false
    this.update()
  }

  private update() {
    this.version++
  }

  /** All that are remembered. */
  all(): Iterable<Instance> {
    return this.instances.values()
  }

  /** It takes no more requests; what it has, it ends. */
  leaving(instance: Instance | undefined) {
    if (instance === undefined || instance.isLeaving || instance.isDead) return
    instance.isLeaving = true
    if (instance.pending === 0) this.forget(instance)
    this.update()
  }

  /** A call is sent to it. */
  begun(instance: Instance) {
    if (instance.pending++ === 0) instance.tick = this.tick
    // While something is called it is watched; in one process nobody vanishes without a word.
    if (this.watching.tick >= 0 || this.closed || this.transport.capabilities.inProcess) return
    this.watchedAt = this.wheel.now()
    this.wheel.add(this.watching, probeMillis)
  }

  /** It has answered. */
  answered(instance: Instance) {
    instance.tick = this.tick
    instance.answeredTick = this.tick
  }

  /** A call that was sent to it has ended, or went elsewhere. */
  ended(instance: Instance) {
    if (--instance.pending === 0 && instance.isLeaving) this.forget(instance)
  }

  /** Nobody hears what is sent to it. Ends the calls that it had, after its last words. */
  gone(instance: Instance) {
    if (!instance.isDead) {
      instance.isDead = true
      if (this.instances.get(instance.by) === instance) this.instances.delete(instance.by)
      this.update()
    }
    if (instance.pending === 0 || instance.isMourned) return
    instance.isMourned = true
    const end = () => {
      instance.isMourned = false
      for (const call of this.inbox.pendingOn(instance)) call.onTargetGone(goneError)
    }
    const { barrier, linkOf } = this.transport
    const wait = (act: () => void) =>
      this.wheel.add(new Timer(act), instance.isLeaving ? leaversWordsMillis : lastWordsMillis)
    const pass = (otherwise: () => void) => {
      if (barrier === undefined) otherwise()
      else barrier.call(this.transport, (passed) => (passed ? end() : otherwise()))
    }
    // Where channels are at different brokers, the one that tells of its absence knows nothing of the one that has its answers.
    if (linkOf !== undefined) wait(() => pass(end))
    else if (instance.isLeaving) wait(end)
    else pass(() => wait(end))
  }

  private sendProbe(instance: Instance, now: number) {
    instance.probedAt ??= now
    this.transport.send(instance.channel, this.probe, (error, receivers) => {
      if (error === undefined && receivers === 0 && this.isExact) this.gone(instance)
    })
  }

  /** While calls are on their way: who of those that have them is silent. */
  private watch() {
    if (this.closed) return
    const now = this.wheel.now()
    const stood = now - this.watchedAt > probeMillis + stallMillis
    this.watchedAt = now
    this.tick++
    let pending = 0
    for (const instance of this.instances.values()) {
      if (instance.pending === 0) continue
      pending += instance.pending
      if (instance.answeredTick === this.tick - 1) {
        this.heard(instance, now)
        continue
      }
      // It was sent to just now.
      if (instance.tick === this.tick - 1) continue
      // What it said meanwhile may wait in the socket.
      if (stood) {
        instance.heardAt = now
        instance.probedAt = undefined
      }
      this.sendProbe(instance, now)
      if (!instance.isSuspected && now - instance.probedAt! >= suspectMillis) {
        instance.isSuspected = true
        this.update()
      }
      if (now - instance.heardAt >= silenceMillis) this.lookAgain(instance)
    }
    if (pending > 0) this.wheel.add(this.watching, probeMillis)
  }

  /** While nothing is called: who has not announced itself for too long. */
  private look() {
    if (this.closed) return
    const now = this.wheel.now()
    const stood = now - this.lookedAt > lookMillis + stallMillis
    this.lookedAt = now
    for (const instance of this.instances.values()) {
      if (stood) instance.heardAt = now
      else if (now - instance.heardAt >= silenceMillis) this.lookAgain(instance)
    }
    if (this.instances.size > 0) this.wheel.add(this.looking, lookMillis)
  }

  /** Silence counts only where our own link works meanwhile, and what came over it has been read. */
  private lookAgain(instance: Instance) {
    const { barrier } = this.transport
    if (instance.isLookedFor) return
    instance.isLookedFor = true
    const { heardAt, answeredTick } = instance
    const judge = () => {
      instance.isLookedFor = false
      if (this.closed || instance.isDead || instance.heardAt !== heardAt || instance.answeredTick !== answeredTick)
        return
      this.gone(instance)
    }
    const leave = () => {
      instance.isLookedFor = false
    }
    const pass = (left: number) => {
      if (left === 0 || barrier === undefined) return judge()
      barrier.call(this.transport, (passed) => (passed ? pass(left - 1) : leave()))
    }
    this.sendProbe(instance, this.wheel.now())
    pass(barriers)
  }

  private forget(instance: Instance) {
    if (this.instances.get(instance.by) === instance) this.instances.delete(instance.by)
  }

  /** The link is back after frames were lost. */
  refresh() {
    const now = this.wheel.now()
    for (const instance of this.instances.values()) {
      instance.heardAt = now
      instance.probedAt = undefined
    }
    this.ask()
  }

  close() {
    this.closed = true
    this.wheel.remove(this.watching)
    this.wheel.remove(this.looking)
    this.instances.clear()
    this.update()
  }
}

const goneError = new TransportError({
  kind: "ConnectionLost",
  operation: "call",
  detail: "the process that had the request is gone",
  hint: "",
  sent: "unknown"
})

const ignoreSent = () => {}

class Timer extends TimerWheel.Entry {
  readonly act: () => void
  constructor(act: () => void) {
    super()
    this.act = act
  }
  override expire() {
    this.act()
  }
}

/** What a router is made of besides. */
export interface Place {
  readonly inbox: Inbox
  readonly transport: Transport["Service"]
  readonly wheel: TimerWheel.TimerWheel
  readonly discards: Discards.Discards
  readonly random: Random.Random
  readonly runFork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

/** The router of a service behind a prefix, until the Scope closes. It listens and asks in the background. */
export const open = (place: Place, prefix: string, service: string): Effect.Effect<Router, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { discards, runFork, transport } = place
    const router = new Router({ ...place, prefix, service })
    const { maxFrameBytes } = transport.capabilities
    const listening = transport.subscribe(
      { _tag: "Channel", channel: Channels.instances(prefix, service) },
      (frame) => {
        const raw = Codec.parse(frame, maxFrameBytes)
        if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
        const presence = Presence.read(raw)
        if (presence === undefined) discards.note("NoPresence")
        else router.hear(presence)
      }
    )
    let gaps = transport.state.gaps
    const unwatch = transport.watch((state) => {
      if (state._tag !== "Ready" || state.gaps === gaps) return
      gaps = state.gaps
      router.refresh()
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        unwatch()
        router.close()
      })
    )
    const heard = Effect.andThen(
      listening,
      Effect.sync(() => router.ask())
    ).pipe(
      Effect.andThen(Effect.never),
      Effect.scoped,
      Effect.catch((error) =>
        Effect.logWarning(
          `fiberbus: the processes of ${service} are not known, its requests go to all of them: ${error.message}`
        )
      )
    )
    const fiber = runFork(heard)
    yield* Effect.addFinalizer(() => Effect.sync(() => fiber.interruptUnsafe()))
    return router
  })
