import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Metric, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Listener, Memory, Topic, Transport } from "fiberbus"
import * as LinkState from "../../src/transport/LinkState.ts"
import * as Scripted from "../scripted.ts"

const Plain = Topic.make("orders", { n: Schema.Finite })
const Numbered = Plain.pipe(Topic.annotate(Topic.Numbered, true))
const Kept = Plain.pipe(Topic.annotate(Topic.History, { messages: 1_000, for: "5 minutes" }))

/** A listener whose first message holds its only slot until a test lets it go, and what it hears and says. */
const setUp = Effect.fnUntraced(function* (topic: typeof Plain, options: Listener.Alone<never, never>) {
  const memory = Memory.make()
  const transport = { ...memory, capabilities: { ...memory.capabilities, inProcess: false } }
  const registry: Metric.MetricRegistry = new Map()
  const events: Array<string> = []
  const gate = yield* Deferred.make<void>()
  const asked: Array<any> = []
  yield* memory.subscribe({ _tag: "Channel", channel: "numbers:orders" }, (frame) => {
    const said = JSON.parse(String(frame)).fiberbus
    if (said.numbers === "refill") asked.push([said.first, said.last])
  })
  const scope = yield* Scope.make()
  yield* Listener.layer(
    topic,
    ({ n }, { backfilled }) => {
      events.push(`${backfilled ? "again " : ""}${n}`)
      return n === 1 ? Deferred.await(gate) : Effect.void
    },
    {
      concurrency: 1,
      onGap: ({ firstSeq, lastSeq }) => Effect.sync(() => void events.push(`missed ${firstSeq}-${lastSeq}`)),
      ...options
    }
  ).pipe(
    Layer.provide(Layer.succeed(Transport.Transport, transport)),
    Layer.buildWithScope(scope),
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  yield* Scripted.turns()
  return {
    asked,
    /** Messages of one publisher, each with its number. */
    hear: (...seqs: ReadonlyArray<number>) =>
      Effect.suspend(() => {
        for (const seq of seqs) {
          memory.send("orders", JSON.stringify({ n: seq, fiberbus: { v: 1, from: "publisher", seq } }), () => {})
        }
        return Scripted.turns()
      }),
    say: (frame: object) =>
      Effect.suspend(() => {
        memory.send("orders", JSON.stringify(frame), () => {})
        return Scripted.turns()
      }),
    news: () => events.splice(0),
    pass: (millis: number) => Effect.andThen(TestClock.adjust(millis), Scripted.turns()),
    goOn: Effect.andThen(Deferred.succeed(gate, undefined), Scripted.turns()),
    close: Scope.close(scope, Exit.void),
    counted: (id: string, attributes: Record<string, string>) => {
      for (const one of registry.values()) {
        const own = one.attributes as Record<string, string> | undefined
        if (one.id === id && Object.entries(attributes).every(([key, value]) => own?.[key] === value))
          return (one.hooks.get(Context.empty()) as { readonly count: number }).count
      }
      return 0
    }
  }
})

const missed = "fiberbus_messages_missed_total"
const dropped = "fiberbus_discarded_total"

describe("the notice of a gap", () => {
  it.effect("waits in the backlog as a message does, before the message that shows it", () =>
    Effect.gen(function* () {
      const { counted, goOn, hear, news } = yield* setUp(Numbered, { backlog: 10 })
      yield* hear(1, 3, 4, 6)
      assert.deepStrictEqual(news(), ["1"])
      yield* goOn
      assert.deepStrictEqual(news(), ["missed 2-2", "3", "4", "missed 5-5", "6"])
      assert.strictEqual(counted(missed, { topic: "orders" }), 2)
    })
  )

  it.effect("comes later where the backlog has no room, every one of them, in their order", () =>
    Effect.gen(function* () {
      const { counted, goOn, hear, news, pass } = yield* setUp(Numbered, { backlog: 2 })
      yield* hear(1, 3, 5, 7)
      yield* pass(200)
      assert.deepStrictEqual(news(), ["1"])
      yield* goOn
      // The messages found no room: they were dropped, as any.
      assert.deepStrictEqual(news(), ["missed 2-2", "3"])
      yield* hear(9)
      assert.deepStrictEqual(news(), ["9"])
      yield* pass(50)
      assert.deepStrictEqual(news(), ["missed 4-4", "missed 6-6", "missed 8-8"])
      assert.strictEqual(counted(missed, { topic: "orders" }), 4)
      yield* pass(1_000)
      assert.deepStrictEqual(news(), [])
      // Then they come at once again.
      yield* hear(11)
      assert.deepStrictEqual(news(), ["missed 10-10", "11"])
    })
  )

  it.effect("is dropped and counted where more than 1,024 wait for room", () =>
    Effect.gen(function* () {
      const { counted, goOn, hear, news, pass } = yield* setUp(Numbered, { backlog: 1 })
      // The first takes the backlog; of 1,030 others six are too many.
      yield* hear(1, ...Array.from({ length: 1_031 }, (_, i) => 3 + 2 * i))
      assert.strictEqual(counted(dropped, { reason: "GapNotTold" }), 6)
      assert.strictEqual(counted(missed, { topic: "orders" }), 1_031)
      yield* goOn
      yield* pass(60_000)
      for (let i = 0; i < 1_100; i++) yield* TestClock.adjust(50)
      yield* Scripted.turns()
      assert.lengthOf(
        news().filter((event) => event.startsWith("missed")),
        1_025
      )
    })
  )

  it.effect("is no message that was heard", () =>
    Effect.gen(function* () {
      const { counted, goOn, hear } = yield* setUp(Numbered, {})
      yield* goOn
      yield* hear(1, 3)
      assert.strictEqual(counted("fiberbus_heard_total", { outcome: "success" }), 2)
    })
  )

  it.effect("is what no peer can send: a message with such a field is a message", () =>
    Effect.gen(function* () {
      const { goOn, news, say } = yield* setUp(Numbered, {})
      yield* goOn
      yield* say({ n: 2, gap: { firstSeq: 1, lastSeq: 9 } })
      assert.deepStrictEqual(news(), ["2"])
    })
  )
})

describe("a gap of the link", () => {
  it.effect("has the last numbers asked for again, by those who still listen, also without claims", () =>
    Effect.gen(function* () {
      const { claim: _, ...memory } = Memory.make()
      const link = LinkState.make({ _tag: "Ready", gaps: 0 })
      const transport: Transport.Transport["Service"] = {
        ...memory,
        get state() {
          return link.current()
        },
        watch: link.watch
      }
      const asked: Array<string> = []
      for (const topic of ["orders", "users"]) {
        yield* memory.subscribe({ _tag: "Channel", channel: `numbers:${topic}` }, (frame) => {
          if (JSON.parse(String(frame)).fiberbus.numbers === "ask") asked.push(topic)
        })
      }
      const begin = Effect.fnUntraced(function* (name: string) {
        const scope = yield* Scope.make()
        const topic = Topic.make(name, { n: Schema.Finite }).pipe(Topic.annotate(Topic.Numbered, true))
        yield* Listener.layer(topic, () => Effect.void, { onGap: () => Effect.void }).pipe(
          Layer.provide(Layer.succeed(Transport.Transport, transport)),
          Layer.buildWithScope(scope)
        )
        return Scope.close(scope, Exit.void)
      })
      const gap = (state: Transport.LinkState) =>
        Effect.suspend(() => {
          link.change(state)
          return Effect.map(Scripted.turns(), () => asked.splice(0))
        })
      yield* begin("users")
      const close = yield* begin("orders")
      yield* Scripted.turns()
      assert.sameMembers(asked.splice(0), ["users", "orders"])
      assert.deepStrictEqual(yield* gap({ _tag: "Ready", gaps: 0 }), [])
      assert.sameMembers(yield* gap({ _tag: "Ready", gaps: 1 }), ["users", "orders"])
      yield* close
      assert.deepStrictEqual(yield* gap({ _tag: "Ready", gaps: 2 }), ["users"])
    })
  )
})

describe("what was missed", () => {
  it.effect("is asked for when half of the backlog is free", () =>
    Effect.gen(function* () {
      const { asked, goOn, hear, pass, say } = yield* setUp(Kept, { backlog: 4 })
      yield* hear(1)
      yield* say({ n: 100 })
      yield* say({ n: 101 })
      yield* hear(3)
      yield* pass(1_000)
      assert.deepStrictEqual(asked, [])
      yield* goOn
      yield* pass(50)
      assert.deepStrictEqual(asked, [[2, 2]])
    })
  )

  it.effect("is asked for at once where less than half of it is taken", () =>
    Effect.gen(function* () {
      const { asked, hear, say } = yield* setUp(Kept, { backlog: 4 })
      yield* hear(1)
      yield* say({ n: 100 })
      yield* hear(3)
      assert.deepStrictEqual(asked, [[2, 2]])
    })
  )

  it.effect("is asked for no more when the listener has gone", () =>
    Effect.gen(function* () {
      const { asked, close, goOn, hear, pass } = yield* setUp(Kept, { grace: 0 })
      yield* goOn
      yield* hear(1, 3)
      assert.deepStrictEqual(asked, [[2, 2]])
      yield* close
      yield* pass(60_000)
      assert.deepStrictEqual(asked, [[2, 2]])
    })
  )
})
