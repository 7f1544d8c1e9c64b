/** Frames that nobody should send, to a service, a listener and an inbox: each may harm its own request only. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Listener, Memory, Request, Service, Topic } from "fiberbus"
import { afterEach, vi } from "vitest"
import { inbox } from "../../src/client/internal/inbox.ts"
import type { Options } from "../../src/server/Options.ts"
import { type Frame, type Receive, Transport } from "../../src/transport/Transport.ts"
import * as Channels from "../../src/wire/Channels.ts"
import * as Codec from "../../src/wire/Codec.ts"
import * as SchemaCodec from "../../src/wire/SchemaCodec.ts"
import { isPresence } from "../scripted.ts"
import * as Random from "./random.ts"

afterEach(() => void vi.restoreAllMocks())

interface Tree {
  readonly next?: Tree | undefined
}
const Tree: Schema.Codec<Tree> = Schema.Struct({
  next: Schema.optionalKey(Schema.suspend((): Schema.Codec<Tree> => Tree))
})

class Target extends Service.make(
  "target",
  Action.make("echo", { payload: Schema.Any, success: Schema.Any }),
  Action.make("strict", { payload: { n: Schema.Finite, tag: Schema.Literals(["a", "b"]) }, success: Schema.Finite }),
  Action.make("numbers", {
    payload: Schema.Record(Schema.String, Schema.Array(Schema.Finite)),
    success: Schema.Finite
  }),
  Action.make("tree", { payload: Tree, success: Schema.Finite }),
  Action.make("die", { payload: Schema.Any }),
  Action.make("wait", { payload: Schema.Any, success: Schema.String })
) {}

const News = Topic.make("news", Schema.Record(Schema.String, Schema.Any))

interface Said {
  readonly channel: string
  readonly frame: string
}

/** A service, a listener and a caller on one bus, frames put into their hands from outside, and all that they send. */
const setUp = (options?: Options, memoryOptions?: Memory.Options) =>
  Effect.gen(function* () {
    const memory = Memory.make(memoryOptions)
    const receivers = new Map<string, Receive>()
    const said: Array<Said> = []
    const transport: Transport["Service"] = {
      ...memory,
      send: (channel, frame, sent) => {
        if (!isPresence(JSON.parse(frame))) said.push({ channel, frame })
        memory.send(channel, frame, sent)
      },
      subscribe: (target, receive) => {
        if (target._tag === "Channel") receivers.set(target.channel, receive)
        return memory.subscribe(target, receive)
      }
    }
    const lines: Array<string> = []
    const formats = [Logger.formatLogFmt, Logger.formatSimple, Logger.formatJson]
    const logger = Logger.make((line) => void lines.push(...formats.map((format) => format.log(line))))
    const release = yield* Deferred.make<void>()
    const waiting = yield* Queue.unbounded<string>()
    const ran: Array<string> = []
    const heard: Array<unknown> = []
    const noted =
      <A, B>(handle: (payload: A) => Effect.Effect<B>) =>
      (payload: A) =>
        Effect.flatMap(Request.current, ({ action }) => {
          ran.push(action)
          return handle(payload)
        })
    yield* Layer.build(
      Layer.mergeAll(
        Handlers.layer(
          Target,
          {
            echo: noted((payload) => Effect.succeed(payload)),
            strict: noted(({ n }) => Effect.succeed(n)),
            numbers: noted((record) => Effect.succeed(Object.keys(record).length)),
            tree: noted(() => Effect.succeed(1)),
            die: noted(() => Effect.die(new Error("secret cause"))),
            wait: () =>
              Effect.flatMap(Request.current, ({ id }) =>
                Effect.andThen(Queue.offer(waiting, id), Effect.as(Deferred.await(release), id))
              )
          },
          // What is hit is answered on the spot, without a claim.
          { delivery: "live", ...options }
        ),
        Listener.layer(News, (message) => Effect.sync(() => void heard.push(message)), options)
      ).pipe(Layer.provide(Layer.succeed(Transport, transport)), Layer.provide(Logger.layer([logger])))
    )
    const own = yield* Effect.provideService(inbox, Transport, transport)
    const caller = yield* Effect.provideService(Caller.make(Target), Transport, transport)
    const dynamic = yield* Effect.provideService(Caller.dynamic("target"), Transport, transport)
    return {
      caller,
      dynamic,
      heard,
      inbox: own,
      lines,
      ran,
      release: Deferred.succeed(release, undefined),
      transport,
      waiting: Queue.take(waiting),
      /** Hands a frame over on the spot: a throw of the reader is a throw here. Returns what was said at once in reply. */
      hit: (channel: string, frame: Frame): ReadonlyArray<Said> => {
        const before = said.length
        receivers.get(channel)!(frame, channel)
        return said.slice(before)
      },
      said,
      assertAlive: Effect.gen(function* () {
        assert.strictEqual(yield* caller.strict({ n: 42, tag: "a" }), 42)
        assert.deepStrictEqual(yield* caller.echo({ still: "here" }), { still: "here" })
        assert.strictEqual(own.size(), 0)
      })
    }
  })

