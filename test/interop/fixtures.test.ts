/** Recorded traffic of Daebus 0.0.31, read and answered by ours. Source: `daebus-fixtures.json`, docs/wire.md. */
import { Buffer } from "node:buffer"
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, Broadcast, Caller, Handlers, Listener, Memory, Request, Response, Service, Topic } from "fiberbus"
import { Transport } from "../../src/transport/Transport.ts"
import * as Scripted from "../scripted.ts"

interface Fixture {
  readonly name: string
  readonly channel: string
  readonly direction: string
  readonly message: unknown
  readonly raw?: string
  readonly raw_base64?: string
  readonly effect?: string
}

const fixtures: ReadonlyArray<Fixture> = JSON.parse(
  readFileSync(new URL("./daebus-fixtures.json", import.meta.url), "utf8")
)

/** Frames of other transports, for the edges that will speak them. */
const notCoveredYet = ["ws", "http", "daebus-client"]

const kindOf = ({ name }: Fixture) => name.split(".")[0]!
const caseOf = ({ name }: Fixture) => name.split(".").slice(0, 2).join(".")
const numberOf = ({ name }: Fixture) => Number(name.split(".")[2])

/** The frames of each case, in their order on the wire. */
const cases = new Map<string, ReadonlyArray<Fixture>>()
for (const fixture of fixtures) {
  if (!notCoveredYet.includes(kindOf(fixture))) {
    cases.set(caseOf(fixture), [...(cases.get(caseOf(fixture)) ?? []), fixture])
  }
}

/** True for what is said to the recorded service; what its listener publishes has the direction of a broadcast too. */
const isAsked = (fixture: Fixture) =>
  fixture.direction === "caller->service" || (fixture.direction === "publisher->listener" && numberOf(fixture) === 1)

const serviceName = "fixture-service"

// --- A service of ours with the actions of the recorded one ---------------------------------------------------------

const json = { payload: Schema.Any, success: Schema.Any }
class Fixed extends Service.make(
  serviceName,
  Action.make("echo", json),
  Action.make("add", { payload: { a: Schema.Finite, b: Schema.Finite }, success: { sum: Schema.Finite } }),
  Action.make("error", { payload: { message: Schema.String }, success: Schema.Any }),
  Action.make("raise", { payload: { message: Schema.String } }),
  Action.make("no_reply", json),
  Action.make("slow", { payload: { seconds: Schema.Finite }, success: { slept: Schema.Finite } }),
  Action.make("stream", { payload: { count: Schema.Natural }, success: Schema.Any }),
  Action.make("stream_error", json),
  Action.make("soft_error", json),
  Action.make("progress_legacy", json),
  Action.make("double", json),
  Action.make("note", json)
) {}

const Anything = Schema.Record(Schema.String, Schema.Any)
const In = Topic.make(`${serviceName}.in`, Anything)
const Out = Topic.make(`${serviceName}.out`, { by: Schema.String, got: Anything })
const Ask = Topic.make(`${serviceName}.ask`, Anything)

interface Note {
  readonly payload: unknown
  readonly raw: unknown
}

const partial = { final: false }

const served = (notes: Queue.Queue<Note>, delivery?: Action.Delivery) =>
  Layer.mergeAll(
    Handlers.layer(
      Fixed,
      {
        echo: (payload) => Effect.succeed(payload),
        add: ({ a, b }) => Effect.succeed({ sum: a + b }),
        error: ({ message }) => Response.error(message),
        raise: ({ message }) => Effect.die(new Error(message)),
        no_reply: () => Effect.succeed(Response.sent),
        slow: ({ seconds }) => Effect.as(Effect.sleep(seconds * 1_000), { slept: seconds }),
        stream: Effect.fnUntraced(function* ({ count }) {
          for (let step = 1; step <= count; step++) yield* Response.send({ step, of: count }, partial)
          return { done: true, count }
        }),
        stream_error: () => Effect.andThen(Response.send({ step: 1 }, partial), Response.error("stream broke")),
        soft_error: () => Effect.as(Response.error("a warning, not the end", partial), { done: true }),
        progress_legacy: () =>
          Effect.as(Response.send({ stage: "half", progress_percentage: 50 }, partial), { done: true }),
        double: Effect.fnUntraced(function* () {
          yield* Response.send({ answer: 1 })
          yield* Effect.exit(Response.send({ answer: 2 }))
          return Response.sent
        }),
        note: () =>
          Effect.flatMap(Request.current, ({ payload, raw }) => Effect.as(Queue.offer(notes, { payload, raw }), {}))
      },
      { replyTo: "any", unaddressed: "responses", ...(delivery === undefined ? undefined : { delivery }) }
    ),
    Listener.layer(In, (got) => Broadcast.publish(Out, { by: serviceName, got })),
    Listener.layer(Ask, () => Effect.flatMap(Request.current, ({ payload }) => Response.send({ heard: payload })), {
      replyTo: "any"
    })
  )

