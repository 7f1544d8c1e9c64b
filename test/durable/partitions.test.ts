import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Layer, Logger, Metric, Schema } from "effect"
import { Action, Caller, DeadLetters, Durable, Handlers, Memory, Service } from "fiberbus"
import { RedisClusterServer, TestBus } from "fiberbus/testing"
import * as KeySlot from "../../src/transport/KeySlot.ts"
import * as Channels from "../../src/wire/Channels.ts"
import * as Account from "./account.ts"

const book = Action.make("book", {
  payload: { id: Schema.String, key: Schema.String },
  success: { id: Schema.String }
}).pipe(
  Action.annotate(Action.Delivery, "durable"),
  Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key)
)

const whole = Service.make("ledger", book)

/** Its name is used as a class's is. */
class Ledger extends Service.make("ledger", book).pipe(Service.partitioned(8)) {}

const queues = Channels.partitions("", "ledger", 8)

/** A process of its own over a broker and a store that others share. */
const makeFleet = Effect.map(Clock.Clock, (clock) => {
  const broker = Memory.makeBroker()
  const store = Durable.makeStore(() => clock.currentTimeMillisUnsafe())
  return {
    join: Layer.fresh(
      Layer.merge(
        Memory.layerOptions({ broker }),
        Layer.sync(Durable.Durable, () => Durable.onStore(store))
      )
    ),
    store: Durable.onStore(store)
  }
})

type Book = (sent: { readonly id: string; readonly key: string }) => Effect.Effect<{ readonly id: string }>

const serve = (book: Book, options?: Parameters<typeof Handlers.layer>[2], service: typeof whole = Ledger) =>
  Handlers.layer(service, { book }, options)

const answer: Book = ({ id }) => Effect.succeed({ id })

describe("a partitioned service", () => {
  it("is the same contract in all but the number, and so is what extends it", () => {
    assert.strictEqual(whole.partitions, 1)
    assert.strictEqual(Ledger.partitions, 8)
    assert.strictEqual(Ledger.serviceName, "ledger")
    assert.strictEqual(Ledger.actions, Service.partitioned(Ledger, 3).actions)
    assert.strictEqual(Ledger.pipe(Service.partitioned(2), Service.partitioned(4)).partitions, 4)
    assert.isTrue(Service.isService(Ledger))
    assert.strictEqual(whole.partitions, 1)
    for (const count of [0, -1, 1.5, 129, Number.NaN]) {
      assert.throws(() => whole.pipe(Service.partitioned(count)), Service.InvalidPartitions, "1 to 128 partitions")
    }
  })

  const Named = Schema.Struct({
    // Digits, slashes, dots and braces are what could make two names one.
    name: Schema.String.check(Schema.isPattern(/^[ab01/.:#{][ab01/.:#{}]{0,5}$/)),
    count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 }))
  })
  const apart = (a: typeof Named.Type, b: typeof Named.Type) => {
    const [first, second] = [a, b].map(({ count, name }) => Channels.partitions("p", name, count))
    assert.strictEqual(first![0], Channels.queue("p", a.name))
    assert.strictEqual(new Set(first).size, a.count)
    if (a.name !== b.name) assert.isFalse(first!.some((queue) => second!.includes(queue)))
    // All keys of one are in one slot.
    for (const queue of first!) assert.strictEqual(KeySlot.of(`${queue}.requests`), KeySlot.of(queue))
  }

  it.prop("has a queue for each partition, which no other service has", [Named, Named], ([a, b]) => apart(a, b))

  it.prop("has nearly as many at each of some masters, whatever their number", [Named], ([{ name: any }]) => {
    // A closing brace ends what Redis hashes.
    const name = any.replaceAll("}", "0")
    for (const masters of [1, 3, 6, 12]) {
      const at = new Array<number>(masters).fill(0)
      for (const queue of Channels.partitions("", name, 4 * masters))
        at[Math.floor((KeySlot.of(queue) * masters) / 16_384)]!++
      for (const count of at) assert.closeTo(count, 4, 1)
    }
    // More of them are those that were there, and others.
    assert.deepStrictEqual(Channels.partitions("", name, 12).slice(0, 5), [...Channels.partitions("", name, 5)])
    // Also the most have a place each.
    assert.strictEqual(new Set(Channels.partitions("", name, 128).map(KeySlot.of)).size, 128)
  })

  it("has names that others can find", () => {
    apart({ name: "a", count: 4 }, { name: "a/1", count: 4 })
    assert.deepStrictEqual(
      [...Channels.partitions("shop.", "ledger", 4)],
      ["shop.{ledger}", "shop.{ledger/1:121}#", "shop.{ledger/2:61}#", "shop.{ledger/3:46}#"]
    )
    const owners = new Set(
      Channels.partitions("", "payments", 12).map((queue) => Math.floor(KeySlot.of(queue) / 5_462))
    )
    assert.strictEqual(owners.size, 3)
  })

  it("has all messages of a key in one, and spreads the others", () => {
    const counts = new Array<number>(8).fill(0)
    for (let i = 0; i < 8_000; i++) {
      counts[Channels.partitionOf(`id-${i}`, "", 8)]!++
      assert.strictEqual(Channels.partitionOf(`id-${i}`, "ann", 8), Channels.partitionOf("other", "ann", 8))
      assert.strictEqual(Channels.partitionOf(`id-${i}`, "", 1), 0)
    }
    for (const count of counts) assert.closeTo(count, 1_000, 300)
    // As whoever writes in another language would have it.
    assert.deepStrictEqual(
      [Channels.partitionOf("123456789", "", 65_536), Channels.partitionOf("", "ö", 8)],
      [0x31c3, 2]
    )
  })
})

