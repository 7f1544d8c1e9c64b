/** A channel for events and the schema of what is published there. Everyone who listens gets every message. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import { type AnySchema, asSchema, type ToSchema } from "./Action.ts"
import * as Glob from "./Glob.ts"
import * as Name from "./Name.ts"

const TypeId = "~fiberbus/contract/Topic"

/** One channel that messages of one schema are published to. */
export interface Topic<out Channel extends string, out Message extends AnySchema> extends Pipeable {
  readonly [TypeId]: "Topic"
  readonly channel: Channel
  readonly message: Message
  /** Facts that publishers and listeners read; set with {@link annotate}. */
  readonly annotations: Context.Context<never>
}

/** Many channels that hold messages of one schema, named by a glob. It can be listened to; {@link at} makes one of them. */
export interface Pattern<out Glob extends string, out Message extends AnySchema> extends Pipeable {
  readonly [TypeId]: "Pattern"
  readonly pattern: Glob
  readonly message: Message
  /** @see {@link Topic.annotations} */
  readonly annotations: Context.Context<never>
}

/** What a topic's type says once it is durable: groups of listeners get every message, also those that were away. */
export interface Durable {
  readonly durable: {
    /** How long messages are kept for groups that come later, in milliseconds; 0 for not at all. */
    readonly keepMillis: number
  }
}

/** A topic with its parameters forgotten. */
export type Any = Topic<string, AnySchema>
/** A pattern with its parameters forgotten. */
export type AnyPattern = Pattern<string, AnySchema>
/** What goes over the channel of a topic or of a pattern. */
export type Message<T extends Any | AnyPattern> = T["message"]["Type"]

/**
 * Each publisher numbers its messages, so that listeners can tell what they missed (`onGap`). False by default: the number is in the
 * message, where listeners of Daebus see it, as a field `fiberbus`. Messages of a {@link durable} topic bear none.
 */
export const Numbered = Context.Reference<boolean>("fiberbus/contract/Topic/Numbered", { defaultValue: () => false })

/** What publishers keep of their last messages. @see {@link History} */
export interface History {
  /** Their number, at most 10,000. */
  readonly messages: number
  readonly for: Duration.Input
}

/**
 * Each publisher keeps its last messages in its own memory, for listeners that missed some of them. At most 4 MiB in any case. Nothing
 * by default. A topic with a history is {@link Numbered}, whatever that says.
 */
export const History = Context.Reference<History | undefined>("fiberbus/contract/Topic/History", {
  defaultValue: () => undefined
})

/**
 * Messages that a process publishes within one turn of the event loop may share a frame, as an array: one price at the broker instead of
 * one each. False by default: listeners of Daebus cannot read such frames, nor can those whose transport takes frames of less than 32 KiB. Numbers,
 * gaps and groups are as without. Messages of a {@link durable} topic are kept and sent one by one.
 */
export const Packed = Context.Reference<boolean>("fiberbus/contract/Topic/Packed", { defaultValue: () => false })

/** The channel asked for is not one that the pattern covers. Thrown by {@link at}. */
export class NotCovered extends Data.TaggedError("NotCovered")<{ readonly pattern: string; readonly channel: string }> {
  override get message() {
    return `The channel ${JSON.stringify(this.channel)} does not match the pattern ${JSON.stringify(this.pattern)}`
  }
}

/** A schema of objects, or the fields of a struct. */
export type MessageInput = Schema.Codec<any, object> | { readonly [field: string]: AnySchema }

type Globbed = `${string}${"*" | "?" | "["}${string}`

/**
 * Names a channel, or with a glob (`*`, `?`, `[…]`) a pattern of channels, and what they carry.
 *
 * Shape: a {@link Topic}, or a {@link Pattern} when the name is a glob. Messages must encode to JSON objects, which is all
 * that Daebus listeners accept.
 * Errors: throws `InvalidName`.
 */
export const make = <const Channel extends string, Input extends MessageInput>(
  channel: Channel,
  message: Input
): Channel extends Globbed ? Pattern<Channel, ToSchema<Input>> : Topic<Channel, ToSchema<Input>> => {
  const schema = asSchema(message)
  return Object.assign(
    Object.create(Proto),
    Glob.isGlob(channel)
      ? { [TypeId]: "Pattern", pattern: Name.check("pattern", channel), message: schema }
      : { [TypeId]: "Topic", channel: Name.check("topic", channel), message: schema },
    { annotations: Context.empty() }
  )
}

/**
 * Picks one channel of a pattern, to publish on it or to listen to it alone. It has the pattern's annotations.
 *
 * Errors: throws {@link NotCovered}, or `InvalidName`.
 */
export const at = <const Channel extends string, Message extends AnySchema>(
  pattern: Pattern<string, Message>,
  channel: Channel
): Topic<Channel, Message> => {
  Name.check("topic", channel)
  if (!Glob.matcher(pattern.pattern)(channel)) throw new NotCovered({ pattern: pattern.pattern, channel })
  const { annotations, message } = pattern
  return Object.assign(Object.create(Proto), { [TypeId]: "Topic", channel, message, annotations })
}

/**
 * Adds a fact about the topic: `Topic.make("orders", …).pipe(Topic.annotate(Topic.Numbered, true))`. The topic given is left as it was.
 */
export const annotate: {
  <I, S>(key: Context.Key<I, S>, value: NoInfer<S>): <T extends Any | AnyPattern>(self: T) => T
  <T extends Any | AnyPattern, I, S>(self: T, key: Context.Key<I, S>, value: NoInfer<S>): T
} = dual(
  3,
  <T extends Any | AnyPattern, I, S>(self: T, key: Context.Key<I, S>, value: S): T =>
    Object.assign(Object.create(Proto), self, { annotations: Context.add(self.annotations, key, value) })
)

const Proto = {
  pipe() {
    // biome-ignore lint/complexity/noArguments: Effect's own way of being pipeable
    return pipeArguments(this, arguments)
  }
}

/**
 * Makes a topic durable: each group of listeners (`Listener.layerGroup`) gets every message once it has begun, at least once, whoever is away
 * when it is published. Whoever listens without a group hears it as before, at most once.
 *
 * Units: `keep` is how long messages are kept besides, for groups that begin later and ask for what was before. Default not at all.
 */
export const durable = <T extends Any>(topic: T, options?: { readonly keep?: Duration.Input }): T & Durable =>
  Object.assign(Object.create(Proto), topic, {
    durable: { keepMillis: options?.keep === undefined ? 0 : Duration.toMillis(Duration.fromInputUnsafe(options.keep)) }
  })

/** True for what {@link durable} made. */
export const isDurable = (topic: Any | AnyPattern): topic is Any & Durable => "durable" in topic

/** True for patterns, false for topics. */
export const isPattern = (topic: Any | AnyPattern): topic is AnyPattern => topic[TypeId] === "Pattern"

/** Whether messages may share frames. */
export const isPacked = ({ annotations }: Any | AnyPattern): boolean => Context.get(annotations, Packed)

/** Whether messages bear numbers. */
export const isNumbered = ({ annotations }: Any | AnyPattern): boolean =>
  Context.get(annotations, Numbered) || Context.get(annotations, History) !== undefined