interface Heard {
  readonly channel: string
  readonly message: unknown
}

const ownChannels = new Set<string>([serviceName, In.channel, Ask.channel])

/** Serves over memory, hears all that is said on other channels, and lets bytes come in that no `send` would send. */
const setUp = Effect.gen(function* () {
  const memory = Memory.make()
  const receivers: Array<(bytes: Uint8Array) => void> = []
  const transport: Transport["Service"] = {
    ...memory,
    subscribe: (target, receive) => {
      if (target._tag === "Channel" && target.channel === serviceName) {
        receivers.push((bytes) => receive(bytes, serviceName))
      }
      return memory.subscribe(target, receive)
    }
  }
  const heard = yield* Queue.unbounded<Heard>()
  const notes = yield* Queue.unbounded<Note>()
  yield* memory.subscribe({ _tag: "Pattern", pattern: "*" }, (frame, channel) => {
    if (ownChannels.has(channel) || channel.endsWith(".instances")) return
    Queue.offerUnsafe(heard, { channel, message: JSON.parse(String(frame)) })
  })
  yield* Layer.build(Layer.provide(served(notes), Layer.succeed(Transport, transport)))
  let probes = 0
  return {
    notes,
    say: (channel: string, raw: string) => memory.send(channel, raw, () => {}),
    sayBytes: (bytes: Uint8Array) => {
      for (const receive of receivers) receive(bytes)
    },
    take: Queue.take(heard),
    /** Asserts that the service said nothing more: the answer to a good request is the next that is heard. */
    assertQuiet: Effect.suspend(() => {
      const request_id = `probe-${++probes}`
      const request = { action: "echo", payload: { ok: true }, reply_to: "fx:probe", request_id, service: serviceName }
      memory.send(serviceName, JSON.stringify(request), () => {})
      return Effect.map(Queue.take(heard), (answer) =>
        assert.deepStrictEqual(answer, {
          channel: "fx:probe",
          message: { status: "success", payload: { ok: true }, request_id, final: true }
        })
      )
    })
  }
})

// --- Where we answer otherwise, and why -----------------------------------------------------------------------------

type Expected = { readonly channel: string; readonly message: Record<string, unknown> }
type Asked = { readonly reply_to: string; readonly request_id: string; readonly payload: Record<string, unknown> }

const answerTo = ({ reply_to, request_id }: Asked, status: "success" | "error", payload: unknown): Expected => ({
  channel: reply_to,
  message: { status, payload, request_id, final: true }
})

/** Written in place of an id that is made anew every time. */
const anyId = "<id>"

interface Difference {
  readonly because: string
  readonly expected: (asked: Asked) => ReadonlyArray<Expected>
}

const keptText: Difference = {
  because: "§2: text that is not JSON is kept as text, where Daebus makes it {}",
  expected: (asked) => [answerTo(asked, "success", asked.payload)]
}
const unaddressed: Difference = {
  because:
    "§2, §4: the sender does not pick the answer's channel, and without reply_to and request_id there is no answer",
  expected: () => []
}

