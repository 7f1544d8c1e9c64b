import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Queue, Schema, Stream } from "effect"
import { Action, CallError, Caller, Handlers, Service, Transport } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"

const Numbers = Service.make("numbers", Action.make("count", { payload: { to: Schema.Finite }, items: Schema.Finite }))

/** A service and a caller on connections of their own; the caller's go through a proxy. */
const twoProcesses = Effect.gen(function* () {
  const redis = yield* RedisServer.RedisServer
  const proxy = yield* Faults.proxy({ host: "127.0.0.1", port: Number(new URL(redis.url).port) })
  const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
  const layer = Handlers.layer(Numbers, {
    count: ({ to }) =>
      Stream.range(1, to).pipe(
        Stream.rechunk(7),
        Stream.onExit((exit) => Queue.offer(over, exit))
      )
  })
  yield* Layer.build(layer.pipe(Layer.provide(Layer.fresh(RedisPubSub.layer({ url: redis.url })))))
  const transport = yield* RedisPubSub.make({ url: proxy.through(redis.url) })
  const numbers = yield* Effect.provideContext(Caller.make(Numbers), Context.make(Transport.Transport, transport))
  return { numbers, over: Queue.take(over), proxy }
})

// Real time: it is about sockets.
describe("a stream of items through Redis", () => {
  it.live("is complete and in order", () =>
    Effect.gen(function* () {
      const { numbers, over } = yield* twoProcesses
      let last = 0
      yield* Stream.runForEach(numbers.count({ to: 50_000 }), (n) =>
        Effect.sync(() => {
          assert.strictEqual(n, last + 1)
          last = n
        })
      )
      assert.strictEqual(last, 50_000)
      assert.isTrue(Exit.isSuccess(yield* over))
    }).pipe(Effect.scoped, Effect.provide(RedisServer.layerOptions({})))
  )

  it.live("ends with ConnectionLost when the link is cut in its middle, and its producer stops", () =>
    Effect.gen(function* () {
      const { numbers, over, proxy } = yield* twoProcesses
      const middle = yield* Deferred.make<void>()
      const cut = yield* Deferred.make<void>()
      let last = 0
      const stream = numbers.count({ to: 1_000_000_000 }, { timeout: "1 second" }).pipe(
        Stream.runForEach((n) => {
          assert.strictEqual(n, last + 1)
          last = n
          return n === 5_000 ? Effect.andThen(Deferred.succeed(middle, undefined), Deferred.await(cut)) : Effect.void
        }),
        Effect.flip
      )
      const [error] = yield* Effect.all(
        [
          stream,
          Deferred.await(middle).pipe(Effect.andThen(proxy.cut), Effect.andThen(Deferred.succeed(cut, undefined)))
        ],
        { concurrency: "unbounded" }
      )
      assert.instanceOf(error, CallError.CallError)
      assert.deepInclude(error, { started: "yes" })
      assert.strictEqual(error.reason._tag, "ConnectionLost")
      assert.isTrue(Exit.hasInterrupts(yield* over))
      // The next one is whole again.
      assert.lengthOf(yield* Stream.runCollect(numbers.count({ to: 1_000 })), 1_000)
    }).pipe(Effect.scoped, Effect.provide(RedisServer.layerOptions({})))
  )
})
