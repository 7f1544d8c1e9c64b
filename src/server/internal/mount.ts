/** A set of handlers that live and end together: one `Handlers.layer`, one listener. */

import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
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
import * as Admission from "./admission.ts"
import type { Entry } from "./entry.ts"
import { Exchange, type Link } from "./exchange.ts"

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
    start: (exchange) => begin(exchange),
    isGone: (exchange) => exchange.stopped
  })
  const live = new Set<Exchange>()
  const idle = Latch.makeUnsafe(true)
  const allowedPrefixes =
    options.replyTo === "inboxes"
      ? [Channels.inboxPrefix(link.transport.prefix)]
      : options.replyTo === "any"
        ? [""]
        : options.replyTo
  // Nobody moves a test's clock any more when its layers close: what waits for it would wait for ever.
  const grace = link.isRealTime
    ? options.grace
    : Duration.min(Duration.fromInputUnsafe(options.grace), Duration.seconds(1))
  let draining = false
  let meanMillis = 10

  /** Runs a part of an exchange: goes on at once where it ends at once, otherwise when its fiber does. */
  const stage = <A, E>(
    exchange: Exchange,
    effect: Effect.Effect<A, E>,
    context: Context.Context<never>,
    then: (exit: Exit.Exit<A, E>) => void
  ): void => {
    if (Exit.isExit(effect)) return then(effect as Exit.Exit<A, E>)
    const fiber = Effect.runForkWith(context)(effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return then(exit)
    exchange.fiber = fiber
    if (live.size === 0) idle.closeUnsafe()
    live.add(exchange)
    exchange.track()
    // It may have been stopped from within, before there was a fiber to interrupt.
    if (exchange.stopped) fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      exchange.fiber = undefined
      guarded(exchange, () => then(exit))
    })
  }

  // Whatever goes wrong here is ours or a getter's of the user's: it ends this exchange, and its slot is free again.
  const guarded = (exchange: Exchange, act: () => void) => {
    try {
      act()
    } catch (defect) {
      exchange.die(Cause.die(defect))
      end(exchange)
    }
  }

  const begin = (exchange: Exchange) => {
    exchange.forget = undefined
    const { deadline, entry, envelope } = exchange
    if (deadline !== undefined && deadline <= link.wheel.now()) {
      refuse(exchange, new Reason.DeadlineExceeded({ timeoutMillis: envelope.timeoutMillis ?? 0 }))
      return end(exchange)
    }
    guarded(exchange, () =>
      stage<unknown, SchemaError>(exchange, entry.decode(entry.select(envelope)), entry.context, (decoded) => {
        if (exchange.stopped) return end(exchange)
        if (decoded._tag === "Success") return run(exchange, decoded.value)
        const failure = decoded.cause.reasons.find(Cause.isFailReason)
        if (failure === undefined) exchange.die(decoded.cause)
        else refuse(exchange, new Reason.InvalidPayload(SchemaCodec.explain(failure.error)))
        end(exchange)
      })
    )
  }

  const run = (exchange: Exchange, payload: unknown) => {
    const { entry } = exchange
    exchange.begin()
    const begun = link.wheel.now()
    // The deadline is the request's own, also where the layer was built below another request.
    const context = Context.add(Context.add(entry.context, Request.Slot, exchange), Deadline, exchange.deadline)
    const handling = Effect.scoped(Effect.suspend(() => entry.handle(payload, exchange)))
    stage(exchange, handling, context, (exit) => {
      meanMillis += (link.wheel.now() - begun - meanMillis) / 8
      const writing = exchange.settle(exit)
      if (writing === undefined) return end(exchange)
      stage(exchange, writing, entry.context, () => end(exchange))
    })
  }

  const end = (exchange: Exchange) => {
    exchange.untrack()
    live.delete(exchange)
    if (live.size === 0) idle.openUnsafe()
    admission.release()
  }

  const refuse = (exchange: Exchange, reason: Reason.Sent) => {
    if (!exchange.isAwaited) link.discards.note(reason._tag)
    exchange.refuse(reason, "no")
  }

  return {
    options,
    mayAnswer: (replyTo) =>
      Channels.isAddress(replyTo) && !isOwn(replyTo) && allowedPrefixes.some((prefix) => replyTo.startsWith(prefix)),
    accept: (entry, service, envelope) => {
      const exchange = new Exchange(link, entry, service, envelope, replyTo(link, options, service, envelope))
      if (draining) return refuse(exchange, new Reason.Draining({}))
      const admitted = admission.enter(exchange)
      if (admitted === "waits") {
        exchange.forget = admission.forget
        exchange.track()
      } else if (admitted === "refused") {
        const retryAfterMillis = Math.max(1, Math.ceil((meanMillis * (options.backlog + 1)) / options.concurrency))
        refuse(exchange, new Reason.Busy({ retryAfterMillis }))
      }
    },
    drain: Effect.suspend(() => {
      draining = true
      for (const exchange of admission.clear()) {
        refuse(exchange, new Reason.Draining({}))
        exchange.forget = undefined
        exchange.untrack()
      }
      return idle.await
    }).pipe(
      Effect.timeoutOption(grace),
      Effect.flatMap(() => {
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (const exchange of live) {
          exchange.refuse(new Reason.Draining({}), exchange.begun ? "yes" : "no")
          if (exchange.fiber !== undefined) fibers.push(exchange.fiber)
          exchange.stop()
        }
        // A handler that cannot be interrupted must not keep the process: its finalizers get a second.
        return Effect.timeoutOption(Effect.flatMap(Effect.forkDetach(Fiber.awaitAll(fibers)), Fiber.join), "1 second")
      }),
      Effect.asVoid,
      Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
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
