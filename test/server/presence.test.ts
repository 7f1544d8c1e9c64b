import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Metric, Queue, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Handlers, Memory, Service, Transport } from "fiberbus"
import * as LinkState from "../../src/transport/LinkState.ts"
import * as Scripted from "../scripted.ts"

const Work = Service.make("work", Action.make("do"), Action.make("hold"))
const Heard = Service.make("heard", Action.make("go").pipe(Action.annotate(Action.Delivery, "live")))

const who = { fiberbus: { v: 1, who: true } }

/** A service over a transport on which silence counts, all that it says of being there, and a link that a test moves. */
const setUp = Effect.gen(function* () {
  const memory = Memory.make()
  const { inProcess: _, ...capabilities } = memory.capabilities
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const transport: Transport.Transport["Service"] = {
    ...memory,
    capabilities,
    get state() {
      return link.current()
    },
    watch: link.watch
  }
  const said: Array<any> = []
  yield* memory.subscribe({ _tag: "Channel", channel: "work.instances" }, (frame) => {
    said.push(JSON.parse(String(frame)).fiberbus)
  })
  yield* memory.subscribe({ _tag: "Channel", channel: "heard.instances" }, () => void said.push("heard"))
  const begun = yield* Queue.unbounded<void>()
  const release = yield* Deferred.make<void>()
  const scope = yield* Scope.make()
  yield* Layer.mergeAll(
    Handlers.layer(Work, {
      do: () => Effect.void,
      hold: () => Effect.andThen(Queue.offer(begun, undefined), Deferred.await(release))
    }),
    Handlers.layer(Heard, { go: () => Effect.void })
  ).pipe(Layer.provide(Layer.succeed(Transport.Transport, transport)), Layer.buildWithScope(scope))
  yield* Scripted.turns()
  return {
    begun: Queue.take(begun),
    close: Scope.close(scope, Exit.void),
    link,
    release: Deferred.succeed(release, undefined),
    said,
    say: (channel: string, frame: object) => memory.send(channel, JSON.stringify(frame), () => {}),
    memory
  }
})

/** Announcements with their times, of a process whose dice, link and broker a test has in hand. */
const announcing = Effect.fnUntraced(function* (
  more: {
    readonly capabilities?: Partial<Transport.Capabilities>
    readonly dice?: () => number
    readonly breaks?: () => boolean
  } = {}
) {
  const memory = Memory.make()
  const { inProcess: _, ...remote } = memory.capabilities
  const clock = yield* Effect.clockWith(Effect.succeed)
  const said: Array<readonly [at: number, what: any]> = []
  const transport: Transport.Transport["Service"] = {
    ...memory,
    capabilities: { ...remote, ...more.capabilities },
    send: (channel, frame, sent) => {
      if (channel.endsWith(".instances")) said.push([clock.currentTimeMillisUnsafe(), JSON.parse(frame).fiberbus])
      if (more.breaks?.() !== true) return memory.send(channel, frame, sent)
      sent(new Transport.TransportError({ kind: "Timeout", operation: "send", detail: "", hint: "", sent: "no" }), 0)
    }
  }
  const dice = more.dice ?? (() => 0.5)
  const random = { nextDoubleUnsafe: dice, nextIntUnsafe: () => 0 }
  const begin = Effect.fnUntraced(function* (service: Service.Any) {
    const scope = yield* Scope.make()
    const handlers = Object.fromEntries(Object.keys(service.actions).map((name) => [name, () => Effect.void]))
    yield* Handlers.layer(service as never, handlers as never).pipe(
      Layer.provide(Layer.succeed(Transport.Transport, transport)),
      Layer.buildWithScope(scope),
      Effect.provideService(Random.Random, random)
    )
    return Effect.andThen(Scope.close(scope, Exit.void), Scripted.turns())
  })
  const ask = Effect.andThen(
    Effect.sync(() => memory.send("work", JSON.stringify(who), () => {})),
    Scripted.turns()
  )
  const pass = (millis: number) => Effect.andThen(TestClock.adjust(millis), Scripted.turns())
  /** What was said since it was asked last. */
  const news = () => said.splice(0)
  return { ask, begin, news, pass }
})

