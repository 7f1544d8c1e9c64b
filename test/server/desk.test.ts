import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Layer, Logger, Metric, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, Handlers, Health, Memory, Service, Transport } from "fiberbus"
import type { Options } from "../../src/server/Options.ts"
import * as LinkState from "../../src/transport/LinkState.ts"
import * as Scripted from "../scripted.ts"

const Work = Service.make("work", Action.make("do", { payload: Schema.Any, success: Schema.Any }), Action.make("wait"))
const Other = Service.make("other", Action.make("do"))

/** A process that is asked by frames, and what comes back. */
const setUp = Effect.fnUntraced(function* (memoryOptions: Memory.Options = {}) {
  const memory = Memory.make(memoryOptions)
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const state = { broken: false }
  const transport: Transport.Transport["Service"] = {
    ...memory,
    get state() {
      return link.current()
    },
    watch: link.watch,
    send: (channel, frame, sent, packs) => {
      if (!state.broken || !channel.startsWith("caller:")) return memory.send(channel, frame, sent, packs)
      sent(new Transport.TransportError({ kind: "Timeout", operation: "send", detail: "", hint: "", sent: "no" }), 0)
    }
  }
  const frames: Array<any> = []
  const { prefix } = memory
  yield* memory.subscribe({ _tag: "Channel", channel: `${prefix}caller:x` }, (frame) => {
    frames.push(JSON.parse(String(frame)))
  })
  const registry: Metric.MetricRegistry = new Map()
  const start = Effect.fnUntraced(function* <E>(layer: Layer.Layer<never, E, Transport.Transport>) {
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(Layer.provide(layer, Layer.succeed(Transport.Transport, transport)), scope).pipe(
      Effect.provideService(Metric.MetricRegistry, registry)
    )
    yield* Scripted.turns()
    return Effect.andThen(Scope.close(scope, Exit.void), Scripted.turns())
  })
  let asked = 0
  const say = (channel: string, frame: object | string) =>
    Effect.suspend(() => {
      memory.send(prefix + channel, typeof frame === "string" ? frame : JSON.stringify(frame), () => {})
      return Effect.map(Scripted.turns(), () => frames.splice(0))
    })
  return {
    link,
    start,
    state,
    say,
    memory,
    /** Asks all that the process serves. */
    askAll: (action: string, more: object = {}) =>
      say("fiberbus.who", { action, request_id: `${++asked}`, reply_to: `${prefix}caller:x`, payload: {}, ...more }),
    /** Asks one service. */
    ask: (action: string, more: object = {}, service = "work") =>
      say(service, { action, request_id: `${++asked}`, reply_to: `${prefix}caller:x`, payload: {}, ...more }),
    dropped: (reason: string): number => {
      for (const { attributes, hooks, id } of registry.values()) {
        if (id === "fiberbus_discarded_total" && (attributes as Record<string, string>)["reason"] === reason)
          return (hooks.get(Context.empty()) as { readonly count: number }).count
      }
      return 0
    }
  }
})

const serving = (options?: Options) => Handlers.layer(Work, { do: Effect.succeed, wait: () => Effect.void }, options)
const others = (options?: Options) => Handlers.layer(Other, { do: () => Effect.void }, options)

const servicesOf = (answers: ReadonlyArray<any>) => answers.map(({ final, payload }) => [payload.service, final])

