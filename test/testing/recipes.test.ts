/** The recipes of docs/testing.md, as they stand there. */
import { deepEqual, notEqual } from "node:assert/strict"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Caller, Memory } from "fiberbus"
import { Laws, RedisClusterServer, RedisServer, TestBus, TransportConformance } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { CardDeclined, Orders, Payments } from "../../examples/shop/contract.ts"
import { OrdersLive } from "../../examples/shop/orders.ts"
import { Story } from "../../examples/shop/story.ts"
import { ann, Users, UsersLive } from "../users.ts"

describe("recipes", () => {
  it("stand in the docs as they are run here", () => {
    const withoutIndent = (text: string) => text.replaceAll(/^ +/gm, "").replaceAll(/\s+/g, " ")
    const docs = readFileSync(resolve(import.meta.dirname, "../../docs/testing.md"), "utf8")
    const here = withoutIndent(readFileSync(import.meta.filename, "utf8"))
    const blocks = Array.from(docs.matchAll(/```ts\n([\s\S]*?)```/g), ([, code]) => code!)
    assert.isAbove(blocks.length, 6)
    for (const block of blocks) assert.include(here, withoutIndent(block).trim())
  })

  it.layer(TestBus.layer(UsersLive))("users", (it) => {
    it.effect("are found by their id", () =>
      Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        assert.deepStrictEqual(yield* users.get_user({ id: "1" }), ann)
      })
    )
  })

  it("a system without a runner", async () => {
    const found = Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      deepEqual(yield* users.get_user({ id: "1" }), ann)
    })
    await Effect.runPromise(found.pipe(Effect.scoped, Effect.provide(TestBus.layer(UsersLive))))
  })

  it.effect("a stub", () => {
    const PaymentsStub = TestBus.stub(Payments, {
      charge: ({ euros }) =>
        euros > 100 ? Effect.fail(new CardDeclined({ message: "too much" })) : Effect.succeed({ receipt: "r-1" })
    })
    const Shop = TestBus.layer(Layer.merge(OrdersLive, PaymentsStub).pipe(Layer.provide(Story.layer)))
    return Effect.gen(function* () {
      const orders = yield* Caller.make(Orders)
      const error = yield* Effect.flip(orders.place({ customer: "Ada", article: "mug", count: 9, card: "4242" }))
      assert.instanceOf(error, CardDeclined)
    }).pipe(Effect.provide(Shop))
  })

  it.layer(TestBus.layer(UsersLive))("laws", (it) => {
    Laws.service(it, Users)
  })

  it("laws without a runner", async () => {
    for (const { check } of Laws.all(Users, { system: TestBus.layer(UsersLive) })) await Effect.runPromise(check)
  })

  it.effect("a law of one's own", () => {
    const sameUser = Laws.make(Users, "get_user", "gives the user that was asked for", ({ answer, payload }) =>
      answer._tag === "Success" && answer.value.id !== payload.id ? "it gives another one" : undefined
    )
    const checks = Laws.all(Users, { laws: [sameUser] })
    assert.lengthOf(checks, 1)
    return Effect.provide(checks[0]!.check, TestBus.layer(UsersLive))
  })

  const OverRedis = UsersLive.pipe(
    Layer.provideMerge(
      Layer.unwrap(RedisServer.RedisServer.use(({ url }) => Effect.succeed(RedisPubSub.layer({ url }))))
    ),
    Layer.provide(RedisServer.layer)
  )

  it.live("a real Redis", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      assert.deepStrictEqual(yield* users.get_user({ id: "1" }), ann)
    }).pipe(Effect.provide(OverRedis))
  )

  it.live(
    "a real Cluster",
    () => {
      const failsOver = Effect.gen(function* () {
        const cluster = yield* RedisClusterServer.make({ replicas: 1 })
        const owner = yield* cluster.ownerOf("user_service")
        yield* owner.server.kill
        const successor = yield* cluster.promoted(owner)
        notEqual(successor.id, owner.id)
      })
      return Effect.scoped(failsOver)
    },
    90_000
  )

  const two = Layer.sync(TransportConformance.TwoTransports, () => {
    const broker = Memory.makeBroker()
    return { here: Memory.make({ broker }), there: Memory.make({ broker }) }
  })
  for (const { applies, name, run } of TransportConformance.cases) {
    if (applies(Memory.make().capabilities)) it.effect(name, () => Effect.provide(run, two))
  }
})
