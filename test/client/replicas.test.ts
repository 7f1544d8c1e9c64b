import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Result, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Balance, type CallError, Caller, Handlers, Memory, Retry, Service, Transport } from "fiberbus"
import * as Scripted from "../scripted.ts"

const Work = Service.make(
  "work",
  Action.make("who", { payload: { key: Schema.String }, success: Schema.Finite }),
  Action.make("hold", { success: Schema.Finite }),
  Action.make("keyed", { payload: { key: Schema.String }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Key, ({ key }: { readonly key: string }) => key)
  ),
  Action.make("heard", { payload: { n: Schema.Finite } })
)

interface Replica {
  readonly stop: Effect.Effect<void>
  readonly release: Effect.Effect<void>
  readonly begun: Effect.Effect<void>
}

/** Replicas that answer with their number, each with a transport of its own, and a transport for callers. */
const fleet = Effect.gen(function* () {
  const broker = Memory.makeBroker()
  const heard: Array<number> = []
  const start = Effect.fnUntraced(function* (n: number, options?: Parameters<typeof Handlers.layer>[2]) {
    const release = yield* Deferred.make<void>()
    const begun = yield* Queue.unbounded<void>()
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Handlers.layer(
      Work,
      {
        who: () => Effect.succeed(n),
        keyed: () => Effect.succeed(n),
        hold: () => Queue.offer(begun, undefined).pipe(Effect.andThen(Deferred.await(release)), Effect.as(n)),
        heard: (payload) => Effect.sync(() => void heard.push(payload.n))
      },
      options
    ).pipe(Layer.provide(Memory.layerOptions({ broker })), Layer.fresh, Layer.buildWithScope(scope))
    const replica: Replica = {
      stop: Scope.close(scope, Exit.void),
      release: Effect.asVoid(Deferred.succeed(release, undefined)),
      begun: Queue.take(begun)
    }
    return replica
  })
  return { broker, start, heard, transport: Memory.make({ broker }) }
})

const calling = Effect.fnUntraced(function* (transport: Transport.Transport["Service"], options?: Caller.Options) {
  const work = yield* Effect.provideService(Caller.make(Work, options), Transport.Transport, transport)
  // Its question, and their answers.
  yield* Scripted.turns()
  return work
})

const many = <A, E>(count: number, call: (n: number) => Effect.Effect<A, E>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    call
  )

const counts = (answers: ReadonlyArray<number>) => [1, 2, 3].map((n) => answers.filter((answer) => answer === n).length)

const reasonOf = <A>(call: Effect.Effect<A, CallError.CallError>) =>
  Effect.map(Effect.flip(call), ({ reason, started }) => [reason._tag, started])

