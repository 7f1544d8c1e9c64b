/** Messages to durable topics: kept for each group first, then heard by whoever listens. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Topic from "../../contract/Topic.ts"
import { Durable, NoStore } from "../../transport/Durable.ts"
import { publish as sendTo, Transport, type TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import { isPassing } from "./durable.ts"

/** Attempts under the same id, within about two seconds. */
const again = Schedule.upTo(Schedule.exponential("50 millis"), { times: 5 })

/** Keeps and publishes a frame. Dies with `NoStore` where nothing keeps it. */
export const publish = (
  topic: Topic.Any & Topic.Durable,
  frame: string
): Effect.Effect<number, TransportError, Transport> =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const durable = Option.getOrUndefined(yield* Effect.serviceOption(Durable))
    if (durable === undefined) return yield* Effect.die(new NoStore({ name: topic.channel }))
    const channel = Channels.topic(transport.prefix, topic.channel)
    const publishes = durable.capabilities.publishes && durable.name === transport.name
    const publication = {
      id: randomUUID(),
      frame,
      keepMillis: topic.durable.keepMillis,
      channel: publishes ? channel : ""
    }
    const kept = Effect.callback<number, TransportError>((resume) =>
      durable.publish(Channels.queue(transport.prefix, topic.channel), publication, (error, receivers) =>
        resume(error === undefined ? Effect.succeed(receivers) : Effect.fail(error))
      )
    )
    const receivers = yield* Effect.retry(kept, { schedule: again, while: ({ kind }) => isPassing(kind) })
    if (publishes) return receivers
    // It is kept: who listens live may miss it, as always.
    return yield* Effect.orElseSucceed(sendTo(channel, frame), () => 0)
  })
