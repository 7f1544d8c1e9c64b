import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Queue,
  Schema,
  SchemaGetter
} from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  type CallError,
  Caller,
  Handlers,
  Listener,
  Memory,
  Response,
  Service,
  Topic,
  Transport
} from "fiberbus"

const Gate = Service.make(
  "gate",
  Action.make("enter", { payload: { id: Schema.Finite }, success: Schema.Finite }),
  Action.make("ping")
)

/** A service whose handlers wait until they are told to go on, and say when they have begun. */
const gate = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<number>()
  const open = yield* Deferred.make<void>()
  const handlers = {
    enter: ({ id }: { readonly id: number }) =>
      Queue.offer(begun, id).pipe(Effect.andThen(Deferred.await(open)), Effect.as(id)),
    ping: () => Effect.void
  }
  return { begun, open, handlers }
})

const onMemory = <E>(layer: Layer.Layer<never, E, Transport.Transport>) => layer.pipe(Layer.provideMerge(Memory.layer))

const reason = (exit: Exit.Exit<unknown, unknown>) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  return { reason: error.reason._tag, started: error.started }
}

/** Sends a request by hand and gives the queue of what is answered. */
const request = Effect.fnUntraced(function* (channel: string, message: object) {
  const transport = yield* Transport.Transport
  const replies = yield* Queue.unbounded<any>()
  yield* transport.subscribe({ _tag: "Channel", channel: "caller:test" }, (frame) => {
    Queue.offerUnsafe(replies, JSON.parse(String(frame)))
  })
  yield* Transport.publish(channel, JSON.stringify({ reply_to: "caller:test", request_id: "1", ...message }))
  return replies
})

