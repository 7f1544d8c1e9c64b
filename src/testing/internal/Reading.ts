/** The record of a bus, read by contracts. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Action from "../../contract/Action.ts"
import * as Glob from "../../contract/Glob.ts"
import type * as Service from "../../contract/Service.ts"
import * as Topic from "../../contract/Topic.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Codec from "../../wire/Codec.ts"
import * as Numbers from "../../wire/Numbers.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import * as Traffic from "./Traffic.ts"

/** Frames were left out of the record, so what it has is not all that was sent. */
export class RecordFull extends Schema.TaggedError<RecordFull>()("RecordFull", { leftOut: Schema.Finite }) {
  override get message() {
    return `the record is full, its ${this.leftOut} oldest frames were left out: call TestBus.clear before, or raise \`record\``
  }
}

interface Source {
  readonly traffic: Traffic.Traffic
  readonly prefix: string
}

const framesOf = ({ traffic }: Source) =>
  Effect.suspend(() => {
    const leftOut = traffic.leftOut()
    return leftOut === 0 ? Effect.succeed(traffic.frames()) : Effect.fail(new RecordFull({ leftOut }))
  })

/** Requests to an action, with their outcomes. */
export const sent = (source: Source, service: Service.Any, action: Action.Any) =>
  Effect.flatMap(framesOf(source), (frames) => {
    const to = {
      channel: Channels.service(source.prefix, service.serviceName),
      queues: new Set(Channels.partitions(source.prefix, service.serviceName, service.partitions))
    }
    const { decode } = SchemaCodec.make(action.payload)
    return Effect.map(
      Effect.forEach(Traffic.requests(frames, to, action.name), ({ reply, request }) =>
        Effect.map(readable(decode(request.payload)), (read) =>
          Effect.map(
            reply === undefined ? Effect.undefined : Traffic.outcome(service.serviceName, action, reply),
            (outcome): ReadonlyArray<any> => {
              const { attempt, headers, replyTo } = request
              return read.map((payload) => ({ payload, headers, attempt, awaited: replyTo !== undefined, outcome }))
            }
          )
        ).pipe(Effect.flatten)
      ),
      (found) => found.flat()
    )
  })

/** Messages of a topic or pattern. */
export const published = (source: Source, topic: Topic.Any | Topic.AnyPattern) =>
  Effect.flatMap(framesOf(source), (frames) => {
    const matches = Topic.isPattern(topic)
      ? Glob.matcher(Channels.pattern(source.prefix, topic.pattern))
      : (channel: string) => channel === Channels.topic(source.prefix, topic.channel)
    const { decode } = SchemaCodec.make(topic.message)
    return Effect.map(
      Effect.forEach(
        frames.filter(({ channel }) => matches(channel)),
        ({ text }) => {
          const raw = Codec.parse(text, Number.POSITIVE_INFINITY)
          return raw instanceof Codec.Malformed ? Effect.succeed([]) : readable(decode(Numbers.strip(raw)))
        }
      ),
      (found) => found.flat()
    )
  })

/** The value, or none where it cannot be read. */
const readable = <A>(decoded: Effect.Effect<A, unknown>): Effect.Effect<ReadonlyArray<A>> =>
  Effect.matchCause(decoded, { onFailure: () => [], onSuccess: (value) => [value] })