const json = (fields: Record<string, unknown>) => JSON.stringify(fields)

const ask = (action: string, payload: unknown, more?: Record<string, unknown>) =>
  json({ action, payload, reply_to: "caller:x", request_id: "r", ...more })

const replyIn = (said: ReadonlyArray<Said>) => {
  assert.strictEqual(said.length, 1)
  return JSON.parse(said[0]!.frame)
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The object that a frame is by JSON.parse, an implementation that is not ours. */
const strictObject = (text: string): Record<string, unknown> | undefined => {
  try {
    const value = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

const known = ["echo", "echo", "echo", "strict", "numbers", "tree", "die"]
const inboxes = ["caller:x", "caller:y", "caller:é"]

const refused = ["target", "news", "caller", "Caller:x", "callerx", "fx", "caller:*", "caller:a b", "caller:\u0000"]

const request = (random: Random.Random): Record<string, unknown> => {
  const fields: Record<string, unknown> = {
    action: random.pick(random.chance(0.8) ? known : Random.treacherousTexts),
    payload: Random.value(random),
    reply_to: random.pick(random.chance(0.8) ? inboxes : [...refused, "caller:" + "x".repeat(300)]),
    request_id: random.chance(0.5) ? Random.value(random, 2) : "r".repeat(random.below(280)),
    service: random.pick(["target", "other", "__proto__"])
  }
  for (const field of Object.keys(fields)) {
    const change = random.below(20)
    if (change === 0) delete fields[field]
    else if (change === 1) fields[field] = Random.value(random)
  }
  if (random.chance(0.3)) fields[random.pick(Random.treacherousTexts)] = Random.value(random)
  if (random.chance(0.4)) {
    const timeout_ms = random.pick([0, -1, 0.1, 1, 1e9, 1e308, null, "1", {}])
    fields["fiberbus"] = random.pick([
      Random.value(random),
      { v: 1, timeout_ms, headers: Random.value(random, 2) },
      { v: 1, timeout_ms, headers: Object.fromEntries(Random.treacherousKeys.map((key) => [key, "x"])) }
    ])
  }
  return fields
}

const expectedPayload = (payload: unknown): unknown => {
  if (payload === undefined) return {}
  if (typeof payload !== "string") return payload
  // Read as Python's number, of which JSON makes null.
  if (payload === "NaN") return null
  try {
    return JSON.parse(payload)
  } catch {
    return payload
  }
}

describe("a service", () => {
  it.effect("outlives 30,000 random requests, whole, mutated and as bytes, and answers only whom it may", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const counts = { echoed: 0, failed: 0, silent: 0, whole: 0 }
      for (let seed = 0; seed < 30_000; seed++) {
        const random = Random.make(seed)
        const fields = request(random)
        const text = random.chance(0.5) ? json(fields) : Random.mutate(random, json(fields))
        const frame = random.chance(0.2) ? Random.bytes(random, text) : text
        const said = bus.hit("target", frame)
        if (seed % 1_000 === 0) yield* bus.assertAlive
        assert.isAtMost(said.length, 1, `seed ${seed}`)
        if (said.length === 0) {
          counts.silent++
          continue
        }
        const { channel, frame: answer } = said[0]!
        const reply = JSON.parse(answer)
        assert.deepStrictEqual(Object.keys(reply), ["status", "payload", "request_id", "final"], `seed ${seed}`)
        assert.isTrue(reply.final)
        assert.isTrue(channel.startsWith("caller:") && Channels.isAddress(channel), `seed ${seed}: ${channel}`)
        assert.notInclude(answer, "secret cause")
        if (reply.status === "error") {
          counts.failed++
          assert.isAtMost(reply.payload.error.length, 1_000)
          assert.isBelow(answer.length, 5_000, `seed ${seed}`)
        } else counts.echoed++
        const asked = strictObject(typeof frame === "string" ? frame : Buffer.from(frame).toString())
        if (asked === undefined) continue
        counts.whole++
        assert.strictEqual(channel, asked["reply_to"], `seed ${seed}`)
        assert.deepStrictEqual(
          reply.request_id,
          JSON.parse(JSON.stringify(asked["request_id"] ?? null)),
          `seed ${seed}`
        )
        if (reply.status === "success" && asked["action"] === "echo") {
          assert.deepStrictEqual(reply.payload, JSON.parse(JSON.stringify(expectedPayload(asked["payload"]))))
        }
      }
      // The frames are not so wild that nothing of them comes through.
      for (const count of Object.values(counts)) assert.isAbove(count, 1_500, JSON.stringify(counts))
      yield* bus.assertAlive
      assert.isUndefined(({} as Record<string, unknown>)["action"])
    })
  )

  it.effect("outlives 10,000 frames of noise", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (let seed = 0; seed < 10_000; seed++) {
        const random = Random.make(seed)
        assert.deepStrictEqual(bus.hit("target", Random.bytes(random, "")), [])
        assert.deepStrictEqual(bus.hit("target", json({ x: Random.value(random) })), [])
        bus.hit("target", Random.mutate(random, random.pick(Random.treacherousTexts)))
      }
      assert.deepStrictEqual(bus.ran, [])
      yield* bus.assertAlive
    })
  )

  it.effect("drops what is no request, whatever is wrong with it", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const good = ask("echo", 1)
      for (const frame of [
        Buffer.from([0xff, 0xfe, 0x00]),
        Buffer.concat([Buffer.from(good), Buffer.from([0xc0])]),
        Buffer.from(good, "utf16le"),
        `\ufeff${good}`,
        good.slice(0, -1),
        `[[${good}]]`,
        `[${Array.from({ length: 65 }, () => good).join()}]`,
        JSON.stringify(good),
        "",
        "null",
        ask("echo", JSON.parse("[".repeat(64) + "]".repeat(64))),
        ask("echo", "x".repeat(Codec.defaultMaxBytes)),
        ask("", 1),
        ask("echo", 1, { action: ["echo"] }),
        ask("echo", 1, { reply_to: 5 }),
        ask("echo", 1, { reply_to: ["caller:x"] }),
        ask("echo", 1, { request_id: "x".repeat(257) }),
        ask("echo", 1, { request_id: Array.from({ length: 10_000 }, () => ({})) }),
        `{"__proto__":${good}}`
      ]) {
        assert.deepStrictEqual(bus.hit("target", frame), [], String(frame).slice(0, 100))
      }
      assert.deepStrictEqual(bus.ran, [])
      // Controls: with nothing wrong, or as wrong as is allowed, they are answered.
      for (const frame of [
        good,
        Buffer.from(good),
        ask("echo", JSON.parse("[".repeat(63) + "]".repeat(63))),
        ask("echo", "x".repeat(Codec.defaultMaxBytes / 2)),
        ask("echo", 1, { request_id: "x".repeat(256) })
      ]) {
        assert.strictEqual(replyIn(bus.hit("target", frame)).status, "success")
      }
      // A pack: what is wrong with one of its requests is nobody else's business.
      const pack = [good, ask("", 1), good, "null", ask("echo", JSON.parse("[".repeat(64) + "]".repeat(64))), good]
      assert.deepStrictEqual(
        bus.hit("target", `[${pack.join()}]`).map(({ frame }) => JSON.parse(frame).status),
        ["success", "success", "success"]
      )
      yield* bus.assertAlive
    })
  )

  it.effect("answers unknown actions, those with a meaning in JavaScript among them", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (const action of [...Random.treacherousKeys, "Echo", "echo ", "\u0000", "x".repeat(100_000)]) {
        if (action === "") continue
        const reply = replyIn(bus.hit("target", ask(action, 1)))
        assert.strictEqual(reply.status, "error")
        assert.strictEqual(reply.payload.reason._tag, "UnknownAction")
        assert.isAtMost(reply.payload.reason.action.length, 128)
        assert.isFalse(/\p{Cc}/u.test(reply.payload.error))
      }
      assert.deepStrictEqual(bus.ran, [])
      const quiet = yield* setUp({ unknownAction: "ignore" })
      assert.deepStrictEqual(quiet.hit("target", ask("constructor", 1)), [])
    })
  )

  it.effect("keeps payloads with the marks of Effect, Promise and JSON what they are: data", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (const key of Random.treacherousKeys) {
        for (const value of [null, 1, "x", {}, { [key]: {} }]) {
          const payload = { [key]: value, inner: { [key]: [value] } }
          assert.deepStrictEqual(replyIn(bus.hit("target", ask("echo", payload))).payload, payload)
          assert.deepStrictEqual(yield* bus.caller.echo(payload), payload)
          assert.deepStrictEqual(yield* bus.dynamic.call("echo", payload as any), payload)
        }
      }
      // Control: such data is taken for an Effect by whoever asks.
      assert.isTrue(Effect.isEffect(JSON.parse('{"~effect/Effect":{}}')))
    })
  )

  describe("answers a payload that does not fit", () => {
    it.effect("without the value, naming the place", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        for (const payload of [
          { n: "hunter2", tag: "a" },
          { n: 1, tag: "hunter2" },
          "hunter2",
          ["hunter2"],
          null,
          {}
        ]) {
          const reply = replyIn(bus.hit("target", ask("strict", payload)))
          assert.strictEqual(reply.payload.reason._tag, "InvalidPayload")
          assert.strictEqual(reply.payload.started, "no")
          assert.notInclude(JSON.stringify(reply), "hunter2")
        }
        assert.deepStrictEqual(bus.ran, [])
      })
    )

    it.effect("with the first of a hundred thousand errors, short", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        const payload = { a: Array.from({ length: 100_000 }, () => "x") }
        const [reply] = bus.hit("target", ask("numbers", payload))
        assert.isBelow(reply!.frame.length, 1_000)
        assert.deepStrictEqual(JSON.parse(reply!.frame).payload.reason.path, ["a", "0"])
        // Control: collecting all of them makes a text of megabytes.
        const all = Schema.decodeUnknownExit(Target.actions.numbers.payload, { errors: "all" })(payload)
        assert.isAbove(String(Exit.isFailure(all) && Cause.pretty(all.cause)).length, 1_000_000)
      })
    )

    it.effect("in few words where the sender's own keys are long", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        const [reply] = bus.hit("target", ask("numbers", { ["k".repeat(900_000)]: ["x"] }))
        assert.isBelow(reply!.frame.length, 1_000)
        assert.strictEqual(JSON.parse(reply!.frame).payload.reason._tag, "InvalidPayload")
      })
    )

    it.effect("of any depth, by a recursive schema", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        const nested = (depth: number, leaf: string) => '{"next":'.repeat(depth) + leaf + "}".repeat(depth)
        const text = (payload: string) =>
          `{"action":"tree","payload":${payload},"reply_to":"caller:x","request_id":"r"}`
        assert.strictEqual(replyIn(bus.hit("target", text(nested(62, "{}")))).status, "success")
        const wrong = replyIn(bus.hit("target", text(nested(62, "[]"))))
        assert.strictEqual(wrong.payload.reason._tag, "InvalidPayload")
        assert.deepStrictEqual(bus.hit("target", text(nested(100_000, "{}"))), [])
        // Control: behind no limit of nesting, the schema dies of it.
        const deep = JSON.parse(nested(100_000, "{}"))
        const exit = yield* Effect.exit(SchemaCodec.make(Tree).decode(deep))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        yield* bus.assertAlive
      })
    )
  })

  describe("with a reply_to that", () => {
    const handled = (bus: { readonly ran: ReadonlyArray<string> }) => bus.ran.length

    it.effect("is no inbox: runs nothing and answers nowhere", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        const evil = [...refused, "caller:\n", "caller:[a]", "caller:\\", "caller:\u202e", "caller:\ud83d", " caller:x"]
        for (const reply_to of [...evil, "caller:" + "x".repeat(250), "caller:" + "🚀".repeat(70)]) {
          for (const action of ["echo", "unknown"]) {
            assert.deepStrictEqual(bus.hit("target", ask(action, 1, { reply_to })), [], reply_to)
          }
        }
        assert.strictEqual(handled(bus), 0)
        // Control: with an option that allows it, the same printable channel is answered.
        const open = yield* setUp({ replyTo: "any" })
        assert.strictEqual(open.hit("target", ask("echo", 1, { reply_to: "fx" }))[0]!.channel, "fx")
        const some = yield* setUp({ replyTo: ["fx:", "caller:"] })
        assert.strictEqual(some.hit("target", ask("echo", 1, { reply_to: "fx:1" })).length, 1)
        assert.deepStrictEqual(some.hit("target", ask("echo", 1, { reply_to: "f" })), [])
      })
    )

    it.effect("is a channel of the service's own process: is refused whatever the options say", () =>
      Effect.gen(function* () {
        for (const options of [{}, { replyTo: "any" }, { replyTo: [""] }] satisfies ReadonlyArray<Options>) {
          for (const prefix of ["", "p/"]) {
            const bus = yield* setUp(options, { prefix })
            for (const reply_to of [`${prefix}target`, `${prefix}news`]) {
              assert.deepStrictEqual(bus.hit(`${prefix}target`, ask("echo", { action: "echo" }, { reply_to })), [])
            }
            assert.strictEqual(handled(bus), 0)
          }
        }
      })
    )

    it.effect("is absent: runs the handler and answers nobody", () =>
      Effect.gen(function* () {
        const bus = yield* setUp()
        for (const reply_to of [undefined, null, ""]) {
          for (const action of ["echo", "die", "strict", "unknown"]) {
            assert.deepStrictEqual(bus.hit("target", ask(action, 1, { reply_to, service: "victim" })), [])
          }
        }
        assert.strictEqual(handled(bus), 6)
        const responses = yield* setUp({ unaddressed: "responses" })
        const [answer] = responses.hit("target", ask("echo", 1, { reply_to: null, service: "victim" }))
        assert.strictEqual(answer!.channel, "target.responses")
      })
    )
  })

  it.effect("takes no answer for a request, so that two services cannot keep each other busy", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const answers = ["echo", "strict", "die", "unknown"].map((action) => bus.hit("target", ask(action, 1))[0]!.frame)
      const { length } = bus.ran
      for (const answer of answers) {
        assert.deepStrictEqual(bus.hit("target", answer), [])
        assert.deepStrictEqual(bus.hit("target", json({ ...JSON.parse(answer), reply_to: "caller:x" })), [])
      }
      assert.lengthOf(bus.ran, length)
      yield* bus.assertAlive
    })
  )

  it.effect("answers each of several requests with one id", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (let i = 0; i < 3; i++) assert.deepStrictEqual(bus.hit("target", ask("wait", i, { request_id: "same" })), [])
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* bus.waiting, "same")
      const before = bus.said.length
      yield* bus.release
      yield* bus.assertAlive
      const answers = bus.said.slice(before).filter(({ channel }) => channel === "caller:x")
      assert.deepStrictEqual(
        answers.map(({ frame }) => JSON.parse(frame)),
        Array.from({ length: 3 }, () => ({ status: "success", payload: "same", request_id: "same", final: true }))
      )
    })
  )

  it.effect("takes any deadline that a sender makes up", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const withTimeout = (action: string, timeout: string) =>
        `{"action":"${action}","reply_to":"caller:x","request_id":"r","fiberbus":{"v":1,"timeout_ms":${timeout}}}`
      for (const timeout of ["1e308", "1e999", "Infinity", "NaN", "-1", "-1e999", '"1"', "null", "[]"]) {
        assert.strictEqual(replyIn(bus.hit("target", withTimeout("echo", timeout))).status, "success", timeout)
      }
      const late = replyIn(bus.hit("target", withTimeout("echo", "0")))
      assert.deepStrictEqual([late.payload.reason._tag, late.payload.started], ["DeadlineExceeded", "no"])
      for (const timeout of ["1e308", "1e999", "50"]) {
        bus.hit("target", withTimeout("wait", timeout))
        yield* bus.waiting
      }
      const before = bus.said.length
      yield* TestClock.adjust("1 minute")
      yield* bus.release
      yield* bus.assertAlive
      const ends = bus.said
        .slice(before)
        .filter(({ channel }) => channel === "caller:x")
        .map(({ frame }) => JSON.parse(frame))
      assert.deepStrictEqual(
        ends.map(({ status, payload }) => (status === "error" ? payload.reason._tag : payload)),
        ["DeadlineExceeded", "r", "r"]
      )
    })
  )

  it.effect("reads Python's numbers and never writes them", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const text = (action: string, payload: string, id = '"r"') =>
        `{"action":"${action}","payload":${payload},"reply_to":"caller:x","request_id":${id}}`
      const [echoed] = bus.hit("target", text("echo", '{"a":NaN,"b":[Infinity,-Infinity],"c":"NaN","d":1e400}'))
      assert.strictEqual(
        echoed!.frame,
        '{"status":"success","payload":{"a":null,"b":[null,null],"c":"NaN","d":null},"request_id":"r","final":true}'
      )
      for (const number of ["NaN", "Infinity", "1e400"]) {
        const reply = replyIn(bus.hit("target", text("strict", `{"n":${number},"tag":"a"}`)))
        assert.strictEqual(reply.payload.reason._tag, "InvalidPayload")
        assert.isNull(replyIn(bus.hit("target", text("echo", "1", number))).request_id)
      }
    })
  )

  it.effect("tells nothing of a handler that died", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const reply = replyIn(bus.hit("target", ask("die", { password: "hunter2" })))
      assert.strictEqual(reply.payload.reason._tag, "RemoteDefect")
      assert.notMatch(JSON.stringify(reply), /secret|hunter2|\.ts|at /)
      assert.isTrue(bus.lines.some((line) => line.includes(reply.payload.reason.id) && line.includes("secret cause")))
      assert.isFalse(bus.lines.some((line) => line.includes("hunter2")))
    })
  )

  it.effect("writes a line for a flood of garbage, without its content, and answers the next good request", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (let second = 0; second < 3; second++) {
        for (let i = 0; i < 20_000; i++) {
          bus.hit("target", "hunter2 \u001b[31m {")
          bus.hit("target", ask("echo", 1, { reply_to: "hunter2" }))
        }
        yield* TestClock.adjust("1 second")
      }
      // At once, then a line for each second, in each of the three formats.
      assert.strictEqual(bus.lines.length, 4 * 3)
      for (const line of bus.lines) {
        assert.notInclude(line, "hunter2")
        assert.isFalse(/[^\P{Cc}\n]/u.test(line))
      }
      assert.deepStrictEqual(bus.said, [])
      yield* bus.assertAlive
    })
  )
})