describe("a service with three replicas", () => {
  it.effect("has each request handled by one of them, whether its caller knows them or not", () =>
    Effect.gen(function* () {
      const { heard, start, transport } = yield* fleet
      for (const n of [1, 2, 3]) yield* start(n)
      const work = yield* Effect.provideService(Caller.make(Work), Transport.Transport, transport)
      // The first ones go to all of them, the rest to one each.
      yield* many(100, (n) => work.heard({ n }))
      yield* many(100, (n) => work.heard.send({ n: 100 + n }))
      const replies = yield* Queue.unbounded<string>()
      yield* transport.subscribe({ _tag: "Channel", channel: "caller:daebus" }, (frame) => {
        Queue.offerUnsafe(replies, JSON.parse(String(frame)).request_id)
      })
      for (let n = 200; n < 300; n++) {
        const frame = { action: "heard", payload: { n }, reply_to: "caller:daebus", request_id: `r${n}` }
        transport.send("work", JSON.stringify(frame), () => {})
      }
      yield* Queue.takeBetween(replies, 100, 100)
      // Without an id and a reply: told apart by what they say, and how often.
      for (let i = 0; i < 50; i++)
        transport.send("work", JSON.stringify({ action: "heard", payload: { n: 300 } }), () => {})
      yield* Scripted.turns()
      assert.strictEqual(yield* Queue.size(replies), 0)
      const expected = [...Array.from({ length: 300 }, (_, n) => n), ...Array.from({ length: 50 }, () => 300)]
      assert.deepStrictEqual(
        [...heard].sort((a, b) => a - b),
        expected
      )
    })
  )

  it.effect("is asked by turns, by load, or by chance between two", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      const [one] = yield* Effect.forEach([1, 2, 3], (n) => start(n))
      const turns = yield* calling(transport, { balance: Balance.roundRobin })
      assert.deepStrictEqual(counts(yield* many(30, () => turns.who({ key: "" }))), [10, 10, 10])
      const chance = yield* calling(transport)
      for (const count of counts(yield* many(300, () => chance.who({ key: "" })))) assert.isAbove(count, 20)
      const least = yield* calling(transport, { balance: Balance.leastPending })
      const held = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(least.hold()))
      // Each has one, as none has two before all have one.
      yield* one!.begun
      yield* one!.release
      const busy = yield* Effect.forEach([1, 2], () => Effect.forkChild(least.hold()))
      assert.strictEqual(yield* Fiber.join(busy[0]!), 1)
      yield* Fiber.interruptAll([...held, ...busy])
    })
  )

  it.effect("has the requests of one key handled by one replica, also when another one leaves", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      const replicas = yield* Effect.forEach([1, 2, 3], (n) => start(n))
      const work = yield* calling(transport)
      const owners = yield* many(200, (n) => work.keyed({ key: `k${n}` }))
      assert.deepStrictEqual(yield* many(200, (n) => work.keyed({ key: `k${n}` })), owners)
      for (const count of counts(owners)) assert.isAbove(count, 20)
      // A key of the call, for an action that has none.
      const byKey = yield* calling(transport, { balance: Balance.byKey })
      assert.deepStrictEqual(yield* many(200, (n) => byKey.who({ key: "" }, { key: `k${n}` })), owners)
      yield* replicas[2]!.stop
      yield* Scripted.turns()
      for (const [n, owner] of owners.entries()) {
        const now = yield* work.keyed({ key: `k${n}` })
        if (owner !== 3) assert.strictEqual(now, owner)
        else assert.notStrictEqual(now, 3)
      }
    })
  )

  it.effect("is gathered from: what each of them answers", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      yield* Effect.forEach([1, 2, 3], (n) => start(n))
      // Not waited for before: it waits for them itself.
      const work = yield* Effect.provideService(Caller.make(Work), Transport.Transport, transport)
      const all = yield* work.who.gather({ key: "" })
      assert.deepStrictEqual(all.map(({ result }) => Result.getOrThrow(result)).sort(), [1, 2, 3])
      assert.strictEqual(new Set(all.map(({ instance }) => instance)).size, 3)
      for (const { instance, result } of all) {
        assert.strictEqual(yield* work.who({ key: "" }, { instance }), Result.getOrThrow(result))
      }
      const some = yield* Effect.forkChild(work.hold.gather({ timeout: "1 second" }))
      yield* Scripted.turns()
      yield* TestClock.adjust("2 seconds")
      for (const { result } of yield* Fiber.join(some)) {
        assert.strictEqual(Result.isFailure(result) && result.failure.reason._tag, "DeadlineExceeded")
      }
      const nobody = yield* Effect.provideService(
        Caller.make(Service.make("nobody", Action.make("x"))),
        Transport.Transport,
        transport
      )
      assert.deepStrictEqual(yield* nobody.x.gather(), [])
    })
  )

  it.effect("has requests for a replica that is gone refused, and those for any go to another", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      const replicas = yield* Effect.forEach([1, 2], (n) => start(n))
      const work = yield* calling(transport)
      const [first, second] = yield* work.who.gather({ key: "" })
      const gone = Result.getOrThrow(first!.result) === 1 ? first! : second!
      yield* replicas[0]!.stop
      assert.deepStrictEqual(yield* reasonOf(work.who({ key: "" }, { instance: gone.instance })), [
        "NoResponders",
        "no"
      ])
      assert.deepStrictEqual(
        yield* many(20, () => work.who({ key: "" })),
        Array.from({ length: 20 }, () => 2)
      )
    })
  )

  it.effect("has what a replica would not begin, as it shuts down, handled by another, without any policy", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      const leaving = yield* start(1, { concurrency: 1 })
      const work = yield* calling(transport)
      const running = yield* Effect.forkChild(work.hold())
      yield* leaving.begun
      const waiting = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(work.who({ key: "" })))
      yield* Scripted.turns()
      yield* start(2)
      yield* Scripted.turns()
      const stopped = yield* Effect.forkChild(leaving.stop, { startImmediately: true })
      assert.deepStrictEqual(yield* Effect.forEach(waiting, Fiber.join), [2, 2, 2])
      yield* leaving.release
      // What had begun there ends there.
      assert.strictEqual(yield* Fiber.join(running), 1)
      yield* Fiber.join(stopped)
    })
  )

  it.effect("is asked elsewhere by a retry, where one of them is busy", () =>
    Effect.gen(function* () {
      const { start, transport } = yield* fleet
      const full = yield* start(1, { concurrency: 1, backlog: 0 })
      yield* start(2)
      const work = yield* calling(transport, { balance: Balance.roundRobin })
      const instances = yield* work.who.gather({ key: "" })
      const [busy] = instances.filter(({ result }) => Result.getOrThrow(result) === 1)
      const running = yield* Effect.forkChild(work.hold({ instance: busy!.instance }))
      yield* full.begun
      const retrying = yield* calling(transport, { policies: [Retry.policy()], balance: firstOf(1, instances) })
      const answer = yield* Effect.forkChild(retrying.who({ key: "" }))
      yield* Scripted.turns()
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(answer), 2)
      yield* full.release
      yield* Fiber.join(running)
    })
  )

  it.effect("of different actions gets requests only where they are known", () =>
    Effect.gen(function* () {
      const { start, transport, broker } = yield* fleet
      yield* start(1)
      const Other = Service.make("work", Action.make("other", { success: Schema.String }))
      yield* Handlers.layer(Other, { other: () => Effect.succeed("here") }).pipe(
        Layer.provide(Memory.layerOptions({ broker })),
        Layer.fresh,
        Layer.build
      )
      const work = yield* calling(transport)
      const other = yield* Effect.provideService(Caller.make(Other), Transport.Transport, transport)
      for (let i = 0; i < 20; i++) {
        assert.strictEqual(yield* other.other(), "here")
        assert.strictEqual(yield* work.who({ key: "" }), 1)
      }
    })
  )

  it.effect("is handled by all where it is served live, and answered by the first", () =>
    Effect.gen(function* () {
      const { heard, start, transport } = yield* fleet
      for (const n of [1, 2, 3]) yield* start(n, { delivery: "live" })
      const work = yield* calling(transport)
      yield* work.heard({ n: 7 })
      yield* Scripted.turns()
      assert.deepStrictEqual(heard, [7, 7, 7])
    })
  )
})

