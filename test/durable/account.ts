/**
 * The account of durable work: services with two workers each, and one who enqueues while something happens. At the end every message
 * that was confirmed has its answer, was handled at least once, in the order of its key, and nothing is left.
 */
import { assert } from "@effect/vitest"
import { type Duration, Effect, Fiber, Layer, Schedule, Schema, type Scope } from "effect"
import { Action, Caller, DeadLetters, type Durable, Handlers, Request, Service, type Transport } from "fiberbus"
import type { RedisClusterServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import * as Channels from "../../src/wire/Channels.ts"

type Cluster = RedisClusterServer.RedisClusterServer["Service"]

const serviceOf = (name: string, partitions: number) =>
  Service.make(
    name,
    Action.make("book", { payload: { id: Schema.String, key: Schema.String }, success: { id: Schema.String } }).pipe(
      Action.annotate(Action.Delivery, "durable"),
      Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key),
      Action.annotate(Action.Redelivery, { deliveries: 1_000 })
    )
  ).pipe(Service.partitioned(partitions))

/** What came of it. */
export interface Balance {
  readonly sent: number
  readonly handlings: number
}

/** Where it is kept. */
export interface Place {
  /** Each who uses it builds it anew. */
  readonly bus: Layer.Layer<Durable.Durable | Transport.Transport, Transport.TransportError>
  /** Of the services. */
  readonly names: ReadonlyArray<string>
  /** Of each. */
  readonly partitions: number
  /** Asks the Redis that keeps a queue. */
  readonly ask: (queue: string, ...words: readonly [string, ...Array<string>]) => Effect.Effect<unknown, unknown>
  /** How long a worker may be silent. */
  readonly idle: Duration.Input
}

/** @see {@link make} */
export interface Account {
  /** Enqueues at each of them without a pause, until an effect has ended. */
  readonly during: <E, R>(effect: Effect.Effect<void, E, R>) => Effect.Effect<void, E | unknown, R>
  /** Enqueues so many at each and waits for their answers. */
  readonly some: (count: number) => Effect.Effect<void, unknown>
  /** Waits for all answers and balances. */
  readonly balance: Effect.Effect<Balance, unknown, Scope.Scope>
}

/** Waits until something is so. */
export const until = <E, R>(ask: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(ask, (is) => (is ? Effect.void : Effect.andThen(Effect.sleep("10 millis"), until(ask))))

/** A place with one service for each master, the first of the first. */
export const overCluster = (
  cluster: Cluster,
  options?: Partial<RedisStreams.ClusterOptions>
): Effect.Effect<Place, unknown> =>
  Effect.gen(function* () {
    const names: Array<string> = []
    for (const master of yield* cluster.masters) {
      let n = 0
      while ((yield* cluster.ownerOf(`{ledger${n}}`)).id !== master.id) n++
      names.push(`ledger${n}`)
    }
    return { names, partitions: 1, ...at(cluster, options) }
  })

/** A place with one service, which all masters share. */
export const overPartitions = (
  cluster: Cluster,
  partitions: number,
  options?: Partial<RedisStreams.ClusterOptions>
): Place => ({ names: ["ledger"], partitions, ...at(cluster, options) })

const at = (cluster: Cluster, options?: Partial<RedisStreams.ClusterOptions>): Pick<Place, "bus" | "ask" | "idle"> => ({
  bus: RedisStreams.layerCluster({ nodes: cluster.nodes, ...quick, ...options }),
  ask: (queue, ...words) => Effect.flatMap(cluster.ownerOf(queue), ({ server }) => server.command(...words)),
  idle: "1 second"
})

/** So that a test need not wait. */
export const quick = { reconnect: Schedule.spaced("50 millis"), commandTimeout: "1 second" } as const

/** Starts workers and one who enqueues; they end with the Scope. */
export const make = ({
  ask,
  bus: shared,
  idle,
  names,
  partitions
}: Place): Effect.Effect<Account, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const bus = Layer.fresh(shared)
    const runs = new Map<string, number>()
    const firstBegun: Array<string> = []
    const services = names.map((name) => serviceOf(name, partitions))
    const handlers = services.map((service) =>
      Handlers.layer(
        service,
        {
          book: ({ id }) =>
            Effect.gen(function* () {
              assert.strictEqual((yield* Request.current).id, id)
              if (!runs.has(id)) firstBegun.push(id)
              runs.set(id, (runs.get(id) ?? 0) + 1)
              yield* Effect.sleep("2 millis")
              return { id }
            })
        },
        { concurrency: 20, durable: { idle } }
      )
    )
    for (const _ of [1, 2])
      yield* Layer.build(Layer.provide(Layer.mergeAll(...(handlers as [Layer.Layer<never>])), bus))
    const context = yield* Layer.build(bus)
    const callers = yield* Effect.forEach(services, (service) => Caller.make(service)).pipe(
      Effect.provideContext(context)
    )
    const answers = new Map<string, string>()
    const sent: Array<{ readonly id: string; readonly key: string }> = []
    const waiting: Array<Effect.Effect<void, unknown>> = []
    const again = { schedule: Schedule.spaced("20 millis"), times: 5_000 }
    const enqueue = (index: number) =>
      Effect.gen(function* () {
        const id = `m${sent.length}`
        const key = sent.length % 3 === 0 ? `${names[index]}-${sent.length % 24}` : ""
        const message = { id, key }
        sent.push(message)
        const receipt = yield* callers[index]!.book.enqueue(message, { id }).pipe(Effect.retry(again))
        waiting.push(
          Effect.map(receipt.await({ timeout: "1 minute" }), (answer) => {
            answers.set(id, answer.id)
          })
        )
      })
    const settled = Effect.suspend(() =>
      Effect.forEach(waiting.splice(0), (wait) => wait, { concurrency: 100, discard: true })
    )
    return {
      some: (count) =>
        Effect.andThen(
          Effect.forEach(names, (_, index) => Effect.repeat(enqueue(index), { times: count - 1 }), {
            concurrency: "unbounded",
            discard: true
          }),
          settled
        ),
      during: (effect) =>
        Effect.gen(function* () {
          let over = false
          const traffic = yield* Effect.forkChild(
            Effect.forEach(names, (_, index) => Effect.repeat(enqueue(index), { until: () => over }), {
              concurrency: "unbounded",
              discard: true
            })
          )
          yield* effect
          over = true
          yield* Fiber.join(traffic)
        }),
      balance: Effect.gen(function* () {
        yield* settled
        for (const { id } of sent) {
          assert.strictEqual(answers.get(id), id)
          assert.isAtLeast(runs.get(id) ?? 0, 1, id)
        }
        const place = new Map(firstBegun.map((id, index) => [id, index]))
        const last = new Map<string, number>()
        for (const { id, key } of sent) {
          if (key === "") continue
          assert.isAbove(place.get(id)!, last.get(key) ?? -1, `${id} of ${key}`)
          last.set(key, place.get(id)!)
        }
        for (const service of services) {
          const { serviceName } = service
          for (const queue of Channels.partitions("", serviceName, partitions)) {
            // What was handled twice may still be on its way to its second end.
            yield* until(
              Effect.gen(function* () {
                const [pending] = (yield* ask(queue, "XPENDING", `${queue}.requests`, serviceName)) as [number]
                return pending === 0 && (yield* ask(queue, "XLEN", `${queue}.requests`)) === 0
              })
            )
          }
          assert.strictEqual(yield* DeadLetters.size(service).pipe(Effect.provideContext(context)), 0)
        }
        const handlings = Array.from(runs.values()).reduce((sum, one) => sum + one, 0)
        return { sent: sent.length, handlings }
      })
    }
  })
