import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Logger, Metric, Queue, Schedule, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Concurrency, type Durable, Handlers, Listener, Memory, Service, Topic, Transport } from "fiberbus"
import type { Options } from "../../src/server/Options.ts"
import { Durable as Store } from "../../src/transport/Durable.ts"
import * as Scripted from "../scripted.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}

const Jobs = Service.make(
  "jobs",
  Action.make("run", {
    payload: { id: Schema.String },
    success: { id: Schema.String },
    error: Declined
  }).pipe(Action.annotate(Action.Delivery, "durable")),
  Action.make("slow", { payload: { id: Schema.String } }).pipe(
    Action.annotate(Action.Delivery, "durable"),
    Action.annotate(Action.Concurrency, 1)
  )
)

const lost = (kind: Transport.TransportError["kind"] = "ConnectionLost") =>
  new Transport.TransportError({ kind, operation: "ask the store", detail: "by the script", hint: "", sent: "unknown" })

/** What a process told the store of one delivery. */
interface Told {
  readonly what: "settle" | "retry" | "bury"
  readonly entry: string
  readonly at: number
  readonly millis?: number
  readonly counts?: boolean
  readonly burial?: Durable.Burial
  readonly settlement?: Durable.Settlement | undefined
}

/** A store that a test speaks for. */
const makeStore = Effect.fnUntraced(function* (more: { readonly name?: string; readonly publishes?: boolean } = {}) {
  const clock = yield* Effect.clockWith(Effect.succeed)
  const now = () => clock.currentTimeMillisUnsafe()
  const reads = yield* Queue.unbounded<ReadonlyArray<Durable.Entry> | Transport.TransportError>()
  const store = {
    /** All that was asked, with the time. */
    asked: [] as Array<{ readonly what: string; readonly with?: unknown; readonly at: number }>,
    told: [] as Array<Told>,
    consumption: undefined as Durable.Consumption | undefined,
    /** What the store says to the end of a delivery: whether it was the first, an error, or nothing at all. */
    answer: (_: Told): boolean | Transport.TransportError | undefined => true,
    /** The ends to which it has said nothing yet, oldest first. */
    unsaid: [] as Array<Durable.Done>,
    claim: Effect.succeed({ entries: [], lost: 0 }) as ReturnType<Durable.Consumer["claim"]>,
    renew: Effect.succeed([]) as ReturnType<Durable.Consumer["renew"]>,
    promote: Effect.succeed({ nextMillis: 60_000, waiting: 0, dead: 0 }) as Durable.Consumer["promote"],
    wake: () => {},
    /** Deliveries that somebody reads. */
    give: (...entries: ReadonlyArray<Durable.Entry>) => Queue.offer(reads, entries),
    fail: (error: Transport.TransportError) => Queue.offer(reads, error),
    /** What was asked of one kind, since the beginning. */
    of: (what: string) => store.asked.filter((one) => one.what === what)
  }
  const note = (what: string, details?: unknown) => void store.asked.push({ what, with: details, at: now() })
  const asking = <A, E>(what: string, answer: () => Effect.Effect<A, E>, details?: unknown) =>
    Effect.suspend(() => {
      note(what, details)
      return answer()
    })
  const tell = (told: Told, done: Durable.Done) => {
    store.told.push(told)
    const answer = store.answer(told)
    if (answer instanceof Transport.TransportError) done(answer, false)
    else if (answer !== undefined) done(undefined, answer)
    else store.unsaid.push(done)
  }
  const unused = () => Effect.die("not asked here")
  const durable: Durable.Durable["Service"] = {
    name: more.name ?? "memory",
    capabilities: { kept: "broker", publishes: more.publishes ?? false, maxFrameBytes: 10_000 },
    append: unused,
    state: unused,
    publish: unused,
    subscribe: () => Effect.void,
    unsubscribe: unused,
    dead: { list: unused, find: unused, size: unused, replay: unused, discard: unused },
    consume: (consumption) =>
      Effect.sync((): Durable.Consumer => {
        store.consumption = consumption
        return {
          read: (max) => {
            note("read", max)
            return Effect.flatMap(Queue.take(reads), (read) =>
              read instanceof Transport.TransportError ? Effect.fail(read) : Effect.succeed(read)
            )
          },
          claim: (max) => asking("claim", () => store.claim, max),
          renew: (entries) => asking("renew", () => store.renew, [...entries]),
          promote: asking("promote", () => store.promote),
          settle: ({ entry }, settlement, done) => tell({ what: "settle", entry, at: now(), settlement }, done),
          retry: ({ entry }, millis, counts, done) => tell({ what: "retry", entry, at: now(), millis, counts }, done),
          bury: ({ entry }, burial, settlement, done) =>
            tell({ what: "bury", entry, at: now(), burial, settlement }, done),
          onDelayed: (wake) => {
            store.wake = wake
            return () => note("no wake")
          },
          leave: asking("leave", () => Effect.fail(lost()))
        }
      })
  }
  return { store, durable }
})