const timesOf = (said: ReadonlyArray<readonly [at: number, what: any]>) => said.map(([at]) => at)

describe("what a process says of being there", () => {
  it.effect("comes every two seconds, up to a tenth earlier or later", () =>
    Effect.gen(function* () {
      const throws = [0, 0.5, 0.999, 0, 0.5]
      const { begin, news, pass } = yield* announcing({ dice: () => throws.shift() ?? 0.5 })
      yield* begin(Work)
      for (let i = 0; i < 700; i++) yield* TestClock.adjust(10)
      yield* pass(0)
      const times = timesOf(news())
      const beats = times.slice(1).map((at, i) => at - times[i]!)
      assert.isAtLeast(beats.length, 3)
      for (const [i, beat] of [1_800, 2_000, 2_200].entries()) {
        assert.isTrue(beats[i]! >= beat - 10 && beats[i]! <= beat + 10, `${beats}`)
      }
    })
  )

  it.effect("is shared by those who ask within 50 ms of the last time, at the end of these", () =>
    Effect.gen(function* () {
      const { ask, begin, news, pass } = yield* announcing()
      yield* begin(Work)
      yield* pass(1_000)
      news()
      yield* ask
      assert.deepStrictEqual(timesOf(news()), [1_000])
      yield* pass(10)
      yield* ask
      yield* pass(10)
      yield* ask
      yield* ask
      yield* pass(20)
      yield* ask
      assert.deepStrictEqual(news(), [])
      yield* pass(10)
      assert.deepStrictEqual(timesOf(news()), [1_050])
      yield* pass(50)
      assert.deepStrictEqual(news(), [])
      yield* ask
      assert.deepStrictEqual(timesOf(news()), [1_100])
      // The beat begins anew with each of them.
      yield* pass(1_980)
      assert.deepStrictEqual(news(), [])
      yield* pass(30)
      assert.lengthOf(news(), 1)
    })
  )

  it.effect("is said once within a process, and to whoever asks, at once", () =>
    Effect.gen(function* () {
      const { ask, begin, news, pass } = yield* announcing({ capabilities: { inProcess: true } })
      yield* begin(Work)
      yield* pass(60_000)
      assert.lengthOf(news(), 1)
      yield* ask
      yield* ask
      assert.lengthOf(news(), 2)
      yield* pass(60_000)
      assert.deepStrictEqual(news(), [])
    })
  )

  it.effect("names all that its layers handle, as they come and go, until there is none", () =>
    Effect.gen(function* () {
      const { ask, begin, news, pass } = yield* announcing()
      const actions = () => news().map(([, what]) => what.actions ?? "gone")
      const first = yield* begin(Work)
      const second = yield* begin(Service.make("work", Action.make("other")))
      assert.deepStrictEqual(actions(), [
        ["do", "hold"],
        ["do", "hold", "other"]
      ])
      yield* first
      assert.deepStrictEqual(actions(), [["other"]])
      yield* second
      assert.deepStrictEqual(actions(), ["gone"])
      yield* pass(60_000)
      yield* ask
      assert.deepStrictEqual(news(), [])
      // And as before when it serves again.
      yield* begin(Work)
      assert.deepStrictEqual(actions(), [["do", "hold"]])
      yield* pass(2_010)
      assert.deepStrictEqual(actions(), [["do", "hold"]])
    })
  )

  it.effect("names the most envelopes of a frame, where its transport takes several", () =>
    Effect.gen(function* () {
      for (const [packs, pack] of [
        [true, 64],
        [false, undefined]
      ] as const) {
        const { begin, news } = yield* announcing({ capabilities: { packs } })
        yield* begin(Work)
        assert.strictEqual(news()[0]![1].pack, pack)
      }
    })
  )

  it.effect("is counted where it could not be said, and said again with the next beat", () =>
    Effect.gen(function* () {
      const registry: Metric.MetricRegistry = new Map()
      let broken = true
      const { begin, news, pass } = yield* announcing({ breaks: () => broken })
      yield* Effect.provideService(begin(Work), Metric.MetricRegistry, registry)
      yield* pass(2_010)
      assert.lengthOf(news(), 2)
      broken = false
      yield* pass(2_010)
      const counts = Array.from(registry.values())
        .filter(({ attributes }) => (attributes as Record<string, string>)?.["reason"] === "PresenceNotSent:Timeout")
        .map(({ hooks }) => (hooks.get(Context.empty()) as { readonly count: number }).count)
      assert.deepStrictEqual(counts, [2])
    })
  )
})

