import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Layer,
  Logger,
  Metric,
  Queue,
  References,
  Schema,
  Scope,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import { Action, Durable, Handlers, Listener, Memory, Request, Response, Service, Topic, Transport } from "fiberbus"
import type { Options } from "../../src/server/Options.ts"
import * as Scripted from "../scripted.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}
class Told extends Schema.TaggedError<Told>()("Told", { message: Schema.String }) {}

const Work = Service.make(
  "work",
  Action.make("do", { payload: Schema.Any, success: Schema.Any, error: Schema.Any, progress: Schema.Any }),
  Action.make("number", { payload: Schema.Any, success: Schema.Struct({ at: Schema.Array(Schema.Finite) }) }),
  Action.make("declared", { payload: Schema.Any, error: Schema.Union([Declined, Told]) }),
  Action.make("read", { payload: { n: Schema.Finite } }),
  Action.make("watch", { items: Schema.Finite }),
  Action.make("talk", {
    payload: Schema.Any,
    success: Schema.Any,
    asks: { double: { ask: Schema.Finite, answer: Schema.Finite } }
  })
)

type Tools = Handlers.Tools<any, any>
interface Given {
  /** What each action does. */
  readonly do?: (payload: any, tools: Tools) => Effect.Effect<any, any>
  readonly number?: () => Effect.Effect<any>
  readonly declared?: () => Effect.Effect<void, any>
  readonly watch?: () => Stream.Stream<number>
  readonly talk?: (payload: any, tools: Tools) => Effect.Effect<any, any>
}

interface Line {
  readonly text: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** A service whose frames a test writes and reads by hand. */
const setUp = Effect.fnUntraced(function* (given: Given, options: Options = {}, memoryOptions?: Memory.Options) {
  const memory = Memory.make(memoryOptions)
  const frames: Array<any> = []
  let asked = 0
  const sent: Array<{ readonly channel: string; readonly packs: unknown }> = []
  const state = { throws: false }
  const transport: Transport.Transport["Service"] = {
    ...memory,
    send: (channel, frame, done, packs) => {
      if (channel.startsWith("caller:")) {
        if (state.throws) throw new Error("what no transport may do")
        sent.push({ channel, packs })
      }
      memory.send(channel, frame, done, packs)
    }
  }
  yield* memory.subscribe({ _tag: "Channel", channel: "caller:x" }, (frame) => {
    frames.push(JSON.parse(String(frame)))
  })
  const registry: Metric.MetricRegistry = new Map()
  const lines: Array<Line> = []
  const logger = Logger.make(({ fiber, message }) => {
    const text = String(Array.isArray(message) ? message[0] : message)
    lines.push({ text, annotations: fiber.getRef(References.CurrentLogAnnotations) })
  })
  const idle = () => Effect.void
  const scope = yield* Scope.make()
  const build = <A, E, R>(layer: Layer.Layer<A, E, R>, into: Scope.Scope = scope) =>
    Layer.buildWithScope(Layer.provide(layer, Layer.succeed(Transport.Transport, transport)), into).pipe(
      Effect.provideService(Metric.MetricRegistry, registry),
      Effect.provide(Logger.layer([logger]))
    )
  yield* build(
    Handlers.layer(
      Work,
      { do: idle, number: idle, declared: idle, read: idle, watch: () => Stream.empty, talk: idle, ...given } as never,
      { grace: 0, ...options }
    )
  )
  yield* Scripted.turns()
  return {
    build,
    lines,
    memory,
    sent,
    state,
    /** Sends a request, and gives what has come back when all is quiet. */
    ask: (action: string, more: object = {}) =>
      Effect.suspend(() => {
        const channel = "channel" in more ? String(more.channel) : "work"
        // The same frame would be the same request.
        const frame = { action, payload: {}, request_id: `${++asked}`, reply_to: "caller:x", ...more }
        memory.send(channel, JSON.stringify(frame), () => {})
        return Effect.map(Scripted.turns(), () => frames.splice(0))
      }),
    say: (frame: object, channel = "work") =>
      Effect.suspend(() => {
        memory.send(channel, JSON.stringify(frame), () => {})
        return Effect.map(Scripted.turns(), () => frames.splice(0))
      }),
    news: Effect.andThen(
      Scripted.turns(),
      Effect.sync(() => frames.splice(0))
    ),
    close: Scope.close(scope, Exit.void),
    dropped: (reason: string) => {
      for (const { attributes, hooks, id } of registry.values()) {
        if (id === "fiberbus_discarded_total" && (attributes as Record<string, string>)["reason"] === reason)
          return (hooks.get(Context.empty()) as { readonly count: number }).count
      }
      return 0
    }
  }
})

const reasonOf = ({ payload, status }: any) => [status, payload.reason?._tag, payload.started]

describe("an answer", () => {
  it.effect("bears the id as it came, and the request tells it as text", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({ do: () => Effect.map(Request.current, ({ id }) => id) })
      for (const [id, text] of [
        ["a", "a"],
        [7, "7"],
        [{ n: [1] }, '{"n":[1]}'],
        [null, ""]
      ] as const) {
        const [answer] = yield* ask("do", { request_id: id })
        assert.deepStrictEqual([answer.request_id, answer.payload], [id, text])
        assert.deepStrictEqual(Object.keys(answer), ["status", "payload", "request_id", "final"])
      }
    })
  )