describe("a question to all processes", () => {
  it.effect("is answered for each service, the last of them last, or for the one that it names", () =>
    Effect.gen(function* () {
      const { askAll, start } = yield* setUp()
      yield* start(Layer.merge(serving(), others()))
      for (const question of ["$ping", "$info", "$stats", "$health"]) {
        const all = yield* askAll(question, { service: "" })
        assert.deepStrictEqual(
          servicesOf(all),
          [
            ["work", false],
            ["other", true]
          ],
          question
        )
        assert.isTrue(all.every(({ status }) => status === "success"))
        const { by } = all[0].fiberbus
        assert.deepStrictEqual(all[1].fiberbus, { v: 1, by, seq: 0 })
        assert.strictEqual(all[0].payload.instance, by)
        assert.lengthOf(yield* askAll(question), 2)
        assert.deepStrictEqual(servicesOf(yield* askAll(question, { service: "work" })), [["work", true]])
        assert.deepStrictEqual(yield* askAll(question, { service: "nobody" }), [])
        assert.lengthOf(yield* askAll(question, { service: 7 }), 2)
      }
    })
  )

  it.effect("may be for one process alone", () =>
    Effect.gen(function* () {
      const { ask, askAll, start } = yield* setUp()
      yield* start(serving())
      const [{ payload }] = yield* askAll("$ping")
      for (const asked of [ask, askAll]) {
        assert.lengthOf(yield* asked("$ping", { payload: { instance: payload.instance } }), 1)
        assert.lengthOf(yield* asked("$ping", { payload: { instance: "another" } }), 0)
        assert.lengthOf(yield* asked("$ping", { payload: "text" }), 1)
        assert.lengthOf(yield* asked("$ping", { payload: null }), 1)
      }
    })
  )

  it.effect("is dropped and counted where it is none, or its answer would go to what is no inbox", () =>
    Effect.gen(function* () {
      const { askAll, dropped, memory, say, start } = yield* setUp({ prefix: "p:" })
      yield* start(serving())
      const heard: Array<string> = []
      yield* memory.subscribe({ _tag: "Pattern", pattern: "*" }, (_, channel) => {
        if (channel !== "p:fiberbus.who") heard.push(channel)
      })
      const inbox = "p:caller:x"
      yield* say("fiberbus.who", "no frame")
      assert.strictEqual(dropped("NotJson"), 1)
      yield* say("fiberbus.who", { reply_to: inbox })
      assert.strictEqual(dropped("NoAction"), 1)
      for (const action of ["do", "$other", "ping"]) yield* askAll(action)
      assert.strictEqual(dropped("UnknownAction"), 3)
      for (const reply_to of [undefined, "p:work", "caller:x", "p:caller:*"]) yield* askAll("$ping", { reply_to })
      assert.strictEqual(dropped("ReplyToRefused"), 4)
      assert.deepStrictEqual(heard, [])
      assert.lengthOf(yield* askAll("$ping"), 1)
    })
  )

  it.effect("is counted where nobody waits for its answer, or it cannot be sent", () =>
    Effect.gen(function* () {
      const { ask, dropped, start, state } = yield* setUp()
      yield* start(serving())
      yield* ask("$ping", { reply_to: undefined })
      assert.strictEqual(dropped("NobodyWaits"), 1)
      state.broken = true
      yield* ask("$ping")
      assert.strictEqual(dropped("ReplyNotSent:Timeout"), 1)
    })
  )

  it.effect("is not answered by more than a frame holds", () =>
    Effect.gen(function* () {
      const { ask, dropped, start } = yield* setUp({ maxFrameBytes: 5_000 })
      const names = Array.from({ length: 200 }, (_, n) => `a_name_that_is_long_${n}`)
      const Long = Service.make("long", ...names.map((name) => Action.make(name)))
      yield* start(
        Handlers.layer(Long as never, Object.fromEntries(names.map((name) => [name, () => Effect.void])) as never)
      )
      assert.deepStrictEqual(yield* ask("$ping", {}, "long"), [])
      assert.strictEqual(dropped("TooLarge"), 1)
    })
  )

  it.effect("names 256 services and 256 actions at most, and says how many more there are", () =>
    Effect.gen(function* () {
      const { ask, askAll, start } = yield* setUp()
      const names = Array.from({ length: 259 }, (_, n) => `a${n}`)
      const Large = Service.make("large", ...names.map((name) => Action.make(name)))
      const handlers = Object.fromEntries(names.map((name) => [name, () => Effect.void]))
      yield* start(Handlers.layer(Large as never, handlers as never))
      const [{ payload }] = yield* ask("$ping", {}, "large")
      assert.deepStrictEqual([payload.actions.length, payload.more], [256, 3])
      assert.lengthOf((yield* ask("$info", {}, "large"))[0].payload.actions, 259)
      const more = Array.from({ length: 258 }, (_, n) => Service.make(`s${n}`, Action.make("do"))).map((service) =>
        Handlers.layer(service, { do: () => Effect.void })
      )
      yield* start(Layer.mergeAll(more[0]!, ...more.slice(1)))
      assert.lengthOf(yield* askAll("$ping"), 256)
    })
  )
})

