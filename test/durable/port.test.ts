import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Durable, Transport } from "fiberbus"
import { RedisClusterServer, RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"
import { maxItems } from "../../src/transport/internal/Gathering.ts"

type Store = Durable.Durable["Service"]

/** What a promise is tried on: a store, a queue of its own, and how time passes there. */
interface Place {
  readonly store: Store
  readonly queue: string
  /** A little of the time of the store's clock. */
  readonly pass: Effect.Effect<void>
}

const append = (store: Store, queue: string, message: Partial<Durable.Message> & { readonly id: string }) =>
  Effect.callback<Durable.Appended, Transport.TransportError>((resume) =>
    store.append(
      queue,
      { frame: `{"action":"${message.id}"}`, key: "", delayMillis: 0, ...message },
      (error, appended) => resume(error === undefined ? Effect.succeed(appended!) : Effect.fail(error))
    )
  )

const state = (store: Store, queue: string, id: string) =>
  Effect.callback<Durable.State, Transport.TransportError>((resume) =>
    store.state(queue, id, (error, state) => resume(error === undefined ? Effect.succeed(state!) : Effect.fail(error)))
  )

const told = (operation: (done: Durable.Done) => void) =>
  Effect.callback<boolean, Transport.TransportError>((resume) =>
    operation((error, settled) => resume(error === undefined ? Effect.succeed(settled) : Effect.fail(error)))
  )

const settle = (consumer: Durable.Consumer, entry: Durable.Entry, frame = "{}") =>
  told((done) => consumer.settle(entry, { frame, replyTo: "" }, done))

const ids = (entries: ReadonlyArray<Durable.Entry>) => entries.map(({ id }) => id)

const join = ({ queue, store }: Place, consumer: string, more: Partial<Durable.Consumption> = {}) =>
  store.consume({
    queue,
    group: "workers",
    consumer,
    idleMillis: 60_000,
    windowMillis: 60_000,
    maxDeadLetters: 3,
    ...more
  })

/** Asks until something is there, as time passes. */
const until = <A>(
  place: Place,
  ask: Effect.Effect<ReadonlyArray<A>, Transport.TransportError>
): Effect.Effect<ReadonlyArray<A>, Transport.TransportError> =>
  Effect.flatMap(ask, (found) =>
    found.length > 0 ? Effect.succeed(found) : Effect.andThen(place.pass, until(place, ask))
  )

const read = (consumer: Durable.Consumer, max = 10) =>
  Effect.gen(function* () {
    // A store may give nothing for a while.
    while (true) {
      const entries = yield* consumer.read(max)
      if (entries.length > 0) return entries
    }
  })

/** Valkey says that it is a Redis 7.2. */
const isAtLeast = (wanted: string) =>
  Effect.gen(function* () {
    const { command } = yield* RedisServer.RedisServer
    const info = String(yield* Effect.orDie(command("INFO", "server")))
    const [major, minor] = (/redis_version:(\S+)/.exec(info)?.[1] ?? "0.0").split(".").map(Number)
    const [leastMajor, leastMinor] = wanted.split(".").map(Number)
    return major! > leastMajor! || (major === leastMajor && minor! >= leastMinor!)
  })

const burial = { reason: "Defect", cause: "it broke", action: "charge" }

const promises: ReadonlyArray<
  readonly [string, (place: Place) => Effect.Effect<void, Transport.TransportError, Scope.Scope>]
> = [
  [
    "keeps messages that were appended before anybody consumes, in order",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        for (const id of ["1", "2", "3"]) assert.deepStrictEqual(yield* append(store, queue, { id }), { _tag: "Added" })
        const consumer = yield* join(place, "a")
        const first = yield* read(consumer, 2)
        assert.deepStrictEqual(ids(first), ["1", "2"])
        assert.strictEqual(String(first[0]!.frame), '{"action":"1"}')
        assert.strictEqual(first[0]!.deliveries, 1)
        assert.isAtLeast(first[0]!.at, 1_000)
        assert.deepStrictEqual(ids(yield* read(consumer)), ["3"])
      })
  ],
  [
    "gives each message to one of a group",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const [a, b] = [yield* join(place, "a"), yield* join(place, "b")]
        for (const id of ["1", "2"]) yield* append(store, queue, { id })
        const one = yield* read(a, 1)
        const other = yield* read(b, 10)
        assert.deepStrictEqual([...ids(one), ...ids(other)].sort(), ["1", "2"])
      })
  ],
  [
    "waits for what is appended later",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        const begun = yield* Deferred.make<void>()
        const reading = yield* Effect.forkChild(Effect.andThen(Deferred.succeed(begun, undefined), read(consumer)))
        yield* Deferred.await(begun)
        yield* append(store, queue, { id: "1" })
        assert.deepStrictEqual(ids(yield* Fiber.join(reading)), ["1"])
      })
  ],
  [
    "knows an id again, and answers with the result once there is one",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Unknown" })
        yield* append(store, queue, { id: "1" })
        assert.deepStrictEqual(yield* append(store, queue, { id: "1" }), { _tag: "Waiting" })
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Waiting" })
        const [entry] = yield* read(consumer)
        assert.isTrue(yield* settle(consumer, entry!, '{"n":1}'))
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Done", frame: '{"n":1}' })
        assert.deepStrictEqual(yield* append(store, queue, { id: "1" }), { _tag: "Done", frame: '{"n":1}' })
        // It was one message.
        yield* append(store, queue, { id: "2" })
        assert.deepStrictEqual(ids(yield* read(consumer)), ["2"])
      })
  ],
  [
    "takes the first end of a message and no other",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        yield* append(store, queue, { id: "1" })
        const [entry] = yield* read(consumer)
        assert.isTrue(yield* settle(consumer, entry!, '{"n":1}'))
        assert.isFalse(yield* settle(consumer, entry!, '{"n":2}'))
        assert.isFalse(yield* told((done) => consumer.retry(entry!, 0, true, done)))
        assert.isFalse(yield* told((done) => consumer.bury(entry!, burial, { frame: "{}", replyTo: "" }, done)))
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Done", frame: '{"n":1}' })
        assert.strictEqual(yield* store.dead.size(queue), 0)
      })
  ],
  [
    "forgets a result after its window",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a", { windowMillis: 30 })
        yield* append(store, queue, { id: "1" })
        const [entry] = yield* read(consumer)
        yield* settle(consumer, entry!)
        const gone = Effect.map(state(store, queue, "1"), ({ _tag }) => (_tag === "Unknown" ? [1] : []))
        yield* until(place, gone)
      })
  ],
  [
    "delivers again what is given back, and counts only what counts",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        yield* append(store, queue, { id: "1" })
        const [first] = yield* read(consumer)
        assert.isTrue(yield* told((done) => consumer.retry(first!, 0, true, done)))
        const [second] = yield* read(consumer)
        assert.deepStrictEqual([second!.id, second!.deliveries, second!.at], ["1", 2, first!.at])
        yield* told((done) => consumer.retry(second!, 0, false, done))
        const [third] = yield* read(consumer)
        assert.strictEqual(third!.deliveries, 2)
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Waiting" })
      })
  ],
  [
    "delivers after a delay, not before",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        let woken = 0
        consumer.onDelayed(() => woken++)
        yield* append(store, queue, { id: "late", delayMillis: 60 })
        yield* append(store, queue, { id: "soon" })
        const [soon] = yield* read(consumer)
        assert.strictEqual(soon!.id, "soon")
        yield* told((done) => consumer.retry(soon!, 60, true, done))
        assert.isAbove(woken, 0)
        const census = yield* consumer.promote
        assert.isAtMost(census.nextMillis, 60_000)
        assert.strictEqual(census.waiting, 2)
        yield* until(
          place,
          Effect.map(consumer.promote, ({ nextMillis }) => (nextMillis > 60 ? [1] : []))
        )
        assert.deepStrictEqual(ids([...(yield* read(consumer, 1)), ...(yield* read(consumer, 1))]).sort(), [
          "late",
          "soon"
        ])
      })
  ],
  [
    "takes over what its consumer is silent about, and leaves what is renewed",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const a = yield* join(place, "a", { idleMillis: 100 })
        const b = yield* join(place, "b", { idleMillis: 100 })
        yield* append(store, queue, { id: "1" })
        const [entry] = yield* read(a)
        const claimed = yield* until(
          place,
          Effect.map(b.claim(10), ({ entries }) => entries)
        )
        assert.deepStrictEqual([claimed[0]!.id, claimed[0]!.deliveries], ["1", 2])
        assert.deepStrictEqual(yield* a.renew([entry!.entry]), [entry!.entry])
        assert.deepStrictEqual(yield* b.renew([claimed[0]!.entry]), [])
        assert.deepStrictEqual((yield* a.claim(10)).entries, [])
        // Whoever is first: a late end is one as well.
        assert.isTrue(yield* settle(a, entry!))
        assert.isFalse(yield* settle(b, claimed[0]!))
      })
  ],
  [
    "takes no end of what another one has claimed and given back, and leaves its turn to it",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const a = yield* join(place, "a")
        const b = yield* join(place, "b", { idleMillis: 0 })
        yield* append(store, queue, { id: "1", key: "ann" })
        yield* append(store, queue, { id: "2", key: "ann" })
        yield* append(store, queue, { id: "other" })
        const entries = yield* read(a)
        assert.deepStrictEqual(ids(entries), ["1", "other"])
        const { entries: claimed } = yield* b.claim(1)
        assert.deepStrictEqual(ids(claimed), ["1"])
        assert.isTrue(yield* told((done) => b.retry(claimed[0]!, 30, true, done)))
        // Those of one step.
        const settled = yield* Effect.forEach(entries, (entry) => settle(a, entry, `end ${entry.id}`), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(settled, [false, true])
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Waiting" })
        assert.deepStrictEqual(yield* state(store, queue, "other"), { _tag: "Done", frame: "end other" })
        // And by itself.
        assert.isFalse(yield* settle(a, entries[0]!))
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Waiting" })
        yield* append(store, queue, { id: "behind" })
        const [behind, ...others] = yield* read(a)
        assert.deepStrictEqual([behind!.id, others], ["behind", []])
        // Else it would be silent for too long at once.
        assert.isTrue(yield* settle(a, behind!))
        yield* until(
          place,
          Effect.map(a.promote, ({ nextMillis }) => (nextMillis > 30 ? [1] : []))
        )
        const [again, ...early] = yield* read(b)
        assert.deepStrictEqual([again!.id, again!.deliveries, early], ["1", 3, []])
        assert.isTrue(yield* settle(b, again!, "of b"))
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Done", frame: "of b" })
        assert.deepStrictEqual(ids(yield* read(b)), ["2"])
      })
  ],
  [
    "sets aside with all that is known, and drops the oldest beyond the limit",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        for (const id of ["1", "2", "3", "4"]) {
          yield* append(store, queue, { id })
          const [entry] = yield* read(consumer)
          assert.isTrue(
            yield* told((done) => consumer.bury(entry!, burial, { frame: '{"dead":1}', replyTo: "" }, done))
          )
        }
        assert.strictEqual(yield* store.dead.size(queue), 3)
        const letters = yield* store.dead.list(queue, { limit: 2 })
        assert.deepStrictEqual(
          letters.map(({ id, reason, cause, action, deliveries, frame }) => [
            id,
            reason,
            cause,
            action,
            deliveries,
            String(frame)
          ]),
          [
            ["2", "Defect", "it broke", "charge", 1, '{"action":"2"}'],
            ["3", "Defect", "it broke", "charge", 1, '{"action":"3"}']
          ]
        )
        assert.isAtLeast(letters[0]!.buriedAt, letters[0]!.appendedAt)
        const rest = yield* store.dead.list(queue, { limit: 10, after: letters[1]!.letter })
        assert.deepStrictEqual(
          rest.map(({ id }) => id),
          ["4"]
        )
        assert.deepStrictEqual(yield* state(store, queue, "4"), { _tag: "Done", frame: '{"dead":1}' })
        assert.strictEqual((yield* store.dead.find(queue, rest[0]!.letter))?.id, "4")
        assert.isUndefined(yield* store.dead.find(queue, "nothing"))
      })
  ],
  [
    "replays and discards dead letters once",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        for (const id of ["1", "2"]) {
          yield* append(store, queue, { id, key: "k" })
          const [entry] = yield* read(consumer)
          yield* told((done) => consumer.bury(entry!, burial, undefined, done))
        }
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Unknown" })
        const [one, two] = yield* store.dead.list(queue, { limit: 10 })
        assert.isTrue(yield* store.dead.replay(queue, one!.letter))
        assert.isFalse(yield* store.dead.replay(queue, one!.letter))
        assert.isTrue(yield* store.dead.discard(queue, two!.letter))
        assert.isFalse(yield* store.dead.discard(queue, two!.letter))
        assert.strictEqual(yield* store.dead.size(queue), 0)
        const [again] = yield* read(consumer)
        assert.deepStrictEqual([again!.id, again!.deliveries, again!.key], ["1", 1, "k"])
        assert.deepStrictEqual(yield* state(store, queue, "1"), { _tag: "Waiting" })
      })
  ],
  [
    "delivers the messages of a key one after the other, in order, also after a failure; others don't wait",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const consumer = yield* join(place, "a")
        for (const id of ["1", "2", "3"]) yield* append(store, queue, { id, key: "ann" })
        yield* append(store, queue, { id: "other", key: "bob" })
        const first = yield* read(consumer)
        assert.deepStrictEqual(ids(first), ["1", "other"])
        yield* told((done) => consumer.retry(first[0]!, 0, true, done))
        const [again] = yield* read(consumer)
        assert.deepStrictEqual([again!.id, again!.deliveries], ["1", 2])
        assert.strictEqual((yield* consumer.promote).waiting, 2)
        yield* settle(consumer, again!)
        const [second] = yield* read(consumer)
        assert.strictEqual(second!.id, "2")
        yield* told((done) => consumer.bury(second!, burial, undefined, done))
        const [third] = yield* read(consumer)
        assert.strictEqual(third!.id, "3")
        yield* settle(consumer, third!)
        yield* append(store, queue, { id: "4", key: "ann" })
        assert.deepStrictEqual(ids(yield* read(consumer)), ["4"])
      })
  ],
  [
    "refuses more messages than may wait, and drops none of those",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        yield* append(store, queue, { id: "1" })
        yield* append(store, queue, { id: "2", delayMillis: 60_000 })
        yield* append(store, queue, { id: "3", key: "k" })
        yield* append(store, queue, { id: "4", key: "k" })
        const error = yield* Effect.orDie(Effect.flip(append(store, queue, { id: "5" })))
        assert.deepStrictEqual([error.kind, error.sent], ["Overloaded", "no"])
        assert.deepStrictEqual(yield* state(store, queue, "5"), { _tag: "Unknown" })
        // What is there already is no more.
        assert.deepStrictEqual(yield* append(store, queue, { id: "1" }), { _tag: "Waiting" })
        const consumer = yield* join(place, "a")
        const [entry] = yield* read(consumer, 1)
        yield* settle(consumer, entry!)
        assert.deepStrictEqual(yield* append(store, queue, { id: "5" }), { _tag: "Added" })
      })
  ],
  [
    "tells each of those that come at once what became of it",
    (place) =>
      Effect.gen(function* () {
        const { queue, store } = place
        const outcomes = yield* Effect.forEach(
          ["1", "2", "1", "3", "4", "5"],
          (id) =>
            Effect.match(append(store, queue, { id }), {
              onFailure: ({ kind }) => kind,
              onSuccess: ({ _tag }) => _tag
            }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(outcomes, ["Added", "Added", "Waiting", "Added", "Added", "Overloaded"])
        const consumer = yield* join(place, "a")
        const entries = yield* read(consumer)
        assert.deepStrictEqual(ids(entries), ["1", "2", "3", "4"])
        yield* settle(consumer, entries[1]!, "first")
        const settled = yield* Effect.forEach(entries, (entry) => settle(consumer, entry, `end ${entry.id}`), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(settled, [true, false, true, true])
        assert.deepStrictEqual(
          yield* Effect.forEach(entries, ({ id }) => append(store, queue, { id }), { concurrency: "unbounded" }),
          ["end 1", "first", "end 3", "end 4"].map((frame) => ({ _tag: "Done" as const, frame }))
        )
      })
  ]
]

const maxLength = 4

describe("memory", () => {
  for (const [name, promise] of promises) {
    it.effect(name, () =>
      Effect.flatMap(Durable.Durable, (store) =>
        Effect.andThen(TestClock.setTime(1_000), promise({ store, queue: "{q}", pass: TestClock.adjust("20 millis") }))
      ).pipe(Effect.provide(Durable.layerMemoryOptions({ maxLength })))
    )
  }
})

const redis = Layer.unwrap(
  RedisServer.RedisServer.use(({ url }) => Effect.succeed(RedisStreams.layerDurable({ url, maxLength })))
).pipe(Layer.provideMerge(RedisServer.layer))

const cluster = Layer.unwrap(
  RedisClusterServer.RedisClusterServer.use(({ nodes }) =>
    Effect.succeed(RedisStreams.layerClusterDurable({ nodes, maxLength }))
  )
).pipe(Layer.provideMerge(RedisClusterServer.layer()))

it.layer(cluster, { excludeTestServices: true, timeout: "60 seconds" })("Redis Cluster", (it) => {
  let queues = 0
  for (const [name, promise] of promises) {
    it.effect(name, () =>
      Effect.flatMap(Durable.Durable, (store) =>
        promise({ store, queue: `test:{q${++queues}}`, pass: Effect.sleep("10 millis") })
      )
    )
  }

  it.effect("keeps queues at all masters, each where its slot is", () =>
    Effect.gen(function* () {
      const store = yield* Durable.Durable
      const server = yield* RedisClusterServer.RedisClusterServer
      const owners = new Set<string>()
      for (let n = 0; n < 20; n++) {
        const queue = `{spread${n}}`
        yield* append(store, queue, { id: "1" })
        const owner = yield* Effect.orDie(server.ownerOf(queue))
        owners.add(owner.id)
        assert.strictEqual(yield* Effect.orDie(owner.server.command("XLEN", `${queue}.requests`)), 1)
      }
      assert.strictEqual(owners.size, 3)
    })
  )
})

it.layer(redis, { excludeTestServices: true })("Redis", (it) => {
  let queues = 0
  for (const [name, promise] of promises) {
    it.effect(name, () =>
      Effect.flatMap(Durable.Durable, (store) =>
        promise({ store, queue: `test:{q${++queues}}`, pass: Effect.sleep("10 millis") })
      )
    )
  }

  it.effect("fails one that cannot be kept alone, and does not remember its id", () =>
    Effect.gen(function* () {
      const store = yield* Durable.Durable
      const { command } = yield* RedisServer.RedisServer
      yield* Effect.orDie(command("SET", "{alone}.lanes", "somebody's"))
      const outcomes = yield* Effect.forEach(
        [{ id: "1" }, { id: "2", key: "k" }, { id: "3" }],
        (message) =>
          Effect.match(append(store, "{alone}", message), {
            onFailure: ({ detail }) => detail.slice(0, 9),
            onSuccess: ({ _tag }) => _tag
          }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(outcomes, ["Added", "WRONGTYPE", "Added"])
      assert.deepStrictEqual(yield* state(store, "{alone}", "2"), { _tag: "Unknown" })
      yield* Effect.orDie(command("DEL", "{alone}.lanes"))
      assert.deepStrictEqual(yield* append(store, "{alone}", { id: "2", key: "k" }), { _tag: "Added" })
    })
  )

  it.effect("ends those of one step although others were ended, deleted, acknowledged by hand, or cannot be", () =>
    Effect.gen(function* () {
      const { command, url } = yield* RedisServer.RedisServer
      const store = Context.get(yield* Layer.build(Layer.fresh(RedisStreams.layerDurable({ url }))), Durable.Durable)
      const queue = "{each}"
      for (const id of ["ended", "deleted", "acknowledged", "well"]) yield* append(store, queue, { id })
      yield* append(store, queue, { id: "broken", key: "k" })
      yield* Effect.orDie(command("XADD", `${queue}.requests`, "*", "frame", "{}"))
      const consumer = yield* join({ store, queue, pass: Effect.void }, "a")
      const entries = yield* read(consumer)
      assert.deepStrictEqual(ids(entries), ["ended", "deleted", "acknowledged", "well", "broken", ""])
      const [ended, deleted, acknowledged, , , nameless] = entries
      assert.isTrue(yield* settle(consumer, ended!, "first"))
      yield* Effect.orDie(command("XDEL", `${queue}.requests`, deleted!.entry, nameless!.entry))
      yield* Effect.orDie(command("XACK", `${queue}.requests`, "workers", acknowledged!.entry))
      yield* Effect.orDie(command("SET", `${queue}.lane:k`, "no list"))
      const outcomes = yield* Effect.forEach(
        entries,
        (entry) =>
          Effect.match(settle(consumer, entry, `end ${entry.id}`), {
            onFailure: ({ detail }) => detail.split(" ")[0],
            onSuccess: (settled) => settled
          }),
        { concurrency: "unbounded" }
      )
      // An older Redis cannot tell a deleted one without an id from one that was ended.
      const nameable = yield* isAtLeast("8.2")
      assert.deepStrictEqual(outcomes, [false, true, true, true, "WRONGTYPE", nameable])
      const results = ["first", "end deleted", "end acknowledged", "end well", "end broken"]
      assert.deepStrictEqual(
        yield* Effect.forEach(entries.slice(0, 5), ({ id }) => state(store, queue, id)),
        results.map((frame) => ({ _tag: "Done" as const, frame }))
      )
      assert.strictEqual(yield* Effect.orDie(command("XLEN", `${queue}.requests`)), 0)
    })
  )

  it.effect("tells one that was given back from one that was deleted by hand, where Redis can", () =>
    Effect.gen(function* () {
      const { command } = yield* RedisServer.RedisServer
      const store = yield* Durable.Durable
      const queue = "{which}"
      for (const id of ["back", "deleted"]) yield* append(store, queue, { id })
      const consumer = yield* join({ store, queue, pass: Effect.void }, "a")
      const [back, deleted] = yield* read(consumer)
      assert.isTrue(yield* told((done) => consumer.retry(back!, 60_000, true, done)))
      yield* Effect.orDie(command("XDEL", `${queue}.requests`, deleted!.entry))
      const outcomes = yield* Effect.forEach([back!, deleted!], (entry) => settle(consumer, entry, "late"), {
        concurrency: "unbounded"
      })
      // An older one knows only how many of both had been in hand.
      if (yield* isAtLeast("8.2")) assert.deepStrictEqual(outcomes, [false, true])
      else assert.lengthOf(outcomes.filter(Boolean), 1)
    })
  )

  it.effect("takes over with a read what was silent for too long, where Redis can", () =>
    Effect.gen(function* () {
      const { command, url } = yield* RedisServer.RedisServer
      const store = Context.get(yield* Layer.build(Layer.fresh(RedisStreams.layerDurable({ url }))), Durable.Durable)
      const refusals = Effect.map(Effect.orDie(command("INFO", "commandstats")), (info) =>
        Number(/cmdstat_xreadgroup:.*failed_calls=(\d+)/.exec(String(info))?.[1] ?? 0)
      )
      const place: Place = { store, queue: "{silent}", pass: Effect.sleep("10 millis") }
      const a = yield* join(place, "a")
      yield* append(store, place.queue, { id: "1" })
      const [held] = yield* read(a)
      assert.isNotTrue(held!.claimed)
      const b = yield* join(place, "b", { idleMillis: 50 })
      const refused = yield* refusals
      if (yield* isAtLeast("8.4")) {
        // The read that waits ends when the time is over.
        const [taken] = yield* read(b)
        assert.deepStrictEqual(
          [taken!.id, taken!.entry, taken!.deliveries, taken!.claimed],
          ["1", held!.entry, 2, true]
        )
        assert.strictEqual(yield* refusals, refused)
      } else {
        assert.deepStrictEqual(yield* b.read(1), [])
        assert.deepStrictEqual(yield* b.read(1), [])
        // Asked once, and then no more.
        assert.strictEqual((yield* refusals) - refused, 1)
        const taken = yield* until(
          place,
          Effect.map(b.claim(1), ({ entries }) => entries)
        )
        assert.deepStrictEqual(ids(taken), ["1"])
      }
      yield* append(store, place.queue, { id: "2" })
      const [fresh] = yield* read(b)
      assert.deepStrictEqual([fresh!.id, fresh!.deliveries, fresh!.claimed ?? false], ["2", 1, false])
    })
  )

  it.effect("answers each of several callers in the step that settles, in order", () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const context = yield* Layer.build(Layer.fresh(RedisStreams.layer({ url })))
      const store = Context.get(context, Durable.Durable)
      const transport = Context.get(context, Transport.Transport)
      const heard: Array<string> = []
      const all = yield* Deferred.make<void>()
      const many = Array.from({ length: 20 }, (_, n) => `${n}`)
      for (const caller of ["caller:a", "caller:b", "caller:ö"]) {
        yield* transport.subscribe({ _tag: "Channel", channel: caller }, (frame) => {
          heard.push(`${caller} ${frame}`)
          if (heard.length === many.length) Deferred.doneUnsafe(all, Effect.void)
        })
      }
      yield* Effect.forEach(many, (id) => append(store, "{callers}", { id, key: id === "7" ? "k" : "" }), {
        concurrency: "unbounded"
      })
      const consumer = yield* join({ store, queue: "{callers}", pass: Effect.void }, "a")
      const entries = yield* read(consumer, 100)
      assert.lengthOf(entries, many.length)
      const callerOf = (n: number) => `caller:${"abö"[n % 3]}`
      yield* Effect.forEach(
        entries,
        (entry, n) => told((done) => consumer.settle(entry, { frame: `"${n} ä"`, replyTo: callerOf(n) }, done)),
        { concurrency: "unbounded" }
      )
      yield* Deferred.await(all)
      for (const caller of ["caller:a", "caller:b", "caller:ö"]) {
        assert.deepStrictEqual(
          heard.filter((line) => line.startsWith(caller)),
          many.flatMap((_, n) => (callerOf(n) === caller ? [`${caller} "${n} ä"`] : []))
        )
      }
    })
  )

  it.effect("takes what comes at once in few steps, in order, and settles it so", () =>
    Effect.gen(function* () {
      const { command, url } = yield* RedisServer.RedisServer
      const store = Context.get(yield* Layer.build(Layer.fresh(RedisStreams.layerDurable({ url }))), Durable.Durable)
      const steps = Effect.map(Effect.orDie(command("INFO", "commandstats")), (info) =>
        Number(/cmdstat_fcall:calls=(\d+)/.exec(String(info))?.[1] ?? 0)
      )
      const many = Array.from({ length: 250 }, (_, n) => `${n}`)
      const before = yield* steps
      yield* Effect.forEach(many, (id) => append(store, "{many}", { id }), { concurrency: "unbounded" })
      assert.strictEqual((yield* steps) - before, Math.ceil(250 / maxItems))
      const consumer = yield* join({ store, queue: "{many}", pass: Effect.void }, "a")
      const entries = yield* read(consumer, 300)
      assert.deepStrictEqual(ids(entries), many)
      const between = yield* steps
      const settled = yield* Effect.forEach(entries, (entry) => settle(consumer, entry), { concurrency: "unbounded" })
      assert.strictEqual((yield* steps) - between, Math.ceil(250 / maxItems))
      assert.isTrue(settled.every((is) => is))
      assert.strictEqual(yield* Effect.orDie(command("XLEN", "{many}.requests")), 0)
    })
  )
})
