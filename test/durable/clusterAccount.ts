/**
 * The account of durable work over a Redis Cluster: a queue at each master, two workers each, and one who enqueues while something
 * happens. At the end every message that was confirmed has its answer, was handled at least once, and nothing is left.
 */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule, Schema, type Scope } from "effect"
import { Action, Caller, DeadLetters, Handlers, Request, Service } from "fiberbus"
import type { RedisClusterServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

type Cluster = RedisClusterServer.RedisClusterServer["Service"]

const serviceOf = (name: string) =>
  Service.make(
    name,
    Action.make("book", { payload: { id: Schema.String, key: Schema.String }, success: { id: Schema.String } }).pipe(
      Action.annotate(Action.Delivery, "durable"),
      Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key),
      Action.annotate(Action.Redelivery, { deliveries: 1_000 })
    )
  )

/** What came of it. */
export interface Balance {
  readonly sent: number
  readonly handlings: number
}

/** @see {@link make} */
export interface Account {
  /** One service for each master, the first of the first. */
  readonly names: ReadonlyArray<string>
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

/** Starts workers and one who enqueues; they end with the Scope. */
export const make = (
  cluster: Cluster,
  options?: Partial<RedisStreams.ClusterOptions>
): Effect.Effect<Account, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const names: Array<string> = []
    for (const master of yield* cluster.masters) {
      let n = 0
      while ((yield* cluster.ownerOf(`{ledger${n}}`)).id !== master.id) n++
      names.push(`ledger${n}`)
    }
    const bus = Layer.fresh(
      RedisStreams.layerCluster({
        nodes: cluster.nodes,
        reconnect: Schedule.spaced("50 millis"),
        commandTimeout: "1 second",
        ...options
      })
    )
    const runs = new Map<string, number>()
    const firstBegun: Array<string> = []
    const handlers = names.map((name) =>
      Handlers.layer(
        serviceOf(name),
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
        { concurrency: 20, durable: { idle: "1 second" } }
      )
    )
    for (const _ of [1, 2])
      yield* Layer.build(Layer.provide(Layer.mergeAll(...(handlers as [Layer.Layer<never>])), bus))
    const context = yield* Layer.build(bus)
    const callers = yield* Effect.forEach(names, (name) => Caller.make(serviceOf(name))).pipe(
      Effect.provideContext(context)
    )
    const answers = new Map<string, string>()
    const sent: Array<{ readonly id: string; readonly key: string }> = []
    const waiting: Array<Effect.Effect<void, unknown>> = []
    const again = { schedule: Schedule.spaced("20 millis"), times: 5_000 }
    const enqueue = (index: number) =>
      Effect.gen(function* () {
        const id = `m${sent.length}`
        const key = sent.length % 3 === 0 ? `${names[index]}-${sent.length % 6}` : ""
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
      names,
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
        for (const name of names) {
          const ask = (...words: [string, ...Array<string>]) =>
            Effect.flatMap(cluster.ownerOf(`{${name}}`), ({ server }) => server.command(...words))
          // What was handled twice may still be on its way to its second end.
          yield* until(
            Effect.gen(function* () {
              const [pending] = (yield* ask("XPENDING", `{${name}}.requests`, name)) as [number]
              return pending === 0 && (yield* ask("XLEN", `{${name}}.requests`)) === 0
            })
          )
          assert.strictEqual(yield* DeadLetters.size(name).pipe(Effect.provideContext(context)), 0)
        }
        const handlings = Array.from(runs.values()).reduce((sum, one) => sum + one, 0)
        return { sent: sent.length, handlings }
      })
    }
  })
