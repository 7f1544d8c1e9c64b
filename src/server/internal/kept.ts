/** The messages that are kept for a service: where they are, and who handles which. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Service from "../../contract/Service.ts"
import { Durable, NoStore } from "../../transport/Durable.ts"
import type { TransportError } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as DurableMetrics from "../DurableMetrics.ts"
import type * as Consuming from "./consuming.ts"
import { answerOf } from "./delivery.ts"
import type { Link } from "./exchange.ts"
import { InHand } from "./inHand.ts"
import type { Mount } from "./mount.ts"

/** What keeps messages, or the defect {@link NoStore}. */
export const store = (name: string): Effect.Effect<Durable["Service"]> =>
  Effect.flatMap(Effect.serviceOption(Durable), (durable) =>
    Option.isSome(durable) ? Effect.succeed(durable.value) : Effect.die(new NoStore({ name }))
  )

/**
 * How a service consumes what is kept for it, partition by partition: all that the process serves under its name, whichever layer has the
 * handler.
 */
export const plans = (
  link: Link,
  durable: Durable["Service"],
  { partitions, serviceName: service }: Pick<Service.Any, "serviceName" | "partitions">,
  mount: Mount,
  handling: (action: string) => Consuming.Handling | undefined,
  consumer: string
): ReadonlyArray<Consuming.Plan> => {
  const metrics = DurableMetrics.make(service, link.metrics)
  const waiting = new Array<number>(partitions).fill(0)
  const find = finding(service, mount, handling)
  const together = new InHand()
  return Channels.partitions(link.transport.prefix, service, partitions).map((queue, i) => ({
    link,
    durable,
    name: i === 0 ? service : `${service}/${i}`,
    queue,
    partitions,
    together,
    group: service,
    consumer,
    mount,
    settings: mount.options.durable,
    metrics: {
      ...metrics,
      waiting: (count) => {
        waiting[i] = count
        metrics.waiting(waiting.reduce((sum, one) => sum + one, 0))
      }
    },
    find
  }))
}

const finding =
  (
    service: string,
    mount: Mount,
    handling: (action: string) => Consuming.Handling | undefined
  ): Consuming.Plan["find"] =>
  (raw) => {
    const envelope = Envelope.readRequest(raw)
    const nobody = (reason: string, cause: string, action = "", frame?: string, replyTo?: string): Consuming.Found => ({
      _tag: "Nobody",
      reason,
      cause,
      action,
      frame,
      replyTo
    })
    if (typeof envelope === "string") return nobody(envelope, "it is no request")
    const { action, replyTo, requestId } = envelope
    if (replyTo !== undefined && !mount.mayAnswer(replyTo)) {
      return nobody("ReplyToRefused", "its answer would go to a channel that is not allowed", action)
    }
    const found = handling(action)
    if (found !== undefined) {
      return { _tag: "Handling", handling: found, service, envelope, redelivery: found.entry.redelivery }
    }
    if (mount.options.unknownAction === "ignore") return { _tag: "Elsewhere" }
    const reason = new Reason.UnknownAction({ action: action.slice(0, 128) })
    return nobody("UnknownAction", reason.message, action, answerOf(requestId, reason, "no"), replyTo)
  }

/** A group of listeners to a topic. */
export interface Attended {
  /** The topic's name. */
  readonly name: string
  readonly group: string
  readonly from: "now" | "beginning"
}

/** How a group of listeners consumes what is kept for it. Its queue is there when this succeeds. */
export const attending = (
  link: Link,
  durable: Durable["Service"],
  { from, group, name }: Attended,
  handling: Consuming.Handling,
  consumer: string
): Effect.Effect<Consuming.Plan, TransportError> => {
  const { prefix } = link.transport
  const queue = Channels.groupQueue(prefix, name, group)
  const { mount } = handling
  const plan: Consuming.Plan = {
    link,
    durable,
    name: `${name}:${group}`,
    queue,
    partitions: 1,
    together: new InHand(),
    group,
    consumer,
    mount,
    metrics: DurableMetrics.make(`${name}:${group}`, link.metrics),
    // Nobody asks for the result of a message.
    settings: { ...mount.options.durable, windowMillis: 0 },
    find: (raw) => {
      const envelope = Envelope.readBroadcast(raw)
      const answerable = envelope.replyTo === undefined || mount.mayAnswer(envelope.replyTo)
      return {
        _tag: "Handling",
        handling,
        service: name,
        envelope: answerable ? envelope : { ...envelope, replyTo: undefined },
        redelivery: undefined
      }
    }
  }
  return Effect.as(durable.subscribe(Channels.queue(prefix, name), queue, from), plan)
}
