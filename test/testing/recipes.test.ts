/** The recipes of docs/testing.md, as they stand there. */
import { deepEqual, doesNotReject, equal, match, notEqual } from "node:assert/strict"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Layer, Logger, Ref, Schema, SchemaTransformation } from "effect"
import { Action, Caller, Handlers, Listener, Memory, Service, Topic } from "fiberbus"
import {
  Laws,
  RedisClusterServer,
  RedisSentinelServer,
  RedisServer,
  TestBus,
  TopicLaws,
  TransportConformance
} from "fiberbus/testing"
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

  it.layer(TestBus.layer(UsersLive))("chosen laws", (it) => {
    Laws.service(it, Users, {
      laws: [Laws.neverDies, Laws.fitsContract, Laws.isolated],
      actions: ["get_user"],
      isolated: ["get_user"],
      runs: 200,
      size: 30,
      tune: { "keeps requests apart": { runs: 20 } },
      payloads: { get_user: Schema.Struct({ id: Schema.Literals(["1", "nobody"]) }) }
    })
  })

  it("a broken law without a runner", async () => {
    const forgotten = () => Effect.die("forgotten")
    const ForgetfulUsers = Handlers.layer(Users, {
      get_user: forgotten,
      import_users: forgotten,
      ping: () => Effect.void,
      wait: forgotten
    }).pipe(Layer.provide(Logger.layer([])))
    const [neverDies] = Laws.all(Users, { laws: [Laws.neverDies], actions: ["get_user"], runs: 200 })
    const report = await Effect.runPromise(
      Effect.flip(neverDies!.check).pipe(Effect.provide(TestBus.layer(ForgetfulUsers)))
    )
    equal(report._tag, "LawBroken")
    match(report.message, /get_user breaks the law "never dies"/)
  })

  class Point {
    readonly x: number
    constructor(x: number) {
      this.x = x
    }
  }

  it.effect("generators in the contract", () =>
    Effect.gen(function* () {
      const UserId = Schema.String.check(
        Schema.makeFilter(() => true, { arbitraryConstraint: { patterns: [{ source: "^u[1-9]$", flags: "" }] } })
      )
      const isPoint = (value: unknown): value is Point => value instanceof Point
      const PointSchema = Schema.declare(isPoint, {
        toCodecArbitrary: () =>
          Schema.link<Point>()(
            Schema.Int,
            SchemaTransformation.transform({ decode: (x) => new Point(x), encode: ({ x }) => x })
          )
      })
      for (const id of yield* Arbitrary.sampleEffect(Arbitrary.schema(UserId), { count: 20 })) match(id, /^u[1-9]$/)
      const points = yield* Arbitrary.sampleEffect(Arbitrary.schema(PointSchema), { count: 20 })
      equal(points.length, 20)
      for (const point of points) assert.instanceOf(point, Point)
      // And so in a law: what is asked for are ids of that kind.
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      const Find = Service.make("find", Action.make("find", { payload: { id: UserId } }))
      const FindLive = Handlers.layer(Find, { find: ({ id }) => Ref.update(seen, (ids) => [...ids, id]) })
      for (const { check } of Laws.all(Find, { laws: [Laws.neverDies], system: TestBus.layer(FindLive) })) yield* check
      for (const id of yield* Ref.get(seen)) match(id, /^u[1-9]$/)
      equal((yield* Ref.get(seen)).length, 100)
    })
  )

  const sameUser = Laws.make(Users, "get_user", "gives the user that was asked for", ({ answer, payload }) =>
    answer._tag === "Success" && answer.value.id !== payload.id ? "it gives another one" : undefined
  )

  it.layer(TestBus.layer(UsersLive))("with a law of one's own", (it) => {
    Laws.service(it, Users, { laws: [...Laws.standard, sameUser] })
  })

  it("a law of one's own without a runner", async () => {
    const [own] = Laws.all(Users, { laws: [sameUser], system: TestBus.layer(UsersLive) })
    await doesNotReject(Effect.runPromise(own!.check))
  })

  const UserEvents = Topic.make("user_events", { type: Schema.String, userId: Schema.String })
  const OnUserEvents = Listener.layer(UserEvents, () => Effect.sleep("1 second"))

  it.layer(TestBus.layer(OnUserEvents))("listeners", (it) => {
    Laws.topic(it, UserEvents)
  })

  it("listeners without a runner", async () => {
    for (const { check } of TopicLaws.all(UserEvents, { system: TestBus.layer(OnUserEvents) }))
      await Effect.runPromise(check)
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
    "a real Sentinel",
    () => {
      const isRelieved = Effect.gen(function* () {
        const redis = yield* RedisSentinelServer.make()
        const old = yield* redis.master
        yield* old.kill
        const successor = yield* redis.promoted(old)
        notEqual(successor.port, old.port)
      })
      return Effect.scoped(isRelieved)
    },
    90_000
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

  const two = Effect.sync(() => {
    const broker = Memory.makeBroker()
    return { here: Memory.make({ broker }), there: Memory.make({ broker }) }
  })
  it.live("the conformance of a transport", () =>
    Effect.gen(function* () {
      const report = yield* TransportConformance.run(TransportConformance.cases, two)
      assert.strictEqual(report.failed, 0, TransportConformance.format(report))
    })
  )
})
