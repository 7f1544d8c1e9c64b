import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Handlers, Memory, Retry, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as Scripted from "../scripted.ts"

class NoWifi extends Schema.TaggedError<NoWifi>()("NoWifi", { why: Schema.String }) {}

const Wifi = Service.make(
  "wifi",
  Action.make("connect", {
    payload: { ssid: Schema.String },
    success: { ip: Schema.String },
    error: NoWifi,
    progress: Schema.String,
    asks: {
      password: { ask: { ssid: Schema.String, tries: Schema.Finite }, answer: Schema.String },
      expires: { ask: {}, answer: Schema.Date }
    }
  }),
  Action.make("quiz", {
    payload: { questions: Schema.Finite },
    success: Schema.Array(Schema.Finite),
    error: NoWifi,
    asks: { square: { ask: { of: Schema.Finite }, answer: Schema.Finite } }
  })
)

const refused = (error: Handlers.AskError) => new NoWifi({ why: error.message })

const serving = Effect.gen(function* () {
  const over = yield* Queue.unbounded<Exit.Exit<unknown, unknown>>()
  const layer = Handlers.layer(Wifi, {
    connect: ({ ssid }, { ask, progress }) =>
      Effect.gen(function* () {
        yield* progress("searching")
        for (let tries = 1; tries <= 3; tries++) {
          const password = yield* ask("password", { ssid, tries }, { timeout: "1 minute" })
          if (password === "secret") {
            const expires = yield* ask("expires", {})
            return { ip: `10.0.0.${expires.getUTCDate()}` }
          }
        }
        return yield* new NoWifi({ why: "three wrong passwords" })
      }).pipe(
        Effect.catchTag("AskError", (error) => Effect.fail(refused(error))),
        Effect.onExit((exit) => Queue.offer(over, exit))
      ),
    quiz: ({ questions }, { ask }) =>
      Effect.forEach(Array.from({ length: questions }), (_, of) => ask("square", { of }), {
        concurrency: "unbounded"
      }).pipe(
        Effect.mapError(refused),
        Effect.onExit((exit) => Queue.offer(over, exit))
      )
  })
  return { layer, over: Queue.take(over) }
})

const withScript = (script: Scripted.Script) =>
  Effect.map(serving, ({ layer, over }) => {
    const scripted = Scripted.make(script)
    return { over, scripted, layer: layer.pipe(Layer.provideMerge(scripted.layer)) }
  })

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

const expires = () => Effect.succeed(new Date("2026-01-07T00:00:00.000Z"))

const timePasses = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function* () {
    while (fiber.pollUnsafe() === undefined) {
      yield* Scripted.turns(4)
      yield* TestClock.adjust(1_000)
    }
    return yield* Fiber.join(fiber)
  })

