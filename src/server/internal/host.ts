/** All that one process serves and listens to over one transport: the tables that messages are looked up in. */
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import type { Delivery } from "../../contract/Action.ts"
import * as Glob from "../../contract/Glob.ts"
import type * as Service from "../../contract/Service.ts"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as PerTransport from "../../transport/PerTransport.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import { type Frame, type Target, type Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Control from "../../wire/Control.ts"
import * as Discards from "../../wire/Discards.ts"
import * as Discovery from "../../wire/Discovery.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Numbers from "../../wire/Numbers.ts"
import * as Pack from "../../wire/Pack.ts"
import * as Presence from "../../wire/Presence.ts"
import * as Reason from "../../wire/Reason.ts"
import type { Settings } from "../Options.ts"
import { Supervisor } from "../Supervision.ts"
import type { Check } from "./checks.ts"
import * as Claims from "./claims.ts"
import * as Consuming from "./consuming.ts"
import { Desk, type Served } from "./desk.ts"
import * as Entry from "./entry.ts"
import { cancelKey, Exchange, type Link } from "./exchange.ts"
import * as Groups from "./groups.ts"
import type { Hearer } from "./hearer.ts"
import * as Hearing from "./hearing.ts"
import * as Kept from "./kept.ts"
import * as Mount from "./mount.ts"
import { Outbox } from "./outbox.ts"
import { Announcer } from "./presence.ts"
import * as ShutDown from "./shutDown.ts"

/** Two handlers for one action of one service over one transport: a mistake in the program, so the layers die instead of being built. */
export class DuplicateHandler extends Data.TaggedError("DuplicateHandler")<{
  readonly service: string
  readonly action: string
  readonly places: readonly [string, string]
}> {
  override get message() {
    return `${this.service}.${this.action} has two handlers: ${this.places[0]} and ${this.places[1]}`
  }
}

interface Mounted {
  readonly entry: Entry.Entry
  readonly mount: Mount.Mount
  readonly delivery: Delivery
}

/** @see {@link host} */
export interface Host {
  /** Claims an action for the handler given at a place, until the Scope closes. Dies with {@link DuplicateHandler}. */
  readonly claim: (service: string, action: string, place: string) => Effect.Effect<void, never, Scope.Scope>
  /** Serves handlers until the Scope closes; then unsubscribes, drains and forgets them, in this order. */
  readonly serve: (
    service: Pick<Service.Any, "serviceName" | "partitions">,
    entries: ReadonlyArray<Entry.Entry>,
    options: Settings
  ) => Effect.Effect<void, TransportError, Scope.Scope>
  /** The same for one listener to a channel or pattern, prefix included. */
  readonly listen: (
    target: Target,
    entry: Entry.Entry,
    options: Settings,
    hearing: Hearing.Hearing
  ) => Effect.Effect<void, TransportError, Scope.Scope>
  /** The same for what is kept for a group of listeners to a topic. */
  readonly attend: (
    topic: Kept.Attended,
    entry: Entry.Entry,
    options: Settings
  ) => Effect.Effect<void, TransportError, Scope.Scope>
  /** Adds a check of health until the Scope closes. False where there is one of its name. */
  readonly check: (check: Check) => Effect.Effect<boolean, never, Scope.Scope>
}

// Of a transport and all its views: what one serves by its whole name, another may serve behind a prefix.
const claimed = new WeakMap<Transport["Service"], Map<string, string>>()
const claimsOf = (root: Transport["Service"]) => {
  const claims = claimed.get(root) ?? new Map<string, string>()
  claimed.set(root, claims)
  return claims
}

