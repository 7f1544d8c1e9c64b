/** A set of handlers that live and end together: one `Handlers.layer`, one listener. */

import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { SchemaError } from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Prefixed from "../../transport/Prefixed.ts"
import type { Frame } from "../../transport/Transport.ts"
import * as Channels from "../../wire/Channels.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import * as SchemaCodec from "../../wire/SchemaCodec.ts"
import type { Settings } from "../Options.ts"
import * as ServerMetrics from "../ServerMetrics.ts"
import type { PoolGaveUp } from "../Supervision.ts"
import type { Claims } from "./claims.ts"
import type { Delivery } from "./delivery.ts"
import type { Entry } from "./entry.ts"
import { Exchange, type Link } from "./exchange.ts"
import * as Pool from "./pool.ts"

/** @see {@link make} */
export interface Mount {
  readonly options: Settings
  /** Takes a message for one of its handlers; it ends in an answer where somebody waits for one. */
  readonly accept: (
    entry: Entry,
    service: string,
    envelope: Envelope.Request,
    isAlone: boolean,
    delivery?: Delivery
  ) => void
  /** The same for a message that others hear as well: it is taken if it can be claimed. */
  readonly claim: (entry: Entry, service: string, envelope: Envelope.Request, frame: Frame, claims: Claims) => void
  /** Calls a function whenever a request has ended, whose slot may be free now. */
  readonly watchFree: (freed: () => void) => void
  /** Shows it in the gauges until the Scope closes. */
  readonly observed: Effect.Effect<void, never, Scope.Scope>
  /** True for a channel that answers may be sent to. */
  readonly mayAnswer: (replyTo: string) => boolean
  readonly pool: Pool.Pool
  /** Requests that are being read, handled or answered, as far as that takes time. */
  readonly running: () => number
  /** Waits until there are none. */
  readonly idle: Effect.Effect<void>
  /** Waits until it is known of each request that was heard whose it is. */
  readonly claimed: Effect.Effect<void>
  /** Interrupts and answers them. */
  readonly stopAll: (reason: Reason.Sent) => ReadonlyArray<Fiber.Fiber<unknown, unknown>>
  /** Requests that were refused so far. */
  readonly refusals: () => number
}

/**
 * Makes a mount of entries, for metrics and logs under a name. `isOwn` tells the channels that this process listens to: an answer there
 * would come back as a message. `gaveUp` is told when it takes no more.
 */