/** A delivery of a request, or of any text. */
const entry = (
  name: string,
  frame: object | string = { action: "run", payload: { id: name }, request_id: name, reply_to: "caller:x" },
  deliveries = 1
): Durable.Entry => ({
  entry: name,
  id: name,
  frame: typeof frame === "string" ? frame : JSON.stringify(frame),
  key: "",
  deliveries,
  at: 0
})

const slow = (name: string) => entry(name, { action: "slow", payload: { id: name }, request_id: name })

/** A service over such a store, whose handlers say that they have begun and end as they are told. */
const setUp = Effect.fnUntraced(function* (
  options: Options = {},
  more: Parameters<typeof makeStore>[0] & { readonly gone?: boolean; readonly serves?: false } = {}
) {
  const { durable, store } = yield* makeStore(more)
  const memory = Memory.make()
  const transport: Transport.Transport["Service"] = {
    ...memory,
    send: (channel, frame, sent) =>
      more.gone === true && channel === "caller:x" ? sent(lost(), 0) : memory.send(channel, frame, sent)
  }
  const answers: Array<any> = []
  yield* memory.subscribe({ _tag: "Channel", channel: "caller:x" }, (frame) => {
    answers.push(JSON.parse(String(frame)))
  })
  const registry: Metric.MetricRegistry = new Map()
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => void lines.push(String(Array.isArray(message) ? message[0] : message)))
  const begun: Array<string> = []
  const ends = new Map<string, Deferred.Deferred<{ readonly id: string }, Declined>>()
  /** Handles at once what nobody holds. */
  let holds = false
  const run = ({ id }: { readonly id: string }) =>
    Effect.suspend(() => {
      begun.push(id)
      if (!holds) return Effect.succeed({ id })
      const end = Deferred.makeUnsafe<{ readonly id: string }, Declined>()
      ends.set(id, end)
      return Deferred.await(end)
    })
  const scope = yield* Scope.make()
  const provided = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
    Layer.buildWithScope(
      Layer.provide(
        layer,
        Layer.mergeAll(Layer.succeed(Transport.Transport, transport), Layer.succeed(Store, durable))
      ),
      scope
    ).pipe(Effect.provideService(Metric.MetricRegistry, registry), Effect.provide(Logger.layer([logger])))
  const handlers = { run, slow: (payload: { readonly id: string }) => Effect.asVoid(Effect.orDie(run(payload))) }
  if (more.serves !== false) yield* provided(Handlers.layer(Jobs, handlers, { grace: 0, ...options }))
  yield* Scripted.turns()
  return {
    store,
    memory,
    answers,
    lines,
    begun,
    provided,
    /** Holds handlers from now on, until they are ended. */
    hold: () => {
      holds = true
    },
    end: (id: string, exit: Exit.Exit<{ readonly id: string }, Declined> = Exit.succeed({ id })) =>
      Effect.andThen(
        Effect.suspend(() => Deferred.done(ends.get(id)!, exit)),
        Scripted.turns()
      ),
    give: (...entries: ReadonlyArray<Durable.Entry>) => Effect.andThen(store.give(...entries), Scripted.turns()),
    pass: (millis: number) => Effect.andThen(TestClock.adjust(millis), Scripted.turns()),
    close: Scope.close(scope, Exit.void),
    /** The value of a metric's series. */
    count: (id: string, attributes: Record<string, string>) => {
      for (const one of registry.values()) {
        if (one.id !== id) continue
        const own = one.attributes as Record<string, string>
        if (!Object.entries(attributes).every(([key, value]) => own[key] === value)) continue
        const { count, value } = one.hooks.get(Context.empty()) as { count?: number; value?: number }
        return count ?? value
      }
      return undefined
    }
  }
})

const dies = Exit.die(new Error("a bug"))
const ended = "fiberbus_durable_deliveries_total"