const make = Effect.fnUntraced(function* (transport: Transport["Service"]) {
  const context = yield* Effect.context<never>()
  const runFork = Effect.runForkWith(context)
  const discards = yield* Discards.make("server")
  const clock = yield* Clock.Clock
  const link: Link = {
    transport,
    instance: randomUUID().slice(0, 13),
    discards,
    wheel: yield* TimerWheel.make,
    log: (effect) => void runFork(effect),
    fork: runFork,
    outbox: new Outbox(transport.capabilities, discards),
    metrics: context,
    shutDownClock: "adjust" in clock ? undefined : clock,
    cancellable: new Map()
  }

  const ownClaims = transport.claim === undefined ? undefined : Claims.make(link, transport.claim.bind(transport))
  const hearing: Hearing.Shared = {
    groups: ownClaims === undefined ? undefined : Groups.make(link, transport.claim!.bind(transport), ownClaims),
    trackers: new Set()
  }
  const random = yield* Random.Random
  const desk = new Desk(link, () => clock.currentTimeMillisUnsafe())
  const announcers = new Map<string, Announcer>()

  /** Announces the actions that one mount takes, until the Scope closes. */
  const announced = (service: string, actions: ReadonlyArray<string>) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const announcer = announcers.get(service) ?? new Announcer(link, service, random, ownClaims?.look)
        announcers.set(service, announcer)
        announcer.add(actions)
        return announcer
      }),
      (announcer) =>
        Effect.sync(() => {
          announcer.remove(actions)
          if (announcer.isEmpty && announcers.get(service) === announcer) announcers.delete(service)
        })
    )

  // Callers may have taken this process for gone.
  let gaps = transport.state.gaps
  const unwatch = transport.watch((state) => {
    if (state._tag !== "Ready" || state.gaps === gaps) return
    gaps = state.gaps
    for (const announcer of announcers.values()) announcer.announce()
    hearing.groups?.gap()
    for (const tracker of hearing.trackers) tracker.begin()
  })
  yield* Effect.addFinalizer(() => Effect.sync(unwatch))

  /** Who may not claim would take no request that comes to all: better not to begin. */
  const mayClaim = (
    key: string,
    refused: (error: TransportError) => TransportError
  ): Effect.Effect<void, TransportError> =>
    transport.claim === undefined
      ? Effect.void
      : Effect.callback((resume) => {
          transport.claim!(key, 1, (error) =>
            resume(error?.kind === "PermissionDenied" ? Effect.fail(refused(error)) : Effect.void)
          )
        })

  const answerProbe = (replyTo: string) => {
    if (!Channels.isAddress(replyTo) || !replyTo.startsWith(inboxes)) return discards.note("ReplyToRefused")
    transport.send(replyTo, Presence.write({ _tag: "Up", by: link.instance }), ignoreSent)
  }

  const control = (control: Control.Control) => {
    if (control.by !== undefined && control.by !== link.instance) return
    link.cancellable.get(cancelKey(control.replyTo, control.requestId))?.control(control)
  }
  const instanceOf = (service: string) => Channels.instance(transport.prefix, service, link.instance)
  const { maxFrameBytes } = transport.capabilities
  const claims = claimsOf(Prefixed.rootOf(transport))
  const services = new Map<string, Map<string, Mounted>>()
  const listeners = new Map<string, Set<Hearer>>()
  const patterns = new Map<string, (channel: string) => boolean>()

  const inboxes = Channels.inboxPrefix(Prefixed.rootOf(transport).prefix)
  // The last channel that turned out to be somebody else's: mostly the next one is the same. Forgotten when a table changes.
  let foreign: string | undefined
  const isOwn = (channel: string) => {
    if (channel === foreign) return false
    const own = isListenedTo(channel)
    if (!own) foreign = channel
    return own
  }
  const isListenedTo = (channel: string) => {
    const name = Channels.withoutPrefix(transport.prefix, channel)
    if (listeners.has(channelKey(channel)) || (name !== undefined && services.has(name))) return true
    if (channel.endsWith(link.instance)) return true
    // Who listens to everything hears answers too; that makes no caller's inbox a place to keep them from.
    if (channel.startsWith(inboxes)) return false
    for (const matches of patterns.values()) if (matches(channel)) return true
    return false
  }

  /** What is no request, on a service's channel or on this process's own. */
  const receiveOther = (service: string, raw: Codec.JsonObject, problem: string) => {
    const said = Control.read(raw)
    if (said !== undefined) return control(said)
    const presence = Presence.read(raw)
    if (presence?._tag === "Who") return announcers.get(service)?.asked()
    if (presence?._tag === "Probe") return answerProbe(presence.replyTo)
    discards.note(problem)
  }

  /** Requests that come to all who serve the name, or to this process alone. */
  const receiveRequest =
    (service: string, actions: ReadonlyMap<string, Mounted>, isAlone: boolean) =>
    (raw: Codec.JsonObject | Codec.Malformed, _channel: string, frame: Frame | undefined): void => {
      if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
      const envelope = Envelope.readRequest(raw)
      if (typeof envelope === "string") return receiveOther(service, raw, envelope)
      const mounted = actions.get(envelope.action)
      const mount = (mounted ?? first(actions))?.mount
      if (mount === undefined) return discards.note("Draining")
      if (envelope.replyTo !== undefined && !mount.mayAnswer(envelope.replyTo)) return discards.note("ReplyToRefused")
      if (Discovery.isReserved(envelope.action) && desk.asked(service, envelope)) return
      if (mounted !== undefined) {
        const { delivery, entry, mount } = mounted
        return isAlone || delivery === "live" || ownClaims === undefined
          ? mount.accept(entry, service, envelope, isAlone)
          : mount.claim(entry, service, envelope, frame ?? JSON.stringify(raw), ownClaims)
      }
      discards.count("UnknownAction")
      for (const other of actions.values()) if (other.mount.options.unknownAction === "ignore") return
      const refuse = () =>
        new Exchange(link, Entry.unknown, service, envelope, envelope.replyTo).refuse(
          new Reason.UnknownAction({ action: envelope.action.slice(0, 128) }),
          "no"
        )
      if (isAlone || ownClaims === undefined || first(actions)?.delivery === "live") return refuse()
      // Another replica may know it.
      ownClaims.claim(service, envelope, frame ?? JSON.stringify(raw), true, (won) => {
        if (won) refuse()
      })
    }

  const receiveMessage =
    (listening: ReadonlySet<Hearer>) =>
    (raw: Codec.JsonObject | Codec.Malformed, channel: string, frame: Frame | undefined): void => {
      if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
      // Who listens to everything is not told again and again who is there, nor what is said of numbers.
      if (Presence.read(raw) !== undefined || Numbers.isSaid(raw)) return
      const envelope = Envelope.readBroadcast(raw)
      const topic = Channels.withoutPrefix(transport.prefix, channel) ?? channel
      for (const hearer of listening) hearer.hear(envelope, topic, frame)
    }

  const subscribe = (target: Target, take: Parameters<typeof Pack.each>[1]) =>
    transport.subscribe(target, Pack.each(maxFrameBytes, take))

  // One subscription per service and per listened target, however many layers share it. A table is filled before its
  // subscription opens and emptied after it has closed.
  const subscriptions = yield* RcMap.make({
    lookup: (key: string) => {
      const name = key.slice(2)
      if (key === whoKey)
        return subscribe({ _tag: "Channel", channel: Channels.who(transport.prefix) }, (raw) => desk.askedAll(raw))
      if (key.startsWith("i:"))
        return subscribe(
          { _tag: "Channel", channel: instanceOf(name) },
          receiveRequest(name, services.get(name) ?? new Map(), true)
        )
      const listening = listeners.get(key)
      if (listening === undefined) {
        return subscribe(
          { _tag: "Channel", channel: Channels.service(transport.prefix, name) },
          receiveRequest(name, services.get(name) ?? new Map(), false)
        )
      }
      return subscribe(
        key.startsWith("c:") ? { _tag: "Channel", channel: name } : { _tag: "Pattern", pattern: name },
        receiveMessage(listening)
      )
    }
  })

  /** Has its handlers told of to whoever asks, until the Scope closes: also while they end. */
  const told = Effect.fnUntraced(function* (service: string, served: Served) {
    yield* Effect.acquireRelease(
      Effect.sync(() => desk.add(service, served)),
      () => Effect.sync(() => desk.remove(service, served))
    )
    // Requests come without it: whom nobody allowed to hear it serves all the same.
    yield* RcMap.get(subscriptions, whoKey).pipe(
      Effect.catch((error) =>
        error.kind === "PermissionDenied"
          ? Effect.logWarning(`fiberbus: who asks for all services is not told of ${service}: ${error.message}`)
          : Effect.fail(error)
      )
    )
  })

  /** Makes a mount, and what begins its subscription, which ends before all else of it. */
  const open = Effect.fnUntraced(function* (name: string, entries: ReadonlyArray<Entry.Entry>, options: Settings) {
    const supervisor = yield* Supervisor
    const subscription = yield* Scope.make()
    const unsubscribe = Scope.close(subscription, Exit.void)
    const mount = Mount.make(link, name, entries, options, isOwn, (error) => {
      // Whoever takes nothing must not be heard by callers, who may have a better one to hear.
      runFork(unsubscribe)
      supervisor?.gaveUp(error)
    })
    const begin = Effect.fnUntraced(function* (
      key: string | undefined,
      present: Effect.Effect<unknown, TransportError, Scope.Scope> = Effect.void,
      finish?: Effect.Effect<void>
    ) {
      yield* mount.observed
      const supervised = ShutDown.make(link, name, mount, unsubscribe, supervisor !== undefined, finish)
      yield* Effect.acquireRelease(
        Effect.sync(() => supervisor?.supervised.add(supervised)),
        () =>
          Effect.andThen(
            supervised.shutDown,
            Effect.sync(() => supervisor?.supervised.delete(supervised))
          )
      )
      // It says that it is there when it hears, and that it is not before it hears no more.
      const heard = key === undefined ? Effect.void : RcMap.get(subscriptions, key)
      yield* Scope.provide(Effect.andThen(heard, present), subscription)
    })
    return { begin, mount, subscription }
  })

  // Two layers of one service may have one queue: each reads for itself.
  let consumers = 0
  const nextConsumer = () => `${link.instance}.${++consumers}`

  const host: Host = {
    check: (check) =>
      Effect.acquireRelease(
        Effect.sync(() => desk.addCheck(check)),
        (added) => Effect.sync(() => added && desk.removeCheck(check))
      ),

    claim: (service, action, place) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          // A space is in no name.
          const key = `${Prefixed.addedBy(transport)}${service} ${action}`
          const other = claims.get(key)
          if (other !== undefined) return Effect.die(new DuplicateHandler({ service, action, places: [other, place] }))
          claims.set(key, place)
          return Effect.succeed(key)
        }),
        (key) => Effect.sync(() => claims.delete(key))
      ),

    serve: Effect.fnUntraced(function* (contract, entries, options) {
      const service = contract.serviceName
      const { begin, mount, subscription } = yield* open(service, entries, options)
      const mounted = entries.map((entry) => ({ entry, mount, delivery: Entry.deliveryOf(entry, options.delivery) }))
      const routed = mounted.filter(({ delivery }) => delivery === "one").map(({ entry }) => entry.name)
      if (mounted.some(({ delivery }) => delivery !== "live")) {
        const key = Channels.claim(transport.prefix, service, link.instance)
        yield* mayClaim(key, (error) => notAllowed(`claim requests to ${service}`, serveLive, error))
      }
      const durable = mounted.some(({ delivery }) => delivery === "durable") ? yield* Kept.store(service) : undefined
      // Outlives what it delivers, and begins to read when all else is there.
      const handling = (action: string) => services.get(service)?.get(action)
      const plans = durable === undefined ? [] : Kept.plans(link, durable, contract, mount, handling, nextConsumer())
      // All leave at once: those whose Redis is away must not wait one after the other.
      const consuming = yield* Scope.fork(yield* Effect.scope, "parallel")
      const reading = yield* Effect.forEach(
        plans,
        (plan) => Effect.flatMap(Scope.fork(consuming), (scope) => Scope.provide(Consuming.make(plan), scope)),
        { concurrency: 8 }
      )
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const actions = services.get(service) ?? new Map<string, Mounted>()
          services.set(service, actions)
          foreign = undefined
          for (const one of mounted) actions.set(one.entry.name, one)
          return actions
        }),
        (actions) =>
          Effect.sync(() => {
            for (const entry of entries) actions.delete(entry.name)
            if (actions.size === 0 && services.get(service) === actions) services.delete(service)
          })
      )
      if (options.discovery === "all")
        yield* told(service, { entries, mount, startedAt: clock.currentTimeMillisUnsafe() })
      // Before the rest, and left after it: whose request is handled is heard until the last handler has ended.
      if (routed.length > 0 || entries.some(Entry.converses)) yield* RcMap.get(subscriptions, `i:${service}`)
      yield* begin(`s:${service}`, routed.length === 0 ? undefined : announced(service, routed))
      for (const read of reading) yield* Scope.provide(read, subscription)
    }),

    listen: Effect.fnUntraced(function* (target, entry, options, wanted) {
      const key = target._tag === "Channel" ? channelKey(target.channel) : `p:${target.pattern}`
      const { begin, mount } = yield* open(entry.name, [entry], options)
      const { group } = wanted
      const heard = yield* Hearing.make(link, hearing, target, { entry, mount }, options, wanted)
      if (group !== undefined) {
        const claim = Channels.groupClaim(transport.prefix, entry.name, group, link.instance)
        const operation = `claim messages of ${entry.name} for the group ${group}`
        yield* mayClaim(claim, (error) => notAllowed(operation, listenAlone, error))
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const listening = listeners.get(key) ?? new Set<Hearer>()
          listeners.set(key, listening.add(heard.hearer))
          if (heard.hearer instanceof Groups.Group) heard.hearer.listening++
          foreign = undefined
          if (target._tag === "Pattern") patterns.set(key, Glob.matcher(target.pattern))
          return listening
        }),
        (listening) =>
          Effect.sync(() => {
            // A group stays for its other members.
            if (!(heard.hearer instanceof Groups.Group) || --heard.hearer.listening === 0)
              listening.delete(heard.hearer)
            if (listening.size > 0 || listeners.get(key) !== listening) return
            listeners.delete(key)
            patterns.delete(key)
          })
      )
      yield* begin(key, heard.begin, heard.finish)
    }),

    attend: Effect.fnUntraced(function* (topic, entry, options) {
      const { begin, mount, subscription } = yield* open(entry.name, [entry], options)
      const durable = yield* Kept.store(topic.name)
      const reading = yield* Consuming.make(
        yield* Kept.attending(link, durable, topic, { entry, mount }, nextConsumer())
      )
      yield* begin(undefined)
      yield* Scope.provide(reading, subscription)
    })
  }
  return host
})

/** The process's host on the transport; it lives as long as something is served or listened to. */
export const host = PerTransport.make(make)

const ignoreSent = () => {}

const notAllowed = (operation: string, otherwise: string, { detail, kind, sent }: TransportError) =>
  new TransportError({
    kind,
    operation,
    detail,
    hint: `Give the user the right that docs/security.md lists for claims, or ${otherwise}`,
    sent
  })
const serveLive = 'serve with delivery: "live", where every replica handles each request'
const listenAlone = "listen without a group, where every listener gets each message"

const whoKey = "w:"

const channelKey = (channel: string) => `c:${channel}`

const first = <V>(map: ReadonlyMap<string, V>): V | undefined => {
  for (const value of map.values()) return value
  return undefined
}