export const make = (
  link: Link,
  name: string,
  entries: ReadonlyArray<Entry>,
  options: Settings,
  isOwn: (channel: string) => boolean,
  gaveUp: (error: PoolGaveUp) => void
): Mount => {
  const { handlerTimeoutMillis } = options
  const countRefusal = ServerMetrics.refusals(link.metrics, name)
  const live = new Set<Exchange>()
  const idle = Latch.makeUnsafe(true)
  const allowedPrefixes =
    options.replyTo === "inboxes"
      ? [Channels.inboxPrefix(Prefixed.rootOf(link.transport).prefix)]
      : options.replyTo === "any"
        ? [""]
        : options.replyTo
  const claimed = Latch.makeUnsafe(true)
  let claiming = 0
  /** The last channel that was found to be allowed: mostly the next one is the same. */
  let allowed = ""
  let meanMillis = 10
  let refusals = 0
  // Of what consumes for it: one for each partition.
  const watchers: Array<() => void> = []

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
      try {
        then(exit)
      } catch (defect) {
        failed(exchange, defect)
      }
    })
  }

  // Whatever goes wrong here is ours or a getter's of the user's: it ends this exchange, and its slot is free again.
  const failed = (exchange: Exchange, defect: unknown) => {
    exchange.die(Cause.die(defect))
    end(exchange)
  }

  const begin = (exchange: Exchange) => {
    try {
      read(exchange)
    } catch (defect) {
      failed(exchange, defect)
    }
  }

  const read = (exchange: Exchange) => {
    const { deadline, entry, envelope } = exchange
    if (deadline !== undefined) {
      if (deadline <= exchange.now()) {
        refuse(exchange, new Reason.DeadlineExceeded({ timeoutMillis: exchange.timeoutMillis ?? 0 }))
        return end(exchange)
      }
    } else if (handlerTimeoutMillis !== undefined) {
      exchange.timeoutMillis = handlerTimeoutMillis
      exchange.deadline = exchange.now() + handlerTimeoutMillis
    }
    const decoding = entry.decode(entry.select(envelope))
    if (Exit.isExit(decoding)) return decoded(exchange, decoding as Exit.Exit<unknown, SchemaError>)
    stage(exchange, decoding, entry.context, (exit) => decoded(exchange, exit))
  }

  const decoded = (exchange: Exchange, exit: Exit.Exit<unknown, SchemaError>) => {
    if (exchange.stopped) return end(exchange)
    if (exit._tag === "Success") return run(exchange, exit.value)
    const failure = exit.cause.reasons.find(Cause.isFailReason)
    if (failure === undefined) exchange.die(exit.cause)
    else refuse(exchange, new Reason.InvalidPayload(SchemaCodec.explain(failure.error)))
    end(exchange)
  }

  const run = (exchange: Exchange, payload: unknown) => {
    const { entry } = exchange
    exchange.begin()
    const begun = exchange.now()
    // A span begins before its handler is called, and a Scheduler says when.
    const handled = entry.observed.hasFiber
      ? Effect.suspend(() => handlingOf(exchange, payload))
      : handlingOf(exchange, payload)
    // Many have ended by then: there is nothing to run, and nobody who would look at a context.
    if (Exit.isExit(handled)) return ended(exchange, handled, begun)
    const scope = Scope.makeUnsafe()
    const context = Context.add(entry.observed.begin(exchange), Scope.Scope, scope)
    // `Effect.scoped`, but for its change of context in the fiber.
    const handling = Effect.onExitPrimitive(handled, (exit) => Scope.closeUnsafe(scope, exit))
    stage(exchange, handling, context, (exit) => ended(exchange, exit, begun))
  }

  const handlingOf = (exchange: Exchange, payload: unknown): Effect.Effect<unknown, unknown> => {
    try {
      return exchange.entry.handle(payload, exchange) ?? noEffect
    } catch (defect) {
      return Exit.die(defect)
    }
  }

  const ended = (exchange: Exchange, exit: Exit.Exit<unknown, unknown>, begun: number) => {
    const millis = link.wheel.now() - begun
    meanMillis += (millis - meanMillis) / 8
    const writing = exchange.settle(exit)
    if (writing === undefined) return settled(exchange, exit, millis)
    stage(exchange, writing, exchange.entry.context, () => settled(exchange, exit, millis))
  }

  const settled = (exchange: Exchange, exit: Exit.Exit<unknown, unknown>, millis: number) => {
    exchange.entry.observed.end(exchange, exit, millis)
    end(exchange)
  }

  const end = (exchange: Exchange) => {
    exchange.end()
    live.delete(exchange)
    if (live.size === 0) idle.openUnsafe()
    pool.leave(exchange)
    for (let i = 0; i < watchers.length; i++) watchers[i]!()
  }

  const refuse = (exchange: Exchange, reason: Reason.Sent) => {
    refusals++
    countRefusal(reason._tag)
    if (!exchange.isAwaited) link.discards.note(reason._tag)
    exchange.refuse(reason, "no")
  }

  /** Ends what runs for a reason of the process's own. */
  const stopAll = (reason: Reason.Sent) => {
    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    for (const exchange of [...live]) {
      if (exchange.stopped) continue
      if (!exchange.isAwaited) link.discards.note(reason._tag)
      exchange.refuse(reason, exchange.begun ? "yes" : "no")
      if (exchange.fiber !== undefined) fibers.push(exchange.fiber)
      exchange.stop()
    }
    return fibers
  }

  const pool = Pool.make({
    link,
    name,
    entries,
    settings: options,
    begin,
    refuse,
    refused: countRefusal,
    meanMillis: () => meanMillis,
    brokeDown: (id) => void stopAll(new Reason.RemoteDefect({ id })),
    gaveUp
  })

  return {
    options,
    observed: Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => ServerMetrics.observe(link.metrics, name, pool)),
        (stop) => Effect.sync(stop)
      )
    ),
    watchFree: (watcher) => void watchers.push(watcher),
    mayAnswer: (replyTo) => {
      if (replyTo !== allowed) {
        if (!Channels.isAddress(replyTo) || !allowedPrefixes.some((prefix) => replyTo.startsWith(prefix))) return false
        allowed = replyTo
      }
      return !isOwn(replyTo)
    },
    accept: (entry, service, envelope, isAlone, delivery) => {
      const exchange = new Exchange(link, entry, service, envelope, replyTo(link, options, service, envelope), delivery)
      if (delivery !== undefined) delivery.exchange = exchange
      exchange.isAlone = isAlone
      pool.enter(exchange)
    },
    claim: (entry, service, envelope, frame, claims) => {
      const exchange = new Exchange(link, entry, service, envelope, replyTo(link, options, service, envelope))
      exchange.awaitClaim()
      if (claiming++ === 0) claimed.closeUnsafe()
      claims.claim(service, envelope, frame, !pool.hasRoom(entry), (won) => {
        if (--claiming === 0) claimed.openUnsafe()
        exchange.untrack()
        if (won && !exchange.stopped) pool.enter(exchange)
      })
    },
    pool,
    running: () => live.size,
    idle: idle.await,
    claimed: claimed.await,
    stopAll,
    refusals: () => refusals
  }
}

// Of a program without types.
const noEffect = Exit.die(new TypeError("the handler returned nothing, where an Effect was expected"))

const replyTo = (link: Link, options: Settings, service: string, envelope: Envelope.Request): string | undefined =>
  envelope.replyTo ??
  (options.unaddressed === "responses" && envelope.requestId !== null
    ? Channels.unaddressed(link.transport.prefix, service)
    : undefined)