describe("the end of a delivery", () => {
  it.effect("is told to the store until it has heard, each time later, and then to the caller", () =>
    Effect.gen(function* () {
      const { answers, begun, count, give, pass, store } = yield* setUp()
      let down = true
      store.answer = () => (down ? lost() : true)
      yield* give(entry("a"))
      for (let i = 0; i < 30; i++) yield* pass(500)
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { queue: "jobs", outcome: "settled" }), undefined)
      down = false
      yield* pass(5_000)
      const waits = store.told.map(({ at }, i) => at - (store.told[i - 1]?.at ?? 0))
      assert.deepStrictEqual(waits, [0, 50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000])
      assert.isTrue(store.told.every(({ settlement, what }) => what === "settle" && settlement?.replyTo === ""))
      assert.deepStrictEqual(
        answers.map(({ payload, request_id, status }) => [status, payload, request_id]),
        [["success", { id: "a" }, "a"]]
      )
      assert.strictEqual(JSON.stringify(answers[0]), store.told[0]!.settlement!.frame)
      // It was kept alive meanwhile, and not handled again.
      assert.isTrue(store.of("renew").every((one) => String(one.with) === "a"))
      assert.strictEqual(store.of("renew").length, 1)
      assert.deepStrictEqual(begun, ["a"])
      assert.strictEqual(count(ended, { queue: "jobs", outcome: "settled" }), 1)
      assert.strictEqual(count("fiberbus_discarded_total", { reason: "NotSettled:ConnectionLost" }), 9)
      yield* pass(60_000)
      assert.lengthOf(store.told, 10)
    })
  )

  it.effect("is not told again to a store that is closed, and nobody is answered", () =>
    Effect.gen(function* () {
      const { answers, count, give, pass, store } = yield* setUp()
      store.answer = () => lost("Closed")
      yield* give(entry("a"))
      yield* pass(60_000)
      assert.lengthOf(store.told, 1)
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { outcome: "late" }), 1)
    })
  )

  it.effect("is answered by whoever was first alone", () =>
    Effect.gen(function* () {
      const { answers, count, give, store } = yield* setUp()
      store.answer = () => false
      yield* give(entry("a"))
      assert.lengthOf(store.told, 1)
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { outcome: "late" }), 1)
      assert.strictEqual(count(ended, { outcome: "settled" }), undefined)
    })
  )

  it.effect("is published by a store at the same broker, and by one at another it is not", () =>
    Effect.gen(function* () {
      for (const [name, replyTo] of [
        ["memory", "caller:x"],
        ["another", ""]
      ] as const) {
        const { answers, give, store } = yield* setUp({ durable: { deliveries: 1 } }, { name, publishes: true })
        const { action, payload } = { action: "run", payload: { id: "b" } }
        yield* give(
          entry("a"),
          entry("b", { action, payload }),
          entry("c", { action, payload: {}, reply_to: "caller:x" })
        )
        assert.deepStrictEqual(
          store.told.map(({ entry, settlement, what }) => [entry, what, settlement?.replyTo]),
          [
            ["a", "settle", replyTo],
            ["b", "settle", ""],
            ["c", "bury", replyTo]
          ]
        )
        assert.lengthOf(answers, replyTo === "" ? 2 : 0)
      }
    })
  )

  it.effect("stands where its caller cannot be reached", () =>
    Effect.gen(function* () {
      const { count, give, pass, store } = yield* setUp({}, { gone: true })
      yield* give(entry("a"))
      yield* pass(10_000)
      assert.lengthOf(store.told, 1)
      assert.strictEqual(count("fiberbus_discarded_total", { reason: "ReplyNotSent:ConnectionLost" }), 1)
    })
  )
})