describe("Handlers", () => {
  it.effect("runs no more handlers at once than it has slots; the rest waits in order", () =>
    Effect.gen(function* () {
      const { begun, handlers, open } = yield* gate
      yield* Effect.gen(function* () {
        const caller = yield* Caller.make(Gate)
        const calls = yield* Effect.forEach([1, 2, 3, 4, 5], (id) =>
          Effect.forkChild(caller.enter({ id }), { startImmediately: true })
        )
        assert.deepStrictEqual(yield* Queue.takeBetween(begun, 2, 5), [1, 2])
        yield* Deferred.succeed(open, undefined)
        assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), [1, 2, 3, 4, 5])
        assert.deepStrictEqual(yield* Queue.takeBetween(begun, 3, 3), [3, 4, 5])
      }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, { concurrency: 2 }))))
    })
  )

  it.effect("refuses with Busy at once what finds the backlog full, and loses nothing", () =>
    Effect.gen(function* () {
      const { begun, handlers, open } = yield* gate
      yield* Effect.gen(function* () {
        const caller = yield* Caller.make(Gate)
        const calls = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, id) => id),
          (id) => Effect.forkChild(caller.enter({ id }), { startImmediately: true })
        )
        yield* Queue.takeBetween(begun, 3, 3)
        for (const call of calls.slice(13)) {
          assert.deepStrictEqual(reason(yield* Fiber.await(call)), { reason: "Busy", started: "no" })
        }
        yield* Deferred.succeed(open, undefined)
        for (const [id, call] of calls.slice(0, 13).entries()) assert.strictEqual(yield* Fiber.join(call), id)
      }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, { concurrency: 3, backlog: 10 }))))
    })
  )

  it.effect("does not begin what is late already, and stops what runs past its deadline", () =>
    Effect.gen(function* () {
      const { begun, handlers } = yield* gate
      yield* Effect.gen(function* () {
        const running = yield* request("gate", {
          action: "enter",
          payload: { id: 1 },
          fiberbus: { v: 1, timeout_ms: 100 }
        })
        assert.strictEqual(yield* Queue.take(begun), 1)
        yield* Transport.publish(
          "gate",
          JSON.stringify({
            action: "enter",
            payload: { id: 2 },
            request_id: "2",
            reply_to: "caller:test",
            fiberbus: { v: 1, timeout_ms: 50 }
          })
        )
        yield* TestClock.adjust(100)
        const [late, over] = yield* Queue.takeBetween(running, 2, 2)
        // What waits is answered when its own time is up.
        assert.deepInclude(late, { request_id: "2", status: "error", final: true })
        assert.deepInclude(late.payload, { started: "no", reason: { _tag: "DeadlineExceeded", timeoutMillis: 50 } })
        assert.deepInclude(over, { request_id: "1", status: "error", final: true })
        assert.deepInclude(over.payload, { started: "yes", reason: { _tag: "DeadlineExceeded", timeoutMillis: 100 } })
        assert.isTrue(Option.isNone(yield* Queue.poll(begun)))
      }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, { concurrency: 1 }))))
    })
  )

  it.effect("refuses two handlers for one action and names both places", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      const One = Handlers.layer(Gate, handlers)
      const Two = Handlers.handler(Gate, "ping", handlers.ping)
      const exit = yield* Effect.exit(Effect.provide(Effect.void, onMemory(Layer.mergeAll(One, Two) as typeof One)))
      const error = Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error) : undefined
      assert.instanceOf(error, Handlers.DuplicateHandler)
      assert.include(error.message, "gate.ping has two handlers")
      assert.match(error.message, /Handlers\.layer at .*Handlers\.test\.ts:\d+/)
      assert.match(error.message, /Handlers\.handler at .*Handlers\.test\.ts:\d+/)
    })
  )

  it.effect("may be given again once the first is gone", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      const ping = Effect.gen(function* () {
        yield* (yield* Caller.make(Gate)).ping()
      }).pipe(Effect.scoped, Effect.provide(Handlers.layer(Gate, handlers), { local: true }))
      yield* ping
      yield* ping
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("takes each handler by its own layer, and serves when all are there", () =>
    Effect.gen(function* () {
      class Name extends Context.Service<Name, string>()("Name") {}
      const Greeter = Service.make(
        "greeter",
        Action.make("hello", { success: Schema.String }),
        Action.make("bye", { success: Schema.String })
      )
      const Hello = Handlers.handler(Greeter, "hello", () => Effect.map(Name, (name) => `hello ${name}`))
      const Bye = Handlers.handler(
        Greeter,
        "bye",
        Effect.map(Name, (name) => () => Effect.succeed(`bye ${name}`))
      )
      const Live = Handlers.serve(Greeter).pipe(Layer.provide([Hello, Bye]), Layer.provide(Layer.succeed(Name, "Ann")))
      yield* Effect.gen(function* () {
        const greeter = yield* Caller.make(Greeter)
        assert.strictEqual(yield* greeter.hello(), "hello Ann")
        assert.strictEqual(yield* greeter.bye(), "bye Ann")
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("may share a service's name with other handlers, when it ignores what it does not know", () =>
    Effect.gen(function* () {
      const A = Service.make("shared", Action.make("a", { success: Schema.String }))
      const B = Service.make("shared", Action.make("b", { success: Schema.String }))
      // Two processes on one broker.
      const broker = Memory.makeBroker()
      const process = <E>(layer: Layer.Layer<never, E, Transport.Transport>) =>
        Layer.provide(layer, Layer.fresh(Memory.layerOptions({ broker })))
      const options = { unknownAction: "ignore" } as const
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* (yield* Caller.make(A)).a(), "from a")
        assert.strictEqual(yield* (yield* Caller.make(B)).b(), "from b")
        const call = yield* Effect.forkChild((yield* Caller.dynamic("shared")).call("c"))
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(reason(yield* Fiber.await(call)), { reason: "DeadlineExceeded", started: "unknown" })
      }).pipe(
        Effect.provide(
          Layer.mergeAll(
            process(Handlers.layer(A, { a: () => Effect.succeed("from a") }, options)),
            process(Handlers.layer(B, { b: () => Effect.succeed("from b") }, options)),
            Memory.layerOptions({ broker })
          )
        )
      )
    })
  )

  it.effect("survives handlers that throw, reject, die and interrupt themselves", () =>
    Effect.gen(function* () {
      const ways: Record<string, () => Effect.Effect<void>> = {
        throws: () => {
          throw new Error("thrown")
        },
        rejects: () => Effect.promise(() => Promise.reject(new Error("rejected"))),
        dies: () => Effect.die("died"),
        interrupts: () => Effect.interrupt,
        later: () => Effect.andThen(Effect.yieldNow, Effect.die("later")),
        null: () => null as never
      }
      const Bad = Service.make("bad", Action.make("go", { payload: { way: Schema.String } }))
      const defects = yield* Queue.unbounded<string>()
      const Log = Logger.layer([
        Logger.make(({ cause, message }) => {
          Queue.offerUnsafe(defects, `${String(message)} ${Cause.pretty(cause)}`)
        })
      ])
      yield* Effect.gen(function* () {
        const bad = yield* Caller.make(Bad)
        for (const way of Object.keys(ways)) {
          const error = yield* Effect.flip(bad.go({ way }))
          assert.strictEqual(error.reason._tag, "RemoteDefect", way)
          // The id that the caller gets finds the cause in the log.
          assert.include(yield* Queue.take(defects), (error.reason as CallError.RemoteDefect).id)
        }
      }).pipe(Effect.provide(onMemory(Handlers.layer(Bad, { go: ({ way }) => ways[way]!() })).pipe(Layer.provide(Log))))
    })
  )

  it.effect("answers RemoteDefect for a result or an error that the contract does not allow", () =>
    Effect.gen(function* () {
      const Wrong = Service.make(
        "wrong",
        Action.make("result", { success: Schema.Finite }),
        Action.make("failure", { error: Schema.String }),
        Action.make("cycle", { success: Schema.Any })
      )
      const cycle: Record<string, unknown> = {}
      cycle["self"] = cycle
      const Live = Handlers.layer(Wrong, {
        result: () => Effect.succeed("one" as never),
        failure: () => Effect.fail(1 as never),
        cycle: () => Effect.succeed(cycle)
      })
      yield* Effect.gen(function* () {
        const wrong = yield* Caller.make(Wrong)
        for (const call of [wrong.result(), wrong.failure(), wrong.cycle()]) {
          assert.deepStrictEqual(reason(yield* Effect.exit(call)), { reason: "RemoteDefect", started: "yes" })
        }
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("runs schemas that work asynchronously, in both directions", () =>
    Effect.gen(function* () {
      const Slow = Schema.String.pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.yieldNow, `${text}<`)),
          encode: SchemaGetter.transformEffect((text: string) => Effect.as(Effect.yieldNow, `${text}>`))
        })
      )
      const Echo = Service.make("echo", Action.make("echo", { payload: { text: Slow }, success: Slow, error: Slow }))
      yield* Effect.gen(function* () {
        const echo = yield* Caller.make(Echo)
        assert.strictEqual(yield* echo.echo({ text: "a" }), "a><><")
        assert.strictEqual(yield* Effect.flip(echo.echo({ text: "fail" })), "fail><><")
      }).pipe(
        Effect.provide(
          onMemory(
            Handlers.layer(Echo, {
              echo: ({ text }) => (text.startsWith("fail") ? Effect.fail(text) : Effect.succeed(text))
            })
          )
        )
      )
    })
  )

  it.effect("drains when its layer closes: lets end what runs, refuses what waits and what comes", () =>
    Effect.gen(function* () {
      const { begun, handlers, open } = yield* gate
      yield* Effect.gen(function* () {
        const caller = yield* Caller.make(Gate)
        const built = yield* Layer.build(Handlers.layer(Gate, handlers, { concurrency: 1 })).pipe(
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        const running = yield* Effect.forkChild(caller.enter({ id: 1 }))
        const waiting = yield* Effect.forkChild(caller.enter({ id: 2 }))
        yield* Queue.take(begun)
        const closed = yield* Effect.forkChild(Fiber.interrupt(built), { startImmediately: true })
        assert.deepStrictEqual(reason(yield* Fiber.await(waiting)), { reason: "Draining", started: "no" })
        assert.deepStrictEqual(reason(yield* Effect.exit(caller.ping())), { reason: "NoResponders", started: "no" })
        assert.isUndefined(closed.pollUnsafe())
        yield* Deferred.succeed(open, undefined)
        assert.strictEqual(yield* Fiber.join(running), 1)
        yield* Fiber.join(closed)
      }).pipe(Effect.provide(Memory.layer))
    })
  )

  it.effect("interrupts and answers what outlives the grace period, which is real time also below TestClock", () =>
    Effect.gen(function* () {
      const { begun, handlers } = yield* gate
      yield* Effect.gen(function* () {
        const caller = yield* Caller.make(Gate)
        const built = yield* Layer.build(Handlers.layer(Gate, handlers, { grace: 1 })).pipe(
          Effect.andThen(Effect.never),
          Effect.scoped,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        const running = yield* Effect.forkChild(caller.enter({ id: 1 }))
        yield* Queue.take(begun)
        yield* Fiber.interrupt(built)
        assert.deepStrictEqual(reason(yield* Fiber.await(running)), { reason: "Draining", started: "yes" })
      }).pipe(Effect.provide(Memory.layer))
    })
  )

  it.effect("answers on <service>.responses where it is told to, as Daebus does", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const heard = yield* Queue.unbounded<string>()
        yield* transport.subscribe({ _tag: "Channel", channel: "gate.responses" }, (frame) => {
          Queue.offerUnsafe(heard, String(frame))
        })
        yield* Transport.publish("gate", JSON.stringify({ action: "ping" }))
        yield* Transport.publish("gate", JSON.stringify({ action: "ping", request_id: "r", service: "elsewhere" }))
        assert.strictEqual(
          yield* Queue.take(heard),
          '{"status":"success","payload":null,"request_id":"r","final":true}'
        )
      }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, { unaddressed: "responses" }))))
    })
  )

  it.effect("answers nowhere but in inboxes, unless it is told to", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      const asked = (options: NonNullable<Parameters<typeof Handlers.layer>[2]>, replyTo: string) =>
        Effect.gen(function* () {
          const transport = yield* Transport.Transport
          const heard = yield* Queue.unbounded<string>()
          for (const channel of new Set([replyTo, "caller:end"])) {
            yield* transport.subscribe({ _tag: "Channel", channel }, (_frame, channel) => {
              Queue.offerUnsafe(heard, channel)
            })
          }
          yield* Transport.publish("gate", JSON.stringify({ action: "ping", request_id: 1, reply_to: replyTo }))
          yield* Transport.publish("gate", JSON.stringify({ action: "ping", request_id: 2, reply_to: "caller:end" }))
          const first = yield* Queue.take(heard)
          return first === replyTo
        }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, options)), { local: true }))
      assert.isTrue(yield* asked({}, "caller:x"))
      assert.isFalse(yield* asked({}, "bank.transfers"))
      assert.isFalse(yield* asked({}, "caller:*"))
      assert.isFalse(yield* asked({}, `caller:${"x".repeat(250)}`))
      assert.isFalse(yield* asked({}, "caller:a\nb"))
      assert.isTrue(yield* asked({ replyTo: ["fx:", "caller:"] }, "fx:1"))
      assert.isFalse(yield* asked({ replyTo: ["fx:", "caller:"] }, "gx:1"))
      assert.isTrue(yield* asked({ replyTo: "any" }, "bank.transfers"))
    })
  )

  it.effect("never answers on a channel that it serves itself", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      yield* Effect.gen(function* () {
        const replies = yield* request("gate", { action: "ping", reply_to: "gate", request_id: "loop" })
        yield* Transport.publish("gate", JSON.stringify({ action: "ping", request_id: "end", reply_to: "caller:test" }))
        assert.strictEqual((yield* Queue.take(replies)).request_id, "end")
      }).pipe(Effect.provide(onMemory(Handlers.layer(Gate, handlers, { replyTo: "any" }))))
    })
  )

  it.effect("knows its own channels under a prefix, by pattern too, and no others", () =>
    Effect.gen(function* () {
      const Events = Topic.make("events.*", { id: Schema.Finite })
      const { handlers } = yield* gate
      const Live = Layer.mergeAll(
        Handlers.layer(Gate, handlers, { replyTo: "any" }),
        Listener.layer(Events, () => Effect.void)
      )
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const heard = yield* Queue.unbounded<string>()
        for (const channel of ["gate", "p/gate", "p/events.a", "events.a"]) {
          yield* transport.subscribe({ _tag: "Channel", channel }, (frame, channel) => {
            if (String(frame).includes("status")) Queue.offerUnsafe(heard, channel)
          })
        }
        for (const reply_to of ["p/gate", "p/events.a", "gate", "events.a"]) {
          yield* Transport.publish("p/gate", JSON.stringify({ action: "ping", request_id: 1, reply_to }))
        }
        assert.deepStrictEqual(yield* Queue.takeBetween(heard, 2, 4), ["gate", "events.a"])
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layerOptions({ prefix: "p/" })))))
    })
  )

  it.effect("answers callers also where its process listens to everything", () =>
    Effect.gen(function* () {
      const { handlers } = yield* gate
      const heard = yield* Queue.unbounded<string>()
      const Live = Layer.mergeAll(
        Handlers.layer(Gate, handlers),
        Listener.layer(Topic.make("*", {}), (_, { channel }) => Queue.offer(heard, channel))
      )
      yield* Effect.gen(function* () {
        const replies = yield* request("gate", { action: "ping", reply_to: "caller:test", request_id: 1 })
        assert.strictEqual((yield* Queue.take(replies)).request_id, 1)
        assert.deepStrictEqual([yield* Queue.take(heard), yield* Queue.take(heard)], ["gate", "caller:test"])
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("lets a handler answer by hand, once", () =>
    Effect.gen(function* () {
      const Hand = Service.make(
        "hand",
        Action.make("go", { payload: { how: Schema.String }, success: Schema.Any, progress: Schema.Any })
      )
      const died = yield* Queue.unbounded<unknown>()
      const Live = Handlers.layer(Hand, {
        go: Effect.fnUntraced(function* ({ how }) {
          switch (how) {
            case "steps":
              yield* Response.send({ step: 1 }, { final: false })
              yield* Response.error("a warning", { final: false })
              return yield* Response.send({ done: true })
            case "error":
              return yield* Response.error("no such user")
            case "twice":
              yield* Response.send(1)
              yield* Queue.offer(died, yield* Effect.exit(Response.send(2)))
              return yield* Effect.die("after the answer")
            default:
              return Response.sent
          }
        })
      })
      yield* Effect.gen(function* () {
        const ask = (how: string) => request("hand", { action: "go", payload: { how } })
        const steps = yield* Queue.takeBetween(yield* ask("steps"), 3, 3)
        assert.deepStrictEqual(steps, [
          { status: "success", payload: { step: 1 }, request_id: "1", final: false },
          { status: "error", payload: { error: "a warning" }, request_id: "1", final: false },
          { status: "success", payload: { done: true }, request_id: "1", final: true }
        ])
      }).pipe(Effect.scoped, Effect.provide(onMemory(Live), { local: true }))
      yield* Effect.gen(function* () {
        const hand = yield* Caller.make(Hand)
        const error = yield* Effect.flip(hand.go({ how: "error" }))
        assert.deepInclude(error.reason, { _tag: "RemoteError", error: "no such user" })
        assert.strictEqual(yield* hand.go({ how: "twice" }), 1)
        const second = (yield* Queue.take(died)) as Exit.Exit<unknown>
        assert.isTrue(Exit.hasDies(second))
        const nothing = yield* Effect.flip(hand.go({ how: "nothing" }))
        assert.deepInclude(nothing.reason, { _tag: "RemoteError", error: "the handler ended without an answer" })
      }).pipe(Effect.provide(onMemory(Live), { local: true }))
    })
  )
})
