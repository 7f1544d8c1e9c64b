/**
 * Groups of listeners, over all processes: of those with one name that listen to one topic or pattern, one has each message, the one that
 * claims it first. At most one: who cannot tell whether it won drops the message.
 *
 * A message is known by its number, or where it has none by its text and how often that came in a row. Processes that have heard the
 * same count the same; who has not been there for long cannot know the count, and comes last. Source: docs/topics.md.
 */
import * as Effect from "effect/Effect"
import type { Frame } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Numbers from "../../wire/Numbers.ts"
import * as Claims from "./claims.ts"
import type { Link } from "./exchange.ts"
import { give, type Hearer, type Member } from "./hearer.ts"

/** A text without a number is counted anew after so many milliseconds without it. */
export const repeatedMillis = 12_000

/** The claim of such a message is kept for so long, in milliseconds: who hears it later than others may do so by as much. */
export const textClaimMillis = 10_000

/** Who is not sure of a count lets others come first for so long, in milliseconds. */
export const unsureMillis = 200

/** Who is sure of it, and handles a repeated text, tells the others for so long, in milliseconds. */
const markMillis = 1_000

/** A process that stood still for so long may hold messages whose claims are over, in milliseconds. */
export const textStallMillis = textClaimMillis / 2

/** Time between two looks at the clock, in milliseconds. */
const lookMillis = 1_000

/** Texts that are counted at most in a group; of more, the oldest are forgotten. */
const maxTexts = 32_768

/** The groups of one process over a transport that has claims. */
export interface Groups {
  /** The group of that name for what is listened to. */
  readonly of: (target: string, isPattern: boolean, name: string) => Group
  /** Messages may have been lost, so counts say nothing any more. */
  readonly gap: () => void
}

/** @see {@link Groups} */
export const make = (link: Link, claim: NonNullable<Link["transport"]["claim"]>, ownClaims: Claims.Claims): Groups => {
  const known = new Map<string, Group>()
  const texts = Claims.make(link, claim, textStallMillis)
  let beating = false

  const beat = () => {
    for (const [key, { isEmpty }] of known) if (isEmpty) known.delete(key)
    beating = known.size > 0
    if (!beating) return
    ownClaims.look()
    texts.look()
    link.wheel.add(new Claims.Later(beat), lookMillis)
  }

  return {
    gap: () => {
      for (const group of known.values()) group.forget()
    },
    of: (target, isPattern, name) => {
      const key = `${target} ${name}`
      const group = known.get(key) ?? new Group(link, { numbers: ownClaims, texts }, target, isPattern, name)
      known.set(key, group)
      // A clock that nobody moves tells of no stall, and within a process there is nothing to stand still behind.
      if (!beating && !link.transport.capabilities.inProcess && link.shutDownClock !== undefined) {
        beating = true
        texts.look()
        link.wheel.add(new Claims.Later(beat), lookMillis)
      }
      return group
    }
  }
}

/** Those of one group in this process: they claim as one. */
export class Group implements Hearer {
  private readonly link: Link
  private readonly claims: { readonly numbers: Claims.Claims; readonly texts: Claims.Claims }
  private readonly target: string
  private readonly isPattern: boolean
  private readonly name: string
  private members: ReadonlyArray<Member> = []
  private readonly leaving = new Set<Member>()
  private turn = 0
  private claiming = 0
  private since: number
  private readonly counted = new Map<string, Counted>()

  constructor(link: Link, claims: Group["claims"], target: string, isPattern: boolean, name: string) {
    this.link = link
    this.claims = claims
    this.target = target
    this.isPattern = isPattern
    this.name = name
    this.since = link.wheel.now()
  }

  get isEmpty() {
    return this.members.length === 0
  }

  /** How many have put it among those that listen. */
  listening = 0

  /** A listener of it. The result takes it out again. */
  join(member: Member): () => void {
    if (this.isEmpty) this.forget()
    this.members = [...this.members, member]
    return () => {
      this.members = this.members.filter((other) => other !== member)
      this.leaving.delete(member)
    }
  }