describe("a message that was not handled", () => {
  it.effect("is delivered again when its schedule says so, by how often it was delivered", () =>
    Effect.gen(function* () {
      const { answers, count, end, give, hold, store } = yield* setUp({
        durable: { retry: Schedule.exponential("100 millis"), deliveries: 4 }
      })
      hold()
      for (const deliveries of [1, 2, 3]) {
        yield* give(entry(`${deliveries}`, undefined, deliveries))
        yield* end(`${deliveries}`, dies)
      }
      assert.deepStrictEqual(
        store.told.map(({ counts, millis, what }) => [what, millis, counts]),
        [
          ["retry", 100, true],
          ["retry", 200, true],
          ["retry", 400, true]
        ]
      )
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { outcome: "retried" }), 3)
    })
  )

  it.effect("is set aside with its cause after the last delivery, or when the schedule has ended", () =>
    Effect.gen(function* () {
      const { answers, count, end, give, hold, lines, store } = yield* setUp({
        durable: { retry: Schedule.recurs(1), deliveries: 3 }
      })
      hold()
      for (const [name, deliveries] of [
        ["first", 1],
        ["second", 2],
        ["third", 3]
      ] as const) {
        yield* give(entry(name, undefined, deliveries))
        yield* end(name, dies)
      }
      assert.deepStrictEqual(
        store.told.map(({ burial, entry, what }) => [what, entry, burial?.reason, burial?.action]),
        [
          ["retry", "first", undefined, undefined],
          ["bury", "second", "Defect", "run"],
          ["bury", "third", "Defect", "run"]
        ]
      )
      assert.include(store.told[1]!.burial!.cause, "a bug")
      assert.deepStrictEqual(
        answers.map(({ payload, request_id, status }) => [status, request_id, payload.reason._tag, payload.started]),
        [
          ["error", "second", "RemoteDefect", "yes"],
          ["error", "third", "RemoteDefect", "yes"]
        ]
      )
      assert.notInclude(JSON.stringify(answers), "a bug")
      assert.strictEqual(count("fiberbus_dead_letters_total", { queue: "jobs", reason: "Defect" }), 2)
      assert.strictEqual(count(ended, { outcome: "retried" }), 1)
      const aside = lines.filter((line) => line.includes("set aside"))
      assert.deepStrictEqual(aside, [
        "fiberbus: a message to jobs.run is set aside after 2 deliveries: Defect",
        "fiberbus: a message to jobs.run is set aside after 3 deliveries: Defect"
      ])
    })
  )

  it.effect("is set aside without another run when its processes died of it too often", () =>
    Effect.gen(function* () {
      const { answers, begun, give, lines, store } = yield* setUp({ durable: { deliveries: 2 } })
      yield* give(entry("a", undefined, 2), entry("b", undefined, 3))
      assert.deepStrictEqual(begun, ["a"])
      const [burial] = store.told.filter(({ what }) => what === "bury")
      assert.deepStrictEqual([burial!.entry, burial!.burial!.reason, burial!.burial!.action], ["b", "Crashed", "run"])
      assert.include(burial!.burial!.cause, "delivered 2 times")
      const { payload } = answers.find(({ request_id }) => request_id === "b")
      assert.deepStrictEqual(
        [payload.reason, payload.started],
        [{ _tag: "RemoteDefect", id: "delivered 2 times" }, "yes"]
      )
      assert.include(lines, "fiberbus: a message to jobs.run is set aside after 3 deliveries: Crashed")
    })
  )

  it.effect("is set aside at once where its payload does not fit", () =>
    Effect.gen(function* () {
      const { answers, begun, count, give, lines, store } = yield* setUp()
      yield* give(entry("a", { action: "run", payload: { id: 1 }, request_id: "a", reply_to: "caller:x" }))
      assert.deepStrictEqual(begun, [])
      const [{ burial, what }] = store.told as [Told]
      assert.deepStrictEqual([what, burial!.reason, burial!.action], ["bury", "InvalidPayload", "run"])
      assert.include(burial!.cause, "id")
      assert.deepStrictEqual([answers[0].payload.reason._tag, answers[0].payload.started], ["InvalidPayload", "no"])
      assert.strictEqual(answers[0].payload.error, burial!.cause)
      assert.include(lines, "fiberbus: a message to jobs.run is set aside after 1 delivery: InvalidPayload")
      assert.strictEqual(count("fiberbus_dead_letters_total", { reason: "InvalidPayload" }), 1)
      // It is no delivery that was handled, or will be again.
      for (const outcome of ["settled", "retried", "returned", "late", "undefined"])
        assert.strictEqual(count(ended, { outcome }), undefined)
    })
  )

  it.effect("is delivered again where its handler took too long, and set aside as late in the end", () =>
    Effect.gen(function* () {
      const { answers, give, hold, pass, store } = yield* setUp({
        handlerTimeout: "1 second",
        durable: { retry: Schedule.spaced("7 seconds"), deliveries: 2 }
      })
      hold()
      yield* give(entry("a"), entry("b", undefined, 2))
      yield* pass(1_000)
      assert.deepStrictEqual(
        store.told
          .map(({ burial, counts, entry, millis, what }) => [what, entry, millis, counts, burial?.reason])
          .sort(),
        [
          ["bury", "b", undefined, undefined, "DeadlineExceeded"],
          ["retry", "a", 7_000, true, undefined]
        ]
      )
      assert.deepStrictEqual([answers[0].request_id, answers[0].payload.reason._tag], ["b", "DeadlineExceeded"])
      assert.strictEqual(store.told.find(({ what }) => what === "bury")!.burial!.cause, answers[0].payload.error)
    })
  )

  it.effect("is given back for a while where there is no room, and that is no delivery", () =>
    Effect.gen(function* () {
      const { answers, begun, count, end, give, hold, pass, store } = yield* setUp({ concurrency: 1, backlog: 0 })
      hold()
      yield* give(entry("a"), entry("b"))
      assert.deepStrictEqual(begun, ["a"])
      const [back] = store.told as [Told]
      assert.deepStrictEqual([back.what, back.entry, back.counts], ["retry", "b", false])
      assert.isTrue(back.millis! >= 1 && back.millis! <= 1_000, `${back.millis}`)
      assert.strictEqual(count(ended, { outcome: "returned" }), 1)
      assert.deepStrictEqual(answers, [])
      // Where handlers take an hour, it is asked after five seconds at the latest.
      yield* pass(3_600_000)
      yield* end("a")
      yield* give(entry("c"), entry("d"))
      assert.strictEqual(store.told.find(({ entry }) => entry === "d")!.millis, 5_000)
    })
  )

  it.effect("is given back when its process shuts down: what had begun counts as a delivery", () =>
    Effect.gen(function* () {
      const { answers, close, count, give, hold, store } = yield* setUp({ concurrency: 1 })
      hold()
      yield* give(entry("a"), entry("b"))
      yield* close
      assert.deepStrictEqual(
        store.told.map(({ counts, entry, millis, what }) => [what, entry, millis, counts]).sort(),
        [
          ["retry", "a", 0, true],
          ["retry", "b", 0, false]
        ]
      )
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { outcome: "returned" }), 1)
      // A store that cannot be reached any more does not keep it from ending.
      assert.deepStrictEqual(
        store.asked
          .slice(-2)
          .map(({ what }) => what)
          .sort(),
        ["leave", "no wake"]
      )
    })
  )

  it.effect("is set aside where it can be handled by nobody, and floods of them are summed up", () =>
    Effect.gen(function* () {
      const { answers, begun, count, give, lines, pass, store } = yield* setUp()
      const unknown = `other${"r".repeat(200)}`
      yield* give(
        entry("text", "no frame"),
        entry("none", { payload: {} }),
        entry("elsewhere", { action: "run", payload: { id: "x" }, request_id: "1", reply_to: "users" }),
        entry("unknown", { action: unknown, request_id: "2", reply_to: "caller:x" }),
        entry("large", { action: "run", payload: { id: "x".repeat(10_000) } })
      )
      yield* pass(2_000)
      const of = (name: string) => store.told.find(({ entry }) => entry === name)!
      assert.isTrue(store.told.every(({ what }) => what === "bury"))
      assert.deepStrictEqual(begun, [])
      assert.deepStrictEqual(of("text").burial, { reason: "NotJson", cause: "it is no message", action: "" })
      assert.deepStrictEqual([of("none").burial!.cause, of("none").burial!.action], ["it is no request", ""])
      assert.deepStrictEqual(
        [of("elsewhere").burial!.reason, of("elsewhere").burial!.action],
        ["ReplyToRefused", "run"]
      )
      assert.include(of("elsewhere").burial!.cause, "not allowed")
      assert.deepStrictEqual(
        [of("unknown").burial!.reason, of("unknown").burial!.action],
        ["UnknownAction", unknown.slice(0, 128)]
      )
      assert.strictEqual(of("unknown").burial!.cause, answers[0].payload.error)
      assert.deepStrictEqual(answers[0].payload.reason, { _tag: "UnknownAction", action: unknown.slice(0, 128) })
      assert.strictEqual(of("large").burial!.cause, "it is no message")
      // Only who may be answered, and can be, is.
      for (const name of ["text", "none", "elsewhere", "large"]) assert.isUndefined(of(name).settlement)
      assert.deepStrictEqual(
        answers.map(({ payload, request_id }) => [request_id, payload.reason._tag, payload.started]),
        [["2", "UnknownAction", "no"]]
      )
      assert.strictEqual(count("fiberbus_discarded_total", { reason: "SetAside:ReplyToRefused" }), 1)
      assert.strictEqual(count("fiberbus_discarded_total", { reason: "SetAside:UnknownAction" }), 1)
      assert.isFalse(lines.some((line) => line.includes("set aside after")))
    })
  )

  it.effect("waits a second for others, where they may know its action", () =>
    Effect.gen(function* () {
      const { give, store } = yield* setUp({ unknownAction: "ignore" })
      yield* give(entry("a", { action: "other", request_id: "1" }))
      assert.deepStrictEqual(
        store.told.map(({ counts, millis, what }) => [what, millis, counts]),
        [["retry", 1_000, false]]
      )
    })
  )
})

