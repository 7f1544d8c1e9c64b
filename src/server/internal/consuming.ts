/** Reads the messages that are kept for a service, as many as there are free slots, and keeps its deliveries alive. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type * as Action from "../../contract/Action.ts"
import type * as Durable from "../../transport/Durable.ts"
import * as Prefixed from "../../transport/Prefixed.ts"
import type { TransportError } from "../../transport/Transport.ts"
import * as Codec from "../../wire/Codec.ts"
import type * as Envelope from "../../wire/Envelope.ts"
import * as Reason from "../../wire/Reason.ts"
import type * as DurableMetrics from "../DurableMetrics.ts"
import type { DurableSettings } from "../Options.ts"
import { answerOf, Delivery, type Source } from "./delivery.ts"
import type { Entry } from "./entry.ts"
import type { Link } from "./exchange.ts"
import type { InHand } from "./inHand.ts"
import type { Mount } from "./mount.ts"

/** Who handles an action, if the process does. */
export interface Handling {
  readonly entry: Entry
  readonly mount: Mount
}

/** What is consumed, and for whom. */
export interface Plan {
  readonly link: Link
  readonly durable: Durable.Durable["Service"]
  /** For people: the service or the topic. */
  readonly name: string
  readonly queue: string
  /** As many of these share the slots. */
  readonly partitions: number
  /** What they all have in hand. */
  readonly together: InHand
  readonly group: string
  /** Unlike that of any other layer: what is delivered to it is in its hand, or was lost on its way. */
  readonly consumer: string
  /** Whose slots are filled. */
  readonly mount: Mount
  readonly settings: DurableSettings
  readonly metrics: DurableMetrics.DurableMetrics
  /** Who handles a message, or why nobody does. */
  readonly find: (message: Codec.JsonObject) => Found
}

/** What was found for a message. */
export type Found =
  | {
      readonly _tag: "Handling"
      readonly handling: Handling
      readonly service: string
      readonly envelope: Envelope.Request
      readonly redelivery: Action.Redelivery | undefined
    }
  /** It can be handled by nobody. */
  | {
      readonly _tag: "Nobody"
      readonly reason: string
      readonly cause: string
      readonly action: string
      readonly frame: string | undefined
      readonly replyTo: string | undefined
    }
  /** Others may know it. */
  | { readonly _tag: "Elsewhere" }

/** Deliveries whose handler has ended, and whose end the store does not have yet. */
const maxUnsettled = 1_000

/** Most that is read at once. */
const maxRead = 256

/** Waits after an operation failed, in milliseconds. */
const firstWaitMillis = 50
const longestWaitMillis = 2_000

/** How long a message waits that was met by a process which does not know its action, in milliseconds. */
const elsewhereMillis = 1_000

/**
 * Takes part in a group until the Scope closes; what is given begins to read, until its own Scope closes. In between deliveries are kept
 * alive and nothing new is begun.
 */
