/** Calls of durable actions: the request is kept before anything else happens, and its answer can be had in two ways. */
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import * as Action from "../../contract/Action.ts"
import * as Deadline from "../../policy/Deadline.ts"
import * as Policy from "../../policy/Policy.ts"
import type { Appended, Durable, Message, State } from "../../transport/Durable.ts"
import type { TransportError, TransportErrorKind } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import { CallError, type CallErrorReason } from "../CallError.ts"
import { failure, type Method, type Outcome, type Settings } from "./method.ts"
import * as Observed from "./observed.ts"
import { encoded, prepared, reasonOf } from "./request.ts"
import { Waiting } from "./waiting.ts"

/** A durable action as a caller sees it. */
export interface Kept {
  readonly method: Method
  readonly durable: Durable["Service"]
  /** The partitions of what is kept for the service. */
  readonly queues: readonly [string, ...Array<string>]
}

/** What may be said when something is enqueued. */
export interface EnqueueOptions {
  /**
   * The same id is the same message, however often it is enqueued: the first one's result is everybody's. Default a random one.
   * 1 to 256 printable characters, no space, quote or backslash.
   */
  readonly id?: string
  /** How long it is kept before it is handled. */
  readonly delay?: Duration.Input
  /** When it is to be handled, on this process's clock; in place of `delay`. */
  readonly at?: Date | DateTime.DateTime
  /** Messages of one key are handled one after the other, in the order in which they were enqueued. In place of `Action.Key`. */
  readonly key?: string
  readonly headers?: { readonly [name: string]: string }
}

/** Prepares a durable action. */
export const make = (method: Method, durable: Durable["Service"], partitions: number): Kept => ({
  method,
  durable,
  queues: Channels.partitions(method.inbox.transport.prefix, method.service, partitions)
})

const queueOf = ({ queues }: Kept, id: string, key: string): string =>
  queues[Channels.partitionOf(id, key, queues.length)]!

/** What passes by itself: the message is appended again, under its id. */
const passing: ReadonlySet<TransportErrorKind> = new Set(["Unreachable", "Timeout", "ConnectionLost"])

/** True for troubles of the link that pass by themselves. */
export const isPassing = (kind: TransportErrorKind): boolean => passing.has(kind)

/** Waits between two looks for the answer, in milliseconds: one that was published may not have arrived. */
const firstLookMillis = 1_000
const longestLookMillis = 5_000

/** The same where nobody publishes to us. */
const firstPollMillis = 10
const longestPollMillis = 1_000

/** Waits before a message is appended once more, in milliseconds. */
const firstAppendMillis = 50
const longestAppendMillis = 2_000

const validId = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/

/** Calls and waits for the answer. Only the waiting ends with the timeout. */
export const unary = (kept: Kept, payload: unknown, settings: Settings): Outcome => {
  const { method } = kept
  return encoded(method, payload, settings, (json, settings) => {
    if (settings.policies.length === 0) return waiting(kept, { id: "", isKept: false }, json, payload, settings)
    // All attempts are one message, and have one deadline.
    const sending: Sending = { id: randomUUID(), isKept: false }
    const deadline = method.inbox.now() + settings.timeoutMillis
    const attempt = Effect.suspend(() => {
      const left = Math.floor(deadline - method.inbox.now())
      if (left > 0) return waiting(kept, sending, json, payload, { ...settings, timeoutMillis: left })
      const { id, isKept } = sending
      return Effect.fail(
        failure(method, tooLate(settings.timeoutMillis, isKept ? id : undefined), isKept ? "unknown" : "no")
      )
    })
    return Effect.provideService(
      Policy.around(settings.policies, attempt, subject(method)),
      Deadline.Deadline,
      deadline
    )
  })
}

const subject = (method: Method): Policy.Subject<any> => ({
  service: method.service,
  action: method.action,
  annotations: method.annotations,
  kind: "call",
  // The id makes it so.
  idempotent: true,
  refuse: (reason) => Effect.suspend(() => Effect.fail(failure(method, reason, "no"))),
  failureOf: (error) =>
    error instanceof CallError && error.service === method.service && error.action === method.action ? error : undefined
})

/** A message, of whichever attempt. */
interface Sending {
  /** Empty until it has one. */
  readonly id: string
  /** It may be there: from when the store may have it. */
  isKept: boolean
}