  it.effect("that is an error says what the error says of itself, or its tag with its fields", () =>
    Effect.gen(function* () {
      let error: unknown
      const { ask } = yield* setUp({ do: () => Effect.fail(error) })
      for (const [failure, text] of [
        [{ error: "one", message: "two" }, "one"],
        [{ error: "", message: "two" }, "two"],
        [{ error: 1, message: 2, _tag: "Odd", n: 3 }, 'Odd {"error":1,"message":2,"n":3}'],
        ["three", "three"],
        ["", '""'],
        [{ _tag: "Bare" }, "Bare"],
        [{ n: 4 }, '{"n":4}'],
        [null, "null"],
        [5, "5"]
      ] as const) {
        error = failure
        const [answer] = yield* ask("do")
        assert.deepStrictEqual([answer.status, answer.payload], ["error", { error: text, failure }])
      }
      error = undefined
      const [nothing] = yield* ask("do")
      assert.deepStrictEqual(nothing.payload, { error: "undefined" })
    })
  )

  it.effect("of a declared error is written by its schema, its text by what it says", () =>
    Effect.gen(function* () {
      let error: Declined | Told = new Declined({ why: "no money" })
      const { ask } = yield* setUp({ declared: () => Effect.fail(error) })
      const [declined] = yield* ask("declared")
      assert.deepStrictEqual(declined.payload, {
        error: 'Declined {"why":"no money"}',
        failure: { _tag: "Declined", why: "no money" }
      })
      error = new Told({ message: "come later" })
      const [told] = yield* ask("declared")
      assert.strictEqual(told.payload.error, "come later")
    })
  )

