/** The process's private inbox on one transport: which calls wait for an answer, and what becomes of what arrives. */
import { randomUUID } from "node:crypto"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as LinkState from "../../transport/LinkState.ts"
import * as PerTransport from "../../transport/PerTransport.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import { Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Discards from "../../wire/Discards.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as LongTexts from "../../wire/LongTexts.ts"
import * as Pack from "../../wire/Pack.ts"
import * as Presence from "../../wire/Presence.ts"
import type { Instance } from "./members.ts"
import * as Router from "./router.ts"

/** @see `Caller.MaxPending` */
export const MaxPending = Context.Reference<number>("fiberbus/client/Caller/MaxPending", {
  defaultValue: () => 50_000
})

/** What a JavaScript `Map` can hold, with room to spare. */
const mostPending = 10_000_000

/** A call that waits for its answers. It is in the table from before its sending until its end. */
export abstract class Pending extends TimerWheel.Entry {
  id = ""
  /** On the clock of the deadlines. */
  deadline: number
  /** The process that the request was sent to, where it was sent to one alone. */
  target: Instance | undefined
  /** Several processes answer it: no final answer is the last. */
  gathers: boolean
  // One that goes without saying is not compiled away.
  constructor() {
    super()
    this.deadline = 0
    this.target = undefined
    this.gathers = false
  }
  /** False for an answer of another process than the one whose steps the call gets. */
  abstract accepts(reply: Envelope.Reply): boolean
  /** A step on the way. */
  abstract onStep(reply: Envelope.Reply): void
  /** The final answer; the call has left the table. */
  abstract onReply(reply: Envelope.Reply): void
  /** True where a final answer is none: the process has not begun, and the request goes elsewhere. */
  abstract redirects(reply: Envelope.Reply): boolean
  /** It has left the table. */
  abstract onLeft(): void
  /** The process that the request was sent to is gone, and its last words have come. */
  abstract onTargetGone(error: TransportError): void
  /** No answer can come any more; the call has left the table. */
  abstract onLost(error: TransportError): void
  /** The link is up: the request, which was held, is to be sent with so much of its time left. */
  abstract onUp(millis: number): void
}

/** @see {@link inbox} */
export interface Inbox {
  readonly transport: Transport["Service"]
  /** Where answers are sent to. */
  readonly channel: string
  /** How many of them may come in one frame; nothing where the transport sends none so. */
  readonly packs: number | undefined
  /** The version in which they may have long texts behind their JSON; nothing where frames are too small for that. */
  readonly texts: number | undefined
  /** Enters a call for so many milliseconds and gives it an id if it has none; nothing when the table is full. */
  readonly enter: (pending: Pending, timeoutMillis: number) => TransportError | undefined
  /** True while answers cannot arrive: requests must be held. */
  readonly isDown: () => boolean
  /** Has the request sent when the link is up again, or refused when that takes too long for the transport's `whileDown`. */
  readonly hold: (pending: Pending) => void
  /** Whether a call still waits. */
  readonly has: (pending: Pending) => boolean
  /** Lets a call that is in expire after so many milliseconds from now. */
  readonly renew: (pending: Pending, millis: number) => void
  /** Takes a call out. False if it had left before. */
  readonly leave: (pending: Pending) => boolean
  /** Time on the clock of the deadlines, in milliseconds. */
  readonly now: () => number
  /** Calls that wait. */
  readonly size: () => number
  /** Calls that wait for one process. */
  readonly pendingOn: (target: Instance) => ReadonlyArray<Pending>
  /** What is known of the processes of a service, for all who call it; kept until the Scope closes. */
  readonly router: (service: string) => Effect.Effect<Router.Router, never, Scope.Scope>
}