describe("durable work in partitions", () => {
  it.live("is handled once by any process, in the order of its key, and its receipt is found by id", () =>
    Effect.gen(function* () {
      const { join, store } = yield* makeFleet
      const handled: Array<string> = []
      const note: Book = ({ id, key }) =>
        Effect.yieldNow.pipe(Effect.andThen(Effect.sync(() => handled.push(`${key} ${id}`))), Effect.as({ id }))
      for (const _ of [1, 2]) yield* Layer.build(Layer.provide(serve(note, { concurrency: 5 }), join))
      const caller = yield* Effect.provide(Caller.make(Ledger), join)
      const other = yield* Effect.provide(Caller.make(Ledger), join)
      const sent = Array.from({ length: 300 }, (_, i) => ({ id: `m${i}`, key: i % 3 === 0 ? "" : `k${i % 20}` }))
      yield* Effect.forEach(sent, (one) => caller.book.enqueue(one, { id: one.id }))
      // Once more, as by one who does not know.
      yield* Effect.forEach(sent.slice(0, 50), (one) => other.book.enqueue(one, { id: one.id }))
      for (const { id } of sent) assert.deepStrictEqual(yield* other.book.receipt(id).await(), { id })
      assert.deepStrictEqual(yield* caller.book({ id: "called", key: "k1" }), { id: "called" })
      assert.strictEqual(handled.length, 301)
      for (const key of new Set(sent.map(({ key }) => key)).difference(new Set([""]))) {
        assert.deepStrictEqual(
          handled.filter((line) => line.startsWith(`${key} m`)),
          sent.filter((one) => one.key === key).map(({ id }) => `${key} ${id}`)
        )
      }
      assert.strictEqual((yield* Effect.exit(other.book.receipt("nobody").poll))._tag, "Failure")
      // Each was where its key, or its id, says.
      const known = (queue: string, id: string) =>
        Effect.callback<string>((resume) => store.state(queue, id, (_, state) => resume(Effect.succeed(state!._tag))))
      for (const { id, key } of sent.slice(0, 40)) {
        const where = yield* Effect.forEach(queues, (queue) => known(queue, id))
        assert.strictEqual(where.indexOf("Done"), Channels.partitionOf(id, key, 8))
        assert.lengthOf(
          where.filter((tag) => tag === "Unknown"),
          7
        )
      }
    })
  )

  it.live(
    "is begun by a process within its concurrency, and no more is in hand than that and one for each partition",
    () =>
      Effect.gen(function* () {
        const { join, store } = yield* makeFleet
        const go = yield* Deferred.make<void>()
        let running = 0
        let most = 0
        const full = yield* Deferred.make<void>()
        const hold: Book = ({ id }) =>
          Effect.gen(function* () {
            most = Math.max(most, ++running)
            if (running === 3) yield* Deferred.succeed(full, undefined)
            yield* Deferred.await(go)
            running--
            return { id }
          })
        const caller = yield* Effect.provide(Caller.make(Ledger), join)
        const receipts = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => `m${i}`),
          (id) => caller.book.enqueue({ id, key: "" }, { id })
        )
        yield* Layer.build(Layer.provide(serve(hold, { concurrency: 3 }), join))
        yield* Deferred.await(full)
        for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
        // What one who joins now may still have.
        let left = 0
        for (const queue of queues) {
          const consumer = yield* store.consume({
            queue,
            group: "ledger",
            consumer: "counting",
            idleMillis: 60_000,
            windowMillis: 60_000,
            maxDeadLetters: 10
          })
          left += (yield* consumer.promote).waiting
        }
        assert.isAtLeast(left, 200 - 3 - queues.length)
        yield* Deferred.succeed(go, undefined)
        for (const receipt of receipts) yield* receipt.await()
        assert.strictEqual(most, 3)
      })
  )

  it.effect("of a caller that knows of fewer partitions is handled all the same", () =>
    Effect.gen(function* () {
      const { join } = yield* makeFleet
      yield* Layer.build(Layer.provide(serve(answer), join))
      for (const count of [1, 3]) {
        const caller = yield* Effect.provide(Caller.make(whole.pipe(Service.partitioned(count))), join)
        for (let i = 0; i < 20; i++) {
          assert.deepStrictEqual(yield* caller.book({ id: `${count}-${i}`, key: `k${i}` }), { id: `${count}-${i}` })
        }
      }
    })
  )

  it.effect(
    "that is set aside is listed page by page, found, replayed and discarded, each under a name of its own",
    () =>
      Effect.gen(function* () {
        const { join } = yield* makeFleet
        let broken = true
        const fail: Book = ({ id }) => (broken ? Effect.die("broken") : Effect.succeed({ id }))
        const bus = yield* Layer.build(join)
        yield* Layer.build(Layer.provide(serve(fail, { durable: { deliveries: 1 } }), Layer.succeedContext(bus)))
        yield* Effect.gen(function* () {
          const caller = yield* Caller.make(Ledger)
          const all = Array.from({ length: 40 }, (_, i) => `m${i}`)
          yield* Effect.forEach(all, (id) => caller.book.enqueue({ id, key: "" }, { id }))
          while ((yield* DeadLetters.size(Ledger)) < 40) yield* Effect.yieldNow

          const listed: Array<DeadLetters.DeadLetter> = []
          for (;;) {
            const page = yield* DeadLetters.list(Ledger, { limit: 7, after: listed.at(-1)?.letter })
            assert.isAtMost(page.length, 7)
            if (page.length === 0) break
            listed.push(...page)
          }
          assert.deepStrictEqual(listed.map(({ id }) => id).sort(), [...all].sort())
          assert.strictEqual(new Set(listed.map(({ letter }) => letter)).size, 40)
          // The first partition is what its name alone leads to.
          assert.deepStrictEqual(
            (yield* DeadLetters.list("ledger")).map(({ letter }) => letter),
            listed.filter(({ letter }) => !letter.includes(":")).map(({ letter }) => letter)
          )
          for (const one of listed) assert.deepStrictEqual(yield* DeadLetters.find(Ledger, one.letter), one)
          for (const nobody of ["8:1", "127:1", "3:999", "3:", ":", "x"]) {
            assert.isUndefined(yield* DeadLetters.find(Ledger, nobody))
            assert.isFalse(yield* DeadLetters.replay(Ledger, nobody))
            assert.isFalse(yield* DeadLetters.discard(Ledger, nobody))
          }
          for (const nothing of ["x", "", "3:", ":", "3:x", "8:1", "-"]) {
            assert.deepStrictEqual(yield* DeadLetters.list(Ledger, { after: nothing }), [], nothing)
          }
          broken = false
          const last = listed.at(-1)!
          assert.isTrue(last.letter.includes(":"))
          assert.isTrue(yield* DeadLetters.replay(Ledger, last.letter))
          assert.deepStrictEqual(yield* caller.book.receipt(last.id).await(), { id: last.id })
          assert.isTrue(yield* DeadLetters.discard(Ledger, listed[0]!.letter))
          assert.strictEqual(yield* DeadLetters.size(Ledger), 38)
          assert.strictEqual(yield* DeadLetters.replayAll(Ledger), 38)
          for (const { id } of listed.slice(1)) assert.deepStrictEqual(yield* caller.book.receipt(id).await(), { id })
          assert.strictEqual(yield* DeadLetters.discardAll(Ledger), 0)
        }).pipe(Effect.provideContext(bus))
      }).pipe(Effect.provide(Logger.layer([])))
  )

  it.live("is left where it is while the backlog is full of what waits for a slot of its own action", () =>
    Effect.gen(function* () {
      const { join } = yield* makeFleet
      const full = yield* Deferred.make<void>()
      const One = Service.make("ledger", book.pipe(Action.annotate(Action.Concurrency, 1))).pipe(Service.partitioned(8))
      const hold: Book = () => Effect.andThen(Deferred.succeed(full, undefined), Effect.never)
      const caller = yield* Effect.provide(Caller.make(One), join)
      yield* Effect.forEach(
        Array.from({ length: 400 }, (_, i) => `m${i}`),
        (id) => caller.book.enqueue({ id, key: "" }, { id })
      )
      yield* Layer.build(
        Layer.provide(Handlers.layer(One, { book: hold }, { concurrency: 10, backlog: 5, grace: "1 millis" }), join)
      )
      yield* Deferred.await(full)
      for (let turn = 0; turn < 2_000; turn++) yield* Effect.yieldNow
      const returned = (yield* Metric.snapshot).flatMap(({ attributes, id, state }) =>
        id === "fiberbus_durable_deliveries_total" && attributes?.["outcome"] === "returned" && "count" in state
          ? [Number(state.count)]
          : []
      )
      // What the partitions had read before they knew.
      assert.isAtMost(returned[0] ?? 0, 16)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.live("comes again where the backlog drops newcomers and has no room for one of each partition", () =>
    Effect.gen(function* () {
      const { join } = yield* makeFleet
      const ids = queues.map((_, partition) => {
        let n = 0
        while (Channels.partitionOf(`m${n}`, "", 8) !== partition) n++
        return `m${n}`
      })
      const handled: Array<string> = []
      const go = yield* Deferred.make<void>()
      const note: Book = ({ id }) =>
        Effect.as(
          Effect.andThen(
            Deferred.await(go),
            Effect.sync(() => handled.push(id))
          ),
          { id }
        )
      const caller = yield* Effect.provide(Caller.make(Ledger), join)
      yield* Layer.build(
        Layer.provide(serve(note, { concurrency: 1, backlog: { size: 2, whenFull: "dropNewest" } }), join)
      )
      for (let turn = 0; turn < 500; turn++) yield* Effect.yieldNow
      // All partitions wait for one by now.
      const receipts = yield* Effect.forEach(ids, (id) => caller.book.enqueue({ id, key: "" }, { id }))
      // One runs, two wait.
      for (let turn = 0; turn < 500; turn++) yield* Effect.yieldNow
      yield* Deferred.succeed(go, undefined)
      for (const receipt of receipts) yield* receipt.await({ timeout: "5 seconds" })
      assert.deepStrictEqual(handled.toSorted(), ids.toSorted())
    })
  )

  it.effect("is left by all partitions at once, however long the store takes for each", () =>
    Effect.gen(function* () {
      const { join } = yield* makeFleet
      let leaving = 0
      const all = yield* Deferred.make<void>()
      const slow = Layer.effect(
        Durable.Durable,
        Effect.map(Durable.Durable, (durable) => ({
          ...durable,
          consume: (consumption: Durable.Consumption) =>
            Effect.map(durable.consume(consumption), (consumer) => ({
              ...consumer,
              leave: Effect.suspend(() => {
                if (++leaving === 8) Deferred.doneUnsafe(all, Effect.void)
                return Deferred.await(all)
              })
            }))
        }))
      )
      const bus = yield* Layer.build(Layer.provideMerge(slow, join))
      yield* Effect.scoped(Layer.build(Layer.provide(serve(answer), Layer.succeedContext(bus))))
      assert.strictEqual(leaving, 8)
    })
  )

  it.effect("is counted as waiting over all partitions", () =>
    Effect.gen(function* () {
      const { join } = yield* makeFleet
      const begun = yield* Deferred.make<void>()
      const hold: Book = () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      const caller = yield* Effect.provide(Caller.make(Ledger), join)
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => `m${i}`),
        (id) => caller.book.enqueue({ id, key: "" }, { id, delay: "1 minute" })
      )
      yield* Layer.build(Layer.provide(serve(hold, { concurrency: 1 }), join))
      const gauge = Effect.map(Metric.snapshot, (all) =>
        all.flatMap(({ id, state }) =>
          id === "fiberbus_durable_waiting" && "value" in state ? [Number(state.value)] : []
        )
      )
      while ((yield* gauge)[0] !== 100) yield* Effect.yieldNow
      assert.deepStrictEqual(yield* gauge, [100])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("is seen by a test's bus, and stands behind a stub", () =>
    Effect.gen(function* () {
      const caller = yield* Caller.make(Ledger)
      for (let i = 0; i < 20; i++) yield* caller.book({ id: `m${i}`, key: "" })
      const sent = yield* TestBus.sent(Ledger, "book")
      assert.deepStrictEqual(
        sent.map(({ payload }) => payload.id),
        Array.from({ length: 20 }, (_, i) => `m${i}`)
      )
    }).pipe(Effect.provide(TestBus.layer(TestBus.stub(Ledger, { book: answer }))))
  )
})

const suspend = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
  it.live(name, () => Effect.scoped(effect as Effect.Effect<A, E>).pipe(Effect.provide(Logger.layer([]))), 180_000)

// Real time: it is about real servers that change their roles. Everything waits for a signal; no duration is asserted.
describe("durable work in partitions over a cluster", () => {
  suspend(
    "is kept by all masters, and none is lost nor out of its key's order while each fails over, and a partition moves",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({ replicas: 1 })
      const place = Account.overPartitions(cluster, 6)
      const account = yield* Account.make(place)
      yield* account.some(100)
      for (const master of yield* cluster.masters) yield* account.during(Effect.asVoid(cluster.failover(master)))
      yield* account.some(20)
      const all = Channels.partitions("", "ledger", 6)
      const [first, second] = yield* cluster.masters
      const slot = cluster.slotOf(all[5]!)
      for (const to of [first!, second!, first!]) yield* account.during(cluster.moveSlot(slot, to))
      yield* account.some(20)
      const { handlings, sent } = yield* account.balance
      assert.isAtLeast(handlings, sent)
      const owners = yield* Effect.forEach(all, (queue) => Effect.map(cluster.ownerOf(queue), ({ id }) => id))
      assert.strictEqual(new Set(owners).size, 3)
      // Each had a part of them.
      for (const queue of all) {
        const info = yield* place.ask(queue, "XINFO", "STREAM", `${queue}.requests`)
        const added = (info as ReadonlyArray<unknown>).indexOf("entries-added")
        assert.isAbove(Number((info as ReadonlyArray<unknown>)[added + 1]), 0, queue)
      }
    })
  )

  suspend(
    "loses nothing that a replica had confirmed while a master is killed, and another is promoted",
    Effect.gen(function* () {
      const cluster = yield* RedisClusterServer.make({ replicas: 1, args: ["--appendonly", "yes"] })
      const account = yield* Account.make(Account.overPartitions(cluster, 6, { replicas: 1 }))
      yield* account.some(20)
      const [master] = yield* cluster.masters
      yield* account.during(
        Effect.gen(function* () {
          yield* master!.server.kill
          yield* cluster.promoted(master!)
          yield* master!.server.start
          yield* cluster.ready
        })
      )
      yield* account.some(20)
      const { handlings, sent } = yield* account.balance
      assert.isAtLeast(handlings, sent)
    })
  )
})