  it.effect("is missing where the handler said to answer by hand and did not, which the caller is told", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({
        do: ({ by }) => (by === undefined ? Effect.succeed(Response.sent) : Response.send(by))
      })
      assert.deepStrictEqual((yield* ask("do"))[0].payload, {
        error: "the handler ended without an answer",
        started: "yes"
      })
      const all = yield* ask("do", { payload: { by: "hand" } })
      assert.deepStrictEqual(
        all.map(({ final, payload, status }) => [status, payload, final]),
        [["success", "hand", true]]
      )
    })
  )

  it.effect("by hand may be an error, final or as a warning on the way, cut to a thousand characters", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({
        do: () =>
          Effect.andThen(Response.error("soon", { final: false }), Response.error("x".repeat(2_000), { final: true }))
      })
      const [warning, error, ...more] = yield* ask("do")
      assert.deepStrictEqual([warning.status, warning.payload, warning.final], ["error", { error: "soon" }, false])
      assert.deepStrictEqual([error.status, error.final], ["error", true])
      assert.isAtMost(error.payload.error.length, 1_000)
      assert.deepStrictEqual(more, [])
    })
  )

  it.effect(
    "that does not fit its contract is the service's bug: the log says where, the caller gets an id of it",
    () =>
      Effect.gen(function* () {
        const { ask, lines } = yield* setUp({ number: () => Effect.succeed({ at: [1, "secret"] }) })
        const [answer] = yield* ask("number")
        assert.deepStrictEqual(reasonOf(answer), ["error", "RemoteDefect", "yes"])
        const { id } = answer.payload.reason
        const line = lines.find(({ text }) => text.includes(id))!
        assert.include(line.text, 'the result of work.number does not fit its success schema at ["at"]["1"]')
        assert.notInclude(line.text, "secret")
        assert.deepStrictEqual(line.annotations["defectId"], id)
        assert.notInclude(JSON.stringify(answer), "secret")
      })
  )

  it.effect("is a defect's id where the handler dies, and nothing of it besides", () =>
    Effect.gen(function* () {
      const { ask, lines } = yield* setUp({ do: () => Effect.die(new Error("a secret bug")) })
      const [answer] = yield* ask("do")
      assert.deepStrictEqual(reasonOf(answer), ["error", "RemoteDefect", "yes"])
      assert.notInclude(JSON.stringify(answer), "secret")
      const { id } = answer.payload.reason
      const [line] = lines.filter(({ text }) => text.includes(id))
      assert.strictEqual(line!.text, `fiberbus: handler of work.do died (${id})`)
      assert.deepInclude(line!.annotations, { defectId: id, service: "work", action: "do", requestId: "1" })
    })
  )

  it.effect("is that of a handler that interrupts itself, too", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({ do: () => Effect.interrupt })
      assert.deepStrictEqual(reasonOf((yield* ask("do"))[0]), ["error", "RemoteDefect", "yes"])
    })
  )

  it.effect("is made of what is nested as deep as a caller reads, and deeper it is the service's bug", () =>
    Effect.gen(function* () {
      const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)])
      let value: unknown
      const { ask, lines } = yield* setUp({
        do: ({ fails }) => (fails ? Effect.fail(value) : Effect.succeed(value))
      })
      const isRead = (fails: boolean) =>
        Effect.map(ask("do", { payload: { fails } }), ([{ payload }]) => payload.reason === undefined)
      for (const fails of [false, true]) {
        let deepest = 0
        for (let depth = 40; depth <= 140; depth++) {
          value = nested(depth)
          if (yield* isRead(fails)) deepest = depth
        }
        // All up to it, and none beyond: an error has a field more around it.
        value = nested(deepest)
        assert.isTrue(yield* isRead(fails))
        value = nested(deepest + 1)
        assert.isFalse(yield* isRead(fails))
        assert.isAbove(deepest, 40)
        // Beside a large text it is no other.
        value = { text: "x".repeat(40_000), nested: nested(deepest - 1) }
        assert.isTrue(yield* isRead(fails))
        value = { text: "x".repeat(40_000), nested: nested(deepest) }
        assert.isFalse(yield* isRead(fails))
      }
      assert.isTrue(lines.every(({ text }) => text.includes("died")))
    })
  )

  it.effect("is whole where it is large, and says that it is too large beyond the limit of a frame", () =>
    Effect.gen(function* () {
      const { ask, lines } = yield* setUp(
        { do: ({ length }) => Effect.succeed({ text: "x".repeat(length) }) },
        {},
        { maxFrameBytes: 100_000 }
      )
      const [whole] = yield* ask("do", { payload: { length: 90_000 }, request_id: "a" })
      assert.deepStrictEqual([whole.status, whole.payload.text.length, whole.request_id], ["success", 90_000, "a"])
      for (const length of [100_000, 20_000_000]) {
        const [large, ...more] = yield* ask("do", { payload: { length }, request_id: "a" })
        assert.deepStrictEqual(reasonOf(large), ["error", "PayloadTooLarge", "yes"])
        assert.deepInclude(large.payload.reason, { what: "reply", maxBytes: 100_000 })
        assert.isTrue(large.payload.reason.bytes > length && large.payload.reason.bytes < length + 200)
        assert.deepStrictEqual([large.final, large.request_id, more], [true, "a", []])
      }
      assert.isTrue(lines.some(({ text }) => text.startsWith("fiberbus: work.do: ")))
    })
  )

  it.effect("says whose it is, and which attempt it answers, to callers that count what comes", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({ do: (_, { progress }) => Effect.as(progress("step"), "end") })
      const said = (fiberbus: object) => Effect.map(ask("do", { fiberbus }), (all) => all.map((one) => one.fiberbus))
      assert.deepStrictEqual(yield* said({ v: 1, timeout_ms: 1_000 }), [undefined, undefined])
      const [step, end] = yield* said({ v: 1, timeout_ms: 1_000, credit: 5 })
      const { by } = end
      assert.deepStrictEqual(step, { v: 1, by, seq: 0 })
      assert.deepStrictEqual(end, { v: 1, by, seq: 1 })
      const again = yield* said({ v: 1, timeout_ms: 1_000, credit: 5, attempt: 2 })
      assert.deepStrictEqual(again, [
        { v: 1, by, seq: 0, attempt: 2 },
        { v: 1, by, seq: 1, attempt: 2 }
      ])
      assert.deepStrictEqual(yield* said({ v: 1, answers: true, timeout_ms: 1_000 }), [
        { v: 1, by, seq: 0 },
        { v: 1, by, seq: 0 }
      ])
    })
  )

  it.effect("never goes to where its own process listens, also where it may go to any channel", () =>
    Effect.gen(function* () {
      const { ask, build, dropped, memory, news, say } = yield* setUp({}, { replyTo: "any" })
      const heard: Array<string> = []
      yield* memory.subscribe({ _tag: "Channel", channel: "elsewhere" }, () => void heard.push("elsewhere"))
      yield* memory.subscribe({ _tag: "Channel", channel: "work.instances" }, (frame) => {
        heard.push(JSON.parse(String(frame)).fiberbus.here)
      })
      yield* say({ fiberbus: { v: 1, who: true } })
      const [instance] = heard.splice(0)
      const to = (reply_to: string) => ask("do", { reply_to, request_id: reply_to })
      yield* to("elsewhere")
      assert.deepStrictEqual(heard, ["elsewhere"])
      for (const own of ["work", `work.instance:${instance}`, `other.instance:${instance}`]) yield* to(own)
      assert.strictEqual(dropped("ReplyToRefused"), 3)
      // While it listens there.
      const Elsewhere = Topic.make("elsewhere", Schema.Any as never)
      for (const [request_id, pattern] of [
        ["2", Elsewhere],
        ["3", Topic.make("else*", Schema.Any as never)]
      ] as const) {
        const scope = yield* Scope.make()
        yield* build(
          Listener.layer(pattern as typeof Elsewhere, () => Effect.void),
          scope
        )
        const refused = dropped("ReplyToRefused")
        yield* ask("do", { reply_to: "elsewhere", request_id })
        assert.strictEqual(dropped("ReplyToRefused"), refused + 1)
        heard.splice(0)
        yield* Scope.close(scope, Exit.void)
        yield* ask("do", { reply_to: "elsewhere", request_id: `${request_id} later` })
        assert.deepStrictEqual(heard, ["elsewhere"])
      }
      assert.deepStrictEqual(yield* news, [])
    })
  )

  it.effect("may share a frame with others where its caller takes that", () =>
    Effect.gen(function* () {
      const { ask, sent } = yield* setUp({})
      yield* ask("do", { fiberbus: { v: 1, timeout_ms: 1_000, packs: 64 } })
      yield* ask("do", { fiberbus: { v: 1, timeout_ms: 1_000 } })
      assert.deepStrictEqual(
        sent.map(({ packs }) => packs),
        [true, false]
      )
    })
  )
})

