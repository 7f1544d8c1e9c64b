/**
 * The port for what must not be lost: keeps messages until they were handled, and their results for a while.
 *
 * At least once: a message is kept until a consumer settles it, and is delivered again when its consumer dies or fails. Its id makes it
 * one message however often it is appended, and its first result is the one that everybody gets.
 *
 * `layerMemory` keeps them in this process; `fiberbus/transport/RedisStreams` in Redis.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Action from "../contract/Action.ts"
import type * as Service from "../contract/Service.ts"
import * as DurableMemory from "./internal/durableMemory.ts"
import type { Frame, TransportError } from "./Transport.ts"

/** What an adapter promises, and what follows for those who use it. */
export interface Capabilities {
  /** What keeps the messages: `process` loses them with it, `broker` keeps them as long as it keeps its data. */
  readonly kept: "process" | "broker"
  /** Publishes an answer in the same step that settles its request, to those who listen over a transport of the same `name`. */
  readonly publishes: boolean
  /** Largest frame in bytes. */
  readonly maxFrameBytes: number
}

/** A message as it is appended. */
export interface Message {
  /** Unlike any other's of its queue: a second one with the same id is the same message. */
  readonly id: string
  readonly frame: string
  /** Messages of one key are delivered one after the other; the empty key stands alone. */
  readonly key: string
  /** How long it is kept before it is delivered. */
  readonly delayMillis: number
}

/** A message to a topic. */
export interface Publication {
  /** A second one with the same id within some minutes is the same. */
  readonly id: string
  readonly frame: string
  /** How long it is kept for groups that come later. */
  readonly keepMillis: number
  /** Where it is published; empty for nowhere. */
  readonly channel: string
}

/** What is known of an id. `Done` has its result; `Unknown`: it never was appended, or its result is no longer kept. */
export type State =
  | { readonly _tag: "Unknown" }
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Done"; readonly frame: string }

/** What became of an append: it is kept now, or its id was there already. */
export type Appended =
  | { readonly _tag: "Added" }
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Done"; readonly frame: string }

/** A message as it is delivered. */
export interface Entry {
  /** Of this delivery; another one of the same message may have another. */
  readonly entry: string
  /** The message's own; empty where whoever appended it gave none. */
  readonly id: string
  readonly frame: Frame
  readonly key: string
  /** How often it was delivered, this time included. */
  readonly deliveries: number
  /** When it was appended, in milliseconds since 1970 on the store's clock. */
  readonly at: number
  /** It was read, and is taken over from a consumer that was silent for too long. */
  readonly claimed?: boolean
}

/** The end of a message: its result, and who waits for it. */
export interface Settlement {
  /** What is kept under the id. */
  readonly frame: string
  /** Where it is published, if the store does that; empty for nowhere. */
  readonly replyTo: string
}

/** Why a message was set aside. */
export interface Burial {
  /** One of a fixed set: `Defect`, `DeadlineExceeded`, `Crashed`, `InvalidPayload`, `UnknownAction`, … */
  readonly reason: string
  /** For people: the cause as text. Cut to 8,000 characters. */
  readonly cause: string
  readonly action: string
}

/** A message that was set aside, with all that is known of it. */
export interface DeadLetter extends Burial {
  /** Of the letter itself: what `replay` and `discard` take. */
  readonly letter: string
  readonly id: string
  readonly key: string
  /** As it came: text, or bytes that are none. */
  readonly frame: Frame
  readonly deliveries: number
  /** When it was appended, and when it was set aside, in milliseconds since 1970 on the store's clock. */
  readonly appendedAt: number
  readonly buriedAt: number
}

/** Who consumes what. */
export interface Consumption {
  /** The full name, as `wire/Channels` builds it. */
  readonly queue: string
  /** Those who share the messages: each goes to one of them. */
  readonly group: string
  /** This one among them. */
  readonly consumer: string
  /** How long a delivery may lie without a sign of its consumer before others take it. */
  readonly idleMillis: number
  /** How long results are kept, and ids remembered. */
  readonly windowMillis: number
  /** Dead letters that are kept; beyond that the oldest are dropped. */
  readonly maxDeadLetters: number
}

/** How things are in a queue. */
export interface Census {
  /** Milliseconds after which to ask again, as something may be due. */
  readonly nextMillis: number
  /** Messages that nobody has begun, delayed ones included. */
  readonly waiting: number
  /** Dead letters. */
  readonly dead: number
}

/** Called exactly once. `false`: the delivery had been settled before, and nothing was done. */
export type Done = (error: TransportError | undefined, settled: boolean) => void