describe("a process that serves", () => {
  it.effect(
    "says so when it begins, every two seconds, and after a gap of its link; of what all handle it says nothing",
    () =>
      Effect.gen(function* () {
        const { link, said } = yield* setUp
        assert.lengthOf(said, 1)
        const [{ here }] = said
        assert.deepStrictEqual(said[0], { v: 1, here, actions: ["do", "hold"], texts: 1 })
        yield* TestClock.adjust("1 minute")
        yield* Scripted.turns()
        assert.isTrue(said.length >= 27 && said.length <= 35, `${said.length}`)
        const before = said.length
        link.change({ _tag: "Ready", gaps: 1 })
        yield* Scripted.turns()
        assert.lengthOf(said, before + 1)
        for (const one of said) assert.strictEqual(one.here, here)
      })
  )

  it.effect("answers a hundred who ask who is there with two announcements", () =>
    Effect.gen(function* () {
      const { said, say } = yield* setUp
      yield* TestClock.adjust("1 second")
      for (let i = 0; i < 100; i++) say("work", who)
      yield* Scripted.turns()
      assert.lengthOf(said, 2)
      yield* TestClock.adjust("100 millis")
      yield* Scripted.turns()
      assert.lengthOf(said, 3)
    })
  )

  it.effect("says that it takes no more when it begins to shut down, and gives signs of life until it has ended", () =>
    Effect.gen(function* () {
      const { begun, close, memory, release, said, say } = yield* setUp
      const [{ here }] = said
      const inbox = yield* Queue.unbounded<any>()
      yield* memory.subscribe({ _tag: "Channel", channel: "caller:x" }, (frame) => {
        Queue.offerUnsafe(inbox, JSON.parse(String(frame)))
      })
      const own = `work.instance:${here}`
      say(own, { action: "hold", reply_to: "caller:x", request_id: "1" })
      yield* begun
      const closed = yield* Effect.forkChild(close, { startImmediately: true })
      yield* Scripted.turns()
      assert.deepStrictEqual(said.at(-1), { v: 1, gone: here })
      say(own, { reply_to: "caller:x", fiberbus: { v: 1, probe: true } })
      assert.deepStrictEqual(yield* Queue.take(inbox), { fiberbus: { v: 1, up: here } })
      // It tells a caller who can go elsewhere that nobody else has it.
      say(own, { action: "do", reply_to: "caller:x", request_id: "2", fiberbus: { v: 1, timeout_ms: 1_000 } })
      const refused = yield* Queue.take(inbox)
      assert.deepInclude(refused.payload, { reason: { _tag: "Draining" }, started: "no" })
      assert.deepStrictEqual(refused.fiberbus, { v: 1, by: here, seq: 0, route: 1 })
      say("work", who)
      yield* release
      yield* Fiber.join(closed)
      yield* Scripted.turns()
      assert.deepStrictEqual(said.at(-1), { v: 1, gone: here })
      assert.strictEqual(
        yield* Effect.provideService(Transport.publish(own, JSON.stringify(who)), Transport.Transport, memory),
        0
      )
    })
  )

  it.effect("gives no sign of life to what is no inbox", () =>
    Effect.gen(function* () {
      const { memory, said, say } = yield* setUp
      const heard: Array<string> = []
      yield* memory.subscribe({ _tag: "Pattern", pattern: "*" }, (_, channel) => void heard.push(channel))
      for (const reply_to of ["work", "users", "caller:*", ""]) {
        say(`work.instance:${said[0].here}`, { reply_to, fiberbus: { v: 1, probe: true } })
      }
      yield* Scripted.turns()
      assert.deepStrictEqual([...new Set(heard)], [`work.instance:${said[0].here}`])
    })
  )
})
