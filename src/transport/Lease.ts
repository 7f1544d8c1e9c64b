/**
 * Holds a name for one holder at a time among all processes that share a store, so that something runs once in a fleet.
 *
 * A lease lapses by itself when its holder dies. No lease can promise that a holder which was frozen and wakes up late does
 * nothing more: give {@link token} to whatever the work writes to, and let that refuse tokens lower than the last it has seen.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as LeaseMemory from "./internal/leaseMemory.ts"
import { TransportError } from "./Transport.ts"

/** What somebody asks for. */
export interface Ask {
  readonly name: string
  /** Unlike any other holder's. Asking again as the same owner is answered as before. */
  readonly owner: string
  readonly ttlMillis: number
  /** Asks for one occurrence of something that recurs: it is given to one owner only, also after that one has ended. */
  readonly occurrence: Occurrence | undefined
}

/** One occurrence of a schedule. */
export interface Occurrence {
  /** The planned time, in milliseconds since 1970: the same in every process, however its clock goes. */
  readonly atMillis: number
  /** How long the schedule has waited for it. An occurrence within nine tenths of that after the last one is the same. */
  readonly afterMillis: number
}

/** What a store answers: the lease, or why it is not given. `Early`: the occurrence lies more than a minute ahead on the store's clock. */
export type Answer = { readonly _tag: "Held"; readonly token: number } | { readonly _tag: "Taken" | "Over" | "Early" }

/** Keeps leases; each operation ends within a limit of the store's own. {@link layerMemory} does it for one process, `fiberbus/transport/RedisLease` for all that share a Redis. */
export class Lease extends Context.Service<
  Lease,
  {
    /** Each time a lease is given, its token is higher than all before. */
    readonly acquire: (ask: Ask) => Effect.Effect<Answer, TransportError>
    /** Prolongs a lease by its time to live from now on. False when it is somebody else's, or nobody's. */
    readonly renew: (ask: Ask) => Effect.Effect<boolean, TransportError>
    /** Gives it back; nothing happens when it is no longer the owner's. */
    readonly release: (ask: Ask) => Effect.Effect<void, TransportError>
  }
>()("fiberbus/transport/Lease") {}

/** The fencing token of the lease under which the current fiber runs; nothing outside of {@link hold}. */
export const token = Context.Reference<number | undefined>("fiberbus/transport/Lease/token", {
  defaultValue: () => undefined
})

/**
 * The lease was not there for the work, or not for all of it.
 *
 * `Taken`: another holder has it. `Over`: the occurrence was given to another before. `Early`: the clock of this process, by which the
 * occurrence is due, is more than a minute ahead of the store's. `Unreachable`: the store did not answer. In these the work
 * did not begin. `Lost`: it was interrupted, because the lease could not be renewed in time.
 */
export class NotHeld extends Schema.TaggedError<NotHeld>()("NotHeld", {
  name: Schema.String,
  reason: Schema.Literals(["Taken", "Over", "Early", "Unreachable", "Lost"]),
  error: Schema.optionalKey(TransportError)
}) {
  override get message() {
    return `the lease ${this.name}: ${this.reason}${this.error === undefined ? "" : `, ${this.error.message}`}`
  }
}

/** @see {@link hold} */
export interface Options {
  /** For how long a holder that died keeps others out. Default 30 seconds, at least 100 milliseconds, at most a year. */
  readonly ttl?: Duration.Input
  /** How long to go on asking, once a second, while the store does not answer. Default: not at all. */
  readonly patience?: Duration.Input
  readonly occurrence?: Occurrence
}

/** Default time to live, in milliseconds. */
export const defaultTtlMillis = 30_000

// A store must be able to write down when the lease of a holder that died lapses.
const maxTtlMillis = 365 * 86_400_000

/**
 * Runs an effect while holding a lease, and gives it back at the end, however that comes.
 *
 * It is renewed after each third of its time to live. When nine tenths of that have passed since the last renewal that the store
 * confirmed, or when somebody else has it, the effect is interrupted.
 * Errors: {@link NotHeld}, at once when another has the lease.
 */
export const hold =
  (name: string, options: Options = {}) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | NotHeld, R | Lease> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const lease = yield* Lease
        const clock = yield* Clock.Clock
        const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
        const ttlMillis =
          options.ttl === undefined ? defaultTtlMillis : Math.min(maxTtlMillis, Math.max(100, toMillis(options.ttl)))
        const ask: Ask = { name, owner: crypto.randomUUID(), ttlMillis, occurrence: options.occurrence }
        // Of an interrupted asking nobody knows whether it was heard.
        const release = Effect.catch(
          Effect.suspend(() => lease.release(ask)),
          (error) =>
            Effect.logWarning(`fiberbus: the lease ${name} was not given back, it lapses by itself: ${error.message}`)
        )

        let confirmed = now()
        const patience =
          options.patience === undefined
            ? Schedule.recurs(0)
            : Schedule.upTo(Schedule.spaced("1 second"), { duration: options.patience })
        const asking = Effect.suspend(() => {
          confirmed = now()
          return lease.acquire(ask)
        })
        const answer = yield* restore(Effect.retry(asking, patience)).pipe(
          Effect.onInterrupt(() => release),
          Effect.mapError((error) => new NotHeld({ name, reason: "Unreachable", error }))
        )
        if (answer._tag !== "Held") return yield* new NotHeld({ name, reason: answer._tag })

        let trouble: TransportError | undefined
        let isLost = false
        const lost = () => {
          isLost = true
          return Effect.fail(new NotHeld({ name, reason: "Lost", ...(trouble && { error: trouble }) }))
        }
        const renewal = Effect.suspend(() => {
          const sent = now()
          return Effect.flatMap(lease.renew(ask), (renewed) => (renewed ? Effect.succeed(sent) : lost()))
        })
        const keeping = Effect.gen(function* () {
          while (true) {
            yield* Effect.sleep(ttlMillis / 3)
            trouble = undefined
            confirmed = yield* renewal.pipe(
              Effect.tapErrorTag("TransportError", (error) => Effect.sync(() => (trouble = error))),
              Effect.retry({
                while: ({ _tag }) => _tag === "TransportError",
                schedule: Schedule.spaced(ttlMillis / 10)
              }),
              Effect.catchTag("TransportError", lost),
              Effect.timeoutOrElse({ duration: Math.max(0, confirmed + ttlMillis * 0.9 - now()), orElse: lost })
            )
          }
        })
        return yield* restore(Effect.raceFirst(Effect.provideService(effect, token, answer.token), keeping)).pipe(
          // One that is lost is not ours to give back.
          Effect.ensuring(Effect.suspend(() => (isLost ? Effect.void : release)))
        )
      })
    )

const toMillis = (duration: Duration.Input) => Duration.toMillis(Duration.fromInputUnsafe(duration))

/**
 * Keeps leases in the memory of this process: whoever is provided with this very Layer shares them.
 *
 * Units: its time is that of the `Clock` that was there when the Layer was built.
 */
export const layerMemory: Layer.Layer<Lease> = Layer.effect(
  Lease,
  Effect.map(Clock.Clock, (clock) => {
    const store = LeaseMemory.make(() => clock.currentTimeMillisUnsafe())
    return {
      acquire: (ask) => Effect.sync(() => store.acquire(ask)),
      renew: (ask) => Effect.sync(() => store.renew(ask)),
      release: (ask) => Effect.sync(() => store.release(ask))
    }
  })
)
