/** Publishes messages to topics. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Topic from "../contract/Topic.ts"
import type { Durable } from "../transport/Durable.ts"
import { type Sent, Transport, TransportError } from "../transport/Transport.ts"
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
  Effect.flatMap(Transport, (transport) => {
    const json = SchemaCodec.make(topic.message).encode(message)
    if (Exit.isExit(json) && Exit.isSuccess(json)) return sendJson(transport, topic, json.value)
    const fitting = Effect.mapError(json, (error) =>
      failure(topic, new InvalidMessage(SchemaCodec.explain(error as Schema.SchemaError)))
    )
    return Effect.flatMap(fitting, (json) => sendJson(transport, topic, json))
  })

const sendJson = (
  transport: Transport["Service"],
  topic: Topic.Any,
  json: unknown
): Effect.Effect<number, PublishError, Transport | Durable> => {
  const invalid = (path: ReadonlyArray<string>, expected: string) =>
    Effect.fail(failure(topic, new InvalidMessage({ path, expected })))
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    return invalid([], "a message that encodes to a JSON object")
  }
  // Whoever listens would drop it.
  if (Codec.nestsTooDeep(json)) return invalid([], `a message nested at most ${Codec.maxDepth} deep`)
  let frame: string
  try {
    frame = JSON.stringify(json)
  } catch {
    return invalid([], "a message that JSON can carry")
  }
  const isNumbered = !Topic.isDurable(topic) && Topic.isNumbered(topic)
  if (isNumbered) {
    if (Object.hasOwn(json, "fiberbus")) {
      return invalid(["fiberbus"], "no field fiberbus, where the message's number is")
    }
    return Effect.flatMap(Numbering.of(transport, topic), (counter) => sendNumbered(transport, topic, counter, frame))
  }
  const problem = tooLarge(transport, frame)
  if (problem !== undefined) return Effect.fail(failure(topic, problem))
  if (Topic.isDurable(topic)) return Effect.mapError(Kept.publish(topic, frame), (error) => failure(topic, error))
  return Effect.callback((resume) => {
    const sent = sentOf(topic, resume)
    transport.send(Channels.topic(transport.prefix, topic.channel), frame, sent, Topic.isPacked(topic))
  })
}

const sendNumbered = (transport: Transport["Service"], topic: Topic.Any, counter: Numbering.Counter, frame: string) =>
  Effect.callback<number, PublishError>((resume) => {
    const numbered = counter.frameOf(frame)
    const problem = tooLarge(transport, numbered)
    if (problem !== undefined) return resume(Effect.fail(failure(topic, problem)))
    counter.send(numbered, sentOf(topic, resume), Topic.isPacked(topic))
  })

const sentOf =
  (topic: Topic.Any, resume: (outcome: Effect.Effect<number, PublishError>) => void): Sent =>
  (error, receivers) =>
    resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(failure(topic, error)))

const tooLarge = ({ capabilities: { maxFrameBytes } }: Transport["Service"], frame: string) =>
  Codec.isLarger(frame, maxFrameBytes)
    ? new Reason.PayloadTooLarge({ what: "message", bytes: Codec.byteLength(frame), maxBytes: maxFrameBytes })
    : undefined

const failure = ({ channel }: Topic.Any, reason: PublishError["reason"]) => new PublishError({ channel, reason })