describe("a process that consumes", () => {
  it.effect("says to the store what was set, and what the defaults are", () =>
    Effect.gen(function* () {
      const { store } = yield* setUp()
      const { consumer, ...rest } = store.consumption!
      assert.isAbove(consumer.length, 10)
      assert.deepStrictEqual(rest, {
        queue: "{jobs}",
        group: "jobs",
        idleMillis: 30_000,
        windowMillis: 300_000,
        maxDeadLetters: 10_000
      })
      const other = yield* setUp({ durable: { idle: 1, window: "1 hour", deadLetters: 7 } })
      const { idleMillis, maxDeadLetters, windowMillis } = other.store.consumption!
      assert.deepStrictEqual([idleMillis, windowMillis, maxDeadLetters], [100, 3_600_000, 7])
    })
  )

  it.effect("asks for as many as there are free slots, and for none while there are none", () =>
    Effect.gen(function* () {
      const { begun, end, give, hold, store } = yield* setUp({ concurrency: 3 })
      hold()
      const reads = () => store.of("read").map((one) => one.with)
      assert.deepStrictEqual(reads(), [3])
      yield* give(entry("a"))
      assert.deepStrictEqual(reads(), [3, 2])
      yield* give(entry("b"), entry("c"))
      assert.deepStrictEqual(reads(), [3, 2])
      yield* end("b")
      assert.deepStrictEqual(reads(), [3, 2, 1])
      // More than it asked for wait, and are not asked for again.
      yield* give(entry("d"), entry("e"))
      assert.deepStrictEqual(begun, ["a", "b", "c", "d"])
      yield* end("a")
      assert.deepStrictEqual(begun, ["a", "b", "c", "d", "e"])
      assert.deepStrictEqual(reads(), [3, 2, 1])
      yield* end("c")
      assert.deepStrictEqual(reads(), [3, 2, 1, 1])
    })
  )

  it.effect("asks for no more than 256 at once, and for as many as a limit that is changed allows", () =>
    Effect.gen(function* () {
      const many = yield* setUp({ concurrency: 5_000 })
      assert.deepStrictEqual(many.store.of("read")[0]!.with, 256)
      const limit = yield* Concurrency.make(4)
      const { give, store } = yield* setUp({ concurrency: limit })
      yield* limit.resize(2)
      yield* give(entry("a"))
      assert.deepStrictEqual(
        store.of("read").map((one) => one.with),
        [4, 2]
      )
    })
  )

  it.effect("goes on while messages wait for a limit of their own action, as long as the backlog has room", () =>
    Effect.gen(function* () {
      const { begun, end, give, hold, store } = yield* setUp({ concurrency: 3, backlog: 2 })
      hold()
      const reads = () => store.of("read").map((one) => one.with)
      yield* give(slow("a"), slow("b"))
      assert.deepStrictEqual(begun, ["a"])
      // One runs, one waits for it: two slots are free, and one place for what would have to wait too.
      assert.deepStrictEqual(reads(), [3, 1])
      yield* give(slow("c"))
      assert.deepStrictEqual(begun, ["a"])
      assert.deepStrictEqual(reads(), [3, 1])
      yield* end("a")
      assert.deepStrictEqual(begun, ["a", "b"])
      assert.deepStrictEqual(reads(), [3, 1, 1])
    })
  )

  it.effect("reads no more while the store has not heard of a thousand ends", () =>
    Effect.gen(function* () {
      const { begun, give, store } = yield* setUp({ concurrency: 1 })
      store.answer = () => undefined
      yield* give(...Array.from({ length: 1_000 }, (_, i) => entry(`${i}`)))
      assert.lengthOf(begun, 1_000)
      assert.lengthOf(store.of("read"), 2)
      yield* give(entry("last"))
      assert.lengthOf(begun, 1_001)
      assert.lengthOf(store.of("read"), 2)
    })
  )

  it.effect("reads on when the store has heard of one of them, although no handler is left that could end", () =>
    Effect.gen(function* () {
      const { begun, give, store } = yield* setUp({ concurrency: 1 })
      store.answer = () => undefined
      yield* give(...Array.from({ length: 1_001 }, (_, i) => entry(`${i}`)))
      assert.lengthOf(begun, 1_001)
      assert.lengthOf(store.of("read"), 1)
      yield* give(entry("next"))
      assert.lengthOf(begun, 1_001)
      store.unsaid.shift()!(undefined, true)
      yield* Scripted.turns()
      assert.deepStrictEqual(begun.slice(1_001), ["next"])
      assert.lengthOf(store.of("read"), 2)
      // It is one more that is not settled.
      yield* give(entry("last"))
      assert.lengthOf(begun, 1_002)
      // One that was ended elsewhere makes room as well.
      store.unsaid.shift()!(undefined, false)
      yield* Scripted.turns()
      assert.deepStrictEqual(begun.slice(1_001), ["next", "last"])
    })
  )

  it.effect("handles once what it reads again while it has it", () =>
    Effect.gen(function* () {
      const { begun, end, give, hold, store } = yield* setUp()
      hold()
      yield* give(entry("a"))
      yield* give(entry("a", undefined, 2))
      yield* end("a")
      assert.deepStrictEqual(begun, ["a"])
      assert.deepStrictEqual(
        store.told.map(({ what }) => what),
        ["settle"]
      )
    })
  )

  it.effect("says every third of the idle time that it goes on, and counts what was taken from it", () =>
    Effect.gen(function* () {
      const { begun, count, end, give, hold, pass, store } = yield* setUp({ durable: { idle: "3 seconds" } })
      yield* pass(1_000)
      // Nothing is in hand.
      assert.lengthOf(store.of("renew"), 0)
      hold()
      yield* give(entry("a"), entry("b"))
      for (let i = 0; i < 30; i++) yield* pass(100)
      assert.deepStrictEqual(
        store.of("renew").map((one) => [one.at, one.with]),
        [
          [2_000, ["a", "b"]],
          [3_000, ["a", "b"]],
          [4_000, ["a", "b"]]
        ]
      )
      store.renew = Effect.fail(lost())
      yield* pass(1_000)
      store.renew = Effect.succeed(["b", "of nobody"])
      yield* pass(1_000)
      assert.strictEqual(count(ended, { outcome: "stolen" }), 1)
      store.renew = Effect.succeed([])
      yield* end("a")
      yield* pass(1_000)
      assert.deepStrictEqual(store.of("renew").at(-1)!.with, ["b"])
      assert.deepStrictEqual(begun, ["a", "b"])
    })
  )

  it.effect("takes over what others are silent about, until there is no more or no room, and says what had gone", () =>
    Effect.gen(function* () {
      const { begun, count, hold, lines, pass, store } = yield* setUp({
        concurrency: 2,
        durable: { idle: "3 seconds" }
      })
      hold()
      const claimed = () => store.of("claim").map((one) => [one.at, one.with])
      assert.deepStrictEqual(claimed(), [[0, 2]])
      yield* pass(1_000)
      store.claim = Effect.fail(lost())
      yield* pass(1_000)
      store.claim = Effect.succeed({ entries: [entry("a", undefined, 2)], lost: 3 })
      yield* pass(1_000)
      assert.deepStrictEqual(begun, ["a"])
      assert.include(lines, "fiberbus: 3 messages of jobs had gone before they were handled")
      store.claim = Effect.succeed({ entries: [entry("b", undefined, 2)], lost: 0 })
      yield* pass(1_000)
      assert.deepStrictEqual(begun, ["a", "b"])
      assert.deepStrictEqual(claimed(), [
        [0, 2],
        [1_000, 2],
        [2_000, 2],
        [3_000, 2],
        [4_000, 1]
      ])
      // All slots are taken.
      yield* pass(3_000)
      assert.lengthOf(claimed(), 5)
      assert.strictEqual(count("fiberbus_durable_claimed_total", { queue: "jobs" }), 2)
      assert.strictEqual(count("fiberbus_durable_lost_total", { queue: "jobs" }), 3)
      assert.lengthOf(
        lines.filter((line) => line.includes("had gone")),
        1
      )
    })
  )

  it.effect("asks again for as long as it gets all that it asked for", () =>
    Effect.gen(function* () {
      const { begun, pass, store } = yield* setUp({ concurrency: 2, durable: { idle: "3 seconds" } })
      const before = store.of("claim").length
      let left = 5
      store.claim = Effect.sync(() => {
        const entries = Array.from({ length: Math.min(2, left) }, () => entry(`${left--}`))
        return { entries, lost: 0 }
      })
      yield* pass(1_000)
      assert.deepStrictEqual(begun, ["5", "4", "3", "2", "1"])
      assert.lengthOf(store.of("claim"), before + 3)
    })
  )

  it.effect("gives back what it takes over when it has begun to shut down, and reads and claims nothing more", () =>
    Effect.gen(function* () {
      const { begun, close, end, give, hold, pass, store } = yield* setUp({
        grace: "1 minute",
        durable: { idle: "3 seconds" }
      })
      hold()
      yield* give(entry("a"))
      const claiming = yield* Deferred.make<void>()
      store.claim = Effect.as(Deferred.await(claiming), { entries: [entry("b")], lost: 0 })
      yield* pass(1_000)
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      yield* Scripted.turns()
      yield* Deferred.succeed(claiming, undefined)
      yield* Scripted.turns()
      assert.deepStrictEqual(
        store.told.map(({ counts, entry, millis, what }) => [what, entry, millis, counts]),
        [["retry", "b", 0, false]]
      )
      const before = store.asked.length
      yield* end("a")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(begun, ["a"])
      assert.deepStrictEqual(
        store.asked
          .slice(before)
          .map(({ what }) => what)
          .filter((what) => what === "read" || what === "claim"),
        []
      )
      assert.strictEqual(store.told.at(-1)!.what, "settle")
    })
  )

  it.effect(
    "asks for what is due when it is, at once when something was delayed, and soon where it got no answer",
    () =>
      Effect.gen(function* () {
        const { count, pass, store } = yield* setUp()
        const asked = () => store.of("promote").map(({ at }) => at)
        const before = asked().length
        store.promote = Effect.succeed({ nextMillis: 700, waiting: 12, dead: 0 })
        store.wake()
        yield* Scripted.turns()
        assert.deepStrictEqual(asked().slice(before), [0])
        assert.strictEqual(count("fiberbus_durable_waiting", { queue: "jobs" }), 12)
        yield* pass(699)
        assert.lengthOf(asked(), before + 1)
        yield* pass(1)
        assert.lengthOf(asked(), before + 2)
        store.promote = Effect.fail(lost())
        yield* pass(700)
        assert.lengthOf(asked(), before + 3)
        yield* pass(199)
        assert.lengthOf(asked(), before + 3)
        yield* pass(1)
        assert.deepStrictEqual(asked().slice(before), [0, 700, 1_400, 1_600])
        // What says that it is due always is asked no more than once a millisecond.
        store.promote = Effect.succeed({ nextMillis: 0, waiting: 0, dead: 0 })
        yield* pass(200)
        const soon = asked().length
        for (let i = 0; i < 10; i++) yield* pass(1)
        assert.lengthOf(asked(), soon + 10)
      })
  )

  it.effect("warns once when there are as many dead letters as may be, and again after there were fewer", () =>
    Effect.gen(function* () {
      const { lines, store } = yield* setUp({ durable: { deadLetters: 3 } })
      const warnings = () => lines.filter((line) => line.includes("dead letters")).length
      const look = (dead: number) =>
        Effect.suspend(() => {
          store.promote = Effect.succeed({ nextMillis: 60_000, waiting: 0, dead })
          store.wake()
          return Scripted.turns()
        })
      yield* look(2)
      assert.strictEqual(warnings(), 0)
      yield* look(3)
      assert.strictEqual(warnings(), 1)
      yield* look(4)
      assert.strictEqual(warnings(), 1)
      yield* look(1)
      yield* look(3)
      assert.strictEqual(warnings(), 2)
    })
  )

  it.effect("reads again after a store that cannot be reached, each time later, and says so once for each cause", () =>
    Effect.gen(function* () {
      const { begun, give, lines, pass, store } = yield* setUp()
      for (let i = 0; i < 8; i++) yield* store.fail(lost(i < 4 ? "ConnectionLost" : "Timeout"))
      for (let i = 0; i < 8; i++) yield* pass(1_000)
      const times = store.of("read").map(({ at }) => at)
      assert.deepStrictEqual(
        times.map((at, i) => at - (times[i - 1] ?? 0)),
        [0, 50, 100, 200, 400, 800, 1_600, 2_000, 2_000]
      )
      assert.lengthOf(
        lines.filter((line) => line.includes("cannot be read")),
        2
      )
      yield* give(entry("a"))
      yield* give(entry("b"))
      assert.deepStrictEqual(begun, ["a", "b"])
      assert.lengthOf(
        lines.filter((line) => line.includes("are read again")),
        1
      )
      // The next trouble begins anew.
      yield* Effect.andThen(store.fail(lost()), Scripted.turns())
      const reads = store.of("read").length
      yield* pass(50)
      assert.lengthOf(store.of("read"), reads + 1)
      assert.lengthOf(
        lines.filter((line) => line.includes("cannot be read")),
        3
      )
    })
  )
})