/** A time is over; what may be kept can be asked for. */
const tooLate = (timeoutMillis: number, receipt: string | undefined) =>
  new Reason.DeadlineExceeded(receipt === undefined ? { timeoutMillis } : { timeoutMillis, receipt })

const waiting = (kept: Kept, sending: Sending, json: unknown, payload: unknown, settings: Settings): Outcome =>
  Effect.callback<any, any>((resume) => {
    const { method } = kept
    const call = new Call(kept, sending, settings.timeoutMillis, resume)
    method.metrics.begin()
    const full = method.inbox.enter(call, settings.timeoutMillis)
    if (full === undefined) call.begin(json, settings, keyOf(method, payload, undefined))
    else call.failWith(full, "no")
    return Effect.sync(() => call.abandon())
  })

/** The key by which a message takes its turn; empty for none. */
const keyOf = (method: Method, payload: unknown, key: string | undefined): string =>
  String(key ?? Context.get(method.annotations, Action.Key)?.(payload) ?? "").slice(0, 256)

/** The request's frame, or why it cannot be kept. It says no time: the caller's is that of its waiting. */
const write = (
  { durable, method }: Kept,
  head: string,
  id: string,
  json: unknown,
  settings: Settings
): string | CallErrorReason => {
  const { maxFrameBytes } = durable.capabilities
  // The envelope is one level. Whoever reads it would set it aside.
  if (Codec.nestsTooDeep(json, 1)) {
    return new Reason.InvalidPayload({ path: [], expected: `a value nested at most ${Codec.maxDepth - 1} deep` })
  }
  const { headers, traceparent } = settings
  let frame: string
  try {
    frame = Envelope.writeRequest(
      head,
      id,
      json,
      headers === undefined && traceparent === undefined ? undefined : { v: 1, headers, traceparent }
    )
  } catch {
    return new Reason.InvalidPayload({ path: [], expected: "a value that JSON can carry" })
  }
  const most = Math.min(maxFrameBytes, method.inbox.transport.capabilities.maxFrameBytes)
  if (!Codec.isLarger(frame, most)) return frame
  return new Reason.PayloadTooLarge({ what: "request", bytes: Codec.byteLength(frame), maxBytes: most })
}

/** A call that waits: its answer is published to the inbox, and looked for where that may not arrive. */
class Call extends Waiting {
  private readonly kept: Kept
  private readonly sending: Sending
  /** Where it is kept. */
  private queue = ""
  /** What is to be appended; nothing once it is kept for sure. Then it is looked for. */
  private message: Message | undefined = undefined
  /** The store has not said yet what became of it. */
  private isAppending = false
  private wait = firstAppendMillis
  /** Its outcome is known; reading it may go on. */
  private counted = false

  constructor(kept: Kept, sending: Sending, timeoutMillis: number, resume: (outcome: Outcome) => void) {
    super(kept.method, timeoutMillis, resume, undefined, undefined)
    this.kept = kept
    this.sending = sending
    this.id = sending.id
  }

  private get isOver() {
    return !this.method.inbox.has(this)
  }

  private get left() {
    return this.deadline - this.method.inbox.now()
  }

  begin(json: unknown, settings: Settings, key: string) {
    const frame = write(this.kept, this.method.headOfCall, this.id, json, settings)
    if (typeof frame !== "string") {
      this.method.inbox.leave(this)
      return this.failWith(frame, "no")
    }
    this.queue = queueOf(this.kept, this.id, key)
    this.message = { id: this.id, frame, key, delayMillis: 0 }
    this.append(this.message)
  }

  private append(message: Message) {
    const { isKept } = this.sending
    this.sending.isKept = true
    this.isAppending = true
    this.kept.durable.append(this.queue, message, (error, state) => {
      this.isAppending = false
      if (this.isOver) return
      if (error === undefined) return this.appended(state!)
      if (error.sent === "no") this.sending.isKept = isKept
      if (!passing.has(error.kind)) {
        this.method.inbox.leave(this)
        return this.failWith(reasonOf(error), this.sending.isKept ? "unknown" : "no")
      }
      // The same id makes it the same message.
      this.renew(longestAppendMillis)
    })
  }

  private appended(state: Appended) {
    this.message = undefined
    if (state._tag === "Done") return this.answer(state.frame)
    // Where it was there before, somebody else may be told of its result.
    this.wait = state._tag === "Waiting" ? firstPollMillis : firstLookMillis
    this.renew(longestLookMillis)
  }

