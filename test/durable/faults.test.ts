import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Queue, Schedule, Schema, Scope } from "effect"
import { Action, Caller, DeadLetters, Handlers, Service } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import * as Account from "../resilience/durable-account.ts"
import * as Place from "../resilience/durable-place.ts"

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { id: Schema.String }, success: { id: Schema.String } }).pipe(
    Action.annotate(Action.Delivery, "durable"),
    Action.annotate(Action.Timeout, "15 seconds")
  )
)

/** A caller and a service, each behind a proxy of its own, and what the service's handler did. */
const scene = Effect.gen(function* () {
  const server = yield* RedisServer.RedisServer
  yield* Effect.orDie(server.command("FLUSHALL"))
  const near = yield* Faults.proxy(server)
  const far = yield* Faults.proxy(server)
  const runs = new Map<string, number>()
  const begun = yield* Queue.unbounded<string>()
  const over = (proxy: Faults.Proxy) =>
    RedisStreams.layer({ url: proxy.url, reconnect: Schedule.spaced("20 millis"), commandTimeout: "1 second" })
  const gates = new Map<string, Deferred.Deferred<void>>()
  const worker = (name: string, idle = 20_000, at: Faults.Proxy = far) =>
    Handlers.layer(
      Jobs,
      {
        run: ({ id }) =>
          Effect.gen(function* () {
            runs.set(id, (runs.get(id) ?? 0) + 1)
            yield* Queue.offer(begun, `${name} ${id}`)
            const gate = gates.get(`${name} ${id}`)
            if (gate !== undefined) yield* Deferred.await(gate)
            return { id }
          })
      },
      { durable: { idle }, grace: "1 second" }
    ).pipe(Layer.provide(Layer.fresh(over(at))))
  const caller = yield* Caller.make(Jobs).pipe(Effect.provideContext(yield* Layer.build(Layer.fresh(over(near)))))
  const call = (id: string) => caller.run({ id })
  const count = (...words: [string, ...Array<string>]) => Effect.orDie(server.command(...words))
  const isIdle = Effect.gen(function* () {
    const [pending] = (yield* count("XPENDING", "{jobs}.requests", "jobs")) as [number]
    return pending === 0 && (yield* count("XLEN", "{jobs}.requests")) === 0
  })
  return { near, far, runs, begun, gates, worker, caller, call, isIdle, server, over }
})