describe("a process that may not hear the questions to all", () => {
  const begin = (kind: Transport.TransportError["kind"]) =>
    Effect.gen(function* () {
      const memory = Memory.make()
      const lines: Array<string> = []
      const error = new Transport.TransportError({ kind, operation: "SUBSCRIBE", detail: "no", hint: "", sent: "no" })
      const transport: Transport.Transport["Service"] = {
        ...memory,
        subscribe: (target, receive) =>
          target._tag === "Channel" && target.channel === "fiberbus.who"
            ? Effect.fail(error)
            : memory.subscribe(target, receive)
      }
      const exit = yield* Layer.build(
        Layer.provide(serving(), Layer.fresh(Layer.succeed(Transport.Transport, transport)))
      ).pipe(
        Effect.exit,
        Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]))
      )
      const heard: Array<any> = []
      yield* memory.subscribe({ _tag: "Channel", channel: "caller:x" }, (frame) => {
        heard.push(JSON.parse(String(frame)))
      })
      memory.send("work", '{"action":"$ping","request_id":"1","reply_to":"caller:x"}', () => {})
      yield* Scripted.turns()
      return { begun: Exit.isSuccess(exit), heard, lines }
    })

  it.effect("serves all the same, answers those to itself, and says so", () =>
    Effect.gen(function* () {
      const { begun, heard, lines } = yield* begin("PermissionDenied")
      assert.isTrue(begun)
      assert.lengthOf(heard, 1)
      assert.lengthOf(
        lines.filter((line) => line.includes("is not told of work")),
        1
      )
      const other = yield* begin("Unreachable")
      assert.deepStrictEqual([other.begun, other.heard, other.lines], [false, [], []])
    })
  )
})

