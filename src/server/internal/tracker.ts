/**
 * What a listener has heard of each publisher of a topic that numbers its messages: in order, none twice, and what is missing is asked for,
 * or told. Source: docs/topics.md.
 *
 * Of each publisher there is a next number. It only goes up, with a message that is handed over or with a gap that is told: so each number
 * is accounted for exactly once, whatever comes late or again.
 */
import * as DateTime from "effect/DateTime"
import * as TimerWheel from "../../policy/TimerWheel.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Numbers from "../../wire/Numbers.ts"
import type { Link } from "./exchange.ts"
import type { Hearer } from "./hearer.ts"

/** Messages of one publisher that a listener missed for good. */
export interface Gap {
  /** The channel they were published on, without the transport's prefix. */
  readonly channel: string
  /** The publisher: a process, from its start to its end. */
  readonly from: string
  /** How many, `lastSeq - firstSeq + 1`. */
  readonly missed: number
  readonly firstSeq: number
  readonly lastSeq: number
  /** When the last message before them came; when the listener began, where none had come. By the listener's own clock, as `until`. */
  readonly since: DateTime.Utc
  /** When it was known that they are missing. */
  readonly until: DateTime.Utc
}

/** Publishers that one listener tracks at most; of more, the one that was silent longest is forgotten. */
export const maxSources = 1_024

/** A publisher is remembered for so long after its last word, in milliseconds. */
export const rememberedMillis = 600_000

/** What may still come is waited for so long, in milliseconds: what another one passed, and the first word of who is not known. */
export const settleMillis = 500

/** A publisher has so long to answer, in milliseconds, twice. */
export const answerMillis = 1_000

/** Time between two questions for the last numbers, in milliseconds; each varies by up to a tenth. */
export const askMillis = 30_000

/** After a start or a gap of the link it is asked a second time after so long, in milliseconds. */
export const askAgainMillis = 2_000

/**
 * Messages that wait for what comes before them: of one publisher, and of all together. Those beyond it are asked for once more where
 * publishers keep them; elsewhere nothing is waited for any more.
 */
export const maxHeld = 1_024
/** @see {@link maxHeld} */
export const maxHeldInAll = 8_192

/** Publishers that are asked for messages at the same time. */
export const maxRefilling = 16

/** How often a listener without room looks for some, in milliseconds. */
const roomMillis = 50

/** What a tracker works with. */
export interface Work {
  readonly link: Link
  /** Whether publishers keep what was missed. */
  readonly refills: boolean
  /** The channel that is listened to; nothing for a pattern. */
  readonly channel: string | undefined
  /** Where publishers send what was missed. */
  readonly inbox: string
  /** A number between 0 and 1. */
  readonly random: () => number
  /** The time on the wall, in milliseconds. */
  readonly wall: () => number
  /** Whether more can be taken without dropping any. */
  readonly hasRoom: () => boolean
  readonly deliver: (message: Envelope.Request, topic: string, isBackfilled: boolean) => void
  readonly tell: (gap: Gap) => void
}

/** @see the file's first line */
export class Tracker implements Hearer {
  readonly work: Work
  private readonly sources = new Map<string, Source>()
  private readonly asking: Beat
  /** From when on nothing of a publisher was forgotten. */
  private since: number
  private askedAt = Number.NEGATIVE_INFINITY
  readonly begunAt: number
  private refilling = 0
  private readonly queue = new Set<Source>()
  held = 0
  private closed = false

  constructor(work: Work) {
    this.work = work
    this.since = work.link.wheel.now()
    this.begunAt = work.wall()
    this.asking = new Beat(() => this.beat())
  }

  /** Asks who publishes: at the start, and when messages may have been lost. */
  begin() {
    for (const source of this.sources.values()) source.askAgain()
    this.ask()
    this.again(askAgainMillis)
  }