describe("a step", () => {
  it.effect("that is too large ends the call, stops its handler, and nothing comes after it", () =>
    Effect.gen(function* () {
      const stopped = yield* Deferred.make<void>()
      const { ask, news, dropped } = yield* setUp(
        {
          do: (_, { progress }) =>
            progress("small").pipe(
              Effect.andThen(progress("x".repeat(3_000))),
              Effect.andThen(progress("after")),
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Deferred.succeed(stopped, undefined))
            )
        },
        { concurrency: 1, backlog: 0 },
        { maxFrameBytes: 2_000 }
      )
      const all = yield* ask("do")
      yield* Deferred.await(stopped)
      assert.deepStrictEqual(
        all.map(({ final, payload }) => [payload.reason?._tag ?? payload, final]),
        [
          ["small", false],
          ["PayloadTooLarge", true]
        ]
      )
      assert.deepStrictEqual(yield* news, [])
      assert.strictEqual(all[1].payload.started, "yes")
      // Its slot is free.
      assert.strictEqual((yield* ask("number"))[0].payload.reason._tag, "RemoteDefect")
      assert.strictEqual(dropped("FailedUnheard"), 0)
    })
  )

  it.effect("to a one-way message goes nowhere, and its handler on", () =>
    Effect.gen(function* () {
      const done = yield* Deferred.make<void>()
      const { ask, sent } = yield* setUp({
        do: (_, { progress }) => Effect.andThen(progress(1), Deferred.succeed(done, undefined))
      })
      assert.deepStrictEqual(yield* ask("do", { reply_to: undefined, request_id: undefined }), [])
      yield* Deferred.await(done)
      assert.deepStrictEqual(sent, [])
    })
  )

  it.effect("of a stream leaves as a frame of its own for a caller that counts none", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({ watch: () => Stream.make(1, 2, 3) })
      const all = yield* ask("watch")
      assert.deepStrictEqual(
        all.map(({ final, payload }) => [payload, final]),
        [
          [1, false],
          [2, false],
          [3, false],
          [null, true]
        ]
      )
    })
  )

  it.effect("of a stream that does not fit is the service's bug", () =>
    Effect.gen(function* () {
      for (const fiberbus of [undefined, { v: 1, timeout_ms: 1_000, credit: 10 }]) {
        const { ask } = yield* setUp({ watch: () => Stream.make(1, "two" as never, 3) })
        const all = yield* ask("watch", { fiberbus })
        assert.deepStrictEqual(reasonOf(all.at(-1)), ["error", "RemoteDefect", "yes"])
        assert.isTrue(all.slice(0, -1).every(({ payload }) => payload === 1))
      }
    })
  )
})

