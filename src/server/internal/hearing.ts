/** How one listener takes what it hears: as it comes, as one of a group, or with an eye on what is missing. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Prefixed from "../../transport/Prefixed.ts"
import { type Target, type Transport, TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Numbers from "../../wire/Numbers.ts"
import type { Settings } from "../Options.ts"
import * as TopicMetrics from "../TopicMetrics.ts"
import * as Claims from "./claims.ts"
import type * as Entry from "./entry.ts"
import type { Link } from "./exchange.ts"
import type * as Groups from "./groups.ts"
import { give, type Hearer, type Member } from "./hearer.ts"
import * as Observed from "./observed.ts"
import { type Gap, Tracker } from "./tracker.ts"

/** What a listener wants beside the messages. */
export interface Hearing {
  readonly group: string | undefined
  readonly onGap: ((gap: Gap) => Effect.Effect<unknown, unknown>) | undefined
  /** Publishers keep what was missed. */
  readonly refills: boolean
}

/** A listener that is ready to be put among the others of its channel. */
export interface Ready {
  readonly hearer: Hearer
  /** Run in the Scope of its subscription, when that is confirmed. */
  readonly begin: Effect.Effect<void, TransportError, Scope.Scope>
  /** Takes no more, and goes on with what it has; nothing where that need not be waited for. */
  readonly finish: Effect.Effect<void> | undefined
}

/** What listeners of one process share. */
export interface Shared {
  readonly groups: Groups.Groups | undefined
  /** Told when messages may have been lost. */
  readonly trackers: Set<Tracker>
}

/** Notices that wait for room in the backlog; more are dropped and counted. */
const maxOwed = 1_024
/** How often they look for it, in milliseconds. */
const owedMillis = 50

const backfilled = new WeakSet<object>()

/** True for messages that were had from a publisher's history, known by what was parsed. */
export const isBackfilled = (raw: object): boolean => backfilled.has(raw)

/** Makes one. Groups need claims: `TransportError` of kind `InvalidOptions` where the transport has none. */
export const make = Effect.fnUntraced(function* (
  link: Link,
  { groups, trackers }: Shared,
  target: Target,
  member: Member,
  settings: Settings,
  { group, onGap, refills }: Hearing
): Effect.fn.Return<Ready, TransportError, Scope.Scope> {
  const { transport } = link
  if (group !== undefined) {
    if (groups === undefined) return yield* noClaims(transport, member, group)
    const name = Channels.withoutPrefix(transport.prefix, nameOf(target)) ?? nameOf(target)
    const own = groups.of(name, target._tag === "Pattern", group)
    yield* Effect.acquireRelease(
      Effect.sync(() => own.join(member)),
      (leave) => Effect.sync(leave)
    )
    return { hearer: own, begin: Effect.void, finish: own.finish(member) }
  }
  const plain: Hearer = { hear: (message, topic) => give(member, message, topic) }
  if (onGap === undefined && !refills) return { hearer: plain, begin: Effect.void, finish: undefined }

  const { entry, mount } = member
  const { size } = settings.backlog
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  const metrics = TopicMetrics.make(entry.name, link.metrics)
  const inbox = Channels.inbox(Prefixed.rootOf(transport).prefix)
  const tell = onGap === undefined ? undefined : notices(link, member, size, onGap)
  const tracker = new Tracker({
    link,
    refills,
    channel: target._tag === "Channel" ? Channels.withoutPrefix(transport.prefix, target.channel) : undefined,
    inbox,
    random: () => random.nextDoubleUnsafe(),
    wall: () => clock.currentTimeMillisUnsafe(),
    hasRoom: () => mount.pool.hasRoom(entry) || mount.pool.waiting < size / 2,
    deliver: (message, topic, isBackfilled) => {
      if (isBackfilled) {
        backfilled.add(message.raw)
        metrics.backfilled(1)
      }
      give(member, message, topic)
    },
    tell: (gap) => {
      metrics.missed(gap.missed)
      tell?.(gap)
    }
  })
  return {
    hearer: tracker,
    begin: Effect.gen(function* () {
      yield* Effect.acquireRelease(
        Effect.sync(() => trackers.add(tracker)),
        () =>
          Effect.sync(() => {
            trackers.delete(tracker)
            tracker.close()
          })
      )
      const { maxFrameBytes } = transport.capabilities
      const said = (target: Target, take: (said: Numbers.Said, channel: string) => void) =>
        transport.subscribe(target, (frame, channel) => {
          const raw = Codec.parse(frame, maxFrameBytes)
          const said = raw instanceof Codec.Malformed ? undefined : Numbers.readSaid(raw)
          if (said !== undefined) take(said, channel)
        })
      const numbers = Channels.numbers(transport.prefix, "")
      yield* said(numbersOf(transport.prefix, target), (said, channel) => {
        if (said._tag === "Last") tracker.last(channel.slice(numbers.length), said)
      })
      if (refills) {
        yield* said({ _tag: "Channel", channel: inbox }, (said) => {
          if (said._tag === "Refilled") tracker.refilled(said)
        })
      }
      tracker.begin()
    }),
    finish: undefined
  }
})

const nameOf = (target: Target) => (target._tag === "Channel" ? target.channel : target.pattern)

const numbersOf = (prefix: string, target: Target): Target =>
  target._tag === "Channel"
    ? { _tag: "Channel", channel: Channels.numbers(prefix, target.channel.slice(prefix.length)) }
    : {
        _tag: "Pattern",
        pattern: Channels.numbersPattern(prefix, target.pattern.slice(Channels.pattern(prefix, "").length))
      }

/** Notices take slots and wait as messages do, and so in their order; what finds no room comes when there is some. */
const notices = (link: Link, { entry, mount }: Member, size: number, onGap: NonNullable<Hearing["onGap"]>) => {
  const noticing: Entry.Entry = {
    ...entry,
    select: ({ raw }) => raw["gap"],
    decode: Effect.succeed,
    handle: onGap,
    // Notices are no messages that were heard.
    observed: Observed.uncounted(entry.observed, entry.context)
  }
  let owed: Array<Gap> = []
  const hasRoom = () => mount.pool.hasRoom(entry) || mount.pool.waiting < size
  const hand = (gap: Gap) => mount.accept(noticing, gap.channel, Envelope.readBroadcast({ gap }), false)
  const look = () => {
    const gaps = owed
    owed = []
    for (const gap of gaps) tell(gap)
  }
  const tell = (gap: Gap) => {
    if (owed.length === 0 && (hasRoom() || !mount.pool.isOpen)) return hand(gap)
    if (owed.length >= maxOwed) return link.discards.note("GapNotTold")
    if (owed.length === 0) link.wheel.add(new Claims.Later(look), owedMillis)
    owed.push(gap)
  }
  return tell
}

const noClaims = (transport: Transport["Service"], { entry }: Member, group: string) =>
  new TransportError({
    kind: "InvalidOptions",
    operation: `listen to ${entry.name} in the group ${group}`,
    detail: `${transport.name} cannot tell which of several listeners has a message`,
    hint: "Listen without a group, where every listener gets each message, or over a transport that has `claim`: Redis or Memory",
    sent: "no"
  })