export const make = Effect.fnUntraced(function* (
  plan: Plan
): Effect.fn.Return<Effect.Effect<void, never, Scope.Scope>, TransportError, Scope.Scope> {
  const { durable, find, group, link, metrics, mount, name, partitions, queue, settings, together } = plan
  const consumer = yield* durable.consume({
    queue,
    group,
    consumer: plan.consumer,
    idleMillis: settings.idleMillis,
    windowMillis: settings.windowMillis,
    maxDeadLetters: settings.maxDeadLetters
  })
  const freed = Latch.makeUnsafe(true)
  const source: Source = {
    link,
    name,
    consumer,
    // Only who listens at the same broker hears it.
    publishes: durable.capabilities.publishes && durable.name === Prefixed.rootOf(link.transport).name,
    redelivery: { retry: settings.retry, deliveries: settings.deliveries },
    metrics,
    inHand: new Map(),
    freed: () => {
      together.changed()
      freed.openUnsafe()
    },
    closing: true
  }
  const { inHand } = source
  together.add(inHand)
  const { concurrency, backlog } = mount.options
  const unsettled = Math.ceil(maxUnsettled / partitions)
  const limit = () => Math.min(maxUnsettled, typeof concurrency === "number" ? concurrency : concurrency.limitUnsafe())

  /**
   * How many more may be taken: what could begin at once, and what waits behind a limit of its own action, as many as the backlog may hold.
   * Of several partitions each takes its share, and one at least.
   */
  const room = () => {
    const most = limit()
    if (inHand.size >= most + unsettled) return 0
    let free = most - mount.pool.running
    if (mount.pool.waiting > 0) {
      const { forAction, forSlot } = together.waiting()
      free -= forSlot
      // More would be refused, and delivered again.
      if (forAction > 0) free = Math.min(free, backlog.size - forAction)
    }
    return Math.min(maxRead, Math.ceil(free / partitions))
  }

  const take = (entry: Durable.Entry) => {
    // It was read again after the connection was lost.
    if (inHand.has(entry.entry)) return
    const raw = Codec.parse(entry.frame, durable.capabilities.maxFrameBytes)
    const found: Found =
      raw instanceof Codec.Malformed
        ? {
            _tag: "Nobody",
            reason: raw.reason,
            cause: "it is no message",
            action: "",
            frame: undefined,
            replyTo: undefined
          }
        : find(raw)
    const delivery = new Delivery(source, entry, found._tag === "Handling" ? found.redelivery : undefined)
    if (source.closing) return delivery.again(0, false)
    if (found._tag === "Elsewhere") return delivery.again(elsewhereMillis, false)
    if (found._tag === "Nobody") return delivery.bury(found)
    const { envelope, handling, service } = found
    if (entry.deliveries > delivery.mostDeliveries) {
      return delivery.bury({
        reason: "Crashed",
        cause: `it was delivered ${entry.deliveries - 1} times, and its last consumer went silent before it had ended`,
        action: envelope.action,
        replyTo: envelope.replyTo,
        frame: answerOf(
          envelope.requestId,
          new Reason.RemoteDefect({ id: `delivered ${entry.deliveries - 1} times` }),
          "yes"
        )
      })
    }
    handling.mount.accept(handling.entry, service, envelope, true, delivery)
  }

  const takeAll = (entries: ReadonlyArray<Durable.Entry>) => {
    let claimed = 0
    for (const entry of entries) {
      if (entry.claimed === true) claimed++
      take(entry)
    }
    together.changed()
    if (claimed > 0) metrics.claimed(claimed)
  }

  // One line for each time that it cannot be reached.
  let trouble = ""
  const troubled = (error: TransportError) => {
    if (error.kind === trouble) return Effect.void
    trouble = error.kind
    return Effect.logWarning(`fiberbus: the messages of ${name} cannot be read: ${error.message}`)
  }
  const well = () => {
    if (trouble === "") return
    trouble = ""
    link.log(Effect.logInfo(`fiberbus: the messages of ${name} are read again`))
  }

  const reading = Effect.gen(function* () {
    let wait = firstWaitMillis
    while (true) {
      const max = room()
      if (max <= 0) {
        freed.closeUnsafe()
        if (room() <= 0) yield* freed.await
        continue
      }
      const entries = yield* Effect.catch(consumer.read(max), (error) => Effect.as(troubled(error), undefined))
      if (entries === undefined) {
        yield* Effect.sleep(wait)
        wait = Math.min(wait * 2, longestWaitMillis)
      } else {
        wait = firstWaitMillis
        well()
        takeAll(entries)
      }
    }
  })

  let isFull = false
  const look = ({ dead, waiting }: Durable.Census) => {
    metrics.waiting(waiting)
    const was = isFull
    isFull = dead >= settings.maxDeadLetters
    return isFull && !was
      ? Effect.logWarning(
          `fiberbus: ${name} has ${dead} dead letters, as many as may be: the oldest are dropped from now on`
        )
      : Effect.void
  }

  const claiming: Effect.Effect<void> = Effect.suspend(() => {
    const max = room()
    if (source.closing || max <= 0) return Effect.void
    return Effect.flatMap(consumer.claim(max), ({ entries, lost }) => {
      if (lost > 0) metrics.lost(lost)
      if (entries.length > 0) metrics.claimed(entries.length)
      takeAll(entries)
      const told =
        lost > 0
          ? Effect.logError(`fiberbus: ${lost} messages of ${name} had gone before they were handled`)
          : Effect.void
      return entries.length >= max ? Effect.andThen(told, claiming) : told
    }).pipe(Effect.catch(troubled))
  })

  const renewing = Effect.suspend(() => {
    if (inHand.size === 0) return Effect.void
    return Effect.map(consumer.renew([...inHand.keys()]), (others) => {
      for (const entry of others) inHand.get(entry)?.lost()
    }).pipe(Effect.catch(troubled))
  })

  const soon = Latch.makeUnsafe(false)
  const keeping = Effect.gen(function* () {
    const renewalMillis = settings.idleMillis / 3
    let renewAt = link.wheel.now()
    while (true) {
      if (link.wheel.now() >= renewAt) {
        renewAt = link.wheel.now() + renewalMillis
        yield* renewing
        yield* claiming
      }
      soon.closeUnsafe()
      let nextMillis = renewalMillis
      if (!source.closing) {
        const census = yield* Effect.catch(consumer.promote, (error) => Effect.as(troubled(error), undefined))
        if (census !== undefined) yield* look(census)
        nextMillis = census?.nextMillis ?? firstWaitMillis * 4
      }
      const millis = Math.max(1, Math.min(nextMillis, renewAt - link.wheel.now()))
      yield* Effect.raceFirst(Effect.sleep(millis), soon.await)
    }
  })

  const stopWaking = consumer.onDelayed(() => soon.openUnsafe())
  mount.watchFree(source.freed)
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      Effect.sync(stopWaking),
      Effect.catch(consumer.leave, () => Effect.void)
    )
  )
  yield* Effect.forkScoped(keeping)

  return Effect.gen(function* () {
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        source.closing = false
        soon.openUnsafe()
      }),
      () =>
        Effect.sync(() => {
          source.closing = true
        })
    )
    yield* Effect.forkScoped(reading)
  })
})