describe("the time of a request", () => {
  it.effect("is its own, however often its caller is heard of: only a stream lasts", () =>
    Effect.gen(function* () {
      const stopped: Array<string> = []
      const hanging = (name: string) =>
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => void stopped.push(name)))
      const { ask, lines, say } = yield* setUp({
        do: () => hanging("do"),
        watch: () => Stream.fromEffect(hanging("watch")) as never
      })
      const fiberbus = { v: 1, timeout_ms: 1_000, credit: 10 }
      yield* ask("do", { request_id: "1", fiberbus })
      yield* ask("watch", { request_id: "2", fiberbus })
      yield* ask("watch", { request_id: "3", fiberbus })
      // One that counts nothing is no stream that could last.
      yield* ask("watch", { request_id: "4", fiberbus: { v: 1, timeout_ms: 1_000 } })
      const all: Array<any> = []
      for (let i = 0; i < 4; i++) {
        for (const credit of ["1", "2", "4"]) {
          all.push(...(yield* say({ reply_to: "caller:x", fiberbus: { v: 1, credit, until: 20 + i } })))
        }
        yield* TestClock.adjust(510)
        all.push(...(yield* say({})))
      }
      const last = (id: string) => all.filter(({ request_id }) => request_id === id).at(-1)
      for (const id of ["1", "3", "4"]) assert.deepStrictEqual(reasonOf(last(id)), ["error", "DeadlineExceeded", "yes"])
      assert.deepStrictEqual([last("2").final, last("2").fiberbus.alive], [false, true])
      assert.deepStrictEqual(stopped.toSorted(), ["do", "watch", "watch"])
      assert.deepStrictEqual(
        lines.filter(({ text }) => !text.includes("dropped")),
        []
      )
      yield* TestClock.adjust(1_010)
      assert.lengthOf(stopped, 4)
    })
  )
})