  private renew(longest: number) {
    this.method.inbox.renew(this, Math.min(this.wait, this.left))
    this.wait = Math.min(this.wait * 2, longest)
  }

  private answer(frame: string) {
    if (!this.method.inbox.leave(this)) return
    const reply = readReply(this.kept, frame)
    if (reply === undefined) this.failWith(unreadable, "yes")
    else this.onReply(reply)
  }

  override expire() {
    const { inbox } = this.method
    if (this.left <= 0) {
      inbox.leave(this)
      const { isKept } = this.sending
      const reason = tooLate(this.timeoutMillis, isKept ? this.id : undefined)
      return this.failWith(reason, this.started ? "yes" : isKept ? "unknown" : "no")
    }
    if (this.message !== undefined) {
      // It has left the wheel, and not the table.
      inbox.renew(this, this.left)
      return this.append(this.message)
    }
    this.renew(longestLookMillis)
    this.kept.durable.state(this.queue, this.id, (_, state) => {
      if (state?._tag === "Done") this.answer(state.frame)
    })
  }

  override onReply(reply: Envelope.Reply) {
    // It is read in the time that is left until then, and not until the next look.
    this.expiresAt = this.deadline
    super.onReply(reply)
  }

  /** The link that answers come over was lost, and not the answer: it is appended again, or looked for, before long. */
  override onLost(error: TransportError) {
    const { left } = this
    if (left <= 0) return this.expire()
    if (error.kind === "Closed" || this.method.inbox.enter(this, left) !== undefined) return super.onLost(error)
    if (this.isAppending) return
    this.wait = firstPollMillis * 10
    this.renew(longestLookMillis)
  }

  /** What is kept is handled, whoever goes away. */
  override takeBack() {
    return undefined
  }

  override end(outcome: Outcome) {
    this.counted = true
    super.end(Observed.ended(this, outcome))
  }

  /** Its fiber was interrupted, maybe while the answer that ends it was still read. */
  abandon() {
    this.cancel()
    if (!this.counted) Observed.ended(this, Exit.interrupt())
  }
}

/** What can be asked about a message by its id. */
export interface Receipt<Success, Error> {
  readonly id: string
  /** The result, if there is one yet. */
  readonly poll: Effect.Effect<Option.Option<Success>, Error | CallError>
  /** Waits for the result: for `timeout`, or that of the action. */
  readonly await: (options?: { readonly timeout?: Duration.Input }) => Effect.Effect<Success, Error | CallError>
}

/** Has a message kept, and gives its receipt. */
export const enqueue = (
  kept: Kept,
  payload: unknown,
  options: EnqueueOptions,
  settings: Settings
): Effect.Effect<Receipt<any, any>, CallError> => {
  const { method } = kept
  const id = options.id ?? randomUUID()
  if (!validId.test(id)) return Effect.fail(failure(method, invalidId, "no"))
  return Observed.sent(
    method,
    prepared("producer", method, payload, settings, (json, settings) =>
      Effect.gen(function* () {
        const frame = write(kept, method.headOfSend, id, json, settings)
        if (typeof frame !== "string") return yield* failure(method, frame, "no")
        const clock = yield* Clock.Clock
        const delayMillis = Math.max(0, delayOf(options, clock.currentTimeMillisUnsafe()))
        if (Number.isNaN(delayMillis)) return yield* failure(method, invalidDate, "no")
        const key = keyOf(method, payload, options.key)
        const queue = queueOf(kept, id, key)
        const message = { id, frame, key, delayMillis }
        const end = method.inbox.now() + settings.timeoutMillis
        let wait = firstAppendMillis
        let started: Reason.Started = "no"
        while (true) {
          const error = yield* appending(kept, queue, message)
          if (error === undefined) return receipt(kept, id, [queue])
          if (error.sent === "unknown") started = "unknown"
          const left = end - method.inbox.now()
          if (!passing.has(error.kind) || left <= 0) return yield* failure(method, reasonOf(error), started)
          yield* Effect.sleep(Math.min(wait, left))
          wait = Math.min(wait * 2, longestAppendMillis)
        }
      })
    )
  )
}

const appending = ({ durable }: Kept, queue: string, message: Message) =>
  Effect.callback<TransportError | undefined>((resume) =>
    durable.append(queue, message, (error) => resume(Effect.succeed(error)))
  )

