import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Schedule, type Scope } from "effect"
import { CallError, Caller, Handlers, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Child from "./child.ts"
import { Endless, Worker } from "./worker.ts"

// Real time: it is about processes that are killed, frozen and blocked. Everything waits for a signal; no duration is asserted.

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | RedisServer.RedisServer>) =>
  it.live(name, () => Effect.provide(effect, [RedisServer.layerOptions({}), Logger.layer([])]), 60_000)

/** A caller in this process, and services in others. */
const setUp = Effect.fnUntraced(function* (services: number) {
  const { url } = yield* RedisServer.RedisServer
  const transport = yield* RedisPubSub.make({ url })
  const children = yield* Effect.all(Array.from({ length: services }, () => Child.make("serve", url)))
  for (const child of children) yield* child.said("ready")
  const worker = yield* Effect.provideService(Caller.make(Worker), Transport.Transport, transport)
  // It knows them from now on, and sends each request to one of them.
  while ((yield* worker.block.gather({ millis: 0, pid: 0 })).length < services) yield* Effect.sleep(5)
  return { url, transport, children, worker }
})

const reasonOf = (outcome: unknown) => (outcome instanceof CallError.CallError ? outcome.reason._tag : "success")

describe("a service's process", () => {
  test(
    "is killed (-9) while it handles: its caller learns at once, so does the next, and a new process answers",
    Effect.gen(function* () {
      const { url, children, worker } = yield* setUp(1)
      const [child] = children
      const call = yield* Effect.forkChild(
        Effect.flip(worker.work({ id: "a", millis: 60_000 }, { timeout: "1 minute" }))
      )
      yield* child!.said("ran a")
      yield* child!.signal("SIGKILL")
      const error = yield* Fiber.join(call)
      assert.deepStrictEqual([reasonOf(error), (error as CallError.CallError).started], ["ConnectionLost", "unknown"])
      const next = yield* Effect.flip(worker.work({ id: "b", millis: 0 }))
      assert.deepStrictEqual([reasonOf(next), (next as CallError.CallError).started], ["NoResponders", "no"])
      const another = yield* Child.make("serve", url)
      yield* another.said("ready")
      assert.strictEqual((yield* worker.work({ id: "c", millis: 0 })).pid, another.pid)
    })
  )

  test(
    "is frozen (SIGSTOP) beyond deadlines: what waited there is not begun, and it goes on when it is thawed",
    Effect.gen(function* () {
      const { children, worker } = yield* setUp(1)
      const [child] = children
      // Two slots: a third request waits.
      const running = yield* Effect.forkChild(
        Effect.all(
          ["a", "b"].map((id) => Effect.exit(worker.work({ id, millis: 400 }, { timeout: 10_000 }))),
          { concurrency: 2 }
        )
      )
      yield* child!.said("ran a")
      yield* child!.said("ran b")
      const late = yield* Effect.forkChild(Effect.flip(worker.work({ id: "late", millis: 0 }, { timeout: 300 })), {
        startImmediately: true
      })
      // Behind it on the same way, so that it has arrived as well.
      yield* worker.block({ millis: 0, pid: 0 }, { timeout: 10 }).pipe(Effect.exit)
      yield* child!.signal("SIGSTOP")
      assert.strictEqual(reasonOf(yield* Fiber.join(late)), "DeadlineExceeded")
      yield* child!.signal("SIGCONT")
      yield* Fiber.join(running)
      assert.strictEqual((yield* worker.work({ id: "after", millis: 0 })).pid, child!.pid)
      // What it says comes another way than what it answers.
      yield* child!.said("ran after")
      assert.deepStrictEqual(child!.lines.slice(1), ["ran a", "ran b", "ran after"])
    })
  )

  test(
    "stands still in a handler (a blocked event loop): its callers end in time, and another replica answers",
    Effect.gen(function* () {
      const { children, worker } = yield* setUp(2)
      const [blocked, other] = children
      // Both are asked; the other one answers at once.
      yield* worker.block.gather({ millis: 10_000, pid: blocked!.pid }, { timeout: 200 })
      // Its callers' calls end by their deadline, until its silence has lasted for a while: then the other one has them all.
      for (let answered = 0, i = 0; answered < 20; i++) {
        const outcome = yield* Effect.exit(worker.work({ id: `meanwhile ${i}`, millis: 0 }, { timeout: 200 }))
        answered = outcome._tag === "Success" && outcome.value.pid === other!.pid ? answered + 1 : 0
      }
      yield* other!.signal("SIGKILL")
      const error = yield* Effect.flip(worker.work({ id: "alone", millis: 0 }, { timeout: 300 }))
      assert.strictEqual(reasonOf(error), "DeadlineExceeded")
      // It was not dead.
      const answer = yield* worker
        .work({ id: "again", millis: 0 }, { timeout: 500 })
        .pipe(Effect.retry(Schedule.spaced("20 millis")))
      assert.strictEqual(answer.pid, blocked!.pid)
    })
  )

  test(
    "is one of two replicas: one of them runs each request",
    Effect.gen(function* () {
      const { children, worker } = yield* setUp(2)
      const ids = Array.from({ length: 50 }, (_, i) => `r${i}`)
      const answers = yield* Effect.forEach(ids, (id) => worker.work({ id, millis: 1 }))
      for (const [index, { pid }] of answers.entries()) {
        yield* children.find((child) => child.pid === pid)!.said(`ran ${ids[index]}`)
      }
      assert.lengthOf(
        children.flatMap(({ lines }) => lines.filter((line) => line.startsWith("ran "))),
        50
      )
    })
  )
})

describe("a caller's process", () => {
  test(
    "is killed (-9) in the middle of a stream: the handler is stopped by the first step that reaches nobody",
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const stopped = yield* Deferred.make<void>()
      const Live = Handlers.layer(Endless, {
        count: (_, { progress }) =>
          Effect.forever(Effect.andThen(progress({ n: 1 }), Effect.sleep("5 millis"))).pipe(
            Effect.onInterrupt(() => Deferred.succeed(stopped, undefined))
          )
      })
      yield* Layer.build(Layer.provide(Live, RedisPubSub.layer({ url })))
      const caller = yield* Child.make("call", url)
      yield* caller.said("step")
      assert.isFalse(yield* Deferred.isDone(stopped))
      yield* caller.signal("SIGKILL")
      yield* Deferred.await(stopped)
    })
  )
})