describe("a durable listener", () => {
  const News = Topic.durable(Topic.make("news", { n: Schema.Finite }), { keep: "1 hour" })

  const listening = Effect.fnUntraced(function* (handle: (n: number) => Effect.Effect<unknown, string>) {
    const scene = yield* setUp({}, { serves: false })
    yield* scene.provided(
      Listener.layerGroup(News, "billing", ({ n }) => handle(n), {
        durable: { retry: Schedule.spaced("3 seconds"), deliveries: 2 }
      })
    )
    yield* Scripted.turns()
    return scene
  })

  it.effect("ends what it has handled with an empty result that is not kept", () =>
    Effect.gen(function* () {
      const { answers, count, store } = yield* listening(() => Effect.void)
      const { group, queue, windowMillis } = store.consumption!
      assert.deepStrictEqual([group, windowMillis], ["billing", 0])
      assert.include(queue, "news")
      yield* Effect.andThen(store.give(entry("1", { n: 1 })), Scripted.turns())
      assert.deepStrictEqual(
        store.told.map(({ settlement, what }) => [what, settlement]),
        [["settle", { frame: "{}", replyTo: "" }]]
      )
      assert.deepStrictEqual(answers, [])
      assert.strictEqual(count(ended, { queue: "news:billing", outcome: "settled" }), 1)
    })
  )

  it.effect("has again what it failed at, and sets it aside as Failed or as Defect", () =>
    Effect.gen(function* () {
      const { lines, store } = yield* listening((n) => (n < 0 ? Effect.die("a bug") : Effect.fail("no paper")))
      for (const [name, n, deliveries] of [
        ["1", 1, 1],
        ["2", 1, 2],
        ["3", -1, 2]
      ] as const) {
        yield* Effect.andThen(store.give(entry(name, { n }, deliveries)), Scripted.turns())
      }
      assert.deepStrictEqual(
        store.told.map(({ burial, entry, millis, settlement, what }) => [
          what,
          entry,
          millis,
          burial?.reason,
          settlement
        ]),
        [
          ["retry", "1", 3_000, undefined, undefined],
          ["bury", "2", undefined, "Failed", undefined],
          ["bury", "3", undefined, "Defect", undefined]
        ]
      )
      assert.include(store.told[1]!.burial!.cause, "no paper")
      assert.include(lines, "fiberbus: a message to news:billing is set aside after 2 deliveries: Failed")
      assert.lengthOf(
        lines.filter((line) => line.includes("failed in delivery")),
        3
      )
    })
  )
})
