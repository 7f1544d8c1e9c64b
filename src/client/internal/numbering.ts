/**
 * The numbers that a process gives to the messages it publishes, by channel, and what it keeps of them for listeners that ask. It lives as
 * long as the transport. Source: docs/topics.md.
 */
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Topic from "../../contract/Topic.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import type { Sent, Transport } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Numbers from "../../wire/Numbers.ts"

type Shape = Transport["Service"]

/** Channels that a process numbers at most; of more, the one that was silent longest is forgotten and begins anew, as another process. */
export const maxChannels = 1_024

/** Who published within so many milliseconds tells its last number when it is asked. */
export const tellsMillis = 300_000

/** Most messages of one history, and the length of their texts all together. */
export const maxHistory = 10_000
/** @see {@link maxHistory} */
export const maxHistoryLength = 4_194_304

/** Answers that a channel gives in a second: with its last number, and with messages. */
const maxAnswers = { Last: 20, Refilled: 200 }

const publishers = new WeakMap<Shape, Publisher>()

/** The counter of a topic's channel. The first one begins to listen for questions, in the background. */
export const of = (transport: Shape, topic: Topic.Any): Effect.Effect<Counter> =>
  Effect.map(Effect.context<never>(), (context) => {
    const root = Prefixed.rootOf(transport)
    const publisher = publishers.get(root) ?? new Publisher(root, context)
    publishers.set(root, publisher)
    return publisher.counter(transport, topic, context)
  })

class Publisher {
  private readonly root: Shape
  private readonly counters = new Map<string, Counter>()
  private readonly instance = randomUUID().slice(0, 13)
  private forgotten = 0

  constructor(root: Shape, context: Context.Context<never>) {
    this.root = root
    const unwatch = root.watch((state) => {
      if (state._tag !== "Closed") return
      unwatch()
      for (const counter of this.counters.values()) Effect.runForkWith(context)(counter.close)
      this.counters.clear()
    })
  }

  counter(transport: Shape, topic: Topic.Any, context: Context.Context<never>): Counter {
    const name = Channels.topic(transport.prefix, topic.channel)
    const known = this.counters.get(name)
    if (known !== undefined) {
      // The one that was silent longest comes first.
      this.counters.delete(name)
      this.counters.set(name, known)
      return known
    }
    if (this.counters.size >= maxChannels) {
      const [oldest, counter] = this.counters.entries().next().value!
      this.counters.delete(oldest)
      this.forgotten++
      Effect.runForkWith(context)(counter.close)
    }
    // Its numbers begin anew, so it is another one from now on.
    const from = this.forgotten === 0 ? this.instance : `${this.instance}-${this.forgotten}`
    const counter = new Counter(this.root, transport.prefix, topic, from, Context.get(context, Clock.Clock))
    this.counters.set(name, counter)
    Effect.runForkWith(context)(counter.listen)
    return counter
  }
}

interface Kept {
  readonly at: number
  readonly frame: string
}

/** Numbers the messages of one channel. */
export class Counter {
  private readonly root: Shape
  private readonly prefix: string
  private readonly channel: string
  private readonly from: string
  private readonly clock: Clock.Clock
  private readonly history: { readonly messages: number; readonly millis: number } | undefined
  private readonly kept = new Map<number, Kept>()
  private keptLength = 0
  private seq = 0
  /** The highest number that may have left this process. */
  private left = 0
  private firstAt = 0
  private lastAt = 0
  private readonly scope = Scope.makeUnsafe()
  private second = 0
  private answered = { Last: 0, Refilled: 0 }

  constructor(root: Shape, prefix: string, topic: Topic.Any, from: string, clock: Clock.Clock) {
    this.root = root
    this.prefix = prefix
    this.channel = topic.channel
    this.from = from
    this.clock = clock
    const history = Context.get(topic.annotations, Topic.History)
    this.history =
      history === undefined
        ? undefined
        : {
            messages: Math.min(maxHistory, Math.floor(history.messages)),
            millis: Duration.toMillis(Duration.fromInputUnsafe(history.for))
          }
  }

  /** The next frame of a message's text. It has its number once it is sent. */
  frameOf(text: string): string {
    return Numbers.write(text, { from: this.from, seq: this.seq + 1 })
  }

