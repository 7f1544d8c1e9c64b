import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Handlers, Memory, Service, Transport } from "fiberbus"
import * as LinkState from "../../src/transport/LinkState.ts"
import * as Scripted from "../scripted.ts"

const Work = Service.make("work", Action.make("do"), Action.make("hold"))
const Heard = Service.make("heard", Action.make("go").pipe(Action.annotate(Action.Delivery, "live")))

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

const who = { fiberbus: { v: 1, who: true } }

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