describe("a listener", () => {
  it.effect("outlives 10,000 random messages and is given objects only", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      for (let seed = 0; seed < 10_000; seed++) {
        const random = Random.make(seed)
        const text = json(request(random))
        assert.deepStrictEqual(bus.hit("news", random.chance(0.5) ? Random.mutate(random, text) : text), [])
        bus.hit("news", Random.bytes(random, text))
        bus.hit("news", JSON.stringify(Random.value(random)))
      }
      assert.isAbove(bus.heard.length, 5_000)
      for (const message of bus.heard) assert.isTrue(isObject(message))
      const before = bus.heard.length
      bus.hit("news", '{"good":1}')
      assert.deepStrictEqual(bus.heard.slice(before), [{ good: 1 }])
      yield* bus.assertAlive
    })
  )
})

const silent = Service.make(
  "silent",
  Action.make("any", { success: Schema.Any, error: Schema.Struct({ code: Schema.Finite }), progress: Schema.Any }),
  Action.make("strict", { success: { n: Schema.Finite }, progress: { n: Schema.Finite } })
)

/** A caller whose requests nobody answers but the test. */
const setUpCalls = Effect.gen(function* () {
  const bus = yield* setUp()
  const requests = yield* Queue.unbounded<string>()
  yield* bus.transport.subscribe({ _tag: "Channel", channel: "silent" }, (frame) => {
    const { request_id } = JSON.parse(String(frame))
    // Callers also take requests back.
    if (request_id !== undefined) Queue.offerUnsafe(requests, request_id)
  })
  const caller = yield* Effect.provideService(Caller.make(silent), Transport, bus.transport)
  const dynamic = yield* Effect.provideService(Caller.dynamic("silent"), Transport, bus.transport)
  return {
    ...bus,
    caller,
    dynamic,
    /** Starts a call; gives its id as it is on the wire. */
    start: <A, E>(call: Effect.Effect<A, E>) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Effect.exit(call))
        return {
          id: yield* Queue.take(requests),
          end: Fiber.join(fiber),
          isDone: () => fiber.pollUnsafe() !== undefined
        }
      }),
    answer: (frame: Frame) => bus.hit(bus.inbox.channel, frame)
  }
})