const differences: { readonly [name: string]: Difference } = {
  "request.string_payload_plain": keptText,
  "hand.payload_is_plain_text": keptText,
  "hand.payload_is_empty_text": keptText,
  "request.nan": {
    because: "§1: read as numbers, but never written as the three tokens; JSON has null for them",
    expected: (asked) => [answerTo(asked, "success", { nan: null, inf: null, ninf: null })]
  },
  "request.big_integer": {
    because: "§1: a number beyond 2^53 loses digits in a double",
    expected: (asked) => [answerTo(asked, "success", { n: 9007199254740992 })]
  },
  "request.handler_raises": {
    because: "§6.2: a handler that throws is answered, without its message",
    expected: (asked) => [
      answerTo(asked, "error", {
        error: `the handler died (${anyId})`,
        reason: { _tag: "RemoteDefect", id: anyId },
        started: "yes"
      })
    ]
  },
  "request.unknown_action": {
    because: "§6.2, §6.3: an unknown action is answered, unless the option `unknownAction` is `ignore`",
    expected: (asked) => [
      answerTo(asked, "error", {
        error: 'unknown action "no_such_action"',
        reason: { _tag: "UnknownAction", action: "no_such_action" },
        started: "no"
      })
    ]
  },
  "request.handler_sends_nothing": {
    because: "§6.2: a handler that returns without sending is answered",
    expected: (asked) => [answerTo(asked, "error", { error: "the handler ended without an answer", started: "yes" })]
  },
  "request.two_finals": {
    because: "§3: exactly one final answer per request; a second is refused",
    expected: (asked) => [answerTo(asked, "success", { answer: 1 })]
  },
  "hand.minimal": unaddressed,
  "hand.empty_reply_to": unaddressed,
  "hand.null_reply_to_and_service": unaddressed,
  "hand.foreign_service_field": unaddressed,
  "send_to_service.answering_action": unaddressed,
  "send_to_service.answering_action_with_service": unaddressed,
  "hand.numeric_reply_to": {
    because: "§2: reply_to is a string; Daebus publishes on the number's text",
    expected: () => []
  }
}

/** Makes fresh ids equal. */
const comparable = (heard: Heard): Heard => {
  const message = heard.message as { payload?: { reason?: { id?: string } } }
  const id = message.payload?.reason?.id
  return id === undefined ? heard : JSON.parse(JSON.stringify(heard).replaceAll(id, anyId))
}

const strictOf = ({ channel, message }: Fixture): Heard => ({ channel, message })

const replicas = "replicas.two_answers"

const serviceCases = [...cases.keys()].filter((name) => isAsked(cases.get(name)![0]!) && name !== replicas)

