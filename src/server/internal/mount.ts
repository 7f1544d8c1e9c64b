/** A set of handlers that live and end together: one `Handlers.layer`, one listener. */

import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { SchemaError } from "effect/Schema"
import { Deadline } from "../../policy/Deadline.ts"
import * as Channels from "../../wire/Channels.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Options } from "../Options.ts"
import * as Request from "../Request.ts"
import * as Response from "../Response.ts"
import * as Admission from "./admission.ts"
import type { Entry } from "./entry.ts"
import { Exchange, type Link, whenDone } from "./exchange.ts"

/** @see {@link make} */
export interface Mount {
  readonly options: Required<Options>
  /** Takes a message for one of its handlers; it ends in an answer where somebody waits for one. */
  readonly accept: (entry: Entry, service: string, envelope: Envelope.Request) => void
  /** True for a channel that answers may be sent to. */
  readonly mayAnswer: (replyTo: string) => boolean
  /** Refuses what comes or waits, lets run what runs for the grace period, then interrupts and answers it. */
  readonly drain: Effect.Effect<void>
}

/** Makes a mount. `isOwn` tells the channels that this process listens to: an answer there would come back as a message. */
export const make = (link: Link, options: Required<Options>, isOwn: (channel: string) => boolean): Mount => {
  const admission = Admission.make<Exchange>({
    slots: options.concurrency,
    backlog: options.backlog,
    start: (exchange) => begin(exchange)
  })
  const live = new Set<Exchange>()
  const idle = Latch.makeUnsafe(true)
  const allowedPrefixes =
    options.replyTo === "inboxes"
      ? [Channels.inboxPrefix(link.transport.prefix)]
      : options.replyTo === "any"
        ? [""]
        : options.replyTo
  let draining = false
  let meanMillis = 10

  const run = (exchange: Exchange, payload: unknown) => {
    const { entry } = exchange
    let context = Context.add(entry.context, Request.Slot, exchange)
    if (exchange.deadline !== undefined) context = Context.add(context, Deadline, exchange.deadline)
    const fiber = Effect.runForkWith(context)(Effect.suspend(() => entry.handle(payload, exchange)))
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return finish(exchange, exit)
    exchange.fiber = fiber
    if (live.size === 0) idle.closeUnsafe()
    live.add(exchange)
    exchange.await()
    const begun = link.wheel.now()
    if (exchange.deadline !== undefined) link.wheel.add(exchange, exchange.deadline - begun)
    fiber.addObserver((exit) => {
      meanMillis += (link.wheel.now() - begun - meanMillis) / 8
      link.wheel.remove(exchange)
      live.delete(exchange)
      finish(exchange, exit)
      if (live.size === 0) idle.openUnsafe()
    })
  }

  const finish = (exchange: Exchange, exit: Exit.Exit<unknown, unknown>) => {
    exchange.settle(exit, Response.sent)
    end(exchange)
  }

  const end = (exchange: Exchange) => {
    exchange.release()
    admission.release()
  }

  const refuse = (exchange: Exchange, reason: Reason.Sent) => {
    if (!exchange.isAwaited) link.discards.note(reason._tag)
    exchange.refuse(reason, "no")
  }

  const begin = (exchange: Exchange) => {
    const { entry, envelope } = exchange
    // Taken back while it waited.
    if (exchange.answered) return end(exchange)
    if (exchange.deadline !== undefined && exchange.deadline <= link.wheel.now()) {
      refuse(exchange, new Reason.DeadlineExceeded({ timeoutMillis: envelope.timeoutMillis ?? 0 }))
      return end(exchange)
    }
    whenDone<unknown, SchemaError>(link, entry.decode(entry.select(envelope)), undefined, (decoded) => {
      if (decoded._tag === "Success") return run(exchange, decoded.value)
      const failure = decoded.cause.reasons.find(Cause.isFailReason)
      if (failure === undefined) exchange.settle(decoded, undefined)
      else refuse(exchange, new Reason.InvalidPayload(SchemaCodec.explain(failure.error)))
      end(exchange)
    })
  }

  return {
    options,
    mayAnswer: (replyTo) =>
      Channels.isAddress(replyTo) && !isOwn(replyTo) && allowedPrefixes.some((prefix) => replyTo.startsWith(prefix)),
    accept: (entry, service, envelope) => {
      const exchange = new Exchange(link, entry, service, envelope, replyTo(link, options, service, envelope))
      if (draining) return refuse(exchange, new Reason.Draining({}))
      const admitted = admission.enter(exchange)
      if (admitted === "waits") exchange.await()
      else if (admitted === "refused") {
        const retryAfterMillis = Math.max(1, Math.ceil((meanMillis * (options.backlog + 1)) / options.concurrency))
        refuse(exchange, new Reason.Busy({ retryAfterMillis }))
      }
    },
    drain: Effect.suspend(() => {
      draining = true
      for (const exchange of admission.clear()) {
        exchange.release()
        refuse(exchange, new Reason.Draining({}))
      }
      return idle.await
    }).pipe(
      Effect.timeoutOption(options.grace),
      Effect.flatMap(() => {
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (const exchange of live) {
          exchange.refuse(new Reason.Draining({}), "yes")
          if (exchange.fiber !== undefined) fibers.push(exchange.fiber)
        }
        // A handler that cannot be interrupted must not keep the process: its finalizers get a second.
        return Effect.timeoutOption(
          Effect.flatMap(Effect.forkDetach(Fiber.interruptAll(fibers)), Fiber.join),
          "1 second"
        )
      }),
      Effect.asVoid
    )
  }
}

const replyTo = (
  link: Link,
  options: Required<Options>,
  service: string,
  envelope: Envelope.Request
): string | undefined =>
  envelope.replyTo ??
  (options.unaddressed === "responses" && envelope.requestId !== null
    ? Channels.unaddressed(link.transport.prefix, service)
    : undefined)