  close() {
    this.closed = true
    this.work.link.wheel.remove(this.asking)
    for (const source of this.sources.values()) source.leave()
    this.sources.clear()
  }

  hear(message: Envelope.Request, topic: string) {
    const number = Numbers.read(message.raw)
    if (number === undefined || this.closed) return this.work.deliver(message, topic, false)
    this.sourceOf(topic, number.from).take(number.seq, message)
  }

  /** A publisher tells its last number. */
  last(topic: string, { ageMillis, from, seq }: Numbers.Last) {
    const { wheel } = this.work.link
    this.sourceOf(topic, from).announced(seq, ageMillis < wheel.now() - this.since)
  }

  /** What was asked for has come. */
  refilled(said: Numbers.Refilled) {
    this.sources.get(keyOf(said.channel, said.from))?.refilled(said)
  }

  /** Asks for the last numbers, once in a while at most. */
  askSoon() {
    if (this.work.link.wheel.now() - this.askedAt >= settleMillis / 2) this.ask()
  }

  /** Lets a source ask for messages, now or when others have theirs. */
  enter(source: Source) {
    if (this.refilling >= maxRefilling) return void this.queue.add(source)
    this.refilling++
    source.isRefilling = true
    source.refill()
  }

  /** It asks no more. */
  exit(source: Source) {
    this.queue.delete(source)
    if (!source.isRefilling) return
    source.isRefilling = false
    this.refilling--
    for (const next of this.queue) {
      this.queue.delete(next)
      if (!this.closed) this.enter(next)
      break
    }
  }

  send(topic: string, said: Numbers.Said) {
    const { discards, transport } = this.work.link
    transport.send(Channels.numbers(transport.prefix, topic), Numbers.writeSaid(said), (error) => {
      if (error !== undefined) discards.count(`NumbersNotSent:${error.kind}`)
    })
  }

  private beat() {
    this.forgetOld()
    this.ask()
    this.again(askMillis * (0.9 + 0.2 * this.work.random()))
  }

  private again(millis: number) {
    const { transport, wheel } = this.work.link
    wheel.remove(this.asking)
    // Within a process nothing gets lost.
    if (!this.closed && transport.capabilities.inProcess !== true) wheel.add(this.asking, millis)
  }

  private ask() {
    this.askedAt = this.work.link.wheel.now()
    const { channel } = this.work
    const channels = new Set(
      channel === undefined ? Array.from(this.sources.values(), ({ topic }) => topic) : [channel]
    )
    for (const topic of channels) this.send(topic, { _tag: "Ask" })
  }

  private sourceOf(topic: string, from: string): Source {
    const key = keyOf(topic, from)
    const known = this.sources.get(key)
    if (known !== undefined) return known
    if (this.sources.size >= maxSources) this.forgetOldest()
    const source = new Source(this, topic, from)
    this.sources.set(key, source)
    return source
  }

  private forgetOld() {
    const before = this.work.link.wheel.now() - rememberedMillis
    for (const [key, source] of this.sources) if (source.heardAt < before) this.forget(key, source)
  }

  private forgetOldest() {
    let oldest: [string, Source] | undefined
    for (const one of this.sources) if (oldest === undefined || one[1].heardAt < oldest[1].heardAt) oldest = one
    this.forget(...oldest!)
  }

  private forget(key: string, source: Source) {
    source.giveUp()
    source.leave()
    this.sources.delete(key)
    // Who was there before may be one of those that are not remembered.
    this.since = this.work.link.wheel.now()
  }
}

const keyOf = (topic: string, from: string) => `${topic} ${from}`

class Beat extends TimerWheel.Entry {
  readonly expire: () => void
  constructor(expire: () => void) {
    super()
    this.expire = expire
  }
}