describe("what fails unheard", () => {
  it.effect("is counted and logged: after the answer, or with nobody waiting for one", () =>
    Effect.gen(function* () {
      const { ask, dropped, lines } = yield* setUp({
        do: ({ answers }) =>
          answers === true ? Effect.andThen(Response.send(1), Effect.fail("no")) : Effect.fail("no")
      })
      assert.lengthOf(yield* ask("do", { payload: { answers: true } }), 1)
      assert.strictEqual(dropped("FailedUnheard"), 1)
      assert.deepStrictEqual(yield* ask("do", { reply_to: undefined }), [])
      assert.strictEqual(dropped("FailedUnheard"), 2)
      assert.deepStrictEqual(
        lines.map(({ text }) => text).filter((text) => text.includes("failed")),
        ["fiberbus: work.do failed after its answer", "fiberbus: work.do failed with nobody waiting for an answer"]
      )
    })
  )

  it.effect("names a listener by its topic, and an action by no more than a line of it", () =>
    Effect.gen(function* () {
      const { build, lines, memory } = yield* setUp({})
      const News = Topic.make("news", { n: Schema.Finite })
      yield* build(Listener.layer(News, () => Effect.fail("no")))
      memory.send("news", '{"n":1}', () => {})
      yield* Scripted.turns()
      assert.include(
        lines.map(({ text }) => text),
        "fiberbus: news failed with nobody waiting for an answer"
      )
    })
  )

  it.effect("is counted where its time is over: one that runs, and one that waits", () =>
    Effect.gen(function* () {
      const { ask, dropped } = yield* setUp({ do: () => Effect.never }, { concurrency: 1 })
      const oneWay = { reply_to: undefined, fiberbus: { v: 1, timeout_ms: 1_000 } }
      yield* ask("do", oneWay)
      yield* ask("do", oneWay)
      yield* TestClock.adjust(1_010)
      yield* Scripted.turns()
      assert.strictEqual(dropped("DeadlineExceeded"), 2)
      yield* ask("do", { fiberbus: { v: 1, timeout_ms: 1_000 } })
      yield* TestClock.adjust(1_010)
      assert.strictEqual(dropped("DeadlineExceeded"), 2)
    })
  )
})

describe("a slot", () => {
  it.effect("is free again where a transport breaks its word, whenever the handler ends", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { ask, news, state } = yield* setUp(
        { do: ({ later }) => (later === true ? Deferred.await(gate) : Effect.void) },
        { concurrency: 1, backlog: 0 }
      )
      state.throws = true
      yield* ask("do")
      yield* ask("do", { payload: { later: true } })
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* news, [])
      state.throws = false
      assert.deepStrictEqual(
        (yield* ask("do")).map(({ status }) => status),
        ["success"]
      )
    })
  )
})

describe("a request that is taken back", () => {
  it.effect("is the last one of its id, also when one before it ended meanwhile", () =>
    Effect.gen(function* () {
      const stopped: Array<number> = []
      const ends: Array<Deferred.Deferred<number>> = []
      const { ask, say } = yield* setUp({
        do: ({ n }) =>
          Effect.suspend(() => {
            const end = Deferred.makeUnsafe<number>()
            ends.push(end)
            return Effect.onInterrupt(Deferred.await(end), () => Effect.sync(() => void stopped.push(n)))
          })
      })
      yield* ask("do", { payload: { n: 1 }, request_id: "1" })
      yield* ask("do", { payload: { n: 2 }, request_id: "1" })
      yield* Deferred.succeed(ends[0]!, 1)
      const [first] = yield* say({ reply_to: "caller:x", fiberbus: { v: 1, cancel: "1" } })
      assert.strictEqual(first.payload, 1)
      assert.deepStrictEqual(stopped, [2])
      // It is over, whatever is said of it again.
      assert.deepStrictEqual(yield* say({ reply_to: "caller:x", fiberbus: { v: 1, cancel: "1" } }), [])
      assert.deepStrictEqual(stopped, [2])
    })
  )

  it.effect("is told nothing any more", () =>
    Effect.gen(function* () {
      const { ask, news, say } = yield* setUp({
        do: (_, { progress }) => Effect.ensuring(Effect.never, progress("late"))
      })
      yield* ask("do", { request_id: "1", fiberbus: { v: 1, timeout_ms: 1_000 } })
      assert.deepStrictEqual(yield* say({ reply_to: "caller:x", fiberbus: { v: 1, cancel: "1" } }), [])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* news, [])
    })
  )
})