const delayOf = ({ at, delay }: EnqueueOptions, now: number): number => {
  if (at !== undefined) return (at instanceof Date ? at.getTime() : DateTime.toEpochMillis(at)) - now
  return delay === undefined ? 0 : Duration.toMillis(Duration.fromInputUnsafe(delay))
}

/** What the first says that knows it; of several that do, the one that has its result. */
const known = (states: ReadonlyArray<State | TransportError>): State | TransportError => {
  let best: State | TransportError = { _tag: "Unknown" }
  for (const state of states) {
    if (state._tag === "Done") return state
    if (state._tag === "Waiting" || best._tag === "Unknown") best = state
  }
  return best
}

/** Asks about a message that this or another process enqueued. Whoever has but its id does not know its key, hence not its partition. */
export const receipt = (kept: Kept, id: string, queues: ReadonlyArray<string> = kept.queues): Receipt<any, any> => {
  const { durable, method } = kept
  const look = Effect.callback<State, TransportError>((resume) => {
    const states: Array<State | TransportError> = []
    for (const queue of queues) {
      durable.state(queue, id, (error, state) => {
        // A result is one whatever the others say, of which one may have no master now.
        if (states.push(error ?? state!) < queues.length && state?._tag !== "Done") return
        const found = known(states)
        resume(found._tag === "TransportError" ? Effect.fail(found) : Effect.succeed(found))
      })
    }
  })
  const lost = (error: TransportError) => Effect.fail(failure(method, reasonOf(error), "unknown"))
  const read = (state: Exclude<State, { readonly _tag: "Waiting" }>): Outcome => {
    if (state._tag === "Unknown") return Effect.fail(failure(method, new Reason.UnknownReceipt({ id }), "unknown"))
    const reply = readReply(kept, state.frame)
    if (reply === undefined) return Effect.fail(failure(method, unreadable, "yes"))
    return Effect.callback<any, any>((resume) => {
      const reader = new Reader(method, method.timeoutMillis, resume, undefined, undefined)
      reader.expiresAt = method.inbox.now() + method.timeoutMillis
      reader.onReply(reply)
    })
  }
  const valid = <A>(asked: () => Effect.Effect<A, any>): Effect.Effect<A, any> =>
    Effect.suspend(() => (validId.test(id) ? asked() : Effect.fail(failure(method, invalidId, "no"))))
  return {
    id,
    poll: valid(() =>
      Effect.matchEffect(look, {
        onFailure: lost,
        onSuccess: (state): Effect.Effect<Option.Option<any>, any> =>
          state._tag === "Waiting" ? Effect.succeedNone : Effect.asSome(read(state))
      })
    ),
    await: (options) =>
      valid(() => {
        const timeoutMillis =
          options?.timeout === undefined
            ? method.timeoutMillis
            : Duration.toMillis(Duration.fromInputUnsafe(options.timeout))
        let wait = firstPollMillis
        const later = Effect.suspend(() => {
          const millis = wait
          wait = Math.min(wait * 2, longestPollMillis)
          return Effect.andThen(Effect.sleep(millis), again)
        })
        const again: Outcome = Effect.matchEffect(look, {
          onFailure: (error) => (isPassing(error.kind) ? later : lost(error)),
          onSuccess: (state) => (state._tag === "Waiting" ? later : read(state))
        })
        return Effect.timeoutOrElse(again, {
          duration: timeoutMillis,
          orElse: () => Effect.fail(failure(method, tooLate(timeoutMillis, id), "unknown"))
        })
      })
  }
}

/** Reads a result as a call reads its answer. */
class Reader extends Waiting {
  override end(outcome: Outcome) {
    this.resume(outcome)
  }
}

const readReply = ({ durable }: Kept, frame: string): Envelope.Reply | undefined => {
  const raw = Codec.parse(frame, durable.capabilities.maxFrameBytes)
  return raw instanceof Codec.Malformed ? undefined : Envelope.readReply(raw)
}

const unreadable = new Reason.ContractMismatch({ part: "reply", path: [], expected: "a result that can be read" })

const invalidDate = new Reason.InvalidPayload({ path: [], expected: "a date for `at` that is one" })

const invalidId = new Reason.InvalidPayload({
  path: [],
  expected: "an id of 1 to 256 printable characters, without a space, a quote or a backslash"
})
