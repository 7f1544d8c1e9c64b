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
import type * as Scope from "effect/Scope"
import * as Concurrency from "../../policy/Concurrency.ts"
import { Deadline } from "../../policy/Deadline.ts"
import * as Channels from "../../wire/Channels.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Settings } from "../Options.ts"
import * as Request from "../Request.ts"
import * as ServerMetrics from "../ServerMetrics.ts"
import { Admission, type Gate } from "./admission.ts"
import type { Entry } from "./entry.ts"
import { Exchange, type Link } from "./exchange.ts"

/** @see {@link make} */
export interface Mount {
  readonly options: Settings
  /** Takes a message for one of its handlers; it ends in an answer where somebody waits for one. */
  readonly accept: (entry: Entry, service: string, envelope: Envelope.Request) => void
  /** Shows it in the gauges until the Scope closes. */
  readonly observed: Effect.Effect<void, never, Scope.Scope>
  /** True for a channel that answers may be sent to. */
  readonly mayAnswer: (replyTo: string) => boolean
  /** Refuses what comes or waits, lets run what runs for the grace period, then interrupts and answers it. */
  readonly drain: Effect.Effect<void>
}

/** Longest time in milliseconds that callers are asked to wait before they try again. */
const longestRetryAfterMillis = 30_000

/**
 * Makes a mount of entries, for metrics under a name. `isOwn` tells the channels that this process listens to: an answer there would come
 * back as a message.
 */
export const make = (
  link: Link,
  name: string,
  entries: ReadonlyArray<Entry>,
  options: Settings,
  isOwn: (channel: string) => boolean
): Mount => {
  const { backlog, fairBy, handlerTimeoutMillis } = options
  const limit =
    typeof options.concurrency === "number" ? Concurrency.makeUnsafe(options.concurrency) : options.concurrency
  const admission = new Admission<Exchange>({
    limit,
    backlog,
    start: (exchange) => begin(exchange),
    displaced: (exchange) => {
      exchange.untrack()
      full(exchange)
    }
  })
  const openGate = admission.gate(Number.POSITIVE_INFINITY)
  const gates = new Map<Entry, Gate<Exchange>>()
  for (const entry of entries) {
    if (entry.concurrency !== undefined) gates.set(entry, admission.gate(Concurrency.check(entry.concurrency)))
  }
  const gateOf = ({ entry }: Exchange) => (entry.concurrency === undefined ? openGate : (gates.get(entry) ?? openGate))
  const countRefusal = ServerMetrics.refusals(link.metrics, name)
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
    const { deadline, entry, envelope } = exchange
    if (deadline !== undefined) {
      if (deadline <= link.wheel.now()) {
        refuse(exchange, new Reason.DeadlineExceeded({ timeoutMillis: exchange.timeoutMillis ?? 0 }))
        return end(exchange)
      }
    } else if (handlerTimeoutMillis !== undefined) {
      exchange.timeoutMillis = handlerTimeoutMillis
      exchange.deadline = link.wheel.now() + handlerTimeoutMillis
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
    exchange.begun = true
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
    admission.release(gateOf(exchange))
  }

  const refuse = (exchange: Exchange, reason: Reason.Sent) => {
    countRefusal(reason._tag)
    if (!exchange.isAwaited) link.discards.note(reason._tag)
    exchange.refuse(reason, "no")
  }

  /** There is no place for it in the backlog, or no longer. */
  const full = (exchange: Exchange) => {
    if (backlog.whenFull === "dropNewest") {
      countRefusal("Dropped")
      return link.discards.note("Dropped")
    }
    // When all that wait now would have run.
    const millis = Math.ceil((meanMillis * (admission.waiting + 1)) / limit.limitUnsafe())
    refuse(exchange, new Reason.Busy({ retryAfterMillis: Math.min(Math.max(millis, 1), longestRetryAfterMillis) }))
  }

  const wait = (exchange: Exchange) => {
    let key = ""
    if (fairBy !== undefined) {
      try {
        key = fairBy(exchange)
      } catch (defect) {
        countRefusal("RemoteDefect")
        return exchange.die(Cause.die(defect), "no")
      }
    }
    if (admission.wait(exchange, gateOf(exchange), key)) exchange.track()
    else full(exchange)
  }

  return {
    options,
    observed: Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => ServerMetrics.observe(link.metrics, name, admission)),
        (stop) => Effect.sync(stop)
      )
    ),
    mayAnswer: (replyTo) =>
      Channels.isAddress(replyTo) && !isOwn(replyTo) && allowedPrefixes.some((prefix) => replyTo.startsWith(prefix)),
    accept: (entry, service, envelope) => {
      const exchange = new Exchange(link, entry, service, envelope, replyTo(link, options, service, envelope))
      if (draining) return refuse(exchange, new Reason.Draining({}))
      if (!admission.start(exchange, gateOf(exchange))) wait(exchange)
    },
    drain: Effect.suspend(() => {
      draining = true
      for (const exchange of admission.clear()) {
        exchange.untrack()
        refuse(exchange, new Reason.Draining({}))
      }
      return idle.await
    }).pipe(
      Effect.timeoutOption(grace),
      Effect.flatMap(() => {
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (const exchange of live) {
          if (!exchange.isAwaited) link.discards.note("Draining")
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

const replyTo = (link: Link, options: Settings, service: string, envelope: Envelope.Request): string | undefined =>
  envelope.replyTo ??
  (options.unaddressed === "responses" && envelope.requestId !== null
    ? Channels.unaddressed(link.transport.prefix, service)
    : undefined)
