/** Publishes messages to topics. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Topic from "../contract/Topic.ts"
import type { Durable } from "../transport/Durable.ts"
import { Transport, TransportError } from "../transport/Transport.ts"
import * as Channels from "../wire/Channels.ts"
import * as Codec from "../wire/Codec.ts"
import * as Reason from "../wire/Reason.ts"
import * as SchemaCodec from "../wire/SchemaCodec.ts"
import * as Kept from "./internal/durableTopic.ts"
import * as Numbering from "./internal/numbering.ts"
import * as Observed from "./internal/observed.ts"

/** The message does not fit the topic's schema, or does not encode to a JSON object as Daebus' listeners need. */
export class InvalidMessage extends Schema.TaggedError<InvalidMessage>()("InvalidMessage", {
  path: Schema.Array(Schema.String),
  expected: Schema.String
}) {
  override get message() {
    return `invalid message${this.path.length === 0 ? "" : ` at ${JSON.stringify(this.path)}`}: ${this.expected}`
  }
}

/** Why a message was not published. */
export class PublishError extends Schema.TaggedError<PublishError>()("PublishError", {
  channel: Schema.String,
  reason: Schema.Union([InvalidMessage, Reason.PayloadTooLarge, TransportError])
}) {
  override get message() {
    return `${this.channel}: ${this.reason.message}`
  }
}

/**
 * Publishes a message to everyone who listens now: at most once, nothing is kept for later. A message to a durable topic is also kept
 * for each group of its listeners, for sure when this succeeds.
 *
 * Shape: the number of processes it reached, as far as the transport can tell, groups left out; 0 is no error.
 * Errors: `PublishError`.
 */
export const publish = <T extends Topic.Any>(
  topic: T,
  message: Topic.Message<T>
): Effect.Effect<number, PublishError, Transport | (T extends Topic.Durable ? Durable : never)> =>
  Observed.publishing(topic.channel, send(topic, message)) as any

const send = <T extends Topic.Any>(topic: T, message: Topic.Message<T>) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const channel = topic.channel
    const failed = (reason: PublishError["reason"]) => new PublishError({ channel, reason })
    const json = yield* Effect.mapError(SchemaCodec.make(topic.message).encode(message), (error) =>
      failed(new InvalidMessage(SchemaCodec.explain(error)))
    )
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      return yield* failed(new InvalidMessage({ path: [], expected: "a message that encodes to a JSON object" }))
    }
    // Whoever listens would drop it.
    if (Codec.nestsTooDeep(json)) {
      return yield* failed(
        new InvalidMessage({ path: [], expected: `a message nested at most ${Codec.maxDepth} deep` })
      )
    }
    const frame = yield* Effect.try({
      try: () => JSON.stringify(json),
      catch: () => failed(new InvalidMessage({ path: [], expected: "a message that JSON can carry" }))
    })
    const { maxFrameBytes } = transport.capabilities
    const tooLarge = (text: string) =>
      failed(new Reason.PayloadTooLarge({ what: "message", bytes: Codec.byteLength(text), maxBytes: maxFrameBytes }))
    if (Topic.isDurable(topic) || !Topic.isNumbered(topic)) {
      if (Codec.isLarger(frame, maxFrameBytes)) return yield* tooLarge(frame)
      if (Topic.isDurable(topic)) return yield* Effect.mapError(Kept.publish(topic, frame), failed)
      return yield* Effect.callback<number, PublishError>((resume) => {
        transport.send(Channels.topic(transport.prefix, channel), frame, (error, receivers) =>
          resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(failed(error)))
        )
      })
    }
    if (Object.hasOwn(json, "fiberbus")) {
      const expected = "no field fiberbus, where the message's number is"
      return yield* failed(new InvalidMessage({ path: ["fiberbus"], expected }))
    }
    const counter = yield* Numbering.of(transport, topic)
    return yield* Effect.callback<number, PublishError>((resume) => {
      const numbered = counter.frameOf(frame)
      if (Codec.isLarger(numbered, maxFrameBytes)) return resume(tooLarge(numbered))
      counter.send(numbered, (error, receivers) =>
        resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(failed(error)))
      )
    })
  })