const make = Effect.fnUntraced(function* (transport: Transport["Service"]) {
  const maxPending = yield* MaxPending
  if (!Number.isSafeInteger(maxPending) || maxPending < 1 || maxPending > mostPending) {
    return yield* Effect.die(new RangeError(`Caller.MaxPending must be an integer from 1 to ${mostPending}`))
  }
  const tooMany = tooManyCalls(maxPending)
  const wheel = yield* TimerWheel.make
  const discards = yield* Discards.make("inbox")
  const channel = Channels.inbox(transport.prefix)
  const random = yield* Random.Random
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const { maxFrameBytes } = transport.capabilities
  const pending = new Map<string, Pending>()
  const idPrefix = `${randomUUID()}-`
  let count = 0
  let closed: TransportError | undefined

  // Calls that wait for the link, oldest first.
  const held = new Map<Pending, Held>()

  const leave = (call: Pending) => {
    // Attempts of a durable call follow each other under one id.
    if (pending.get(call.id) !== call) return false
    pending.delete(call.id)
    wheel.remove(call)
    if (held.size > 0) release(call)
    call.onLeft()
    return true
  }

  const release = (call: Pending) => {
    const place = held.get(call)
    if (place === undefined) return
    held.delete(call)
    wheel.remove(place)
  }

  const end = (call: Pending, error: TransportError) => {
    if (leave(call)) call.onLost(error)
  }

  const why = () => LinkState.downReason(link.current()) ?? "down"

  const hold = (call: Pending) => {
    const state = link.current()
    if (state._tag === "Closed") return end(call, state.error ?? transportClosed)
    const limits = transport.whileDown
    if (limits === undefined) return end(call, linkDown(why(), ""))
    if (held.size >= limits.calls) {
      return end(call, linkDown(why(), `, and ${limits.calls} calls wait for it already`))
    }
    const place = new Held(() => end(call, linkDown(why(), `, and did not come back within ${limits.millis} ms`)))
    held.set(call, place)
    wheel.add(place, limits.millis)
  }

  // Whoever still waits when the last caller's Scope closes is told so: no answer can come any more.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = inboxClosed
      for (const call of [...pending.values()]) if (leave(call)) call.onLost(inboxClosed)
    })
  )

  // Before the first call can be made: an answer may be faster than the confirmation of its request.
  const receive = Pack.each(maxFrameBytes, (raw) => {
    if (raw instanceof Codec.Malformed) return discards.note(raw.reason)
    const reply = Envelope.readReply(raw)
    const call = reply.requestId === undefined ? undefined : pending.get(reply.requestId)
    if (call === undefined) {
      const presence = reply.requestId === undefined ? Presence.read(raw) : undefined
      if (presence?._tag === "Up") return heardOf(presence)
      // Late ones are usual: of calls that timed out, of replicas that answered second.
      return reply.requestId?.startsWith(idPrefix) ? discards.count("LateReply") : discards.note("UnknownReply")
    }
    if (!call.accepts(reply)) return discards.count("OtherReplica")
    if (!reply.final || call.gathers) return call.onStep(reply)
    if (!reply.ok && call.redirects(reply)) return
    leave(call)
    call.onReply(reply)
  })
  yield* transport.subscribe({ _tag: "Channel", channel }, receive)

  // It does not say of which service it is: one process may serve several.
  const routers = new Set<Router.Router>()
  const heardOf = (presence: Presence.Presence) => {
    for (const router of routers) router.hear(presence)
  }
  const shared = yield* RcMap.make({
    lookup: (key: string) =>
      Effect.gen(function* () {
        const [prefix = "", service = ""] = key.split("\n")
        const router = yield* Router.open({ inbox, transport, wheel, discards, random, runFork }, prefix, service)
        routers.add(router)
        yield* Effect.addFinalizer(() => Effect.sync(() => routers.delete(router)))
        return router
      })
  })

  // Where channels fail apart from each other, the way to this one is what matters.
  const link = transport.linkOf?.(channel) ?? {
    current: () => transport.state,
    watch: (watcher: LinkState.Watcher) => transport.watch(watcher)
  }
  let { gaps } = link.current()
  const unwatch = link.watch((state) => {
    if (state._tag === "Closed") {
      const error = state.error ?? transportClosed
      for (const call of [...pending.values()]) end(call, error)
      return
    }
    if (state.gaps > gaps) {
      gaps = state.gaps
      const error = lostLink(state._tag === "Degraded" ? state.error : undefined)
      // Those that wait for the link have nothing to lose.
      for (const call of [...pending.values()]) if (!held.has(call)) end(call, error)
    }
    if (held.size === 0 || LinkState.downReason(state) !== undefined) return
    for (const [call, place] of [...held]) {
      const now = wheel.now()
      // After a stall of the whole process the link may be back before the wheel has turned: what is late is late all the same.
      if (call.deadline <= now) call.expire()
      else if (place.expiresAt <= now) place.expire()
      else {
        release(call)
        call.onUp(Math.max(1, Math.floor(call.deadline - now)))
      }
    }
  })
  yield* Effect.addFinalizer(() => Effect.sync(unwatch))

  const inbox: Inbox = {
    transport,
    pendingOn: (target) => [...pending.values()].filter((call) => call.target === target),
    router: (service) => RcMap.get(shared, `${transport.prefix}\n${service}`),
    channel,
    packs: transport.capabilities.packs && maxFrameBytes >= Pack.maxBytes ? Pack.maxCount : undefined,
    texts: maxFrameBytes >= Pack.maxBytes ? LongTexts.version : undefined,
    size: () => pending.size,
    now: wheel.now,
    leave,
    hold,
    has: (call) => pending.get(call.id) === call,
    renew: (call, millis) => {
      wheel.remove(call)
      wheel.add(call, millis)
    },
    isDown: () => LinkState.downReason(link.current()) !== undefined,
    enter: (call, timeoutMillis) => {
      if (closed !== undefined) return closed
      if (pending.size >= maxPending) return tooMany
      // One that has an id is a further attempt of a call.
      if (call.id === "") call.id = idPrefix + (++count).toString(36)
      pending.set(call.id, call)
      wheel.add(call, timeoutMillis)
      call.deadline = call.expiresAt
      return undefined
    }
  }
  return inbox
})

