import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Queue, Schedule, Schema, Scope } from "effect"
import { Action, CallError, Caller, Handlers, Memory, Retry, Service, type Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

class Echo extends Service.make(
  "echo_service",
  Action.make("echo", { payload: { id: Schema.String, millis: Schema.Finite }, success: { id: Schema.String } })
) {}

const restarts = 10
const loops = 20

/**
 * Restarts a service ten times while loops call it without a pause, and keeps the account of every call. Each process, as it were,
 * has a transport of its own; each round sees answers, then the service's absence, before it goes on.
 */
const roll = Effect.fnUntraced(function* <E>(
  transport: Layer.Layer<Transport.Transport, E>,
  options?: { readonly retry: boolean }
) {
  const executions = new Map<string, number>()
  const outcomes = new Map<string, Array<{ readonly id: string } | CallError.CallError>>()
  const answers = yield* Queue.sliding<void>(1)
  const absences = yield* Queue.sliding<void>(1)
  // More slots than loops in one round, fewer in the next: so some wait when it ends.
  const serve = (round: number) =>
    Handlers.layer(
      Echo,
      {
        echo: ({ id, millis }) =>
          Effect.suspend(() => {
            executions.set(id, (executions.get(id) ?? 0) + 1)
            return Effect.as(millis === 0 ? Effect.void : Effect.sleep(millis), { id })
          })
      },
      { concurrency: round % 2 === 0 ? 50 : 4 }
    ).pipe(Layer.provide(transport))

  const watch: <A, E2>(call: Effect.Effect<A, E2>) => Effect.Effect<A, E2> = (call) =>
    Effect.onExit(call, (exit) => Queue.offer(Exit.isSuccess(exit) ? answers : absences, undefined))
  const retry = Retry.policy({
    schedule: Schedule.spaced("5 millis"),
    budget: { ratio: 1, reserve: 1_000_000 }
  })
  const caller = yield* Caller.make(Echo, { policies: options?.retry === true ? [retry, watch] : [watch] }).pipe(
    Effect.provideContext(yield* Layer.build(transport))
  )

  let isOver = false
  let count = 0
  const call = Effect.suspend(() => {
    const id = `call ${count++}`
    const ended: Array<{ readonly id: string } | CallError.CallError> = []
    outcomes.set(id, ended)
    return caller.echo({ id, millis: count % 6 }, { timeout: "30 seconds" }).pipe(
      Effect.catch((error) => Effect.as(Effect.sleep(2), error)),
      Effect.tap((outcome) => Effect.sync(() => ended.push(outcome)))
    )
  })
  const loop = Effect.whileLoop({ while: () => !isOver, body: () => call, step: () => {} })
  const traffic = yield* Effect.forkChild(
    Effect.all(
      Array.from({ length: loops }, () => loop),
      { concurrency: "unbounded", discard: true }
    )
  )
  for (let round = 0; round <= restarts; round++) {
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(serve(round), scope)
    yield* Queue.clear(answers)
    for (let seen = 0; seen < 20; seen++) yield* Queue.take(answers)
    if (round === restarts) {
      isOver = true
      yield* Fiber.join(traffic)
    }
    yield* Queue.clear(absences)
    yield* Scope.close(scope, Exit.void)
    if (round < restarts) yield* Queue.take(absences)
  }

  const reasons: Record<string, number> = {}
  let answered = 0
  for (const [id, ended] of outcomes) {
    assert.lengthOf(ended, 1, id)
    const [outcome] = ended
    const runs = executions.get(id) ?? 0
    if (outcome instanceof CallError.CallError) {
      assert.strictEqual(outcome.started, "no", outcome.message)
      assert.strictEqual(runs, 0, outcome.message)
      reasons[outcome.reason._tag] = (reasons[outcome.reason._tag] ?? 0) + 1
    } else {
      assert.deepStrictEqual(outcome, { id })
      assert.strictEqual(runs, 1, id)
      answered++
    }
  }
  assert.strictEqual(executions.size, answered)
  return { sent: outcomes.size, answered, reasons }
})

// Real time and real turns of the event loop: it is about what is on its way when a service ends.
describe("A service that is restarted ten times under load", () => {
  const over = {
    memory: Effect.sync(() => Layer.fresh(Memory.layerOptions({ broker: Memory.makeBroker() }))),
    Redis: Effect.map(RedisServer.RedisServer, ({ url }) => Layer.fresh(RedisPubSub.layer({ url })))
  }

  it.layer(RedisServer.layerOptions({}), { excludeTestServices: true, timeout: 60_000 })((it) => {
    for (const [name, makeTransport] of Object.entries(over)) {
      it.effect(
        `loses calls over ${name} with outcomes only that are safe to retry`,
        () =>
          Effect.gen(function* () {
            const { answered, reasons, sent } = yield* roll<Transport.TransportError>(yield* makeTransport)
            assert.isAbove(answered, restarts * 20)
            assert.isAbove(sent, answered)
            for (const reason of Object.keys(reasons)) assert.include(["NoResponders", "Draining"], reason)
          }),
        60_000
      )

      it.effect(
        `loses none over ${name} with the retry policy`,
        () =>
          Effect.gen(function* () {
            const { answered, reasons, sent } = yield* roll<Transport.TransportError>(yield* makeTransport, {
              retry: true
            })
            assert.deepStrictEqual(reasons, {})
            assert.strictEqual(answered, sent)
          }),
        60_000
      )
    }
  })
})
