import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema, type Scope } from "effect"
import { Action, CallError, Caller, Handlers, Memory, Service, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { vi } from "vitest"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as Account from "./account.ts"
import * as Resources from "./resources.ts"

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope>) =>
  it.live(name, () => Effect.provide(effect, Logger.layer([])), 60_000)

const transports = {
  memory: Effect.sync(() => {
    const broker = Memory.makeBroker()
    return { here: Memory.make({ broker }), there: Memory.make({ broker }) }
  }),
  redis: Effect.gen(function* () {
    const { url } = yield* RedisServer.make()
    return { here: yield* RedisPubSub.make({ url }), there: yield* RedisPubSub.make({ url }) }
  })
}

describe("many calls at once", () => {
  for (const [name, make] of Object.entries(transports)) {
    test(
      `1,000 over ${name}: each succeeds once`,
      Effect.gen(function* () {
        const { here, there } = yield* make
        const account = yield* Account.make(here, there)
        for (let round = 0; round < 3; round++) yield* account.allSucceed(1_000)
        assert.strictEqual(account.balance([]).runs, 3_000)
      })
    )

    test(
      `10,000 over ${name}: each succeeds once, and memory is back where it was`,
      Effect.gen(function* () {
        const { here, there } = yield* make
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(10_000, { timeout: 20_000 })
        const before = yield* Resources.memoryAtRest
        for (let round = 0; round < 3; round++) yield* account.allSucceed(10_000, { timeout: 20_000 })
        assert.isBelow((yield* Resources.memoryAtRest) - before, 6_000_000)
        assert.strictEqual(account.balance([]).runs, 40_000)
      })
    )
  }

  test(
    "10,000 to 10 slots and a backlog of 1,000: each is answered or refused, and none is lost",
    Effect.gen(function* () {
      const { here, there } = yield* transports.redis
      const account = yield* Account.make(here, there, { concurrency: 10, backlog: 1_000 })
      yield* account.calls(10_000, { millis: 1, timeout: 20_000 })
      const { succeeded, failed } = account.balance(["Busy"])
      assert.isAtLeast(succeeded, 1_010)
      assert.strictEqual(succeeded + failed["Busy"]!, 10_000)
      yield* account.allSucceed(1_000)
    })
  )

  test(
    "100,000 over memory: what is above 50,000 in flight is refused before it is sent, the rest ends by its deadline",
    Effect.gen(function* () {
      class Deaf extends Service.make("deaf", Action.make("call", { payload: { n: Schema.Finite } })) {}
      const transport = Memory.make()
      let heard = 0
      // Takes every request and answers none; what asks who is there is no request.
      yield* transport.subscribe({ _tag: "Channel", channel: "deaf" }, (frame) => {
        if (String(frame).startsWith('{"action"')) heard++
      })
      const provided = Effect.provideService(Transport.Transport, transport)
      const deaf = yield* provided(Caller.make(Deaf))
      const { size } = yield* provided(inbox)
      const round = Effect.gen(function* () {
        heard = 0
        let most = 0
        const reasons: Record<string, number> = {}
        yield* Effect.forEach(
          Array.from({ length: 100_000 }, (_, n) => n),
          (n) =>
            deaf.call({ n }, { timeout: 3_000 }).pipe(
              Effect.catch((error) =>
                Effect.sync(() => {
                  assert.instanceOf(error, CallError.CallError)
                  const key = `${error.reason._tag} ${error.started}`
                  reasons[key] = (reasons[key] ?? 0) + 1
                  most = Math.max(most, size())
                })
              )
            ),
          { concurrency: "unbounded", discard: true }
        )
        assert.deepStrictEqual(reasons, { "TransportError no": 50_000, "DeadlineExceeded unknown": 50_000 })
        assert.deepStrictEqual([most, heard, size()], [50_000, 50_000, 0])
        return yield* Resources.memoryAtRest
      })
      // The first builds what stays.
      const first = yield* round
      assert.isBelow((yield* round) - first, 5_000_000)
    })
  )
})

describe("a wall clock that jumps", () => {
  for (const [name, make] of Object.entries(transports)) {
    test(
      `over ${name}: ends no call early and lets none hang`,
      Effect.gen(function* () {
        const { here, there } = yield* make
        const account = yield* Account.make(here, there)
        yield* account.allSucceed(100)
        const real = Date.now
        // By up to a day, at each look: as if every machine, and every moment, had a time of its own.
        let looks = 0
        const spy = vi
          .spyOn(Date, "now")
          .mockImplementation(() => real() + ((looks++ * 7_919) % 172_801_000) - 86_400_000)
        yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
        yield* account.allSucceed(500, { millis: 20 })
        const late = yield* account.calls(50, { millis: 60_000, timeout: 100 })
        spy.mockRestore()
        for (const outcome of late) assert.isTrue("reason" in outcome && outcome.reason._tag === "DeadlineExceeded")
        yield* account.allSucceed(100)
        account.balance(["DeadlineExceeded"])
      })
    )
  }
})

describe("a handler that calls its own service with every slot taken", () => {
  class Own extends Service.make(
    "own",
    Action.make("again", { payload: { depth: Schema.Finite }, success: Schema.String })
  ) {}

  for (const [backlog, expected] of [
    [0, "Busy"],
    [10, "DeadlineExceeded"]
  ] as const) {
    test(
      `ends in ${expected} with a backlog of ${backlog}, and the slot is free again`,
      Effect.gen(function* () {
        const transport = Memory.make()
        const own = yield* Effect.provideService(Caller.make(Own), Transport.Transport, transport)
        const Live = Handlers.layer(
          Own,
          {
            again: ({ depth }) =>
              depth === 0
                ? Effect.succeed("done")
                : Effect.match(own.again({ depth: depth - 1 }, { timeout: 200 }), {
                    onFailure: (error) => error.reason._tag,
                    onSuccess: (text) => text
                  })
          },
          { concurrency: 1, backlog }
        )
        yield* Layer.build(Layer.provide(Live, Layer.succeed(Transport.Transport, transport)))
        assert.strictEqual(yield* own.again({ depth: 1 }), expected)
        assert.strictEqual(yield* own.again({ depth: 0 }), "done")
      })
    )
  }
})