  /** Sends what {@link frameOf} gave, in the same turn. */
  send(frame: string, sent: Sent, pack: boolean) {
    const seq = ++this.seq
    this.lastAt = this.now()
    if (seq === 1) this.firstAt = this.lastAt
    this.keep(seq, frame)
    const told: Sent = (error, receivers) => {
      if (error?.sent !== "no") this.left = Math.max(this.left, seq)
      else {
        this.drop(seq)
        // Nobody has seen it: the next one may have it.
        if (this.seq === seq && this.left < seq) this.seq--
      }
      sent(error, receivers)
    }
    this.root.send(Channels.topic(this.prefix, this.channel), frame, told, pack)
  }

  /** Hears the questions of listeners, until it is closed. Who may not, publishes all the same. */
  get listen(): Effect.Effect<void> {
    const channel = Channels.numbers(this.prefix, this.channel)
    const { maxFrameBytes } = this.root.capabilities
    return this.root
      .subscribe({ _tag: "Channel", channel }, (frame) => {
        const raw = Codec.parse(frame, maxFrameBytes)
        const said = raw instanceof Codec.Malformed ? undefined : Numbers.readSaid(raw)
        if (said?._tag === "Ask") this.tell(channel)
        else if (said?._tag === "Refill" && said.from === this.from) this.refill(said)
      })
      .pipe(
        Scope.provide(this.scope),
        Effect.catch((error) =>
          Effect.logWarning(
            `fiberbus: listeners to ${this.channel} cannot ask what they missed, only numbers tell them: ${error.message}`
          )
        )
      )
  }

  get close(): Effect.Effect<void> {
    return Scope.close(this.scope, Exit.void)
  }

  private tell(channel: string) {
    const now = this.now()
    if (this.left === 0 || now - this.lastAt > tellsMillis || !this.mayAnswer("Last")) return
    const ageMillis = Math.max(0, Math.round(now - this.firstAt))
    this.root.send(channel, Numbers.writeSaid({ _tag: "Last", from: this.from, seq: this.left, ageMillis }), ignore)
  }

  private refill({ first, last, replyTo }: Numbers.Refill) {
    const inboxes = Channels.inboxPrefix(this.root.prefix)
    if (!Channels.isAddress(replyTo) || !replyTo.startsWith(inboxes) || !this.mayAnswer("Refilled")) return
    this.prune()
    const messages: Array<string> = []
    const end = Math.min(last, this.left)
    let length = 0
    let until = Math.min(end, this.oldest() - 1)
    for (let seq = Math.max(first, this.oldest()); seq <= end; seq++) {
      const kept = this.kept.get(seq)
      if (kept !== undefined) {
        length += kept.frame.length
        if (messages.length >= Numbers.maxRefilled || (messages.length > 0 && length > Numbers.maxRefilledLength)) break
        messages.push(kept.frame)
      }
      until = seq
    }
    if (until < first) return
    const answer = (texts: ReadonlyArray<string>) =>
      Numbers.writeSaid({ _tag: "Refilled", channel: this.channel, from: this.from, first, until, messages: texts })
    const frame = answer(messages)
    // What is too large beside its envelope cannot be had again.
    const fits = !Codec.isLarger(frame, this.root.capabilities.maxFrameBytes)
    this.root.send(replyTo, fits ? frame : answer([]), ignore)
  }

  private mayAnswer(kind: keyof typeof maxAnswers): boolean {
    const second = Math.floor(this.now() / 1_000)
    if (second !== this.second) {
      this.second = second
      this.answered = { Last: 0, Refilled: 0 }
    }
    return ++this.answered[kind] <= maxAnswers[kind]
  }

  private keep(seq: number, frame: string) {
    if (this.history === undefined) return
    this.kept.set(seq, { at: this.lastAt, frame })
    this.keptLength += frame.length
    this.prune()
  }

  private prune() {
    if (this.history === undefined) return
    const { messages, millis } = this.history
    const before = this.now() - millis
    for (const [seq, { at }] of this.kept) {
      if (at >= before && this.kept.size <= messages && this.keptLength <= maxHistoryLength) return
      this.drop(seq)
    }
  }

  private drop(seq: number) {
    const kept = this.kept.get(seq)
    if (kept === undefined) return
    this.kept.delete(seq)
    this.keptLength -= kept.frame.length
  }

  private oldest(): number {
    for (const seq of this.kept.keys()) return seq
    return this.seq + 1
  }

  private now() {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }
}

const ignore = () => {}
