import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Queue, Schedule, Schema, type Scope } from "effect"
import { Action, Caller, DeadLetters, type Durable, Handlers, Request, Service, type Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

const Jobs = Service.make(
  "jobs",
  Action.make("run", { payload: { n: Schema.Finite }, success: { n: Schema.Finite } }).pipe(
    Action.annotate(Action.Delivery, "durable")
  ),
  Action.make("other").pipe(Action.annotate(Action.Delivery, "durable"))
)

type Bus = Durable.Durable | Transport.Transport

const bus = Layer.unwrap(
  RedisServer.RedisServer.use(({ url }) => Effect.succeed(RedisStreams.layer({ url, prefix: "t:" })))
)

const quickly = { retry: Schedule.spaced("10 millis"), deliveries: 3, idle: "300 millis" } as const

/** Runs a test on an empty Redis. */
const test = <E>(
  effect: Effect.Effect<void, E, Scope.Scope | Bus | RedisServer.RedisServer>
): Effect.Effect<void, E | Transport.TransportError, RedisServer.RedisServer> =>
  RedisServer.RedisServer.use(({ command }) =>
    Effect.andThen(Effect.orDie(command("FLUSHALL")), Effect.provide(Effect.scoped(effect), Layer.fresh(bus)))
  )

const command = (...words: ReadonlyArray<string>) =>
  RedisServer.RedisServer.use((server) => Effect.orDie(server.command(...(words as [string]))))

/** Waits until something is so. */
const until = <E, R>(ask: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(ask, (is) => (is ? Effect.void : Effect.andThen(Effect.sleep("10 millis"), until(ask))))

const jobs = (run: (n: number) => Effect.Effect<unknown>, options?: Parameters<typeof Handlers.layer>[2]) =>
  Handlers.layer(
    Jobs,
    { run: ({ n }) => Effect.as(run(n), { n }), other: () => Effect.void },
    {
      durable: quickly,
      ...options
    }
  )

it.layer(RedisServer.layer, { excludeTestServices: true, timeout: "20 seconds" })(
  "Over Redis a durable action",
  (it) => {
    it.effect("answers its caller, and leaves nothing but the result behind", () =>
      test(
        Effect.gen(function* () {
          const caller = yield* Caller.make(Jobs)
          const results = yield* Effect.forEach(
            Array.from({ length: 200 }, (_, n) => n),
            (n) => caller.run({ n }),
            { concurrency: 50 }
          )
          assert.deepStrictEqual(
            results.map(({ n }) => n),
            Array.from({ length: 200 }, (_, n) => n)
          )
          assert.strictEqual(yield* command("XLEN", "t:{jobs}.requests"), 0)
          const pending = (yield* command("XPENDING", "t:{jobs}.requests", "jobs")) as [number]
          assert.strictEqual(pending[0], 0)
        }).pipe(Effect.provide(jobs(() => Effect.void)))
      )
    )

    it.effect("goes to one of two processes, each as many as it has free slots for", () =>
      test(
        Effect.gen(function* () {
          const open = yield* Deferred.make<void>()
          const begun = yield* Queue.unbounded<string>()
          const process = (name: string) =>
            Layer.build(
              jobs(() => Effect.andThen(Queue.offer(begun, name), Deferred.await(open)), { concurrency: 2 }).pipe(
                Layer.provide(Layer.fresh(bus))
              )
            )
          yield* process("a")
          yield* process("b")
          const caller = yield* Caller.make(Jobs)
          const calls = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (n) =>
            Effect.forkChild(caller.run({ n }), { startImmediately: true })
          )
          const names = yield* Queue.takeBetween(begun, 4, 4)
          assert.deepStrictEqual([...names].sort(), ["a", "a", "b", "b"])
          const [inHand] = (yield* command("XPENDING", "t:{jobs}.requests", "jobs")) as [number]
          assert.strictEqual(inHand, 4)
          yield* Deferred.succeed(open, undefined)
          yield* Effect.forEach(calls, Fiber.join)
          assert.strictEqual(Queue.sizeUnsafe(begun), 2)
        })
      )
    )

    it.effect("is set aside when its handler goes on failing, and can be replayed", () =>
      test(
        Effect.gen(function* () {
          let fails = true
          let runs = 0
          yield* Layer.build(
            jobs(() =>
              Effect.suspend(() => {
                runs++
                return fails ? Effect.die(new Error("no disk")) : Effect.void
              })
            )
          )
          const caller = yield* Caller.make(Jobs)
          const error = yield* Effect.flip(caller.run({ n: 1 }, { timeout: "15 seconds" }))
          assert.deepStrictEqual([error._tag, error.reason._tag, error.started], ["CallError", "RemoteDefect", "yes"])
          assert.strictEqual(runs, 3)
          const [letter] = yield* DeadLetters.list(Jobs)
          assert.deepStrictEqual([letter!.reason, letter!.deliveries, letter!.action], ["Defect", 3, "run"])
          assert.include(letter!.cause, "no disk")
          assert.include(String(letter!.frame), '"n":1')
          fails = false
          assert.strictEqual(yield* DeadLetters.replayAll(Jobs), 1)
          yield* until(
            Effect.map(caller.run.receipt(letter!.id).poll, Option.isSome).pipe(Effect.orElseSucceed(() => false))
          )
          assert.strictEqual(yield* DeadLetters.size(Jobs), 0)
        })
      )
    )

    it.effect("never sees garbage: it is set aside as it came, at once", () =>
      test(
        Effect.gen(function* () {
          yield* Layer.build(jobs(() => Effect.void))
          const stream = "t:{jobs}.requests"
          yield* command("EVAL", "return redis.call('XADD', KEYS[1], '*', 'frame', '\\255\\254{')", "1", stream)
          yield* command("XADD", stream, "*", "frame", "[1]")
          yield* command("XADD", stream, "*", "nothing", "here")
          yield* command(
            "XADD",
            stream,
            "*",
            "frame",
            `{"action":"run","payload":{"n":"one"},"request_id":"x"}`,
            "id",
            "x"
          )
          yield* command("XADD", stream, "*", "frame", `{"action":"unheard","request_id":"y"}`, "id", "y")
          yield* command("XADD", stream, "*", "frame", `{"action":"run","reply_to":"users"}`)
          yield* until(Effect.map(DeadLetters.size("jobs"), (size) => size === 6))
          const letters = yield* DeadLetters.list("jobs")
          assert.deepStrictEqual(letters.map(({ reason }) => reason).sort(), [
            "InvalidPayload",
            "NotAnObject",
            "NotJson",
            "NotUtf8",
            "ReplyToRefused",
            "UnknownAction"
          ])
          const raw = letters.find(({ reason }) => reason === "NotUtf8")!
          assert.deepStrictEqual(Buffer.from(raw.frame as Uint8Array), Buffer.from([255, 254, 123]))
          const caller = yield* Caller.make(Jobs)
          assert.deepStrictEqual(yield* caller.run({ n: 1 }), { n: 1 })
          const error = yield* Effect.flip(caller.run.receipt("x").poll)
          assert.strictEqual(error.reason._tag, "InvalidPayload")
          assert.strictEqual(yield* DeadLetters.discardAll(Jobs), 6)
        })
      )
    )

    it.effect("says how often it was delivered, and keeps its id", () =>
      test(
        Effect.gen(function* () {
          const seen: Array<readonly [string, number]> = []
          yield* Layer.build(
            jobs(() =>
              Effect.gen(function* () {
                const { deliveries, id } = yield* Request.current
                seen.push([id, deliveries])
                if (deliveries < 3) yield* Effect.die("again")
              })
            )
          )
          const caller = yield* Caller.make(Jobs)
          const receipt = yield* caller.run.enqueue({ n: 1 }, { id: "mine" })
          assert.deepStrictEqual(yield* receipt.await({ timeout: "15 seconds" }), { n: 1 })
          assert.deepStrictEqual(seen, [
            ["mine", 1],
            ["mine", 2],
            ["mine", 3]
          ])
        })
      )
    )

    it.effect("survives that Redis is emptied: the group and the functions are made again", () =>
      test(
        Effect.gen(function* () {
          yield* Layer.build(jobs(() => Effect.void))
          const caller = yield* Caller.make(Jobs)
          yield* caller.run({ n: 1 })
          yield* command("FLUSHALL")
          yield* command("FUNCTION", "FLUSH")
          assert.deepStrictEqual(yield* caller.run({ n: 2 }, { timeout: "15 seconds" }), { n: 2 })
        })
      )
    )

    it.effect("is refused at maxmemory, while what is there is handled and makes room", () =>
      test(
        Effect.gen(function* () {
          const open = yield* Deferred.make<void>()
          const begun = yield* Queue.unbounded<number>()
          yield* Layer.build(jobs((n) => Effect.andThen(Queue.offer(begun, n), Deferred.await(open))))
          const caller = yield* Caller.make(Jobs)
          const receipt = yield* caller.run.enqueue({ n: 1 })
          yield* Queue.take(begun)
          yield* command("CONFIG", "SET", "maxmemory", "1")
          const error = yield* Effect.flip(caller.run.enqueue({ n: 2 }))
          assert.strictEqual(error.started, "no")
          assert.strictEqual(error.reason._tag === "TransportError" && error.reason.kind, "Overloaded")
          yield* Deferred.succeed(open, undefined)
          assert.deepStrictEqual(yield* receipt.await({ timeout: "15 seconds" }), { n: 1 })
          yield* command("CONFIG", "SET", "maxmemory", "0")
          assert.deepStrictEqual(yield* caller.run({ n: 3 }), { n: 3 })
        }).pipe(Effect.ensuring(command("CONFIG", "SET", "maxmemory", "0")))
      )
    )

    it.effect("is served by one that starts at maxmemory, where there was one before", () =>
      test(
        Effect.gen(function* () {
          const caller = yield* Caller.make(Jobs)
          const receipt = yield* caller.run.enqueue({ n: 1 })
          yield* command("XGROUP", "CREATE", "t:{jobs}.requests", "jobs", "0")
          yield* command("CONFIG", "SET", "maxmemory", "1")
          const service = Layer.build(
            Layer.provide(
              jobs(() => Effect.void),
              Layer.fresh(bus)
            )
          )
          // Redis 8.6 takes no new subscriptions then.
          if (String(yield* command("COMMAND", "INFO", "subscribe")).includes("denyoom")) {
            assert.strictEqual((yield* Effect.flip(service)).kind, "Overloaded")
            return
          }
          yield* service
          assert.deepStrictEqual(yield* receipt.await({ timeout: "15 seconds" }), { n: 1 })
        }).pipe(Effect.ensuring(command("CONFIG", "SET", "maxmemory", "0")))
      )
    )

    it.effect("says so where Redis may lose what it is given, and refuses with strict", () =>
      test(
        RedisServer.RedisServer.use(({ url }) =>
          Effect.gen(function* () {
            const error = yield* Effect.flip(Effect.scoped(RedisStreams.make({ url, strict: true })))
            assert.strictEqual(error.kind, "InvalidOptions")
            assert.include(error.detail, "appendonly is off")
          })
        )
      )
    )

    it.effect("is told where its name is taken by a key of another type", () =>
      test(
        Effect.gen(function* () {
          yield* command("SET", "t:{jobs}.requests", "mine")
          const caller = yield* Caller.make(Jobs)
          const error = yield* Effect.flip(caller.run.enqueue({ n: 1 }))
          assert.include(error.reason.message, "WRONGTYPE")
          assert.strictEqual((yield* Effect.flip(Layer.build(jobs(() => Effect.void)))).detail.slice(0, 9), "WRONGTYPE")
        })
      )
    )
  }
)