describe("a conversation", () => {
  it.effect("goes back and forth, typed on both sides, before the result", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const asked: Array<unknown> = []
        const answers = {
          password: (question: { readonly ssid: string; readonly tries: number }) =>
            Effect.sync(() => {
              asked.push(question)
              return question.tries === 2 ? "secret" : "guess"
            }),
          expires
        }
        assert.deepStrictEqual(yield* wifi.connect({ ssid: "home" }, { answers }), { ip: "10.0.0.7" })
        assert.deepStrictEqual(asked, [
          { ssid: "home", tries: 1 },
          { ssid: "home", tries: 2 }
        ])
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("goes on beside the steps of a stream, and under policies", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ request: (index) => (index % 2 === 0 ? "refused" : "arrives") })
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi, { policies: [Retry.policy()] })
        const answers = { password: () => Effect.succeed("secret"), expires }
        const called = yield* Effect.forkChild(wifi.connect({ ssid: "home" }, { answers }))
        assert.deepStrictEqual(yield* timePasses(called), { ip: "10.0.0.7" })
        const streamed = yield* Effect.forkChild(Stream.runCollect(wifi.connect.stream({ ssid: "home" }, { answers })))
        assert.deepStrictEqual(yield* timePasses(streamed), [
          { _tag: "Progress", value: "searching" },
          { _tag: "Success", value: { ip: "10.0.0.7" } }
        ])
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("is not begun again while somebody thinks about an answer, though its action is idempotent", () =>
    Effect.gen(function* () {
      const Talk = Service.make(
        "talk",
        Action.make("ask", { success: Schema.String, asks: { word: { ask: {}, answer: Schema.String } } }).pipe(
          Action.annotate(Action.Idempotent, true)
        )
      )
      let runs = 0
      const layer = Handlers.layer(Talk, {
        ask: (_, { ask }) =>
          Effect.suspend(() => {
            runs++
            return Effect.orDie(ask("word", {}))
          })
      }).pipe(Layer.provideMerge(Memory.layer))
      yield* Effect.gen(function* () {
        const talk = yield* Caller.make(Talk, { policies: [Retry.policy({ attemptTimeout: "100 millis" })] })
        const word = () => Effect.as(Effect.sleep("3 seconds"), "yes")
        const call = yield* Effect.forkChild(talk.ask({ answers: { word } }))
        assert.strictEqual(yield* timePasses(call), "yes")
        assert.strictEqual(runs, 1)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("may ask much at once, and gives each its own answer", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const square = ({ of }: { readonly of: number }) => Effect.as(Effect.sleep(100 - of), of * of)
        const call = yield* Effect.forkChild(wifi.quiz({ questions: 50 }, { answers: { square } }))
        assert.deepStrictEqual(
          yield* timePasses(call),
          Array.from({ length: 50 }, (_, of) => of * of)
        )
        const tooMany = yield* Effect.forkChild(Effect.flip(wifi.quiz({ questions: 65 }, { answers: { square } })))
        const error = yield* timePasses(tooMany)
        assert.strictEqual((error as NoWifi).why, "square: TooMany")
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("answers with what is in the caller's context", () =>
    Effect.gen(function* () {
      class Vault extends Context.Service<Vault, { readonly password: string }>()("test/Vault") {}
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const password = () => Effect.map(Vault, (vault) => vault.password)
        const call = wifi.connect({ ssid: "home" }, { answers: { password, expires } })
        assert.deepStrictEqual(yield* Effect.provideService(call, Vault, { password: "secret" }), { ip: "10.0.0.7" })
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("tells the service when a question is declined", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const password = () => Effect.fail(new Caller.Declined({ why: "not to you" }))
        const error = yield* Effect.flip(wifi.connect({ ssid: "home" }, { answers: { password, expires } }))
        assert.instanceOf(error, NoWifi)
        assert.strictEqual((error as NoWifi).why, "password: Declined, not to you")
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("has a time for each question", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const stopped = yield* Deferred.make<void>()
        const password = () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined))
        const call = wifi.connect({ ssid: "home" }, { answers: { password, expires }, timeout: "10 minutes" })
        const error = yield* timePasses(yield* Effect.forkChild(Effect.flip(call)))
        assert.strictEqual((error as NoWifi).why, "password: TimedOut")
        // Whoever still thinks about the answer is told that nobody wants it.
        yield* Deferred.await(stopped)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("has a time for the whole", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const call = wifi.connect(
          { ssid: "home" },
          { answers: { password: () => Effect.never, expires }, timeout: "20 seconds" }
        )
        const error = yield* timePasses(yield* Effect.forkChild(Effect.flip(call)))
        assert.instanceOf(error, CallError.CallError)
        assert.deepInclude(error, { started: "yes" })
        assert.strictEqual((error as CallError.CallError).reason._tag, "DeadlineExceeded")
        assert.isTrue(Exit.hasInterrupts(yield* over))
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("ends on both sides when the caller's fiber is interrupted", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const asked = yield* Deferred.make<void>()
        const stopped = yield* Deferred.make<void>()
        const password = () =>
          Effect.andThen(
            Deferred.succeed(asked, undefined),
            Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined))
          )
        const call = yield* Effect.forkChild(wifi.connect({ ssid: "home" }, { answers: { password, expires } }))
        yield* Deferred.await(asked)
        yield* Fiber.interrupt(call)
        yield* Deferred.await(stopped)
        assert.isTrue(Exit.hasInterrupts(yield* over))
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("dies with an answer that dies: that is the caller's own bug", () =>
    Effect.gen(function* () {
      const { layer, over } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const password = () => Effect.die("a bug")
        const exit = yield* Effect.exit(wifi.connect({ ssid: "home" }, { answers: { password, expires } }))
        assert.isTrue(Exit.hasDies(exit))
        assert.isTrue(Exit.hasInterrupts(yield* over))
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("survives questions and answers that arrive twice", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ reply: () => "twice", control: () => "twice" })
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        let asked = 0
        const password = ({ tries }: { readonly tries: number }) =>
          Effect.sync(() => {
            asked++
            return tries === 3 ? "secret" : "guess"
          })
        assert.deepStrictEqual(yield* wifi.connect({ ssid: "home" }, { answers: { password, expires } }), {
          ip: "10.0.0.7"
        })
        assert.strictEqual(asked, 3)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("times out when the answer is lost", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({ control: () => "lost" })
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.make(Wifi)
        const answers = { password: () => Effect.succeed("secret"), expires }
        const call = wifi.connect({ ssid: "home" }, { answers, timeout: "10 minutes" })
        const error = yield* timePasses(yield* Effect.forkChild(Effect.flip(call)))
        assert.strictEqual((error as NoWifi).why, "password: TimedOut")
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("is not begun with a caller that takes no questions", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const wifi = yield* Caller.dynamic("wifi")
        const error = yield* Effect.flip(wifi.call("connect", { ssid: "home" }))
        assert.include(error.message, "password: NobodyAnswers")
      }).pipe(Effect.provide(layer))
    })
  )
})

describe("a question that can have no answer any more", () => {
  const Asking = Service.make(
    "asking",
    Action.make("go", { success: Schema.String, asks: { name: { ask: Schema.String, answer: Schema.String } } })
  )

  const ended = (ask: Effect.Effect<string, Handlers.AskError>, over: Queue.Enqueue<string>) =>
    ask.pipe(
      Effect.matchCause({
        onFailure: (cause) => String(Cause.squash(cause)),
        onSuccess: (name) => name
      }),
      Effect.tap((end) => Queue.offer(over, end))
    )

  it.effect("lets go of a handler that cannot be interrupted", () =>
    Effect.gen(function* () {
      const over = yield* Queue.unbounded<string>()
      const asked = yield* Deferred.make<void>()
      const layer = Handlers.layer(
        Asking,
        { go: (_, { ask }) => Effect.uninterruptible(ended(ask("name", "first"), over)) },
        { concurrency: 1 }
      )
      yield* Effect.gen(function* () {
        const asking = yield* Caller.make(Asking)
        const name = () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
        const call = yield* Effect.forkChild(asking.go({ answers: { name } }))
        yield* Deferred.await(asked)
        yield* Fiber.interrupt(call)
        assert.include(yield* Queue.take(over), "NobodyAnswers")
        // Its slot is free again.
        assert.strictEqual(yield* asking.go({ answers: { name: () => Effect.succeed("Ada") } }), "Ada")
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("ends in a fiber that outlives its request", () =>
    Effect.gen(function* () {
      const over = yield* Queue.unbounded<string>()
      const gate = yield* Deferred.make<void>()
      const asked = yield* Deferred.make<void>()
      const handlers = Handlers.layer(Asking, {
        go: (_, { ask }) =>
          Effect.gen(function* () {
            yield* Effect.forkDetach(ended(ask("name", "while it lasts"), over), { startImmediately: true })
            yield* Effect.forkDetach(Effect.andThen(Deferred.await(gate), ended(ask("name", "after the end"), over)), {
              startImmediately: true
            })
            yield* Deferred.await(asked)
            return "done"
          })
      })
      yield* Effect.gen(function* () {
        const asking = yield* Caller.make(Asking)
        const questions: Array<string> = []
        const name = (question: string) =>
          Effect.andThen(
            Effect.sync(() => questions.push(question)),
            Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
          )
        assert.strictEqual(yield* asking.go({ answers: { name } }), "done")
        assert.include(yield* Queue.take(over), "NobodyAnswers")
        yield* Deferred.succeed(gate, undefined)
        assert.include(yield* Queue.take(over), "AlreadyAnswered")
        assert.deepStrictEqual(questions, ["while it lasts"])
      }).pipe(Effect.provide(handlers.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})

describe("an answer from outside", () => {
  it.effect("that does not fit, or is for another question, harms nobody", () =>
    Effect.gen(function* () {
      const { layer } = yield* withScript({})
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const frames = yield* Queue.unbounded<Record<string, any>>()
        yield* transport.subscribe({ _tag: "Channel", channel: "caller:raw" }, (frame) => {
          Queue.offerUnsafe(frames, JSON.parse(String(frame)))
        })
        const say = (message: object) =>
          Transport.publish("wifi", JSON.stringify({ reply_to: "caller:raw", ...message }))
        const request = { action: "connect", payload: { ssid: "home" }, request_id: "r" }
        yield* say({ ...request, fiberbus: { v: 1, timeout_ms: 60_000, answers: true } })
        assert.deepInclude(yield* Queue.take(frames), { payload: "searching" })
        const question = yield* Queue.take(frames)
        assert.deepInclude(question, { final: false, payload: { ssid: "home", tries: 1 } })
        assert.deepStrictEqual(question["fiberbus"].ask, { id: 0, name: "password" })
        const { by } = question["fiberbus"]
        const answer = { v: 1, answer: "r", ask: 0, by }
        for (const fiberbus of [
          { ...answer, ask: 7 },
          { ...answer, ask: -1 },
          { ...answer, ask: "0" },
          { ...answer, answer: "other" },
          { ...answer, by: "another process" },
          { ...answer, v: 2 }
        ]) {
          yield* say({ payload: "secret", fiberbus })
        }
        yield* Transport.publish(
          "wifi",
          JSON.stringify({ reply_to: "caller:other", payload: "secret", fiberbus: answer })
        )
        yield* Scripted.turns()
        assert.strictEqual(yield* Queue.size(frames), 0)
        yield* say({ payload: { not: "text" }, fiberbus: answer })
        const end = yield* Queue.take(frames)
        assert.deepInclude(end, { final: true, status: "error" })
        assert.include(end["payload"].failure.why, "password: InvalidAnswer")
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  )
})