const until = <E, R>(ask: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(ask, (is) => (is ? Effect.void : Effect.andThen(Effect.sleep("10 millis"), until(ask))))

it.layer(RedisServer.layer, { excludeTestServices: true, timeout: "30 seconds" })("Durable work", (it) => {
  for (const when of ["unsent", "forwarded", "answered"] as const) {
    it.effect(`is appended once when the connection is cut at the append, ${when}`, () =>
      Effect.gen(function* () {
        const { call, isIdle, near, runs, worker } = yield* scene
        yield* Layer.build(worker("a"))
        yield* call("warm")
        const cut = yield* near.cutAt({ command: "FCALL", when })
        const calling = yield* Effect.forkChild(call("1"), { startImmediately: true })
        yield* cut
        assert.deepStrictEqual(yield* Fiber.join(calling), { id: "1" })
        yield* until(isIdle)
        assert.deepStrictEqual(
          [...runs],
          [
            ["warm", 1],
            ["1", 1]
          ]
        )
      }).pipe(Effect.scoped)
    )

    it.effect(`is neither lost nor run twice when the connection is cut at a read, ${when}`, () =>
      Effect.gen(function* () {
        const { call, far, isIdle, runs, worker } = yield* scene
        yield* Layer.build(worker("a"))
        yield* call("warm")
        // A read waits there; the next one begins with its answer.
        const cut = yield* far.cutAt({ command: "XREADGROUP", when })
        const calls = yield* Effect.forkChild(Effect.forEach(["1", "2", "3"], call), { startImmediately: true })
        yield* cut
        yield* Fiber.join(calls)
        yield* until(isIdle)
        assert.deepStrictEqual([...runs.values()], [1, 1, 1, 1])
      }).pipe(Effect.scoped)
    )

    it.effect(`is answered the same and not run again, wherever its settlement is cut, ${when}`, () =>
      Effect.gen(function* () {
        const { call, far, isIdle, runs, worker } = yield* scene
        yield* Layer.build(worker("a"))
        yield* call("warm")
        // Settlements are among what is called now and then.
        for (let round = 1; round <= 4; round++) {
          const cut = yield* far.cutAt({ command: "FCALL", count: round, when })
          const ids = Array.from({ length: 6 }, (_, n) => `${round}-${n}`)
          const calls = yield* Effect.forkChild(Effect.forEach(ids, call), { startImmediately: true })
          yield* cut
          assert.deepStrictEqual(
            (yield* Fiber.join(calls)).map(({ id }) => id),
            ids
          )
        }
        yield* until(isIdle)
        assert.deepStrictEqual([...new Set(runs.values())], [1])
      }).pipe(Effect.scoped)
    )
  }

  it.effect("is answered although the link that answers come over was lost", () =>
    Effect.gen(function* () {
      const { begun, call, gates, near, runs, worker } = yield* scene
      const gate = yield* Deferred.make<void>()
      gates.set("a 1", gate)
      yield* Layer.build(worker("a"))
      const calling = yield* Effect.forkChild(call("1"), { startImmediately: true })
      yield* Queue.take(begun)
      yield* near.refuse
      yield* near.cut
      yield* Deferred.succeed(gate, undefined)
      yield* near.accept
      assert.deepStrictEqual(yield* Fiber.join(calling), { id: "1" })
      assert.strictEqual(runs.get("1"), 1)
    }).pipe(Effect.scoped)
  )

  it.effect("is taken over from one that has gone silent, whose late end changes nothing", () =>
    Effect.gen(function* () {
      const { begun, call, far, gates, isIdle, over, runs, server, worker } = yield* scene
      void over
      const gate = yield* Deferred.make<void>()
      gates.set("a 1", gate)
      yield* Layer.build(worker("a", 300))
      const calling = yield* Effect.forkChild(call("1"), { startImmediately: true })
      assert.strictEqual(yield* Queue.take(begun), "a 1")
      // It goes on believing in its link, and nobody hears of it.
      yield* far.blackhole
      const other = yield* Faults.proxy(server)
      yield* Layer.build(worker("b", 300, other))
      assert.strictEqual(yield* Queue.take(begun), "b 1")
      assert.deepStrictEqual(yield* Fiber.join(calling), { id: "1" })
      yield* far.heal
      yield* far.cut
      yield* Deferred.succeed(gate, undefined)
      yield* until(isIdle)
      assert.strictEqual(runs.get("1"), 2)
      assert.deepStrictEqual(yield* call("2"), { id: "2" })
    }).pipe(Effect.scoped)
  )

  it.effect("stays with one that takes longer than the idle time and goes on", () =>
    Effect.gen(function* () {
      const { begun, call, gates, runs, server, worker } = yield* scene
      const gate = yield* Deferred.make<void>()
      gates.set("a 1", gate)
      yield* Layer.build(worker("a", 200))
      const calling = yield* Effect.forkChild(call("1"), { startImmediately: true })
      assert.strictEqual(yield* Queue.take(begun), "a 1")
      yield* Layer.build(worker("b", 200))
      // Renewed again and again: its idle time is young although its delivery is old.
      let renewals = 0
      let before = 0
      yield* until(
        Effect.gen(function* () {
          const [open] = (yield* Effect.orDie(
            server.command("XPENDING", "{jobs}.requests", "jobs", "-", "+", "1")
          )) as [[string, string, number, number]]
          if (open[2] < before) renewals++
          before = open[2]
          return renewals >= 5
        })
      )
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(calling), { id: "1" })
      assert.strictEqual(runs.get("1"), 1)
    }).pipe(Effect.scoped)
  )

  it.effect("is given back at a shutdown, and taken up at once", () =>
    Effect.gen(function* () {
      const { begun, call, gates, isIdle, runs, server, worker } = yield* scene
      gates.set("a 1", yield* Deferred.make<void>())
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(worker("a"), scope)
      const calling = yield* Effect.forkChild(call("1"), { startImmediately: true })
      assert.strictEqual(yield* Queue.take(begun), "a 1")
      const consumers = () => Effect.orDie(server.command("XINFO", "CONSUMERS", "{jobs}.requests", "jobs"))
      assert.lengthOf((yield* consumers()) as Array<unknown>, 1)
      yield* Scope.close(scope, Exit.void)
      // It left the group, as nothing of it is open.
      assert.lengthOf((yield* consumers()) as Array<unknown>, 0)
      yield* Layer.build(worker("b"))
      assert.strictEqual(yield* Queue.take(begun), "b 1")
      assert.deepStrictEqual(yield* Fiber.join(calling), { id: "1" })
      yield* until(isIdle)
      assert.strictEqual(runs.get("1"), 2)
    }).pipe(Effect.scoped)
  )

  it.effect("goes on behind an entry that was trimmed while it was pending", () =>
    Effect.gen(function* () {
      const { begun, call, caller, gates, server, worker } = yield* scene
      const gate = yield* Deferred.make<void>()
      gates.set("a 1", gate)
      yield* Layer.build(worker("a", 200))
      yield* caller.run.enqueue({ id: "1" })
      assert.strictEqual(yield* Queue.take(begun), "a 1")
      yield* Effect.orDie(server.command("XTRIM", "{jobs}.requests", "MAXLEN", "0"))
      assert.deepStrictEqual(yield* call("2"), { id: "2" })
      yield* Deferred.succeed(gate, undefined)
      const pending = Effect.map(
        Effect.orDie(server.command("XPENDING", "{jobs}.requests", "jobs")),
        (reply) => (reply as [number])[0]
      )
      yield* until(Effect.map(pending, (count) => count === 0))
      assert.strictEqual(yield* DeadLetters.size(Jobs).pipe(Effect.provide(RedisStreams.layer({ url: server.url }))), 0)
    }).pipe(Effect.scoped)
  )
})

const accounts = <Fault extends string>(name: string, plan: Account.Plan<Fault>) =>
  it.live(
    name,
    () =>
      Effect.gen(function* () {
        const {
          begun: _,
          handlings: __,
          partitions,
          repeats: ___,
          ...account
        } = yield* Effect.provide(Account.run(plan), Logger.layer([]))
        assert.deepStrictEqual(account, {
          sent: plan.messages,
          answered: plan.messages,
          unhandled: [],
          answeredWrong: [],
          effects: [],
          disordered: [],
          misplaced: [],
          faults: plan.faults,
          left: 0,
          inHand: 0,
          dead: 0
        })
        for (const { messages, queue } of partitions) assert.isAbove(messages, 0, queue)
      }),
    { timeout: 120_000 }
  )

accounts(
  "Durable work is handled at least once and answered the same while its processes are killed, frozen, and Redis restarts",
  { place: Place.overRedis(), messages: 200, workers: 2, seed: 5, faults: { kill: 4, freeze: 1, restart: 1 } }
)

accounts(
  "Durable work in partitions is handled at least once and answered the same while its processes are killed, frozen, and masters are replaced",
  {
    place: Place.overCluster(6),
    messages: 60,
    workers: 2,
    seed: 5,
    faults: { kill: 2, freeze: 1, failover: 1, killMaster: 1, moveSlot: 1 }
  }
)
