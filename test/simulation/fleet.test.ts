import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Random, Schedule } from "effect"
import { Background, Lease, Transport } from "fiberbus"
import { Simulation } from "fiberbus/testing"
import { protocol } from "./protocol.ts"

const everyMillis = 2_000
const ttlMillis = 1_000

/** A store that takes its time, and does not always answer; what it was asked may have been done all the same. */
const Store = Layer.effect(
  Lease.Lease,
  Effect.map(Lease.Lease, (lease) => {
    const unreachable = new Transport.TransportError({
      kind: "Timeout",
      operation: "ask the store",
      detail: "no answer",
      hint: "",
      sent: "unknown"
    })
    const slowly = <A>(asked: Effect.Effect<A, Transport.TransportError>) =>
      Effect.gen(function* () {
        yield* Effect.sleep(yield* Random.nextIntBetween(1, 20))
        const answer = yield* asked
        yield* Effect.sleep(yield* Random.nextIntBetween(1, 20))
        return (yield* Random.next) < 0.1 ? yield* unreachable : answer
      })
    return {
      acquire: (ask) => slowly(lease.acquire(ask)),
      renew: (ask) => slowly(lease.renew(ask)),
      release: (ask) => slowly(lease.release(ask))
    }
  })
).pipe(Layer.provide(Lease.layerMemory))

/** Works for longer than the lease lasts, so that it must be renewed. */
const work = Effect.acquireUseRelease(
  Effect.flatMap(Lease.token, (token) => Simulation.note("begins", token)),
  () => Effect.sleep(1_400),
  () => Simulation.note("ends")
)
const Nightly = Background.layer("nightly", Schedule.fixed(everyMillis), work, { oncePerFleet: { ttl: ttlMillis } })

/** Of a run that dies with its process nobody hears the end. */
const oneAtATime = Simulation.invariant(
  "a task of the fleet runs once at a time, and once for an occurrence",
  ({ calm }) => {
    let running: string | undefined
    let token = 0
    let last = Number.NEGATIVE_INFINITY
    let runs = 0
    let restful = 0
    return {
      along: (event) => {
        if (event._tag === "ProcessCrashed" && event.process === running) running = undefined
        if (event._tag !== "Noted") return undefined
        if (event.name === "ends") {
          running = undefined
          return undefined
        }
        const before = running
        running = event.process
        runs++
        if (event.at >= calm()) restful++
        if (before !== undefined) return `${event.process} begins a run while one goes on in ${before}`
        if (Number(event.value) <= token) return `the token ${event.value} is given after ${token}`
        token = Number(event.value)
        // Late by what the store takes and by a minute of patience at most: what counts is that there are not more than there may be.
        if (runs > 2 + event.at / (everyMillis * 0.9)) return `${runs} runs in ${event.at} ms`
        last = event.at
        return undefined
      },
      end: () => (restful >= 4 ? undefined : `${restful} runs at rest, the last one at ${last}`)
    }
  }
)

const resting = Effect.andThen(Simulation.calm, Effect.sleep(6 * everyMillis)).pipe(
  Simulation.call("rest", { within: "2 minutes" })
)

protocol(
  "tasks that run once per fleet",
  {
    services: { one: Nightly, two: Nightly, three: Nightly },
    clients: { night: resting },
    outside: Store,
    seeds: 80,
    faults: { crashes: 5, stops: 3 },
    invariants: [...Simulation.Promises.all, oneAtATime]
  },
  ["Success"]
)

describe("tasks of which each process makes its own runs", () => {
  it.live("break what holds for those of a fleet", () =>
    Effect.gen(function* () {
      const Each = Background.layer("nightly", Schedule.fixed(everyMillis), work)
      const found = yield* Effect.flip(
        Simulation.check({
          services: { one: Each, two: Each },
          clients: { night: resting },
          seeds: 1,
          faults: {},
          invariants: [oneAtATime]
        })
      )
      assert.include(found.message, "begins a run while one goes on in one")
    })
  )
})