describe("what a process tells of a service", () => {
  it.effect("is of all its layers, as they come and go", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp()
      const More = Service.make("work", Action.make("more"))
      const stop = yield* start(serving())
      const names = Effect.map(ask("$info"), ([{ payload }]) => payload.actions.map(({ name }: any) => name))
      assert.deepStrictEqual(yield* names, ["do", "wait"])
      const [{ payload: first }] = yield* ask("$info")
      yield* TestClock.adjust(5_000)
      yield* start(Handlers.layer(More, { more: () => Effect.void }, { version: `2.${"0".repeat(200)}` }))
      assert.deepStrictEqual(yield* names, ["do", "wait", "more"])
      const [{ payload: ping }] = yield* ask("$ping")
      assert.deepStrictEqual(ping.actions, ["do", "wait", "more"])
      // The version of the one that has one; the time of the oldest.
      assert.strictEqual(ping.version, `2.${"0".repeat(126)}`)
      const [{ payload: stats }] = yield* ask("$stats")
      assert.deepStrictEqual([stats.startedAt, stats.uptimeMillis], [first.startedAt, 5_000])
      assert.strictEqual(first.startedAt, "1970-01-01T00:00:00.000Z")
      yield* stop
      assert.deepStrictEqual(yield* names, ["more"])
      const [{ payload: later }] = yield* ask("$info")
      assert.strictEqual(later.startedAt, "1970-01-01T00:00:05.000Z")
    })
  )

  it.effect("has what each action's contract says", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp()
      interface Tree {
        readonly next?: Tree
      }
      const Tree: Schema.Codec<Tree> = Schema.Struct({
        next: Schema.optionalKey(Schema.suspend((): Schema.Codec<Tree> => Tree))
      }).annotate({ identifier: "Tree" })
      const Full = Service.make(
        "full",
        Action.make("plain").pipe(
          Action.annotate(Action.Timeout, Duration.infinity),
          Action.annotate(Action.Delivery, "live")
        ),
        Action.make("all", {
          payload: { id: Schema.String },
          success: Schema.Finite,
          error: Schema.Boolean,
          progress: Schema.String,
          asks: { well: { ask: Schema.String, answer: Schema.Boolean } }
        }).pipe(
          Action.annotate(Action.Timeout, "3 seconds"),
          Action.annotate(Action.Idempotent, true),
          Action.annotate(Action.Concurrency, 4),
          Action.annotate(Action.Key, ({ id }: any) => id)
        ),
        Action.make("watch", { items: Schema.Finite }),
        Action.make("tree", { payload: Tree as never })
      )
      const idle = () => Effect.void
      yield* start(Handlers.layer(Full as never, { plain: idle, all: idle, watch: idle, tree: idle } as never))
      const [{ payload }] = yield* ask("$info", {}, "full")
      const [plain, all, watch, tree] = payload.actions
      assert.deepStrictEqual(plain, { name: "plain", delivery: "live", idempotent: false, keyed: false })
      const types = Object.fromEntries(
        ["payload", "success", "error", "progress"].map((part) => [part, all[part].type])
      )
      assert.deepStrictEqual(types, { payload: "object", success: "number", error: "boolean", progress: "string" })
      assert.deepStrictEqual([all.timeoutMillis, all.idempotent, all.concurrency, all.keyed], [3_000, true, 4, true])
      assert.deepStrictEqual([all.asks.well.ask.type, all.asks.well.answer.type], ["string", "boolean"])
      assert.notProperty(all, "items")
      assert.deepStrictEqual([watch.items.type, watch.success], ["number", undefined])
      assert.notProperty(watch, "asks")
      assert.notProperty(watch, "payload")
      assert.property(tree.payload.$defs, "Tree")
    })
  )

  it.effect("leaves the schemas out where they are more than a frame holds, and nothing else", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp({ maxFrameBytes: 3_000 })
      const fields = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`a_field_${n}`, Schema.String]))
      const Wide = Service.make(
        "wide",
        Action.make("do", { payload: fields }).pipe(Action.annotate(Action.Concurrency, 2)),
        Action.make("plain").pipe(Action.annotate(Action.Timeout, Duration.infinity))
      )
      const idle = () => Effect.void
      yield* start(Handlers.layer(Wide as never, { do: idle, plain: idle } as never))
      const [{ payload }] = yield* ask("$info", {}, "wide")
      assert.isTrue(payload.withoutSchemas)
      assert.deepStrictEqual(payload.actions, [
        { name: "do", delivery: "one", idempotent: false, keyed: false, timeoutMillis: 5_000, concurrency: 2 },
        { name: "plain", delivery: "one", idempotent: false, keyed: false }
      ])
    })
  )

  it.effect("counts its handlers by how they ended and how long they took, and what it refused or dropped", () =>
    Effect.gen(function* () {
      const { ask, say, start } = yield* setUp()
      const gate = yield* Deferred.make<void>()
      yield* start(
        Layer.merge(
          Handlers.layer(
            Work,
            { do: (n) => Effect.as(Effect.sleep(n), n), wait: () => Deferred.await(gate) },
            { concurrency: 1, backlog: 1 }
          ),
          others({ concurrency: 1, backlog: 0 })
        )
      )
      for (const n of [100, 300]) {
        yield* ask("do", { payload: n })
        yield* TestClock.adjust(n)
        yield* Scripted.turns()
      }
      for (const _ of [1, 2, 3, 4]) yield* ask("wait")
      yield* say("work", "no frame")
      const [{ payload }] = yield* ask("$stats")
      assert.deepStrictEqual([payload.running, payload.waiting, payload.refused], [1, 1, { Busy: 2 }])
      assert.deepStrictEqual(payload.discarded, { NotJson: 1 })
      const [did, waits] = payload.actions
      assert.deepStrictEqual([did.name, did.outcomes], ["do", { success: 2 }])
      const { buckets, count, maxMillis, meanMillis, minMillis, p50Millis, p99Millis } = did.latency
      assert.deepStrictEqual([count, meanMillis, minMillis, maxMillis], [2, 200, 100, 300])
      assert.isTrue(p50Millis >= 64 && p50Millis <= 128, `${p50Millis}`)
      assert.isTrue(p99Millis > 200 && p99Millis <= 300, `${p99Millis}`)
      assert.deepStrictEqual(buckets.at(-1)[1], 2)
      assert.deepStrictEqual([waits.outcomes, Object.keys(waits.latency)], [{}, ["count", "buckets"]])
      assert.strictEqual(waits.latency.count, 0)
      assert.isTrue(payload.memory.rssBytes > payload.memory.heapUsedBytes)
      // Of the other one nothing was refused.
      const [{ payload: other }] = yield* ask("$stats", {}, "other")
      assert.deepStrictEqual([other.refused, other.running, other.waiting], [{}, 0, 0])
      yield* Deferred.succeed(gate, undefined)
    })
  )
})