/** One publisher on one channel. Its place in the wheel is the end of what it waits for. */
class Source extends TimerWheel.Entry {
  readonly topic: string
  readonly from: string
  isRefilling = false
  heardAt: number
  private readonly tracker: Tracker
  /** The next number to account for; nothing until it is known where this listener begins. */
  private due: number | undefined = undefined
  /** The highest number that is known to have been published. */
  private known = 0
  private readonly held = new Map<number, Envelope.Request>()
  private waiting: "no" | "first" | "settle" | "refill" | "room" = "no"
  /** What is waited for ends here: more may be missing by the time that this is over. */
  private until = 0
  /** It asks for what is missing, or waits for its turn to. */
  private isQueued = false
  private asked = 0
  private tries = 0
  private lastAt: number

  constructor(tracker: Tracker, topic: string, from: string) {
    super()
    this.tracker = tracker
    this.topic = topic
    this.from = from
    this.heardAt = tracker.work.link.wheel.now()
    this.lastAt = tracker.begunAt
  }

  take(seq: number, message: Envelope.Request) {
    const { link } = this.tracker.work
    this.heardAt = link.wheel.now()
    if (this.due === undefined && seq === 1) this.due = 1
    if ((this.due !== undefined && seq < this.due) || this.held.has(seq)) return link.discards.count("Repeated")
    if (seq > this.known) this.known = seq
    if (seq === this.due && this.held.size === 0) {
      this.deliver(message, false)
      return this.goOn()
    }
    const isFull = this.held.size >= maxHeld || this.tracker.held >= maxHeldInAll
    // What cannot be held is asked for in its turn.
    if (isFull && this.isQueued && seq !== this.due) return
    this.held.set(seq, message)
    this.tracker.held++
    if (this.due === undefined) {
      if (this.waiting === "no") {
        this.wait("first", settleMillis)
        this.tracker.askSoon()
      }
    } else if (seq === this.due) return this.goOn()
    if (isFull) return this.giveUp()
    if (this.due !== undefined) this.goOn()
  }

  announced(last: number, isYounger: boolean) {
    this.heardAt = this.tracker.work.link.wheel.now()
    if (last > this.known) this.known = last
    if (this.due === undefined) this.start(isYounger ? 1 : Math.min(this.firstHeld() ?? last + 1, last + 1))
    else this.goOn()
  }

  override expire() {
    const { waiting } = this
    this.waiting = "no"
    if (this.due === undefined) return this.start(this.firstHeld() ?? this.known + 1)
    if (waiting === "refill") return this.tries < 2 ? this.refill() : this.lose(this.until)
    if (waiting === "room") return this.refill()
    if (this.due > this.until) return this.goOn()
    if (this.tracker.work.refills) return this.beginRefill()
    this.lose(this.until)
  }

  /** Waits for nothing any more: what is missing is told. */
  giveUp() {
    if (this.due === undefined) this.due = this.firstHeld() ?? this.known + 1
    this.calm()
    this.account(this.known)
  }

  leave() {
    this.calm()
    this.tracker.held -= this.held.size
    this.held.clear()
  }

  /** The question or its answer may be lost. */
  askAgain() {
    if (this.waiting !== "refill") return
    this.asked = 0
    this.refill()
  }

  /** Asks for the messages that are missing, from the next one on. */
  refill() {
    const { tracker } = this
    this.drain()
    this.until = this.holeEnd()
    const first = this.due!
    if (first > this.until) {
      this.calm()
      return this.goOn()
    }
    const { hasRoom, link } = tracker.work
    // While the link is down nobody can answer, and that says nothing of the publisher.
    if (!hasRoom() || link.transport.state._tag !== "Ready") {
      this.asked = 0
      return this.wait("room", roomMillis)
    }
    this.tries = this.asked === first ? this.tries + 1 : 1
    this.asked = first
    this.wait("refill", answerMillis)
    const { from, topic, until: last } = this
    tracker.send(topic, { _tag: "Refill", replyTo: tracker.work.inbox, from, first, last })
  }