const shared = PerTransport.make(make, [MaxPending])

/** The inbox that all callers of the transport and of its views share; it lives as long as one of them. */
export const inbox = Effect.flatMap(Transport, (transport) =>
  Effect.map(
    Effect.provideService(shared, Transport, Prefixed.rootOf(transport)),
    (inbox): Inbox => (inbox.transport === transport ? inbox : viewOf(inbox, transport))
  )
)

const viewOf = (inbox: Inbox, transport: Transport["Service"]): Inbox => {
  const added = Prefixed.addedBy(transport)
  return { ...inbox, transport, router: (service) => inbox.router(added + service) }
}

class Held extends TimerWheel.Entry {
  readonly end: () => void
  constructor(end: () => void) {
    super()
    this.end = end
  }
  override expire() {
    this.end()
  }
}

const linkDown = (why: string | TransportError, besides: string) =>
  new TransportError({
    kind: "ConnectionLost",
    operation: "call",
    detail: `the link is down${besides}: ${typeof why === "string" ? why : why.detail}`,
    hint: "Nothing was sent: it is safe to try again",
    sent: "no"
  })

const lostLink = (error: TransportError | undefined) =>
  new TransportError({
    kind: "ConnectionLost",
    operation: "call",
    detail: error?.detail ?? "the link was down for a moment",
    hint: "",
    sent: "unknown"
  })

const transportClosed = new TransportError({
  kind: "Closed",
  operation: "call",
  detail: "the transport is closed",
  hint: "",
  sent: "unknown"
})

const inboxClosed = new TransportError({
  kind: "Closed",
  operation: "call",
  detail: "the Scope of the caller is closed",
  hint: "Keep the Scope of Caller.make open for as long as calls are made",
  sent: "unknown"
})

const tooManyCalls = (maxPending: number) =>
  new TransportError({
    kind: "Overloaded",
    operation: "call",
    detail: `${maxPending} calls are waiting for their answers`,
    hint: "Bound the calls that run at once, e.g. with Effect.forEach's concurrency, or raise Caller.MaxPending",
    sent: "no"
  })