describe("what a process says of its health", () => {
  it.effect("is that it serves, and how its link is", () =>
    Effect.gen(function* () {
      const { ask, link, start } = yield* setUp()
      yield* start(serving())
      const health = Effect.map(ask("$health"), ([{ payload }]) => [
        payload.live,
        payload.ready,
        ...payload.checks.map(({ detail, name, status }: any) => `${name} ${status} ${detail}`)
      ])
      assert.deepStrictEqual(yield* health, [true, true, "serving pass undefined", "transport pass Ready"])
      const error = new Transport.TransportError({
        kind: "ConnectionLost",
        operation: "read",
        detail: "it broke",
        hint: "",
        sent: "no"
      })
      link.change({ _tag: "Degraded", gaps: 0, error } as never)
      assert.deepStrictEqual(yield* health, [
        true,
        false,
        "serving pass undefined",
        "transport fail Degraded: read: it broke"
      ])
    })
  )

  it.effect("is in the words of what a check failed with, and says of a defect that it was one", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp()
      yield* start(serving())
      const words: Array<readonly [string, Effect.Effect<unknown, unknown>, string | undefined]> = [
        ["text", Effect.fail("no disk"), "no disk"],
        ["error", Effect.fail(new Error("no disk")), "no disk"],
        ["tagged", Effect.fail({ _tag: "NoDisk" }), "NoDisk"],
        ["mute", Effect.fail({ _tag: "NoDisk", message: "" }), "NoDisk"],
        ["odd", Effect.fail({}), "the check failed"],
        ["number", Effect.fail(7), "7"],
        ["nothing", Effect.fail(null), "null"],
        ["died", Effect.die("a secret"), "the check died"],
        ["stopped", Effect.interrupt, "the check was interrupted"],
        ["empty", Effect.succeed(""), undefined],
        ["said", Effect.succeed("12 ms"), "12 ms"],
        ["silent", Effect.succeed(12), undefined]
      ]
      yield* start(
        Layer.mergeAll(
          ...(words.map(([name, check]) => Health.check(name, check)) as [ReturnType<typeof Health.check>])
        ) as never
      )
      const [{ payload }] = yield* ask("$health")
      for (const [name, check, detail] of words) {
        const found = payload.checks.find((one: any) => one.name === name)
        assert.strictEqual(found.detail, detail, name)
        assert.strictEqual(found.status, Exit.isSuccess(yield* Effect.exit(check)) ? "pass" : "fail", name)
      }
    })
  )

  it.effect("is no more than its checks say while they are there, each for its own services", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp()
      yield* start(Layer.merge(serving(), others()))
      const names = (service: string) =>
        Effect.map(ask("$health", {}, service), ([{ payload }]) =>
          payload.checks.slice(2).map(({ name, status }: any) => `${name} ${status}`)
        )
      const stop = yield* start(
        Layer.merge(Health.check("all", Effect.void), Health.check("own", Effect.fail("no"), { service: Work }))
      )
      assert.sameMembers(yield* names("work"), ["all pass", "own fail"])
      assert.deepStrictEqual(yield* names("other"), ["all pass"])
      yield* stop
      assert.deepStrictEqual(yield* names("work"), [])
    })
  )

  it.effect("is stopped being looked at when its check goes, and there is room for the next question", () =>
    Effect.gen(function* () {
      const { ask, start } = yield* setUp()
      yield* start(serving())
      let interrupted = 0
      const gone = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      const stop = yield* start(Health.check("slow", gone, { timeout: "1 hour" }))
      for (let n = 0; n < 64; n++) assert.deepStrictEqual(yield* ask("$health"), [])
      const [busy] = yield* ask("$health")
      assert.deepStrictEqual(busy.payload.reason, { _tag: "Busy", retryAfterMillis: 1_000 })
      assert.strictEqual(busy.payload.started, "no")
      yield* stop
      assert.strictEqual(interrupted, 1)
      yield* ask("$ping")
      const [answer] = yield* ask("$health")
      assert.strictEqual(answer.payload.ready, true)
    })
  )
})