/** The replica with that number, as long as it may be chosen. */
const firstOf = (
  n: number,
  instances: ReadonlyArray<Caller.Gathered<(typeof Work)["actions"]["who"]>>
): Balance.Balance => ({
  begin: () => (candidates) => {
    const by = instances.find(({ result }) => Result.getOrThrow(result) === n)!.instance
    return Math.max(
      0,
      candidates.findIndex((candidate) => candidate.by === by)
    )
  }
})

describe("a replica that says nothing any more", () => {
  /** A service whose frames a test writes, over a transport on which silence counts. */
  const fakedOver = Effect.fnUntraced(function* (besides: Partial<Transport.Transport["Service"]>) {
    const memory = Memory.make()
    const { inProcess: _, ...capabilities } = memory.capabilities
    const gone = new Set<string>()
    const noticed = yield* Queue.unbounded<void>()
    const transport: Transport.Transport["Service"] = {
      ...memory,
      ...besides,
      capabilities,
      send: (channel, frame, sent, pack) => {
        if (!gone.has(channel)) return memory.send(channel, frame, sent, pack)
        sent(undefined, 0)
        Queue.offerUnsafe(noticed, undefined)
      }
    }
    const requests = yield* Queue.unbounded<{ readonly by: string; readonly frame: any }>()
    const probes: Array<string> = []
    const silent = new Set<string>()
    const say = (channel: string, frame: object) => memory.send(channel, JSON.stringify(frame), () => {})
    const here = (by: string) => say("work.instances", { fiberbus: { v: 1, here: by } })
    for (const by of ["a", "b"]) {
      yield* memory.subscribe({ _tag: "Channel", channel: `work.instance:${by}` }, (text) => {
        const frame = JSON.parse(String(text))
        if (frame.fiberbus?.probe) {
          probes.push(by)
          if (!silent.has(by)) say(frame.reply_to, { fiberbus: { v: 1, up: by } })
        } else if (frame.action !== undefined) Queue.offerUnsafe(requests, { by, frame })
      })
    }
    const work = yield* Effect.provideService(Caller.make(Work), Transport.Transport, transport)
    yield* Scripted.turns()
    here("a")
    yield* Scripted.turns()
    const passes = (steps: number, beating: ReadonlyArray<string>) =>
      Effect.forEach(Array.from({ length: steps }), (_, i) => {
        if (i % 8 === 0) for (const by of beating) here(by)
        return Effect.andThen(TestClock.adjust(250), Scripted.turns(5))
      })
    return { gone, here, noticed, passes, probes, requests, say, silent, work }
  })
  const faked = fakedOver({})
  /** Calls it, has it leave without a word, and waits until that has been noticed. */
  const left = Effect.fnUntraced(function* (besides: Partial<Transport.Transport["Service"]>) {
    const { gone, noticed, requests, say, work } = yield* fakedOver(besides)
    const call = yield* Effect.forkChild(Effect.result(work.who({ key: "" }, { timeout: "1 minute" })))
    const { frame } = yield* Queue.take(requests)
    gone.add("work.instance:a")
    while ((yield* Queue.size(noticed)) === 0) yield* Effect.andThen(TestClock.adjust(50), Scripted.turns())
    const answer = () =>
      say(frame.reply_to, { status: "success", payload: 5, request_id: frame.request_id, final: true })
    return { answer, call }
  })
  const apart = { linkOf: () => undefined }

  it.effect("has had its last word where one broker tells of its absence and brings its answers", () =>
    Effect.gen(function* () {
      const { call } = yield* left({})
      const ended = yield* Fiber.join(call)
      assert.isTrue(Result.isFailure(ended) && ended.failure.reason._tag === "ConnectionLost")
    })
  )

  it.effect("is waited for where its answers come by another broker than the one that tells of its absence", () =>
    Effect.gen(function* () {
      const { answer, call } = yield* left(apart)
      assert.isUndefined(call.pollUnsafe())
      answer()
      assert.deepStrictEqual(yield* Fiber.join(call), Result.succeed(5))
    })
  )

  it.effect("is not waited for in vain: what that broker has given out has come, whether it can be asked or not", () =>
    Effect.gen(function* () {
      for (const barrier of [(done: (passed: boolean) => void) => done(false), undefined]) {
        const { call } = yield* left({ ...apart, barrier: barrier as never })
        yield* TestClock.adjust(250)
        const ended = yield* Fiber.join(call)
        assert.isTrue(Result.isFailure(ended) && ended.failure.reason._tag === "ConnectionLost")
      }
      const asked: Array<(passed: boolean) => void> = []
      const { answer, call } = yield* left({ ...apart, barrier: (done) => void asked.push(done) })
      yield* TestClock.adjust(250)
      yield* Scripted.turns()
      assert.lengthOf(asked, 1)
      assert.isUndefined(call.pollUnsafe())
      answer()
      yield* Scripted.turns()
      asked[0]!(true)
      assert.deepStrictEqual(yield* Fiber.join(call), Result.succeed(5))
    })
  )

  it.effect("is asked for a sign while it has calls, and keeps them as long as it gives it", () =>
    Effect.gen(function* () {
      const { passes, probes, requests, say, work } = yield* faked
      const call = yield* Effect.forkChild(work.who({ key: "" }, { timeout: "1 minute" }))
      const { frame } = yield* Queue.take(requests)
      yield* passes(60, [])
      assert.isAbove(probes.length, 20)
      say(frame.reply_to, { status: "success", payload: 5, request_id: frame.request_id, final: true })
      assert.strictEqual(yield* Fiber.join(call), 5)
    })
  )

  it.effect("gets no new calls after a second, and loses those it has after some more", () =>
    Effect.gen(function* () {
      const { here, passes, requests, silent, work } = yield* faked
      const call = yield* Effect.forkChild(reasonOf(work.who({ key: "" }, { timeout: "1 minute" })))
      assert.strictEqual((yield* Queue.take(requests)).by, "a")
      here("b")
      silent.add("a")
      yield* passes(8, ["b"])
      assert.isUndefined(call.pollUnsafe())
      const others = yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.forkChild(work.who({ key: "" })))
      for (const _ of others) assert.strictEqual((yield* Queue.take(requests)).by, "b")
      yield* passes(24, ["b"])
      assert.deepStrictEqual(yield* Fiber.join(call), ["ConnectionLost", "unknown"])
      yield* Fiber.interruptAll(others)
    })
  )

  it.effect("is forgotten without calls as well, so that requests go to all again", () =>
    Effect.gen(function* () {
      const { passes, requests, silent, work } = yield* faked
      silent.add("a")
      yield* passes(40, [])
      assert.deepStrictEqual(yield* reasonOf(work.who({ key: "" })), ["NoResponders", "no"])
      assert.strictEqual(yield* Queue.size(requests), 0)
    })
  )
})

