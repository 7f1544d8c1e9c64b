import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, CallError, Caller, Handlers, Memory, Request, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import { isPresence } from "../scripted.ts"
import { ann, Forbidden, User, UserNotFound, Users, UsersLive, UsersUnlimited } from "../users.ts"

const Bus = UsersLive.pipe(Layer.provideMerge(Memory.layer))

/** Fails unless the effect fails with a CallError of that reason; gives the error. */
const reasonOf = <A, E, R>(call: Effect.Effect<A, E, R>, reason: CallError.CallErrorReason["_tag"]) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.instanceOf(error, CallError.CallError)
    assert.strictEqual(error.reason._tag, reason)
    return error
  })

/** A transport whose `send` can be made to fail, or to count other receivers. */
const faulty = (send: (inner: Transport.Transport["Service"]) => Transport.Transport["Service"]["send"]) =>
  Layer.sync(Transport.Transport, () => {
    const inner = Memory.make()
    return { ...inner, send: send(inner) }
  })

const refused = new Transport.TransportError({
  kind: "Unreachable",
  operation: "test",
  detail: "refused",
  hint: "",
  sent: "no"
})

describe("Caller", () => {
  it.effect("brings the success as the contract's class", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const user = yield* users.get_user({ id: "1" })
      assert.instanceOf(user, User)
      assert.deepStrictEqual(user, ann)
      assert.isUndefined(yield* users.ping())
    }).pipe(Effect.provide(Bus))
  )

  it.effect("fails with the declared error's own class", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const missing = yield* Effect.flip(users.get_user({ id: "2" }))
      assert.instanceOf(missing, UserNotFound)
      assert.strictEqual((missing as UserNotFound).id, "2")
      const forbidden = yield* users.get_user({ id: "secret" }).pipe(
        Effect.map(() => "let in"),
        Effect.catchTag("Forbidden", (error) => Effect.succeed(error.why))
      )
      assert.strictEqual(forbidden, "it is a secret")
      assert.instanceOf(yield* Effect.flip(users.get_user({ id: "secret" })), Forbidden)
    }).pipe(Effect.provide(Bus))
  )

  it.effect("has as many calls in flight as MaxPending says, those of all callers together", () =>
    Effect.gen(function* () {
      const transport = Memory.make()
      const provided = Effect.provideService(Transport.Transport, transport)
      const sent: Array<unknown> = []
      yield* transport.subscribe({ _tag: "Channel", channel: "user_service" }, (frame) => {
        const message = JSON.parse(String(frame))
        if (!isPresence(message)) sent.push(message)
      })
      const users = yield* provided(Caller.make(Users)).pipe(Effect.provideService(Caller.MaxPending, 3))
      // The first one's holds.
      const others = yield* provided(Caller.make(Users)).pipe(Effect.provideService(Caller.MaxPending, 10))
      const calls = yield* Effect.forEach([users, others, users], (caller) => Effect.forkChild(caller.ping()))
      yield* Effect.yieldNow
      const error = yield* reasonOf(others.ping(), "TransportError")
      assert.strictEqual(error.started, "no")
      assert.match(error.message, /3 calls are waiting.*Caller\.MaxPending/s)
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.lengthOf(sent, 3)
      yield* Fiber.interrupt(calls[1]!)
      const fourth = yield* Effect.forkChild(others.ping())
      yield* Effect.yieldNow
      assert.isUndefined(fourth.pollUnsafe())
    })
  )

  it.effect("refuses a MaxPending that is none", () =>
    Effect.forEach([0, 1.5, Number.NaN, Number.POSITIVE_INFINITY], (limit) =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Caller.make(Users).pipe(Effect.provideService(Caller.MaxPending, limit)))
        assert.isTrue(Exit.hasDies(exit))
        assert.match(String(Exit.isFailure(exit) && exit.cause), /Caller\.MaxPending must be an integer from 1 to/)
      })
    ).pipe(Effect.provide(Memory.layer))
  )

  it.effect("ends with NoResponders at once when nobody listens", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const error = yield* reasonOf(users.get_user({ id: "1" }), "NoResponders")
      assert.strictEqual(error.started, "no")
      assert.include(error.message, "user_service.get_user")
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("takes no word from a receivers count that is only a hint", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const call = yield* Effect.forkChild(reasonOf(users.get_user({ id: "1" }), "DeadlineExceeded"))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(call)).started, "unknown")
    }).pipe(
      Effect.provide(
        Layer.sync(Transport.Transport, () => {
          const inner = Memory.make()
          return Transport.Transport.of({ ...inner, capabilities: { ...inner.capabilities, receivers: "hint" } })
        })
      )
    )
  )

  it.effect("refuses a payload that does not fit before sending, and names the path", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const error = yield* reasonOf(users.import_users({ rows: ["a", 1 as never] }), "InvalidPayload")
      assert.strictEqual(error.started, "no")
      assert.deepStrictEqual((error.reason as CallError.InvalidPayload).path, ["rows", "1"])
    }).pipe(Effect.provide(faulty(() => () => assert.fail("it was sent"))))
  )

  it.effect("brings the service's refusals with their schema path", () =>
    Effect.gen(function* () {
      const users = yield* Caller.dynamic("user_service")
      const invalid = yield* reasonOf(users.call("import_users", { rows: ["a", 1] }), "InvalidPayload")
      assert.strictEqual(invalid.started, "no")
      assert.deepStrictEqual((invalid.reason as CallError.InvalidPayload).path, ["rows", "1"])
      assert.notInclude(JSON.stringify(invalid), '"a"')
      const unknown = yield* reasonOf(users.call("get_usr", {}), "UnknownAction")
      assert.strictEqual(unknown.started, "no")
      assert.strictEqual((unknown.reason as CallError.UnknownAction).action, "get_usr")
    }).pipe(Effect.provide(Bus))
  )

  it.effect("tells a defect by its id alone", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const error = yield* reasonOf(users.get_user({ id: "bug" }), "RemoteDefect")
      assert.strictEqual(error.started, "yes")
      assert.notInclude(JSON.stringify(error), "secret of the implementation")
      assert.deepStrictEqual(yield* users.get_user({ id: "1" }), ann)
    }).pipe(Effect.provide(Bus))
  )

  it.effect("ends with ContractMismatch when the reply does not fit", () =>
    Effect.gen(function* () {
      const Other = Service.make(
        "user_service",
        Action.make("get_user", {
          payload: { id: Schema.String },
          success: { age: Schema.Finite },
          error: { age: Schema.Finite }
        }),
        Action.make("import_users", {
          payload: { rows: Schema.Array(Schema.String) },
          progress: { percent: Schema.Finite },
          success: { imported: Schema.Finite }
        })
      )
      const users = yield* Caller.make(Other)
      const success = yield* reasonOf(users.get_user({ id: "1" }), "ContractMismatch")
      assert.strictEqual(success.started, "yes")
      assert.deepInclude(success.reason, { part: "success", path: ["age"] })
      assert.deepInclude((yield* reasonOf(users.get_user({ id: "2" }), "ContractMismatch")).reason, { part: "error" })
      const stream = users.import_users.stream({ rows: ["a"] })
      assert.deepInclude((yield* reasonOf(Stream.runDrain(stream), "ContractMismatch")).reason, { part: "progress" })
    }).pipe(Effect.provide(Bus))
  )

  it.effect("waits 5 seconds, or what the action or the call says", () =>
    Effect.gen(function* () {
      const Waiting = Service.make(
        "user_service",
        Action.make("wait", { payload: { millis: Schema.Finite }, success: { waited: Schema.Finite } }).pipe(
          Action.annotate(Action.Timeout, "1 second")
        )
      )
      const users = yield* Caller.make(Users)
      const waiting = yield* Caller.make(Waiting)
      const late = Effect.fnUntraced(function* (call: Effect.Effect<unknown, unknown>, millis: number) {
        const fiber = yield* Effect.forkChild(reasonOf(call, "DeadlineExceeded"))
        yield* TestClock.adjust(millis - 1)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(11)
        assert.deepInclude((yield* Fiber.join(fiber)).reason, { timeoutMillis: millis })
      })
      yield* late(users.wait({ millis: 60_000 }), 5_000)
      yield* late(waiting.wait({ millis: 60_000 }), 1_000)
      yield* late(waiting.wait({ millis: 60_000 }, { timeout: "2 seconds" }), 2_000)
      yield* late(Stream.runDrain(users.wait.stream({ millis: 60_000 }, { timeout: 300 })), 300)
    }).pipe(Effect.provide(Bus))
  )

  it.effect("knows after a step that the handler had started", () =>
    Effect.gen(function* () {
      const Steps = Service.make("steps", Action.make("forever", { progress: { n: Schema.Finite } }))
      const stepped = yield* Deferred.make<void>()
      const Live = Handlers.layer(Steps, {
        forever: (_, { progress }) =>
          progress({ n: 1 }).pipe(Effect.andThen(Deferred.succeed(stepped, undefined)), Effect.andThen(Effect.never))
      })
      yield* Effect.gen(function* () {
        const steps = yield* Caller.make(Steps)
        const call = yield* Effect.forkChild(reasonOf(steps.forever(), "DeadlineExceeded"))
        yield* Deferred.await(stepped)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Fiber.join(call)).started, "yes")
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("ends with TransportError when the sending fails, and says whether it may have been sent", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const error = yield* reasonOf(users.get_user({ id: "1" }), "TransportError")
      assert.strictEqual(error.started, "no")
      assert.strictEqual((error.reason as Transport.TransportError).kind, "Unreachable")
      yield* reasonOf(users.get_user.send({ id: "1" }), "TransportError")
    }).pipe(Effect.provide(faulty(() => (_channel, _frame, sent) => sent(refused, 0))))
  )

  it.effect("refuses a request that is too large, and is told of a reply that is", () =>
    Effect.gen(function* () {
      const Large = Service.make(
        "large",
        Action.make("repeat", { payload: { text: Schema.String, times: Schema.Finite }, success: Schema.String })
      )
      const LargeLive = Handlers.layer(Large, { repeat: ({ text, times }) => Effect.succeed(text.repeat(times)) })
      yield* Effect.gen(function* () {
        const large = yield* Caller.make(Large)
        const request = yield* reasonOf(large.repeat({ text: "x".repeat(2_000), times: 1 }), "PayloadTooLarge")
        assert.strictEqual(request.started, "no")
        assert.deepInclude(request.reason, { what: "request", maxBytes: 1_000 })
        const reply = yield* reasonOf(large.repeat({ text: "x", times: 2_000 }), "PayloadTooLarge")
        assert.strictEqual(reply.started, "yes")
        assert.deepInclude(reply.reason, { what: "reply", maxBytes: 1_000 })
        yield* reasonOf(large.repeat.send({ text: "x".repeat(2_000), times: 1 }), "PayloadTooLarge")
        assert.strictEqual(yield* large.repeat({ text: "é", times: 3 }), "ééé")
      }).pipe(Effect.provide(LargeLive.pipe(Layer.provideMerge(Memory.layerOptions({ maxFrameBytes: 1_000 })))))
    })
  )

  it.effect("streams the steps in order, then the result", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const events = yield* Stream.runCollect(users.import_users.stream({ rows: ["a", "b"] }))
      assert.deepStrictEqual(events, [
        { _tag: "Progress", value: { done: 1, total: 2 } },
        { _tag: "Progress", value: { done: 2, total: 2 } },
        { _tag: "Success", value: { imported: 2 } }
      ])
      assert.deepStrictEqual(yield* users.import_users({ rows: ["a", "b"] }), { imported: 2 })
      const steps: Array<number> = []
      const result = yield* users.import_users
        .stream({ rows: ["a", "b"] })
        .pipe(Caller.onProgress(({ done }) => Effect.sync(() => steps.push(done))))
      assert.deepStrictEqual([steps, result], [[1, 2], { imported: 2 }])
      const failed = yield* Effect.flip(Stream.runDrain(users.get_user.stream({ id: "2" })))
      assert.instanceOf(failed, UserNotFound)
    }).pipe(Effect.provide(Bus))
  )

  it.effect("ends a stream whose service does not count its steps, and whose consumer is too slow", () =>
    Effect.gen(function* () {
      const { prefix } = yield* Transport.Transport
      const reply = (request: Record<string, any>, step: number) =>
        Transport.publish(
          request["reply_to"],
          JSON.stringify({ status: "success", payload: step, request_id: request["request_id"], final: false })
        )
      const requests = yield* Queue.unbounded<Record<string, any>>()
      yield* (yield* Transport.Transport).subscribe({ _tag: "Channel", channel: `${prefix}daebus` }, (frame) => {
        const request = JSON.parse(String(frame))
        if (!isPresence(request)) Queue.offerUnsafe(requests, request)
      })
      const service = yield* Caller.dynamic("daebus")
      const release = yield* Deferred.make<void>()
      const seen = yield* Queue.unbounded<unknown>()
      const consumer = yield* Effect.forkChild(
        service.stream("count", {}, { window: 16 }).pipe(
          Stream.runForEach((event) => Effect.andThen(Queue.offer(seen, event), Deferred.await(release))),
          Effect.flip
        )
      )
      const request = yield* Queue.take(requests)
      yield* reply(request, 0)
      yield* Queue.take(seen)
      yield* Effect.forEach(Array.from({ length: 1_024 }), (_, i) => reply(request, i + 1), { discard: true })
      assert.strictEqual(yield* pendingCalls, 1)
      yield* reply(request, 1_025)
      while ((yield* pendingCalls) > 0) yield* Effect.yieldNow
      yield* Deferred.succeed(release, undefined)
      const error = yield* Fiber.join(consumer)
      assert.instanceOf(error, CallError.CallError)
      assert.deepInclude(error.reason, { _tag: "TransportError", kind: "Overloaded" })
      assert.lengthOf(yield* Queue.clear(seen), 1_024)
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("sends without asking for an answer and counts the receivers", () =>
    Effect.gen(function* () {
      const heard = yield* Queue.unbounded<Request.Request>()
      const Live = Handlers.layer(Service.make("log", Action.make("write", { payload: { line: Schema.String } })), {
        write: () => Effect.asVoid(Effect.flatMap(Request.current, (request) => Queue.offer(heard, request)))
      })
      yield* Effect.gen(function* () {
        const log = yield* Caller.make(Service.make("log", Action.make("write", { payload: { line: Schema.String } })))
        assert.strictEqual(yield* log.write.send({ line: "hello" }), 1)
        const request = yield* Queue.take(heard)
        const { fiberbus, ...rest } = request.raw
        assert.deepStrictEqual(rest, { action: "write", service: "log", payload: { line: "hello" } })
        assert.match((fiberbus as { id: string }).id, /^[\w-]{36}$/)
        assert.isUndefined(request.replyTo)
        const nobody = yield* Caller.make(Service.make("nobody", Action.make("write")))
        assert.strictEqual(yield* nobody.write.send(), 0)
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("carries headers", () =>
    Effect.gen(function* () {
      const Head = Service.make("head", Action.make("read", { success: Schema.Record(Schema.String, Schema.String) }))
      const Live = Handlers.layer(Head, { read: () => Effect.map(Request.current, ({ headers }) => ({ ...headers })) })
      yield* Effect.gen(function* () {
        const head = yield* Caller.make(Head)
        assert.deepStrictEqual(yield* head.read({ headers: { tenant: "a", __proto__: "b" } as never }), {
          tenant: "a"
        })
        assert.deepStrictEqual(yield* head.read(), {})
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("calls by names and plain JSON without a contract", () =>
    Effect.gen(function* () {
      const users = yield* Caller.dynamic("user_service")
      assert.deepStrictEqual(yield* users.call("get_user", { id: "1" }), {
        id: "1",
        name: "Ann",
        born: "2000-01-01T00:00:00.000Z"
      })
      const error = yield* reasonOf(users.call("get_user", { id: "2" }), "RemoteError")
      assert.deepInclude((error.reason as CallError.RemoteError).payload as object, {
        failure: { _tag: "UserNotFound", id: "2" }
      })
      assert.lengthOf(yield* Stream.runCollect(users.stream("import_users", { rows: ["a"] })), 2)
      assert.strictEqual(yield* users.send("ping"), 1)
    }).pipe(Effect.provide(Bus))
  )

  it.effect("reads what a service of another kind answers", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      yield* transport.subscribe({ _tag: "Channel", channel: "plain" }, (frame) => {
        const { payload, reply_to, request_id } = JSON.parse(String(frame))
        const answers: ReadonlyArray<object> = payload.answers
        for (const answer of answers) transport.send(reply_to, JSON.stringify({ ...answer, request_id }), () => {})
      })
      const answers = Schema.Array(Schema.Json)
      const Plain = Service.make(
        "plain",
        Action.make("number", { payload: { answers }, success: Schema.Finite, error: { error: Schema.String } }),
        Action.make("strict", { payload: { answers }, success: Schema.Finite })
      )
      const plain = yield* Caller.make(Plain)
      assert.strictEqual(yield* plain.number({ answers: [{ status: "success", payload: 1 }] }), 1)
      // The first final answer wins, whatever follows.
      assert.strictEqual(yield* plain.number({ answers: [{ payload: 2, final: true }, { payload: 3 }] }), 2)
      // An error reply is the declared error where its payload fits, RemoteError otherwise.
      const error = { status: "error", payload: { error: "no such number" } }
      assert.deepStrictEqual(yield* Effect.flip(plain.number({ answers: [error] })), { error: "no such number" })
      const undeclared = yield* reasonOf(plain.strict({ answers: [error] }), "RemoteError")
      assert.strictEqual((undeclared.reason as CallError.RemoteError).error, "no such number")
      assert.strictEqual(undeclared.started, "yes")
      for (const payload of [null, "text", 1, {}, { error: null }, { error: { toString: 1 } }, []]) {
        yield* reasonOf(
          plain.strict({ answers: [{ status: "error", payload: payload as Schema.Json }] }),
          "RemoteError"
        )
      }
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("subscribes its inbox, one for all callers of the transport, before the first request", () => {
    const log: Array<string> = []
    const Spied = Layer.sync(Transport.Transport, () => {
      const inner = Memory.make()
      return Transport.Transport.of({
        ...inner,
        send: (channel, frame, sent) => {
          if (!isPresence(JSON.parse(frame))) log.push(`send ${channel}`)
          inner.send(channel, frame, sent)
        },
        subscribe: (target, receive) =>
          Effect.andThen(
            inner.subscribe(target, receive),
            Effect.sync(() => {
              const name = target._tag === "Channel" ? target.channel.replace(/:.*/, "") : "?"
              if (!name.endsWith(".instances")) log.push(name)
            })
          )
      })
    })
    return Effect.gen(function* () {
      const one = yield* Caller.make(Users)
      yield* Effect.ignore(one.ping())
      const two = yield* Caller.dynamic("other")
      yield* Effect.ignore(two.call("x"))
      assert.deepStrictEqual(log, ["caller", "send user_service", "send other"])
    }).pipe(Effect.provide(Spied))
  })

  it.effect("forgets a call that is interrupted", () =>
    Effect.gen(function* () {
      const users = yield* Caller.make(Users)
      const call = yield* Effect.forkChild(users.wait({ millis: 60_000 }), { startImmediately: true })
      assert.strictEqual(yield* pendingCalls, 1)
      yield* Fiber.interrupt(call)
      assert.strictEqual(yield* pendingCalls, 0)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(call)))
    }).pipe(Effect.provide(Bus))
  )

  it.effect.prop(
    "ends every call once and leaves no call behind, whatever mix of outcomes",
    [
      Schema.Array(
        Schema.Literals([
          "ok",
          "missing",
          "bug",
          "late",
          "unknown",
          "invalid",
          "nobody",
          "interrupted",
          "stream",
          "send"
        ])
      )
    ],
    ([kinds]) =>
      Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        const names = yield* Caller.dynamic("user_service")
        const nobody = yield* Caller.dynamic("nobody")
        const expected: Record<(typeof kinds)[number], string> = {
          ok: "Success",
          missing: "UserNotFound",
          bug: "RemoteDefect",
          late: "DeadlineExceeded",
          unknown: "UnknownAction",
          invalid: "InvalidPayload",
          nobody: "NoResponders",
          interrupted: "Interrupt",
          stream: "Success",
          send: "Success"
        }
        const start = (kind: (typeof kinds)[number]): Effect.Effect<unknown, unknown> => {
          switch (kind) {
            case "ok":
              return users.get_user({ id: "1" })
            case "missing":
              return users.get_user({ id: "2" })
            case "bug":
              return users.get_user({ id: "bug" })
            case "late":
              return users.wait({ millis: 60_000 }, { timeout: 100 })
            case "unknown":
              return names.call("nope")
            case "invalid":
              return names.call("get_user", { id: 1 })
            case "nobody":
              return nobody.call("x")
            case "interrupted":
              return users.wait({ millis: 60_000 }, { timeout: "10 minutes" })
            case "stream":
              return Stream.runDrain(users.import_users.stream({ rows: ["a", "b"] }))
            case "send":
              return users.ping.send()
          }
        }
        const calls = yield* Effect.forEach(kinds, (kind) =>
          Effect.map(Effect.forkChild(start(kind), { startImmediately: true }), (fiber) => ({ kind, fiber }))
        )
        yield* TestClock.adjust(200)
        for (const { fiber, kind } of calls) if (kind === "interrupted") yield* Fiber.interrupt(fiber)
        for (const { fiber, kind } of calls) assert.strictEqual(nameOf(yield* Fiber.await(fiber)), expected[kind])
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(UsersUnlimited.pipe(Layer.provideMerge(Memory.layer)))),
    { arbitrary: { runs: 60 } }
  )
})

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

const nameOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "Success"
  if (Exit.hasInterrupts(exit)) return "Interrupt"
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  return error instanceof CallError.CallError ? error.reason._tag : (error as { readonly _tag: string })._tag
}
