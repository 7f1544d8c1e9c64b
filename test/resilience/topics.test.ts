import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Schedule, Schema, type Scope } from "effect"
import { Broadcast, Listener, Topic, Transport } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import { untilState } from "./account.ts"
import * as Child from "./child.ts"
import { Jobs } from "./worker.ts"

// Real time: it is about sockets, processes and a real server. Everything waits for a signal; no duration is asserted.

const test = <A, E>(name: string, effect: Effect.Effect<A, E, Scope.Scope | RedisServer.RedisServer>) =>
  it.live(name, () => Effect.provide(effect, [RedisServer.layerOptions({}), Logger.layer([])]), 120_000)

const News = Topic.make("news", { n: Schema.Finite })

/**
 * Publishes while the listener's connections are cut, so that whole stretches and the last messages go nowhere. Ends when everything that
 * was published is accounted for; a number that comes twice fails.
 */
const cutWhilePublishing = Effect.fnUntraced(function* (topic: typeof News, cutLast: boolean) {
  const redis = yield* RedisServer.RedisServer
  const proxy = yield* Faults.proxy(redis)
  const options: RedisPubSub.Options = { commandTimeout: "500 millis", reconnect: Schedule.spaced("20 millis") }
  const publisher = yield* RedisPubSub.make({ url: redis.url, ...options })
  const listener = yield* RedisPubSub.make({ url: proxy.through(redis.url), ...options })
  const [cuts, perStretch] = [4, 500]
  const published = (2 * cuts + 1 - (cutLast ? 1 : 0)) * perStretch
  const done = yield* Deferred.make<void>()
  const accounted = new Map<number, string>()
  const twice: Array<number> = []
  let order = 0
  let disorder = 0
  const account = (seq: number, how: string) => {
    if (accounted.has(seq)) twice.push(seq)
    if (seq <= order) disorder++
    order = seq
    accounted.set(seq, how)
    if (accounted.size === published) Deferred.doneUnsafe(done, Effect.void)
  }
  yield* Layer.build(
    Listener.layer(
      topic,
      (_, { backfilled, number }) => Effect.sync(() => account(number!.seq, backfilled ? "backfilled" : "received")),
      {
        concurrency: 1,
        backlog: 5_000,
        onGap: ({ firstSeq, lastSeq, missed }) =>
          Effect.sync(() => {
            assert.strictEqual(missed, lastSeq - firstSeq + 1)
            for (let seq = firstSeq; seq <= lastSeq; seq++) account(seq, "missed")
          })
      }
    ).pipe(Layer.provide(Layer.succeed(Transport.Transport, listener)))
  )
  let n = 0
  const stretch = Effect.forEach(
    Array.from({ length: perStretch }),
    () => Effect.provideService(Broadcast.publish(topic, { n: n++ }), Transport.Transport, publisher),
    { concurrency: 50, discard: true }
  )
  for (let i = 1; i <= cuts; i++) {
    yield* stretch
    const { gaps } = listener.state
    yield* proxy.refuse
    yield* proxy.cut
    yield* untilState(listener, (state) => state.gaps > gaps)
    yield* stretch
    yield* proxy.accept
    yield* untilState(listener, ({ _tag }) => _tag === "Ready")
  }
  if (!cutLast) yield* stretch
  yield* Deferred.await(done)
  const count = (how: string) => Array.from(accounted.values()).filter((one) => one === how).length
  const counts = { received: count("received"), backfilled: count("backfilled"), missed: count("missed") }
  assert.deepStrictEqual(twice, [])
  assert.strictEqual(disorder, 0)
  assert.strictEqual(Math.max(...accounted.keys()), published)
  assert.strictEqual(counts.received + counts.backfilled + counts.missed, published)
  console.log(`${published} published: ${JSON.stringify(counts)}`)
  return counts
})

describe("a listener whose link is cut while messages are published", () => {
  test(
    "gets all that it missed from a history that is long enough",
    Effect.gen(function* () {
      const Kept = News.pipe(Topic.annotate(Topic.History, { messages: 10_000, for: "5 minutes" }))
      const counts = yield* cutWhilePublishing(Kept, false)
      assert.strictEqual(counts.missed, 0)
      assert.isAtLeast(counts.backfilled, 4 * 500)
    })
  )
  test(
    "gets what a short history has, and is told of the rest, also of the last messages",
    Effect.gen(function* () {
      const Kept = News.pipe(Topic.annotate(Topic.History, { messages: 100, for: "5 minutes" }))
      const counts = yield* cutWhilePublishing(Kept, true)
      assert.isAbove(counts.backfilled, 0)
      assert.isAbove(counts.missed, 4 * 300)
    })
  )
  test(
    "is told of all that it missed where nothing is kept",
    Effect.gen(function* () {
      const counts = yield* cutWhilePublishing(News.pipe(Topic.annotate(Topic.Numbered, true)), true)
      assert.strictEqual(counts.backfilled, 0)
      assert.isAtLeast(counts.missed, 4 * 500)
    })
  )
})

describe("three processes of one group", () => {
  test(
    "handle each of 10,000 messages once; when one is killed (-9) the others go on, and none is handled twice",
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const transport = yield* RedisPubSub.make({ url })
      const start = Effect.gen(function* () {
        const child = yield* Child.make("group", url)
        yield* child.said("ready")
        return child
      })
      const children = yield* Effect.all([start, start, start], { concurrency: 3 })
      const publish = (from: number, count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, i) => from + i),
          (n) => Effect.provideService(Broadcast.publish(Jobs, { n }), Transport.Transport, transport),
          { concurrency: 100, discard: true }
        )
      const got = (child: Child.Child) => child.lines.filter((line) => line.startsWith("got "))
      const handled = () => children.flatMap(got)
      const until = (is: () => boolean) =>
        Effect.repeat(Effect.sync(is), { until: (done) => done, schedule: Schedule.spaced("20 millis") })

      yield* publish(0, 10_000)
      yield* until(() => handled().length >= 10_000)
      assert.strictEqual(new Set(handled()).size, 10_000)
      assert.strictEqual(handled().length, 10_000)
      for (const child of children) assert.isAbove(got(child).length, 0)

      const [dead, ...others] = children
      const before = got(dead!).length
      const publishing = yield* Effect.forkChild(publish(10_000, 10_000))
      yield* until(() => got(dead!).length > before + 100)
      yield* dead!.signal("SIGKILL")
      yield* Effect.callback<void>((resume) => {
        publishing.addObserver(() => resume(Effect.void))
      })
      // What comes after its death is handled by the others, all of it.
      yield* publish(20_000, 1_000)
      const last = () => others.flatMap(got).filter((line) => Number(line.slice(4)) >= 20_000)
      yield* until(() => last().length >= 1_000)
      const all = handled()
      assert.strictEqual(new Set(all).size, all.length)
      assert.strictEqual(new Set(last()).size, 1_000)
      console.log(`${21_000 - all.length} of 21,000 were the dead one's and lost with it`)
    })
  )
})