  /** Lets a listener claim no more. Ends when all that it has claimed is handled. */
  finish(member: Member): Effect.Effect<void> {
    const { pool } = member.mount
    return Effect.suspend(() => {
      this.leaving.add(member)
      return Effect.whileLoop({
        while: () => this.claiming > 0 || pool.running > 0 || pool.waiting > 0,
        body: () => Effect.sleep(5),
        step: () => {}
      })
    })
  }

  forget() {
    this.counted.clear()
    this.since = this.link.wheel.now()
  }

  hear(message: Envelope.Request, topic: string, frame: Frame | undefined) {
    const number = Numbers.read(message.raw)
    // Counted also by those who claim nothing: what comes next is counted from it.
    const text = number === undefined ? this.textOf(message, topic, frame) : ""
    const counted = number === undefined ? this.count(text) : undefined
    if (!this.members.some((member) => this.isOpen(member))) return
    const wait = this.members.some((member) => this.isFree(member)) ? 0 : Claims.deferMillis
    this.claiming++
    const settled = (won: boolean) => {
      this.claiming--
      if (won) this.handOver(message, topic)
    }
    if (counted === undefined) {
      const { from, seq } = number!
      const key = this.keyOf(Claims.digestOf(`${topic} ${from} ${seq}`))
      return this.claims.numbers.take(key, Claims.shortestClaimMillis, wait, settled)
    }
    this.claimText(text, counted, wait, settled)
  }

  private claimText(text: string, counted: Counted, wait: number, settled: (won: boolean) => void) {
    const { texts } = this.claims
    const { count } = counted
    const own = this.keyOf(`${text}.${count}`)
    // Held by who handles a repeated text: the sign for those who are not sure of their count that somebody does.
    const mark = this.keyOf(`${text}.repeated`)
    if (counted.isSure) {
      return texts.take(own, textClaimMillis, wait, (won) => {
        if (won && count > 1) texts.take(mark, markMillis, 0, () => {})
        settled(won)
      })
    }
    texts.take(mark, markMillis, unsureMillis, (first) => {
      if (!first) return settled(false)
      texts.take(own, textClaimMillis, 0, (won) => {
        if (won) counted.isSure = true
        settled(won)
      })
    })
  }

  private count(text: string): Counted {
    const now = this.link.wheel.now()
    const before = this.counted.get(text)
    const isRepeated = before !== undefined && now - before.at <= repeatedMillis
    const counted = isRepeated ? before : { count: 0, at: now, isSure: now - this.since > repeatedMillis }
    counted.count++
    counted.at = now
    this.counted.delete(text)
    this.counted.set(text, counted)
    if (this.counted.size > maxTexts) {
      for (const oldest of this.counted.keys()) {
        this.counted.delete(oldest)
        break
      }
    }
    return counted
  }

  private textOf(message: Envelope.Request, topic: string, frame: Frame | undefined): string {
    const digest = Claims.digestOf(frame ?? JSON.stringify(message.raw))
    return this.isPattern ? Claims.digestOf(`${topic} ${digest}`) : digest
  }

  private keyOf(message: string) {
    return Channels.groupClaim(this.link.transport.prefix, this.target, this.name, message)
  }

  private isOpen(member: Member) {
    return member.mount.pool.isOpen && !this.leaving.has(member)
  }

  private isFree(member: Member) {
    return this.isOpen(member) && member.mount.pool.hasRoom(member.entry)
  }

  private handOver(message: Envelope.Request, topic: string) {
    const { members } = this
    const first = (fits: (member: Member) => boolean) => {
      for (let i = 0; i < members.length; i++) {
        const member = members[(this.turn + i) % members.length]!
        if (!fits(member)) continue
        this.turn = (this.turn + i + 1) % members.length
        return member
      }
      return undefined
    }
    const member =
      first((one) => this.isFree(one)) ?? first((one) => this.isOpen(one)) ?? first((one) => one.mount.pool.isOpen)
    if (member === undefined) return this.link.discards.note("Draining")
    give(member, message, topic)
  }
}

interface Counted {
  count: number
  at: number
  /** Whether all who were there count it the same. */
  isSure: boolean
}