describe("what callers believe of replicas", () => {
  /** Announces processes that nobody runs. */
  const announce = (transport: Transport.Transport["Service"], ghosts: ReadonlyArray<string>) => {
    for (const here of ghosts) {
      transport.send("work.instances", JSON.stringify({ fiberbus: { v: 1, here } }), () => {})
    }
  }

  it.effect("is true for each action, however many have been named before", () =>
    Effect.gen(function* () {
      const { heard, start, transport } = yield* fleet
      const dynamic = yield* Effect.provideService(Caller.dynamic("work"), Transport.Transport, transport)
      yield* many(1_100, (n) => Effect.flip(dynamic.call(`unknown${n}`)))
      yield* Scripted.turns()
      announce(transport, ["ghost"])
      yield* Scripted.turns()
      const work = yield* calling(transport)
      yield* start(1)
      yield* Scripted.turns()
      assert.strictEqual(yield* work.who({ key: "" }), 1)
      announce(transport, ["ghost"])
      yield* Scripted.turns()
      yield* many(20, (n) => dynamic.send("heard", { n }))
      assert.deepStrictEqual(
        [...heard].sort((a, b) => a - b),
        Array.from({ length: 20 }, (_, n) => n)
      )
      assert.deepStrictEqual(yield* many(3, () => work.who({ key: "" })), [1, 1, 1])
      assert.strictEqual((yield* work.who.gather({ key: "" })).length, 1)
    })
  )

  it.effect("may be wrong of more processes than one call tries: then it goes to all", () =>
    Effect.gen(function* () {
      const { heard, start, transport } = yield* fleet
      const work = yield* calling(transport)
      const ghosts = Array.from({ length: 1_024 }, (_, n) => `ghost${n}`)
      announce(transport, ghosts)
      yield* start(1)
      yield* Scripted.turns()
      assert.strictEqual(yield* work.who({ key: "" }), 1)
      const sent: Array<string> = []
      const { send } = transport
      const counting = {
        ...transport,
        send: (...args: Parameters<typeof send>) => {
          sent.push(args[0])
          send(...args)
        }
      }
      const other = yield* calling(counting)
      announce(transport, ghosts)
      yield* Scripted.turns()
      sent.length = 0
      yield* other.heard.send({ n: 1 })
      yield* Scripted.turns()
      assert.deepStrictEqual(heard, [1])
      assert.isAtMost(sent.length, 16)
    })
  )

  it.effect("follows what a process says of its actions, also where the names read alike", () =>
    Effect.gen(function* () {
      const { transport } = yield* fleet
      const asked: Array<string> = []
      yield* transport.subscribe({ _tag: "Channel", channel: "work.instance:a" }, () => void asked.push("a"))
      yield* transport.subscribe({ _tag: "Channel", channel: "work" }, (frame) => {
        if (JSON.parse(String(frame)).action !== undefined) asked.push("all")
      })
      const dynamic = yield* Effect.provideService(Caller.dynamic("work"), Transport.Transport, transport)
      yield* Scripted.turns()
      const here = (actions: ReadonlyArray<string>) =>
        transport.send("work.instances", JSON.stringify({ fiberbus: { v: 1, here: "a", actions } }), () => {})
      here(["one two"])
      yield* Scripted.turns()
      yield* dynamic.send("one")
      here(["one", "two"])
      yield* Scripted.turns()
      yield* dynamic.send("one")
      assert.deepStrictEqual(asked, ["all", "a"])
    })
  )
})