  refilled({ first, messages, until }: Numbers.Refilled) {
    // An answer without progress would be asked for again and again.
    if (this.waiting !== "refill" || first !== this.asked || until < first || until > this.until) return
    const { capabilities } = this.tracker.work.link.transport
    for (const text of messages) {
      const raw = Codec.parse(text, capabilities.maxFrameBytes)
      const number = raw instanceof Codec.Malformed ? undefined : Numbers.read(raw)
      if (number === undefined || number.from !== this.from) continue
      if (number.seq > until) continue
      this.account(number.seq - 1)
      // It may have come by itself meanwhile.
      if (number.seq < this.due!) continue
      this.deliver(Envelope.readBroadcast(raw as Codec.JsonObject), true)
    }
    this.account(until)
    if (this.due! <= this.holeEnd()) this.refill()
    else this.goOn()
  }

  private start(next: number) {
    this.calm()
    this.due = next
    this.goOn()
  }

  /** Hands over what is next, and sees to it that what is missing comes, or is told. */
  private goOn() {
    this.drain()
    const { refills } = this.tracker.work
    if (this.due! > this.known) return this.calm()
    // Others of the same hole are found when it is filled.
    if (this.waiting === "refill" || this.waiting === "room" || this.isQueued) return
    // Nothing overtakes a message of the same publisher on the same channel; what is said on another one may.
    const isSure = this.held.size > 0 && this.tracker.work.link.transport.capabilities.ordered
    if (isSure) {
      if (refills) return this.beginRefill()
      return this.lose(this.holeEnd())
    }
    if (this.waiting === "settle") return
    this.until = this.holeEnd()
    this.wait("settle", settleMillis)
  }

  private beginRefill() {
    this.tracker.work.link.wheel.remove(this)
    this.waiting = "no"
    this.isQueued = true
    this.tries = 0
    this.asked = 0
    this.tracker.enter(this)
  }

  private lose(last: number) {
    this.account(last)
    this.calm()
    this.goOn()
  }

  private calm() {
    if (this.waiting === "no" && !this.isQueued) return
    this.tracker.work.link.wheel.remove(this)
    this.waiting = "no"
    this.isQueued = false
    this.tracker.exit(this)
  }

  private wait(what: Source["waiting"], millis: number) {
    const { wheel } = this.tracker.work.link
    this.waiting = what
    wheel.remove(this)
    wheel.add(this, millis)
  }

  private drain() {
    while (this.held.size > 0) {
      const message = this.held.get(this.due!)
      if (message === undefined) return
      this.held.delete(this.due!)
      this.tracker.held--
      this.deliver(message, false)
    }
  }

  /** Accounts for all up to a number: what is held is handed over, the rest is told to be missing. */
  private account(last: number) {
    this.drain()
    while (this.due! <= last) {
      const first = this.firstHeld()
      this.skip(first === undefined || first > last ? last : first - 1)
      this.drain()
    }
  }

  private deliver(message: Envelope.Request, isBackfilled: boolean) {
    const { work } = this.tracker
    this.due = this.due! + 1
    if (this.due - 1 > this.known) this.known = this.due - 1
    this.lastAt = work.wall()
    work.deliver(message, this.topic, isBackfilled)
  }

  /** Tells that all up to this one are missing. */
  private skip(last: number) {
    const first = this.due!
    if (last < first) return
    const { tell, wall } = this.tracker.work
    this.due = last + 1
    tell({
      channel: this.topic,
      from: this.from,
      missed: last - first + 1,
      firstSeq: first,
      lastSeq: last,
      since: DateTime.makeUnsafe(this.lastAt),
      until: DateTime.makeUnsafe(wall())
    })
  }

  private holeEnd(): number {
    const first = this.firstHeld()
    return first === undefined ? this.known : first - 1
  }

  private firstHeld(): number | undefined {
    let first: number | undefined
    for (const seq of this.held.keys()) {
      // Those of an ordered transport are in their order.
      if (first === undefined || seq < first) first = seq
    }
    return first
  }
}