describe("a refusal", () => {
  it.effect("says to whom it came alone that nobody else has it, by which sending and attempt, where it drains", () =>
    Effect.gen(function* () {
      const end = yield* Deferred.make<void>()
      const here: Array<string> = []
      const { ask, close, memory, say } = yield* setUp({ do: () => Deferred.await(end) }, { grace: "1 minute" })
      yield* memory.subscribe({ _tag: "Channel", channel: "work.instances" }, (frame) => {
        here.push(JSON.parse(String(frame)).fiberbus.here)
      })
      yield* say({ fiberbus: { v: 1, who: true } })
      const channel = `work.instance:${here[0]}`
      yield* ask("do", { channel })
      yield* Effect.forkChild(close, { startImmediately: true })
      yield* Scripted.turns()
      const told = (fiberbus: object | undefined) =>
        Effect.map(ask("do", { channel, fiberbus }), ([one]) => {
          assert.deepStrictEqual(reasonOf(one), ["error", "Draining", "no"])
          return one.fiberbus
        })
      const by = here[0]
      assert.deepStrictEqual(yield* told({ v: 1, timeout_ms: 1_000 }), { v: 1, by, seq: 0, route: 1 })
      assert.deepStrictEqual(yield* told({ v: 1, timeout_ms: 1_000, attempt: 2, route: 3 }), {
        v: 1,
        by,
        seq: 0,
        attempt: 2,
        route: 3
      })
      // Callers that have no time of their own cannot go elsewhere.
      assert.isUndefined(yield* told(undefined))
      yield* Deferred.succeed(end, undefined)
    })
  )

  it.effect("says nothing of others where it is for another reason", () =>
    Effect.gen(function* () {
      const { ask } = yield* setUp({ do: () => Effect.never }, { concurrency: 1, backlog: 0 })
      yield* ask("do", { request_id: "0" })
      const [busy] = yield* ask("do", { fiberbus: { v: 1, timeout_ms: 1_000 } })
      assert.deepStrictEqual(reasonOf(busy), ["error", "Busy", "no"])
      assert.isUndefined(busy.fiberbus)
      const [unread] = yield* ask("nothing", { fiberbus: { v: 1, timeout_ms: 1_000 } })
      assert.deepStrictEqual([...reasonOf(unread), unread.fiberbus], ["error", "UnknownAction", "no", undefined])
    })
  )

  it.effect("says that nothing began where the payload could not be read", () =>
    Effect.gen(function* () {
      const { ask, dropped } = yield* setUp({})
      const [unread] = yield* ask("read", { payload: { n: "one" } })
      assert.deepStrictEqual(reasonOf(unread), ["error", "InvalidPayload", "no"])
      assert.strictEqual(dropped("InvalidPayload"), 0)
      yield* ask("read", { payload: { n: "one" }, reply_to: undefined })
      assert.strictEqual(dropped("InvalidPayload"), 1)
    })
  )
})