/** One who consumes. Each operation ends within a limit of the adapter's own, whatever the link does. */
export interface Consumer {
  /**
   * Waits for new messages and gives up to `max` of them, perhaps none. After a lost connection those come first that were delivered to this
   * consumer and perhaps never arrived: it may have some of them in hand. A store may give those with them that `claim` would take over.
   */
  readonly read: (max: number) => Effect.Effect<ReadonlyArray<Entry>, TransportError>
  /** Takes over up to `max` deliveries whose consumer was silent for too long; `lost` counts those whose message has gone. */
  readonly claim: (
    max: number
  ) => Effect.Effect<{ readonly entries: ReadonlyArray<Entry>; readonly lost: number }, TransportError>
  /** Says that deliveries are still worked on. Gives those that have become somebody else's. */
  readonly renew: (entries: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, TransportError>
  /** Ends a message: keeps its result, publishes it, and lets the next one of its key come, in one step. */
  readonly settle: (entry: Entry, settlement: Settlement, done: Done) => void
  /** Has a message delivered again, after a while. `counts`: this delivery is one of those it may have. */
  readonly retry: (entry: Entry, delayMillis: number, counts: boolean, done: Done) => void
  /** Ends a message by setting it aside. Its result is that of a settlement, where it has one. */
  readonly bury: (entry: Entry, burial: Burial, settlement: Settlement | undefined, done: Done) => void
  /** Delivers what was delayed and is due, and says how things are. */
  readonly promote: Effect.Effect<Census, TransportError>
  /** Calls a function when something was delayed here, so that `promote` can be asked in time. */
  readonly onDelayed: (wake: () => void) => () => void
  /** Leaves the group, if nothing that was delivered to this consumer is open. */
  readonly leave: Effect.Effect<void, TransportError>
}

/** Keeps messages. Queues are named in full, prefix included. */
export class Durable extends Context.Service<
  Durable,
  {
    /** For people, and to know a transport of the same broker by. Never holds a secret. */
    readonly name: string
    readonly capabilities: Capabilities
    /**
     * Keeps a message; `done` is called exactly once, when it is kept for sure or was not. At the queue's limit it fails with kind
     * `Overloaded`. Appending again with the same id is safe.
     */
    readonly append: (
      queue: string,
      message: Message,
      done: (error: TransportError | undefined, appended: Appended | undefined) => void
    ) => void
    /** What is known of an id. */
    readonly state: (
      queue: string,
      id: string,
      done: (error: TransportError | undefined, state: State | undefined) => void
    ) => void
    /**
     * Keeps a message for each group of a topic, and publishes it to those who listen on a channel where the store does that (`publishes`).
     * `done` is called exactly once, with the number of these. Nothing is kept for anybody where one of the groups is at its limit.
     */
    readonly publish: (
      topic: string,
      publication: Publication,
      done: (error: TransportError | undefined, receivers: number) => void
    ) => void
    /** Gives a group its queue of a topic: from now on, or with all that is kept. Nothing happens if it has one. */
    readonly subscribe: (topic: string, queue: string, from: "now" | "beginning") => Effect.Effect<void, TransportError>
    /** Takes a group's queue from a topic, with all that it holds. */
    readonly unsubscribe: (topic: string, queue: string) => Effect.Effect<void, TransportError>
    /** Consumes until the Scope closes. Messages that were appended before its group was there are part of it. */
    readonly consume: (consumption: Consumption) => Effect.Effect<Consumer, TransportError, Scope.Scope>
    readonly dead: {
      /** Dead letters, oldest first, after the one given. */
      readonly list: (
        queue: string,
        options: { readonly after?: string | undefined; readonly limit: number }
      ) => Effect.Effect<ReadonlyArray<DeadLetter>, TransportError>
      readonly find: (queue: string, letter: string) => Effect.Effect<DeadLetter | undefined, TransportError>
      readonly size: (queue: string) => Effect.Effect<number, TransportError>
      /** Appends it again, as new but for its id. False if it has gone. */
      readonly replay: (queue: string, letter: string) => Effect.Effect<boolean, TransportError>
      readonly discard: (queue: string, letter: string) => Effect.Effect<boolean, TransportError>
    }
  }
>()("fiberbus/transport/Durable") {}

/** Something is durable, and nothing keeps its messages. A mistake in the program that its types show, hence a defect. */
export class NoStore extends Data.TaggedError("NoStore")<{ readonly name: string }> {
  override get message() {
    return `${this.name} is durable, and no Durable is provided: take Durable.layerMemory, or RedisStreams.layer`
  }
}

/** What a service needs besides its transport: {@link Durable}, where one of its actions says so. */
export type StoreOf<S extends Service.Any> = Service.Any extends S
  ? never
  : Extract<S["actions"][Service.ActionName<S>], Action.Durable> extends never
    ? never
    : Durable

/** What can be set for messages that are kept in memory. */
export interface MemoryOptions {
  /** Messages of one queue that may be there at once, delivered or not; beyond it `append` fails. Default 100,000. */
  readonly maxLength?: number
  /** Largest frame in bytes. Default 1 MiB. */
  readonly maxFrameBytes?: number
}

/** Where several memory stores meet, to stand for several processes. */
export type Store = DurableMemory.Store

/** Makes a store of its own on a clock in milliseconds. */
export const makeStore = (now: () => number, options?: MemoryOptions): Store => DurableMemory.makeStore(now, options)

/** Keeps messages in a store that others may use as well. */
export const onStore = (store: Store): Durable["Service"] => DurableMemory.on(store)

/** Keeps messages in the memory of this process. Its time is that of the `Clock` that was there when the Layer was built. */
export const layerMemoryOptions = (options?: MemoryOptions): Layer.Layer<Durable> =>
  Layer.effect(
    Durable,
    Effect.map(Clock.Clock, (clock) => onStore(makeStore(() => clock.currentTimeMillisUnsafe(), options)))
  )

/** The same with nothing set: for tests and programs of one process. Whoever is provided with this very Layer shares them. */
export const layerMemory: Layer.Layer<Durable> = layerMemoryOptions()