describe("frames to a service or listener", () => {
  it.effect("are answered as Daebus answers them, or differently for a reason", () =>
    Effect.gen(function* () {
      const bus = yield* setUp
      for (const name of serviceCases) {
        const [first, ...recorded] = cases.get(name)!
        assert.isDefined(first)
        for (const frame of recorded) assert.isFalse(isAsked(frame), frame.name)
        if (first!.raw === undefined) bus.sayBytes(Buffer.from(first!.raw_base64!, "base64"))
        else bus.say(first!.channel, first!.raw)
        if (name === "request.timeout_then_late_answer") yield* TestClock.adjust(300)
        const difference = differences[name]
        const asked = (first!.message ?? askedInPython(first!.raw)) as Asked
        const expected = difference === undefined ? recorded.map(strictOf) : difference.expected(asked)
        for (const answer of expected) assert.deepStrictEqual(comparable(yield* bus.take), answer, name)
        yield* bus.assertQuiet
      }
      assert.strictEqual(yield* Queue.size(bus.notes), 2)
    })
  )

  it("differ in answers from Daebus' only where the table says so", () => {
    for (const [name, { because, expected }] of Object.entries(differences)) {
      assert.include(serviceCases, name)
      assert.match(because, /^§/)
      const [first, ...recorded] = cases.get(name)!
      const ours = expected((first!.message ?? askedInPython(first!.raw)) as Asked)
      // As texts, because a double does not know that a digit was lost.
      assert.notDeepEqual(
        ours.map(({ message }) => JSON.stringify(message)),
        recorded.map(({ raw }) => raw!.replaceAll('": ', '":').replaceAll(", ", ",")),
        `${name} is no difference any more`
      )
    }
  })

  it.effect("come in ignored ones whole: what a one-way message says reaches its handler in both forms", () =>
    Effect.gen(function* () {
      const bus = yield* setUp
      const seen: Array<Note> = []
      for (const name of ["send_to_service.with_action", "send_to_service.wrapped"]) {
        const [frame] = cases.get(name)!
        bus.say(frame!.channel, frame!.raw!)
        seen.push(yield* Queue.take(bus.notes))
      }
      assert.deepStrictEqual(seen, [
        // Daebus' handlers see {} here and look into the raw message; §4 lets us offer the fields beside the action.
        { payload: { key: "k1", level: "info" }, raw: { key: "k1", level: "info", action: "note" } },
        { payload: { key: "k2" }, raw: { payload: { key: "k2" }, action: "note" } }
      ])
      yield* bus.assertQuiet
    })
  )

  it.effect("that kill a Daebus service do nothing to ours", () =>
    Effect.gen(function* () {
      const bus = yield* setUp
      const [frame] = cases.get("hand.not_utf8")!
      assert.include(frame!.effect, "kills")
      for (let i = 0; i < 100; i++) bus.sayBytes(Buffer.from(frame!.raw_base64!, "base64"))
      yield* bus.assertQuiet
    })
  )

  it.effect("are answered by every replica where all are to handle them; the caller takes the first", () =>
    Effect.gen(function* () {
      const [request, ...answers] = cases.get(replicas)!
      const broker = Memory.makeBroker()
      const notes = yield* Queue.unbounded<Note>()
      for (let replica = 0; replica < 2; replica++) {
        yield* Layer.build(Layer.provide(served(notes, "live"), Memory.layerOptions({ broker })))
      }
      const heard = yield* Queue.unbounded<Heard>()
      const transport = Memory.make({ broker })
      yield* transport.subscribe({ _tag: "Channel", channel: answers[0]!.channel }, (frame, channel) => {
        Queue.offerUnsafe(heard, { channel, message: JSON.parse(String(frame)) })
      })
      transport.send(request!.channel, request!.raw!, () => {})
      for (const answer of answers) assert.deepStrictEqual(yield* Queue.take(heard), strictOf(answer))
      const caller = yield* Effect.provideService(Caller.make(Fixed), Transport, transport)
      for (let i = 1; i <= 20; i++) assert.deepStrictEqual(yield* caller.add({ a: i, b: 1 }), { sum: i + 1 })
      assert.strictEqual(yield* Queue.size(heard), 0)
    })
  )

  it.effect("are answered once, however many replicas there are", () =>
    Effect.gen(function* () {
      const [request, answer] = cases.get(replicas)!
      const broker = Memory.makeBroker()
      const notes = yield* Queue.unbounded<Note>()
      for (let replica = 0; replica < 3; replica++) {
        yield* Layer.build(Layer.provide(served(notes), Memory.layerOptions({ broker })))
      }
      const heard = yield* Queue.unbounded<Heard>()
      const transport = Memory.make({ broker })
      yield* transport.subscribe({ _tag: "Channel", channel: answer!.channel }, (frame, channel) => {
        Queue.offerUnsafe(heard, { channel, message: JSON.parse(String(frame)) })
      })
      transport.send(request!.channel, request!.raw!, () => {})
      assert.deepStrictEqual(yield* Queue.take(heard), strictOf(answer!))
      yield* Scripted.turns()
      assert.strictEqual(yield* Queue.size(heard), 0)
    })
  )
})

/** Requests whose text is not strict JSON: Python's three tokens. */
const askedInPython = (raw: string | undefined): unknown => {
  try {
    return JSON.parse((raw ?? "").replace(/-?Infinity|NaN/g, "null"))
  } catch {
    return undefined
  }
}

// --- Callers of ours, given recorded answers ------------------------------------------------------------------------