const failureOf = (exit: Exit.Exit<unknown, unknown>): any => {
  assert.isTrue(Exit.isFailure(exit))
  const reason = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason) : undefined
  assert.isDefined(reason, String(exit))
  return reason!.error
}

describe("a caller", () => {
  it.effect("is not ended by 30,000 frames that do not know its id", () =>
    Effect.gen(function* () {
      const bus = yield* setUpCalls
      const call = yield* bus.start(bus.caller.any())
      const near = [
        call.id.slice(0, -1),
        `${call.id}0`,
        call.id.toUpperCase() + " ",
        ` ${call.id}`,
        [call.id],
        { id: call.id }
      ]
      for (let seed = 0; seed < 30_000; seed++) {
        const random = Random.make(seed)
        const fields: Record<string, unknown> = {
          status: random.pick(["success", "error", "progress", Random.value(random, 1)]),
          payload: Random.value(random),
          request_id: random.pick([...near, ...Random.treacherousTexts, random.below(100), Random.value(random, 2)]),
          final: random.pick([true, false, Random.value(random, 1)])
        }
        const text = json(fields)
        const said = bus.answer(random.chance(0.3) ? Random.mutate(random, text) : text)
        assert.deepStrictEqual(said, [])
        bus.answer(Random.bytes(random, text))
      }
      assert.strictEqual(bus.inbox.size(), 1)
      bus.answer(json({ status: "success", payload: "mine", request_id: call.id }))
      assert.deepStrictEqual(yield* call.end, Exit.succeed("mine"))
      assert.strictEqual(bus.inbox.size(), 0)
    })
  )

  it.effect("ends in a typed outcome by whatever comes with its id, 6,000 times, and other calls go on", () =>
    Effect.gen(function* () {
      const bus = yield* setUpCalls
      const bystander = yield* bus.start(bus.caller.any({ timeout: "1 day" }))
      const tags = new Map<string, number>()
      for (let seed = 0; seed < 2_000; seed++) {
        const random = Random.make(seed)
        const drained = Stream.runDrain(bus.caller.strict.stream())
        for (const effect of [bus.caller.any(), bus.dynamic.call("any"), drained] as ReadonlyArray<
          Effect.Effect<unknown, unknown>
        >) {
          const call = yield* bus.start(effect)
          const payload = random.pick([
            () => Random.value(random),
            () => ({ error: Random.value(random), failure: Random.value(random, 1), started: Random.value(random, 1) }),
            () => ({ error: "x", reason: { _tag: random.pick(["Busy", "Draining", "UnknownAction"]), action: "x" } }),
            () => ({ error: "x", failure: { code: 1 } })
          ])()
          const status = random.pick(["success", "error", "error", Random.value(random, 1)])
          for (let steps = random.below(3); steps > 0; steps--) {
            bus.answer(json({ status, payload: Random.value(random), request_id: call.id, final: false }))
          }
          bus.answer(json({ status, payload, request_id: call.id }))
          const exit = yield* call.end
          const outcome = Exit.isSuccess(exit) ? undefined : failureOf(exit)
          const tag = outcome === undefined ? "success" : (outcome.reason?._tag ?? "declared")
          tags.set(tag, (tags.get(tag) ?? 0) + 1)
        }
      }
      for (const tag of ["success", "declared", "RemoteError", "ContractMismatch", "Draining", "UnknownAction"]) {
        assert.isAbove(tags.get(tag) ?? 0, 10, tag)
      }
      assert.isFalse(bystander.isDone())
      assert.strictEqual(bus.inbox.size(), 1)
      bus.answer(json({ payload: "mine", request_id: bystander.id }))
      assert.deepStrictEqual(yield* bystander.end, Exit.succeed("mine"))
      assert.strictEqual(bus.inbox.size(), 0)
    })
  )

  it.effect("takes the first final answer; what follows reaches nobody", () =>
    Effect.gen(function* () {
      const bus = yield* setUpCalls
      const first = yield* bus.start(bus.caller.any())
      const second = yield* bus.start(bus.caller.any())
      for (const payload of [1, 2, 3]) bus.answer(json({ payload, request_id: first.id }))
      bus.answer(json({ payload: 4, request_id: first.id, final: false }))
      bus.answer(json({ status: "error", payload: {}, request_id: first.id }))
      assert.deepStrictEqual(yield* first.end, Exit.succeed(1))
      assert.isFalse(second.isDone())
      bus.answer(json({ payload: 5, request_id: second.id }))
      assert.deepStrictEqual(yield* second.end, Exit.succeed(5))
    })
  )

  it.effect("keeps no memory of a call that timed out: a late answer is dropped", () =>
    Effect.gen(function* () {
      const bus = yield* setUpCalls
      const call = yield* bus.start(bus.caller.any({ timeout: "1 second" }))
      assert.strictEqual(bus.inbox.size(), 1)
      yield* TestClock.adjust(1_010)
      const { reason, started } = failureOf(yield* call.end)
      assert.deepStrictEqual([reason._tag, started], ["DeadlineExceeded", "unknown"])
      assert.strictEqual(bus.inbox.size(), 0)
      for (const final of [false, true]) bus.answer(json({ payload: 1, request_id: call.id, final }))
      assert.strictEqual(bus.inbox.size(), 0)
      yield* bus.assertAlive
    })
  )

  it.effect("ends by its deadline where its answer was too large, too deep or cut off", () =>
    Effect.gen(function* () {
      const bus = yield* setUpCalls
      for (const spoil of [
        (id: string) => json({ payload: "x".repeat(Codec.defaultMaxBytes), request_id: id }),
        (id: string) => `{"payload":${"[".repeat(70)}${"]".repeat(70)},"request_id":"${id}"}`,
        (id: string) => json({ payload: 1, request_id: id }).slice(0, -1),
        (id: string) => Buffer.concat([Buffer.from(json({ payload: 1, request_id: id })), Buffer.from([0xff])]),
        (id: string) => `[[${json({ payload: 1, request_id: id })}]]`
      ]) {
        const call = yield* bus.start(bus.caller.any())
        bus.answer(spoil(call.id))
        assert.isFalse(call.isDone())
        yield* TestClock.adjust(5_010)
        assert.strictEqual(failureOf(yield* call.end).reason._tag, "DeadlineExceeded")
      }
      assert.strictEqual(bus.inbox.size(), 0)
    })
  )

  it.effect("is told where its request, or the answer to it, is too large", () =>
    Effect.gen(function* () {
      const bus = yield* setUp(undefined, { maxFrameBytes: 2_000 })
      const tooLarge = failureOf(yield* Effect.exit(bus.caller.echo("x".repeat(2_000))))
      assert.deepStrictEqual(
        [tooLarge.reason._tag, tooLarge.reason.what, tooLarge.started],
        ["PayloadTooLarge", "request", "no"]
      )
      assert.deepStrictEqual(bus.said, [])
      // What a peer writes short may be long when we write it.
      const numbers = `[${Array.from({ length: 300 }, () => "1e20").join()}]`
      const [answer] = bus.hit("target", ask("echo", 0).replace('"payload":0', `"payload":${numbers}`))
      assert.isAtMost(answer!.frame.length, 2_000)
      assert.deepStrictEqual(
        [JSON.parse(answer!.frame).payload.reason._tag, JSON.parse(answer!.frame).payload.reason.what],
        ["PayloadTooLarge", "reply"]
      )
      yield* bus.assertAlive
    })
  )
})

describe("what is logged", () => {
  it.effect("holds no control characters of a peer", () =>
    Effect.gen(function* () {
      const bus = yield* setUp()
      const evil = "\u001b[31m\u0007\r\u0000\u009b"
      bus.hit("target", ask("die", 1, { request_id: evil }))
      bus.hit("target", ask("die", 1, { request_id: { [evil]: evil } }))
      assert.isAbove(bus.lines.length, 0)
      for (const line of bus.lines) assert.isFalse(/[^\P{Cc}\n]/u.test(line), JSON.stringify(line))
    })
  )
})
