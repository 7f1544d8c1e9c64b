/** Hears what is published on a topic, as a Layer. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Name from "../contract/Name.ts"
import * as Topic from "../contract/Topic.ts"
import { Durable } from "../transport/Durable.ts"
import { Transport, type TransportError } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"
import * as Numbers from "../wire/Numbers.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import * as Entry from "./internal/entry.ts"
import * as Hearing from "./internal/hearing.ts"
import { host } from "./internal/host.ts"
import * as Observed from "./internal/observed.ts"
import type { Gap } from "./internal/tracker.ts"
import * as Options from "./Options.ts"

export type { Gap } from "./internal/tracker.ts"

/** What a listener knows of a message beside its content. */
export interface Info {
  /** The channel it came on, without the transport's prefix: of interest to listeners of a pattern. */
  readonly channel: string
  /** Which message of which publisher it is; nothing where it bears no number (`Topic.Numbered`). */
  readonly number: { readonly from: string; readonly seq: number } | undefined
  /** It was missed at first, and comes from its publisher's history (`Topic.History`). */
  readonly backfilled: boolean
}

/** A listener. Its failures are logged and counted; they reach neither the publisher nor other listeners. */
export type Handler<T extends Topic.Any | Topic.AnyPattern, E, R> = (
  message: Topic.Message<T>,
  info: Info
) => Effect.Effect<unknown, E, R>

/** A listener that hears everything. */
export interface Alone<E, R> extends Options.Options {
  /**
   * Runs when messages of a publisher are missing for good: before the message that showed it, where both are handled one at a time. Of
   * topics whose messages bear numbers (`Topic.Numbered`). It takes a slot and waits in the backlog as a message does.
   */
  readonly onGap?: (gap: Gap) => Effect.Effect<unknown, E, R>
  readonly group?: undefined
}

/** One of several listeners that share the messages. */
export interface Grouped extends Options.Options {
  /**
   * Of all listeners to this topic or pattern with this group, in whichever processes, one handles each message, at most once.
   * Claims are the transport's: over one that has none the Layer fails with `TransportError` of kind `InvalidOptions`.
   */
  readonly group: string
  readonly onGap?: undefined
}

/**
 * Runs a handler for every message of a topic or pattern, from when the Layer is built until its Scope closes.
 *
 * Every listener gets every message, also several on one channel; those of a `group` share them. Up to `concurrency` (10) messages are
 * handled at once, so they may overtake each other; `concurrency: 1` keeps their order. Beyond `backlog` waiting ones, new messages are
 * dropped and counted. A message that does not fit the schema is dropped and counted.
 * Errors: `TransportError` when the channel cannot be subscribed to. Throws `InvalidName` for a group.
 */
export const layer = <T extends Topic.Any | Topic.AnyPattern, E, R, E2 = never, R2 = never, E3 = never, R3 = never>(
  topic: T,
  handler: Handler<T, E, R> | Effect.Effect<Handler<T, E, R>, E2, R2>,
  options: Alone<E3, R3> | Grouped = {}
): Layer.Layer<never, E2 | TransportError, Transport | Exclude<R | R2 | R3, Scope.Scope>> => {
  const { group, onGap, ...rest } = options
  if (group !== undefined) Name.check("group", group)
  return Layer.effectDiscard(
    Effect.gen(function* () {
      const { prefix } = yield* Transport
      const { listen } = yield* host
      const made = Effect.isEffect(handler) ? yield* handler : handler
      const context = yield* Entry.context
      yield* listen(
        Topic.isPattern(topic)
          ? { _tag: "Pattern", pattern: Channels.pattern(prefix, topic.pattern) }
          : { _tag: "Channel", channel: Channels.topic(prefix, topic.channel) },
        toEntry(topic, made, context),
        Options.resolve(rest),
        {
          group,
          onGap: onGap as Hearing.Hearing["onGap"],
          // What a durable topic keeps it keeps for groups.
          refills: Context.get(topic.annotations, Topic.History) !== undefined && !Topic.isDurable(topic)
        }
      )
    })
  ) as any
}

/** What can be set for a group of durable listeners. */
export interface GroupOptions extends Options.Options {
  /**
   * What a group gets that was not there before: messages from `now` on (the default), or from the `beginning` of what the topic keeps
   * (`Topic.durable`'s `keep`). It is asked once in the life of a group.
   */
  readonly from?: "now" | "beginning"
}

/**
 * Runs a handler for every message of a durable topic: each goes to one listener of the group, in whichever process, at least once. A
 * group is there from the first time that one of its listeners is built, and goes on when none runs: what is published meanwhile waits.
 *
 * A failure of the handler is a reason to deliver the message again, by `durable.retry`, and after `durable.deliveries` it becomes a
 * dead letter of the group. Up to `concurrency` (10) messages are handled at once.
 * Errors: `TransportError` when the store cannot be reached.
 */
export const layerGroup = <T extends Topic.Any & Topic.Durable, E, R, E2 = never, R2 = never>(
  topic: T,
  group: string,
  handler: Handler<T, E, R> | Effect.Effect<Handler<T, E, R>, E2, R2>,
  options: GroupOptions = {}
): Layer.Layer<never, E2 | TransportError, Transport | Durable | Exclude<R | R2, Scope.Scope>> => {
  Name.check("group", group)
  return Layer.effectDiscard(
    Effect.gen(function* () {
      const { attend } = yield* host
      const made = Effect.isEffect(handler) ? yield* handler : handler
      const context = yield* Entry.context
      const { from, ...rest } = options
      const settings = Options.resolve(rest)
      yield* attend({ name: topic.channel, group, from: from ?? "now" }, toEntry(topic, made, context), settings)
    })
  ) as any
}

/**
 * Ends a group of durable listeners for good, with all that is kept for it: otherwise what is published is kept for a group that
 * nobody serves any more until `maxLength` is reached. Listeners of it that still run hear nothing more.
 */
export const removeGroup = (
  topic: Topic.Any & Topic.Durable,
  group: string
): Effect.Effect<void, TransportError, Transport | Durable> =>
  Effect.gen(function* () {
    const { prefix } = yield* Transport
    const { unsubscribe } = yield* Durable
    yield* unsubscribe(Channels.queue(prefix, topic.channel), Channels.groupQueue(prefix, topic.channel, group))
  })

const toEntry = (
  topic: Topic.Any | Topic.AnyPattern,
  handler: Handler<any, any, any>,
  context: Context.Context<never>
): Entry.Entry => {
  const name = Topic.isPattern(topic) ? topic.pattern : topic.channel
  return {
    name,
    concurrency: undefined,
    delivery: "live",
    automatic: false,
    select: ({ raw }) => Numbers.strip(raw),
    decode: SchemaCodec.make(topic.message).decode,
    handle: (message, { envelope: { raw }, service }) =>
      handler(message, {
        channel: service,
        number: raw["fiberbus"] === undefined ? undefined : Numbers.read(raw),
        backfilled: Hearing.isBackfilled(raw)
      }) as Effect.Effect<unknown, unknown>,
    context,
    observed: Observed.topic(name, Topic.isPattern(topic), context),
    success: undefined,
    error: undefined,
    progress: undefined,
    ...Entry.plain
  }
}