/** Python's JSON text, tokens included, is a JavaScript expression. */
const evaluate = (text: string): unknown => new Function(`return (${text})`)()

interface Outcome {
  readonly progress: ReadonlyArray<unknown>
  readonly end: { readonly result: unknown } | { readonly error: string } | "timeout"
}

/** What Daebus' own caller did, from its words. */
const outcomeOf = (effect: string): Outcome => {
  const steps = /on_progress gets (\[.*?\]); then /.exec(effect)
  const progress = steps === null ? [] : (evaluate(steps[1]!) as ReadonlyArray<unknown>)
  const result = /the caller gets the result (.*)$/.exec(effect)
  if (result !== null) return { progress, end: { result: evaluate(result[1]!) } }
  const error = /the caller gets the error Exception\((".*")\)$/.exec(effect)
  if (error !== null) return { progress, end: { error: evaluate(error[1]!) as string } }
  if (effect.includes("the caller times out")) return { progress, end: "timeout" }
  const crashed = /the caller gets the error AttributeError\(/.test(effect)
  assert.isTrue(crashed, effect)
  return { progress, end: { error: "<AttributeError>" } }
}

const callerDifferences: {
  readonly [name: string]: { readonly because: string; readonly end: Outcome["end"]; readonly progress?: [] }
} = {
  "answer.progress_without_final_field": {
    because: "§3: the first final answer counts; a DaebusCaller takes the last of those within 10 ms",
    end: { result: { p: 1 } }
  },
  "answer.two_finals_at_once": {
    because: "§3: the first final answer counts; a DaebusCaller takes the last of those within 10 ms",
    end: { result: { x: 1 } }
  },
  "answer.error_text_payload": {
    because: "§3: a payload that is no object is accepted; a DaebusCaller trips over it",
    end: { error: "bad" }
  },
  "answer.error_null_payload": {
    because: "§3: a payload that is null is accepted; a DaebusCaller trips over it",
    end: { error: "Unknown error" }
  },
  "answer.error_null_text": {
    because: "§3: an error that is no text is shown as JSON; a DaebusCaller shows it as Python",
    end: { error: "null" }
  },
  "answer.error_object": {
    because: "§3: an error that is no text is shown as JSON; a DaebusCaller shows it as Python",
    end: { error: '{"code":7}' }
  }
}

const called = "svc"
const declared = Schema.Struct({ error: Schema.String })
const Typed = Service.make(
  called,
  Action.make("ask", { success: Schema.Any, error: declared, progress: Schema.Any }),
  Action.make("add", {
    success: { sum: Schema.Finite },
    error: declared,
    progress: { step: Schema.Natural, of: Schema.Natural }
  })
)

const answerCases = [...cases.keys()].filter((name) => {
  const frames = cases.get(name)!
  if (name.startsWith("answer.")) return true
  return (name.startsWith("request.") || name.startsWith("replicas.")) && frames.some((frame) => !isAsked(frame))
})

type Ended = Outcome["end"]

const endOf = (exit: Exit.Exit<unknown, any>): Ended => {
  if (Exit.isSuccess(exit)) return { result: exit.value }
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (error?._tag !== "CallError") return { error: error?.error ?? "<none>" }
  if (error.reason._tag === "RemoteError") return { error: error.reason.error }
  assert.strictEqual(error.reason._tag, "DeadlineExceeded", String(error))
  return "timeout"
}

const call = {
  dynamic: Effect.map(Caller.dynamic(called), (caller) => ({
    unary: caller.call("ask", {}),
    stream: caller.stream("ask", {})
  })),
  typed: Effect.map(Caller.make(Typed), (caller) => ({ unary: caller.ask(), stream: caller.ask.stream() }))
}

describe("answers to a caller", () => {
  for (const kind of ["dynamic", "typed"] as const) {
    for (const form of ["unary", "stream"] as const) {
      it.effect(`mean to a ${kind} one, ${form}, what they mean to Daebus`, () =>
        Effect.gen(function* () {
          const transport = Memory.make()
          const requests = yield* Queue.unbounded<{ readonly reply_to: string; readonly request_id: string }>()
          yield* transport.subscribe({ _tag: "Channel", channel: called }, (frame) => {
            const message = JSON.parse(String(frame))
            if (!Scripted.isPresence(message)) Queue.offerUnsafe(requests, message)
          })
          const caller = yield* Effect.provideService(call[kind], Transport, transport)
          for (const name of answerCases) {
            const frames = cases.get(name)!
            const answers = frames.filter((frame) => !isAsked(frame))
            const recorded = outcomeOf(frames.at(-1)!.effect!)
            const progress: Array<unknown> = []
            const running = yield* Effect.forkChild(
              Effect.exit<unknown, unknown, never>(
                form === "unary"
                  ? caller.unary
                  : Stream.runForEach(
                      caller.stream as Stream.Stream<Caller.Event<unknown, unknown>, unknown>,
                      (event) => Effect.sync(() => void progress.push(event))
                    )
              )
            )
            const { reply_to, request_id } = yield* Queue.take(requests)
            if (name === "request.timeout_then_late_answer") {
              yield* TestClock.adjust(5_010)
              yield* Fiber.await(running)
            }
            // The recording's own id becomes that of this call; in these cases there is none, or a wrong one.
            const { request_id: recordedId } = (answers.at(-1)!.message ?? {}) as { readonly request_id?: string }
            yield* Effect.forEach(answers, ({ raw }) =>
              Effect.callback<void>((resume) => {
                const text =
                  recordedId === undefined || recordedId === "other" ? raw! : raw!.replaceAll(recordedId, request_id)
                const own =
                  answers.at(-1)!.message === null
                    ? text.replace(/"request_id": "[^"]*"/, `"request_id": "${request_id}"`)
                    : text
                transport.send(reply_to, own, () => resume(Effect.void))
              })
            )
            if (recorded.end === "timeout") yield* TestClock.adjust(5_010)
            const exit = yield* Fiber.join(running)
            const expected = callerDifferences[name]?.end ?? recorded.end
            if (form === "unary") {
              assert.deepStrictEqual(endOf(exit), expected, name)
              continue
            }
            const steps = recorded.progress.map((value) => ({ _tag: "Progress", value }))
            const result =
              typeof expected === "object" && "result" in expected ? [{ _tag: "Success", value: expected.result }] : []
            assert.deepStrictEqual(progress, [...steps, ...result], name)
            if (result.length === 0) assert.deepStrictEqual(endOf(exit), expected, name)
          }
        })
      )
    }
  }

  it("differ in meaning only where the table says so", () => {
    for (const [name, { because, end }] of Object.entries(callerDifferences)) {
      assert.include(answerCases, name)
      assert.match(because, /^§/)
      assert.notDeepEqual(end, outcomeOf(cases.get(name)!.at(-1)!.effect!).end, `${name} is no difference any more`)
    }
  })

  it.effect("that do not fit a typed contract are a mismatch that names the part", () =>
    Effect.gen(function* () {
      const transport = Memory.make()
      const caller = yield* Effect.provideService(Caller.make(Typed), Transport, transport)
      let answers: ReadonlyArray<object> = []
      yield* transport.subscribe({ _tag: "Channel", channel: called }, (frame) => {
        const message = JSON.parse(String(frame))
        if (Scripted.isPresence(message)) return
        const { reply_to, request_id } = message
        for (const answer of answers) transport.send(reply_to, JSON.stringify({ ...answer, request_id }), () => {})
      })
      const ended = (...sent: ReadonlyArray<object>) => {
        answers = sent
        return Effect.map(Effect.flip(Stream.runDrain(caller.add.stream())), (error) =>
          "reason" in error && error.reason._tag === "ContractMismatch"
            ? [error.started, error.reason.part, error.reason.path]
            : error
        )
      }
      assert.deepStrictEqual(yield* ended({ status: "success", payload: { sum: "2" } }), ["yes", "success", ["sum"]])
      assert.deepStrictEqual(
        yield* ended({ status: "success", payload: { step: 1 }, final: false }, { payload: { sum: 1 } }),
        ["yes", "progress", ["of"]]
      )
      assert.deepStrictEqual(yield* ended({ status: "error", payload: { error: "x", failure: 1 } }), [
        "yes",
        "error",
        []
      ])
      assert.deepStrictEqual(yield* ended({ status: "error", payload: { error: "x", code: 1 } }), { error: "x" })
    })
  )
})

// --- What we write --------------------------------------------------------------------------------------------------

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g

/** A text without what differs from run to run. */
const told = (text: string) => text.replaceAll(uuid, "<uuid>")

describe("frames of ours", () => {
  const Golden = Service.make(
    "golden",
    Action.make("ask", { payload: Schema.Unknown, success: Schema.Unknown, error: declared, progress: Schema.Unknown }),
    Action.make("fail", { error: declared }),
    Action.make("die"),
    Action.make("strict", { payload: { n: Schema.Finite } }),
    Action.make("nothing")
  )
  const News = Topic.make("user_events", { type: Schema.String, at: Schema.Date })

  /** All frames that a few calls bring about, with fresh ids told as `<uuid>`. */
  const recorded = Effect.gen(function* () {
    const transport = Memory.make()
    const frames: Array<readonly [channel: string, frame: string]> = []
    yield* transport.subscribe({ _tag: "Pattern", pattern: "*" }, (frame, channel) => {
      if (Scripted.isPresence(JSON.parse(String(frame)))) return
      // The same on the channel of the one process as on the service's.
      frames.push([told(channel.replace(/\.instance:.*/, "")), told(String(frame))])
    })
    const bus = Layer.succeed(Transport, transport)
    yield* Layer.build(
      Handlers.layer(Golden, {
        ask: (payload, { progress }) => Effect.as(progress({ step: 1 }), payload),
        fail: () => Effect.fail({ error: "no such user" }),
        die: () => Effect.die("secret"),
        strict: () => Effect.void,
        nothing: () => Effect.void
      }).pipe(Layer.provide(bus))
    )
    yield* Effect.gen(function* () {
      const caller = yield* Caller.make(Golden)
      const dynamic = yield* Caller.dynamic("golden")
      yield* caller.ask({ a: 1, t: 'é 🚀 " \\ \n \u0000 \u2028 \ud83d' }, { headers: { trace: "t-1" } })
      yield* caller.ask("hello")
      yield* Effect.exit(caller.fail())
      yield* Effect.exit(caller.die())
      yield* Effect.exit(dynamic.call("strict", { n: "hunter2" }))
      yield* Effect.exit(dynamic.call("nowhere"))
      yield* caller.nothing()
      yield* caller.nothing.send()
      yield* caller.ask.send({ key: "k1" })
      yield* Broadcast.publish(News, { type: "user_registered", at: new Date(0) })
    }).pipe(Effect.provide(bus))
    return frames
  })

  it.effect("are these, byte by byte", () =>
    Effect.gen(function* () {
      const inbox = "caller:<uuid>"
      const head = (action: string) => `{"action":"${action}","service":"golden","reply_to":"${inbox}"`
      const id = (n: number) => `"request_id":"<uuid>-${n}"`
      const extension = '"fiberbus":{"v":1,"timeout_ms":5000,"texts":1}'
      const withHeaders = '"fiberbus":{"v":1,"timeout_ms":5000,"headers":{"trace":"t-1"},"texts":1}'
      const text = '{"a":1,"t":"é 🚀 \\" \\\\ \\n \\u0000 \u2028 \\ud83d"}'
      const answer = (status: string, payload: string, n: number, final = true): readonly [string, string] => [
        inbox,
        `{"status":"${status}","payload":${payload},${id(n)},"final":${final}}`
      ]
      assert.deepStrictEqual(yield* recorded, [
        ["golden", `${head("ask")},"payload":${text},${id(1)},${withHeaders}}`],
        answer("success", '{"step":1}', 1, false),
        answer("success", text, 1),
        ["golden", `${head("ask")},"payload":"\\"hello\\"",${id(2)},${extension}}`],
        answer("success", '{"step":1}', 2, false),
        answer("success", '"hello"', 2),
        ["golden", `${head("fail")},"payload":{},${id(3)},${extension}}`],
        answer("error", '{"error":"no such user","failure":{"error":"no such user"}}', 3),
        ["golden", `${head("die")},"payload":{},${id(4)},${extension}}`],
        answer(
          "error",
          '{"error":"the handler died (<uuid>)","reason":{"_tag":"RemoteDefect","id":"<uuid>"},"started":"yes"}',
          4
        ),
        ["golden", `${head("strict")},"payload":{"n":"hunter2"},${id(5)},${extension}}`],
        answer(
          "error",
          '{"error":"invalid payload at [\\"n\\"]: Expected number","reason":{"_tag":"InvalidPayload","path":["n"],"expected":"Expected number"},"started":"no"}',
          5
        ),
        ["golden", `${head("nowhere")},"payload":{},${id(6)},${extension}}`],
        answer(
          "error",
          '{"error":"unknown action \\"nowhere\\"","reason":{"_tag":"UnknownAction","action":"nowhere"},"started":"no"}',
          6
        ),
        ["golden", `${head("nothing")},"payload":{},${id(7)},${extension}}`],
        answer("success", "null", 7),
        ["golden", '{"action":"nothing","service":"golden","payload":{},"fiberbus":{"v":1,"id":"<uuid>"}}'],
        ["golden", '{"action":"ask","service":"golden","payload":{"key":"k1"},"fiberbus":{"v":1,"id":"<uuid>"}}'],
        ["user_events", '{"type":"user_registered","at":"1970-01-01T00:00:00.000Z"}']
      ])
    })
  )

  it.effect("have the fields and kinds of Daebus', and ours only where Daebus does not look", () =>
    Effect.gen(function* () {
      const kinds = (message: object) =>
        Object.fromEntries(Object.entries(message).map(([key, value]) => [key, typeof value]))
      const requestOf = (name: string) => {
        const { payload: _, ...rest } = kinds(cases.get(name)![0]!.message as object)
        return rest
      }
      for (const [channel, frame] of yield* recorded) {
        assert.isTrue(frame.isWellFormed())
        const { payload, fiberbus, ...rest } = JSON.parse(frame)
        if (channel === "user_events") continue
        if (channel === "golden") {
          assert.notStrictEqual(payload, undefined)
          assert.notStrictEqual(typeof payload === "string" ? JSON.parse(payload) : payload, undefined)
          assert.strictEqual(fiberbus.v, 1)
          const like =
            rest.reply_to === undefined ? { action: "string", service: "string" } : requestOf("request.success")
          assert.deepStrictEqual(kinds(rest), like)
          continue
        }
        assert.isUndefined(fiberbus)
        assert.deepStrictEqual(kinds(rest), { status: "string", request_id: "string", final: "boolean" })
        assert.include(["success", "error"], rest.status)
        if (rest.status !== "error") continue
        assert.isString(payload.error)
        const { error: _, ...beside } = payload
        for (const field of Object.keys(beside)) assert.include(["failure", "reason", "started"], field)
      }
    })
  )
})

describe("the recordings", () => {
  const covered = new Set([...serviceCases, replicas, ...answerCases].flatMap((name) => cases.get(name)!))

  it("are all covered, but for those of other transports", () => {
    const open = fixtures.filter((fixture) => !covered.has(fixture))
    assert.deepStrictEqual([...new Set(open.map(kindOf))].sort(), [...notCoveredYet].sort())
    assert.strictEqual(covered.size + open.length, fixtures.length)
    for (const frames of cases.values())
      assert.deepStrictEqual(
        frames.map(numberOf),
        frames.map((_, i) => i + 1)
      )
  })

  it("would not be left out silently: each kind of name is known", () => {
    const known = [
      "request",
      "send_to_service",
      "broadcast",
      "listener",
      "hand",
      "replicas",
      "answer",
      ...notCoveredYet
    ]
    for (const fixture of fixtures) assert.include(known, kindOf(fixture), fixture.name)
  })
})