describe("a question to a caller", () => {
  const asking = (more: { readonly timeout?: number } = {}) =>
    setUp({
      talk: ({ first }, { ask }) =>
        Effect.gen(function* () {
          if (first === "answer") yield* Response.send("early")
          return yield* Effect.matchEffect(ask("double", 4, more), {
            onFailure: (error: any) => Effect.succeed([error.question, error.reason, error.detail]),
            onSuccess: (answer) => Effect.succeed(answer)
          })
        })
    })
  const conversing = { v: 1, timeout_ms: 60_000, answers: true, credit: 10 }
  const answerTo = (question: any, more: object) => ({
    reply_to: "caller:x",
    fiberbus: { v: 1, answer: "1", ask: question.fiberbus.ask.id, ...more }
  })

  it.effect("is answered by nobody who does not answer questions, or cannot be told apart", () =>
    Effect.gen(function* () {
      for (const more of [{ fiberbus: { v: 1, timeout_ms: 1_000 } }, { fiberbus: conversing, request_id: 7 }]) {
        const { ask } = yield* asking()
        const [answer, ...others] = yield* ask("talk", more)
        assert.deepStrictEqual([answer.payload, others], [["double", "NobodyAnswers", ""], []])
      }
    })
  )

  it.effect("has no answer within its time, or when the request is over", () =>
    Effect.gen(function* () {
      const { ask, news } = yield* asking({ timeout: 100 })
      const [question] = yield* ask("talk", { fiberbus: conversing })
      assert.deepStrictEqual(question.fiberbus.ask, { id: question.fiberbus.ask.id, name: "double" })
      assert.deepStrictEqual([question.payload, question.final], [4, false])
      yield* TestClock.adjust(100)
      assert.deepStrictEqual((yield* news)[0].payload, ["double", "TimedOut", ""])
    })
  )

  it.effect("after the answer is a bug of the handler", () =>
    Effect.gen(function* () {
      const { ask, lines } = yield* asking()
      const all = yield* ask("talk", { payload: { first: "answer" }, fiberbus: conversing })
      assert.deepStrictEqual(
        all.map(({ payload }) => payload),
        ["early"]
      )
      assert.isTrue(lines.some(({ text }) => text.startsWith("fiberbus: handler of work.talk died")))
    })
  )

  it.effect("says where an answer does not fit", () =>
    Effect.gen(function* () {
      const { ask, say } = yield* asking()
      const [question] = yield* ask("talk", { request_id: "1", fiberbus: conversing })
      const [answer] = yield* say({ ...answerTo(question, {}), payload: "eight" })
      assert.deepStrictEqual(answer.payload.slice(0, 2), ["double", "InvalidAnswer"])
      assert.isAbove(answer.payload[2].length, 3)
    })
  )
})

describe("a request of a durable action", () => {
  it.effect("cannot be taken back, and is told nothing on the way", () =>
    Effect.gen(function* () {
      const Jobs = Service.make(
        "jobs",
        Action.make("run", { success: Schema.String }).pipe(Action.annotate(Action.Delivery, "durable"))
      )
      const { build, memory } = yield* setUp({})
      const end = yield* Deferred.make<string>()
      const begun = yield* Queue.unbounded<void>()
      const store = Durable.onStore(Durable.makeStore(() => 0))
      yield* build(
        Layer.provide(
          Handlers.layer(Jobs, { run: () => Effect.andThen(Queue.offer(begun, undefined), Deferred.await(end)) }),
          Layer.succeed(Durable.Durable, store)
        )
      )
      const frame = { action: "run", request_id: "1", reply_to: "caller:x", fiberbus: { v: 1, timeout_ms: 1_000 } }
      store.append("{jobs}", { id: "1", frame: JSON.stringify(frame), key: "", delayMillis: 0 }, () => {})
      yield* Queue.take(begun)
      const heard: Array<any> = []
      yield* memory.subscribe({ _tag: "Channel", channel: "caller:x" }, (text) => {
        heard.push(JSON.parse(String(text)))
      })
      memory.send("jobs", JSON.stringify({ reply_to: "caller:x", fiberbus: { v: 1, cancel: "1" } }), () => {})
      yield* Scripted.turns()
      yield* TestClock.adjust(600)
      yield* Scripted.turns()
      assert.deepStrictEqual(
        heard.filter(({ final }) => final === true),
        []
      )
      yield* Deferred.succeed(end, "done")
      yield* Scripted.turns()
      assert.deepStrictEqual(heard.at(-1).payload, "done")
    })
  )
})
