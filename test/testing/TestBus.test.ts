import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Schema, Stream } from "effect"
import { Action, Broadcast, type CallError, Caller, Handlers, Listener, Service, Topic, Transport } from "fiberbus"
import { TestBus } from "fiberbus/testing"
import { CardDeclined, Order, OrderPlaced, Orders, Payments, Warehouse } from "../../examples/shop/contract.ts"
import { OrdersLive } from "../../examples/shop/orders.ts"
import { Story } from "../../examples/shop/story.ts"
import { ann, UserNotFound, Users, UsersLive } from "../users.ts"

const reasonOf = (error: unknown) => (error as CallError.CallError).reason

describe("TestBus", () => {
  it.layer(TestBus.layer(UsersLive))("records", (it) => {
    it.effect("requests with their outcomes, as their caller got them", () =>
      Effect.gen(function* () {
        yield* TestBus.clear
        const users = yield* Caller.make(Users)
        yield* users.get_user({ id: "1" }, { headers: { tenant: "acme" } })
        yield* Effect.flip(users.get_user({ id: "2" }))
        const died = yield* Effect.flip(users.get_user({ id: "bug" }))
        yield* users.get_user.send({ id: "3" })
        const sent = yield* TestBus.sent(Users, "get_user")
        assert.deepStrictEqual(
          sent.map(({ payload }) => payload.id),
          ["1", "2", "bug", "3"]
        )
        assert.deepStrictEqual(sent[0], {
          payload: { id: "1" },
          headers: Object.assign(Object.create(null), { tenant: "acme" }),
          attempt: 1,
          awaited: true,
          outcome: Exit.succeed(ann)
        })
        assert.deepStrictEqual(sent[1]!.outcome, Exit.fail(new UserNotFound({ id: "2" })))
        assert.deepStrictEqual(sent[2]!.outcome, Exit.fail(died))
        assert.isFalse(sent[3]!.awaited)
        assert.isUndefined(sent[3]!.outcome)
        assert.deepStrictEqual(yield* TestBus.sent(Users, "ping"), [])
      })
    )

    it.effect("what cannot be read as frames only", () =>
      Effect.gen(function* () {
        yield* TestBus.clear
        yield* Transport.publish(Users.serviceName, JSON.stringify({ action: "get_user", payload: { id: 3 } }))
        yield* Transport.publish(Users.serviceName, "no JSON")
        assert.deepStrictEqual(yield* TestBus.sent(Users, "get_user"), [])
        const frames = yield* TestBus.frames
        assert.deepStrictEqual(
          frames.map(({ channel, receivers }) => [channel, receivers]),
          [
            [Users.serviceName, 1],
            [Users.serviceName, 1]
          ]
        )
      })
    )
  })

  it.effect("records durable requests with the answers that came, each message once", () =>
    Effect.gen(function* () {
      const Jobs = Service.make(
        "jobs",
        Action.make("run", { payload: { id: Schema.String }, success: Schema.String, error: CardDeclined }).pipe(
          Action.annotate(Action.Delivery, "durable")
        ),
        Action.make("look", { success: Schema.String })
      )
      const JobsLive = Handlers.layer(Jobs, {
        run: ({ id }) =>
          id === "bad" ? Effect.fail(new CardDeclined({ message: "no" })) : Effect.succeed(`ran ${id}`),
        look: () => Effect.succeed("idle")
      })
      yield* Effect.gen(function* () {
        const jobs = yield* Caller.make(Jobs)
        assert.strictEqual(yield* jobs.run({ id: "1" }, { headers: { tenant: "acme" } }), "ran 1")
        const declined = yield* Effect.flip(jobs.run({ id: "bad" }))
        for (let i = 0; i < 2; i++) yield* jobs.run.enqueue({ id: "2" }, { id: "job-2", delay: "1 minute" })
        yield* jobs.look()
        // Delayed, it is nothing that goes on.
        yield* TestBus.settled
        const sent = yield* TestBus.sent(Jobs, "run")
        assert.deepStrictEqual(
          sent.map(({ awaited, headers, outcome, payload }) => [payload, { ...headers }, awaited, outcome]),
          [
            [{ id: "1" }, { tenant: "acme" }, true, Exit.succeed("ran 1")],
            [{ id: "bad" }, {}, true, Exit.fail(declined)],
            [{ id: "2" }, {}, false, undefined]
          ]
        )
        assert.lengthOf(yield* TestBus.sent(Jobs, "look"), 1)
        assert.deepStrictEqual(
          (yield* TestBus.frames).filter(({ channel }) => channel === "{jobs}").map(({ receivers }) => receivers),
          [1, 1, 1]
        )
        yield* TestBus.clear
        assert.deepStrictEqual(yield* TestBus.sent(Jobs, "run"), [])
      }).pipe(Effect.provide(TestBus.layer(JobsLive)))
    })
  )

  it.effect("records no more than it is told to, and says so", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      for (let i = 0; i < 5; i++) yield* users.ping()
      assert.lengthOf(yield* TestBus.frames, 4)
      const { leftOut } = yield* Effect.flip(TestBus.sent(Users, "ping"))
      assert.strictEqual(leftOut, 6)
      yield* TestBus.clear
      yield* users.ping()
      assert.lengthOf(yield* TestBus.sent(Users, "ping"), 1)
    }).pipe(Effect.provide(TestBus.layer(UsersLive, { record: 4 })))
  )

  it.effect("records published messages, of a topic and of a pattern", () =>
    Effect.gen(function* () {
      const Sensors = Topic.make("sensors.*", { at: Schema.Date })
      const kitchen = Topic.at(Sensors, "sensors.kitchen")
      yield* Broadcast.publish(kitchen, { at: new Date(1) })
      yield* Broadcast.publish(Topic.at(Sensors, "sensors.cellar"), { at: new Date(2) })
      yield* Transport.publish("sensors.attic", "{}")
      assert.deepStrictEqual(yield* TestBus.published(kitchen), [{ at: new Date(1) }])
      assert.deepStrictEqual(yield* TestBus.published(Sensors), [{ at: new Date(1) }, { at: new Date(2) }])
    }).pipe(Effect.provide(TestBus.layer(Layer.empty, { prefix: "test:" })))
  )

  const shop = Layer.mergeAll(
    OrdersLive,
    TestBus.stub(Payments, {
      charge: ({ card, euros }) =>
        card === "4242"
          ? Effect.succeed({ receipt: `for ${euros} euros` })
          : Effect.fail(new CardDeclined({ message: "not today" }))
    }),
    TestBus.stub(Warehouse, {})
  ).pipe(Layer.provide(Story.layer))

  it.layer(TestBus.layer(shop))("stubs", (it) => {
    it.effect("answer for the services that are not under test", () =>
      Effect.gen(function* () {
        const orders = yield* Caller.make(Orders)
        const order = yield* orders.place({ customer: "Ada", article: "mug", count: 2, card: "4242" })
        assert.deepStrictEqual(yield* TestBus.published(OrderPlaced), [order])
        const [charge] = yield* TestBus.sent(Payments, "charge")
        assert.deepStrictEqual(charge!.payload, { card: "4242", euros: 24 })
        assert.deepStrictEqual(charge!.outcome, Exit.succeed({ receipt: "for 24 euros" }))
        const declined = yield* Effect.flip(orders.place({ customer: "Bob", article: "mug", count: 1, card: "0" }))
        assert.instanceOf(declined, CardDeclined)
      })
    )

    it.effect("name the action that was left out", () =>
      Effect.gen(function* () {
        const warehouse = yield* Caller.make(Warehouse)
        const order = new Order({ id: "o", customer: "Ada", article: "mug", count: 1 })
        const error = yield* Effect.flip(warehouse.pack({ order }))
        assert.strictEqual(reasonOf(error)._tag, "RemoteError")
        assert.include(error.message, "warehouse.pack has no stub")
      })
    )
  })

  it.effect("a stub answers streams, too", () =>
    Effect.gen(function* () {
      class Feeds extends Service.make(
        "feeds",
        Action.make("numbers", { items: Schema.Finite }),
        Action.make("words", { items: Schema.String })
      ) {}
      yield* Effect.gen(function* () {
        const feeds = yield* Caller.make(Feeds)
        assert.deepStrictEqual(yield* Stream.runCollect(feeds.numbers()), [1, 2])
        const error = yield* Effect.flip(Stream.runCollect(feeds.words()))
        assert.include(error.message, "feeds.words has no stub")
      }).pipe(Effect.provide(TestBus.layer(TestBus.stub(Feeds, { numbers: () => Stream.make(1, 2) }))))
    })
  )

  class Slow extends Service.make(
    "slow",
    Action.make("sleep", { payload: { millis: Schema.Finite } }).pipe(Action.annotate(Action.Timeout, "1 minute")),
    Action.make("count", { payload: { to: Schema.Finite }, progress: Schema.Finite }).pipe(
      Action.annotate(Action.Timeout, "1 hour")
    )
  ) {}
  const Ticks = Topic.make("ticks", { at: Schema.Finite })
  const SlowLive = Handlers.layer(Slow, {
    sleep: ({ millis }) => Effect.sleep(millis),
    count: Effect.fnUntraced(function* ({ to }, { progress }) {
      for (let i = 1; i <= to; i++) {
        yield* Effect.sleep("1 second")
        yield* progress(i)
      }
    })
  })

  it.layer(TestBus.layer(SlowLive))("settled", (it) => {
    it.effect("waits for what was sent to nobody in particular", () =>
      Effect.gen(function* () {
        let heard = 0
        yield* Effect.gen(function* () {
          yield* Effect.forkChild(Broadcast.publish(Ticks, { at: 1 }))
          yield* TestBus.settled
          assert.strictEqual(heard, 1)
        }).pipe(
          Effect.provide(
            TestBus.layer(
              Listener.layer(Ticks, () =>
                Effect.sync(() => heard++).pipe(Effect.delay(0), Effect.andThen(Effect.yieldNow))
              )
            )
          )
        )
      })
    )

    it.effect("waits for what a handler gets from outside of the clock", () =>
      Effect.gen(function* () {
        const outside = Effect.callback<void>((resume) => void setTimeout(() => resume(Effect.void), 5))
        const live = Handlers.layer(Slow, { sleep: () => outside, count: () => Effect.void })
        yield* Effect.gen(function* () {
          const slow = yield* Caller.make(Slow)
          yield* slow.sleep.send({ millis: 0 })
          yield* Effect.forkChild(slow.sleep({ millis: 0 }))
          yield* TestBus.settled
          const [oneWay, call] = yield* TestBus.sent(Slow, "sleep")
          assert.isFalse(oneWay!.awaited)
          assert.deepStrictEqual(call!.outcome, Exit.void)
        }).pipe(Effect.provide(TestBus.layer(live)))
      })
    )

    it.effect("gives up where messages go round without end", () =>
      Effect.gen(function* () {
        const Pong = Topic.make("pongs", { at: Schema.Finite })
        const answering = Layer.merge(
          Listener.layer(Ticks, (message) => Broadcast.publish(Pong, message)),
          Listener.layer(Pong, (message) => Broadcast.publish(Ticks, message))
        )
        yield* Effect.gen(function* () {
          yield* Broadcast.publish(Ticks, { at: 1 })
          const { message } = yield* Effect.flip(TestBus.settled)
          assert.include(message, "something moves after 25000 turns of the event loop")
        }).pipe(Effect.provide(TestBus.layer(answering)))
      })
    )

    it.effect("names what goes on when it cannot", () =>
      Effect.gen(function* () {
        const slow = yield* Caller.make(Slow)
        const call = yield* Effect.forkChild(slow.sleep({ millis: 5_000 }))
        const { message } = yield* Effect.flip(TestBus.settled)
        assert.include(message, "the handler of slow.sleep runs")
        assert.include(message, "a call of slow.sleep waits for its answer")
        assert.include(message, "TestBus.elapse moves it")
        yield* Fiber.interrupt(call)
        yield* TestBus.settled
      })
    )

    it.effect("takes a call that its caller gave up for over", () =>
      Effect.gen(function* () {
        // Nobody serves it by this name, and somebody listens: no answer, and no NoResponders either.
        const transport = yield* Transport.Transport
        yield* transport.subscribe({ _tag: "Channel", channel: "void" }, () => {})
        const silent = yield* Caller.dynamic("void")
        const call = yield* Effect.forkChild(Effect.flip(silent.call("go", {}, { timeout: "2 seconds" })))
        assert.include((yield* Effect.flip(TestBus.settled)).message, "a call of void.go waits")
        yield* TestBus.elapse("3 seconds")
        assert.strictEqual(reasonOf(yield* Fiber.join(call))._tag, "DeadlineExceeded")
        yield* TestBus.settled
      })
    )
  })

  it.layer(TestBus.layer(SlowLive))("elapse", (it) => {
    it.effect("lets frames travel while the clock moves", () =>
      Effect.gen(function* () {
        const slow = yield* Caller.make(Slow)
        const start = yield* Clock.currentTimeMillis
        const steps: Array<number> = []
        const call = yield* slow.count.stream({ to: 600 }).pipe(
          Caller.onProgress((step) =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              // Each arrives in the second in which it was sent.
              assert.strictEqual(now - start, step * 1_000)
              steps.push(step)
            })
          ),
          Effect.forkChild
        )
        yield* TestBus.elapse("10 seconds")
        assert.lengthOf(steps, 10)
        yield* TestBus.elapse("10 minutes")
        yield* Fiber.join(call)
        assert.lengthOf(steps, 600)
        assert.strictEqual(yield* Clock.currentTimeMillis, start + 610_000)
      })
    )

    it.effect("ends calls at their deadline, not before", () =>
      Effect.gen(function* () {
        const slow = yield* Caller.make(Slow)
        const call = yield* Effect.forkChild(Effect.exit(slow.sleep({ millis: 120_000 })))
        yield* TestBus.elapse("59 seconds")
        assert.isUndefined(call.pollUnsafe())
        yield* TestBus.elapse("2 seconds")
        assert.isTrue(Exit.isFailure(yield* Fiber.join(call)))
        yield* TestBus.settled
      })
    )
  })

  it("works without a test runner, on a clock of its own", async () => {
    const program = Effect.gen(function* () {
      const slow = yield* Caller.make(Slow)
      const call = yield* Effect.forkChild(slow.sleep({ millis: 30_000 }))
      yield* TestBus.elapse("30 seconds")
      yield* Fiber.join(call)
      return yield* Clock.currentTimeMillis
    })
    assert.strictEqual(
      await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(TestBus.layer(SlowLive)))),
      30_000
    )
  })

  it.effect("builds its services anew for each bus", () =>
    Effect.gen(function* () {
      const ask = Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        return yield* users.get_user({ id: "1" })
      })
      const one = yield* ask.pipe(Effect.scoped, Effect.provide(TestBus.layer(UsersLive)))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* ask, one)
        assert.deepStrictEqual(yield* ask.pipe(Effect.scoped, Effect.provide(TestBus.layer(UsersLive))), one)
      }).pipe(Effect.provide(TestBus.layer(UsersLive)))
    })
  )
})
