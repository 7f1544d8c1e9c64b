/** Hears what is published on a topic, as a Layer. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Topic from "../contract/Topic.ts"
import { Transport, type TransportError } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import * as Entry from "./internal/entry.ts"
import { host } from "./internal/host.ts"
import * as Observed from "./internal/observed.ts"
import * as Options from "./Options.ts"

/** What a listener knows of a message beside its content. */
export interface Info {
  /** The channel it came on, without the transport's prefix: of interest to listeners of a pattern. */
  readonly channel: string
}

/** A listener. Its failures are logged and counted; they reach neither the publisher nor other listeners. */
export type Handler<T extends Topic.Any | Topic.AnyPattern, E, R> = (
  message: Topic.Message<T>,
  info: Info
) => Effect.Effect<unknown, E, R>

/**
 * Runs a handler for every message of a topic or pattern, from when the Layer is built until its Scope closes.
 *
 * Every listener gets every message, also several on one channel. Up to `concurrency` (10) messages are handled at once, so
 * they may overtake each other; `concurrency: 1` keeps their order. Beyond `backlog` waiting ones, new messages are dropped and
 * counted. A message that does not fit the schema is dropped and counted.
 * Errors: `TransportError` when the channel cannot be subscribed to.
 */
export const layer = <T extends Topic.Any | Topic.AnyPattern, E, R, E2 = never, R2 = never>(
  topic: T,
  handler: Handler<T, E, R> | Effect.Effect<Handler<T, E, R>, E2, R2>,
  options?: Options.Options
): Layer.Layer<never, E2 | TransportError, Transport | Exclude<R | R2, Scope.Scope>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { prefix } = yield* Transport
      const { listen } = yield* host
      const made = Effect.isEffect(handler) ? yield* handler : handler
      const context = yield* Entry.context
      const name = Topic.isPattern(topic) ? topic.pattern : topic.channel
      yield* listen(
        Topic.isPattern(topic)
          ? { _tag: "Pattern", pattern: Channels.pattern(prefix, topic.pattern) }
          : { _tag: "Channel", channel: Channels.topic(prefix, topic.channel) },
        {
          name,
          concurrency: undefined,
          delivery: "live",
          automatic: false,
          select: (envelope) => envelope.raw,
          decode: SchemaCodec.make(topic.message).decode,
          handle: (message, exchange) =>
            made(message, { channel: exchange.service }) as Effect.Effect<unknown, unknown>,
          context,
          observed: Observed.topic(name, Topic.isPattern(topic), context),
          success: undefined,
          error: undefined,
          progress: undefined,
          ...Entry.plain
        },
        Options.resolve(options)
      )
    })
  ) as any
