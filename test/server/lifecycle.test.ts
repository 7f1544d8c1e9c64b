import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, Option, Queue, Schema, SchemaGetter, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Action, type CallError, Caller, Handlers, Memory, Request, Response, Service, Transport } from "fiberbus"
import { Deadline } from "../../src/policy/Deadline.ts"

/** A lost slot shows at once: whoever comes next would be refused with `Busy`. */
const oneSlot = { concurrency: 1, backlog: 0, grace: 1 }

const silent = Logger.layer([])

const onMemory = <E>(layer: Layer.Layer<never, E, Transport.Transport>) =>
  layer.pipe(Layer.provideMerge(Layer.fresh(Memory.layer)))

const reason = (exit: Exit.Exit<unknown, unknown>) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  return { reason: error.reason._tag, started: error.started }
}

/** Sends a frame by hand. When it succeeds, receivers have taken this one and all that were sent before. */
const publish = (channel: string, message: object) => Transport.publish(channel, JSON.stringify(message))

const delivered = publish("nobody", {})

/** Gives the queue of what is answered to a channel. */
const inbox = Effect.fnUntraced(function* (channel: string) {
  const transport = yield* Transport.Transport
  const replies = yield* Queue.unbounded<any>()
  yield* transport.subscribe({ _tag: "Channel", channel }, (frame) => {
    Queue.offerUnsafe(replies, JSON.parse(String(frame)))
  })
  return replies
})

/** Sends a request by hand and gives the queue of what is answered. */
const request = Effect.fnUntraced(function* (channel: string, message: object) {
  const replies = yield* inbox("caller:test")
  yield* publish(channel, { reply_to: "caller:test", request_id: "1", ...message })
  return replies
})

/** A text whose schema does whatever it is told on its way in and out. */
const text = (on: {
  readonly decode?: (text: string) => Effect.Effect<string>
  readonly encode?: (text: string) => Effect.Effect<string>
}) =>
  Schema.String.pipe(
    Schema.decodeTo(Schema.String, {
      decode: SchemaGetter.transformEffect(on.decode ?? Effect.succeed),
      encode: SchemaGetter.transformEffect(on.encode ?? Effect.succeed)
    })
  )

/** Work that says when it has begun and waits until it is told to go on. */
const gate = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<string>()
  const open = yield* Deferred.make<void>()
  const pass = (text: string) => Effect.as(Effect.andThen(Queue.offer(begun, text), Deferred.await(open)), text)
  return { begun, open: Deferred.succeed(open, undefined), pass }
})

/** Builds a layer, and gives what closes it. */
const build = Effect.fnUntraced(function* <E, R>(layer: Layer.Layer<never, E, R>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  yield* Layer.buildWithScope(layer, scope)
  return Scope.close(scope, Exit.void)
})

const nested = (depth: number) => {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = [value]
  return value
}

class Mute extends Schema.TaggedError<Mute>()("Mute", { id: Schema.String }) {
  override get message(): string {
    throw new Error("no message")
  }
}

describe("A slot is free again", () => {
  const cycle: Record<string, unknown> = {}
  cycle["self"] = cycle
  /** What JSON has no text for. */
  const unwritable: Record<string, unknown> = { bigint: { n: 1n }, cycle, deep: nested(80) }
  /** What JSON leaves out. */
  const omitted: Record<string, unknown> = { function: () => 1, nothing: undefined, symbol: Symbol("left out") }
  const values = { ...unwritable, ...omitted }

  const Way = { what: Schema.String, later: Schema.Boolean }
  const Odd = Service.make(
    "odd",
    Action.make("fail", { payload: Way, error: Schema.Any }),
    Action.make("succeed", { payload: Way, success: Schema.Any }),
    Action.make("return", { payload: Way }),
    Action.make("mute", { payload: { later: Schema.Boolean }, error: Mute }),
    Action.make("ok", { success: Schema.String })
  )
  const wait = (later: boolean) => (later ? Effect.yieldNow : Effect.void)
  const OddLive = onMemory(
    Handlers.layer(
      Odd,
      {
        fail: ({ later, what }) =>
          Effect.andThen(
            wait(later),
            Effect.suspend(() => Effect.fail(values[what]))
          ),
        succeed: ({ later, what }) => Effect.map(wait(later), () => values[what]),
        // The type system forbids it; programs without types do it.
        return: ({ later, what }) =>
          later ? Effect.flatMap(wait(later), () => values[what] as never) : (values[what] as never),
        mute: ({ later }) =>
          Effect.andThen(
            wait(later),
            Effect.suspend(() => Effect.fail(new Mute({ id: "1" })))
          ),
        ok: () => Effect.succeed("ok")
      },
      oneSlot
    )
  ).pipe(Layer.provide(silent))

  for (const later of [false, true]) {
    const time = later ? "later" : "at once"

    for (const action of ["fail", "succeed"] as const) {
      it.effect(`when a handler's ${action} brings ${time} what JSON cannot carry, and the caller is told`, () =>
        Effect.gen(function* () {
          const odd = yield* Caller.make(Odd)
          for (const what of Object.keys(unwritable)) {
            const exit = yield* Effect.exit(odd[action]({ what, later }))
            assert.deepStrictEqual(reason(exit), { reason: "RemoteDefect", started: "yes" }, what)
            assert.strictEqual(yield* odd.ok(), "ok", what)
          }
          for (const what of Object.keys(omitted)) {
            const outcome = yield* action === "fail"
              ? Effect.flip(odd.fail({ what, later }))
              : odd.succeed({ what, later })
            // Of an error the text is left, and its schema takes anything.
            assert.deepEqual(outcome, action === "fail" ? { error: "undefined" } : null, what)
            assert.strictEqual(yield* odd.ok(), "ok", what)
          }
        }).pipe(Effect.provide(OddLive))
      )
    }

    it.effect(`when a handler returns ${time} what is no Effect`, () =>
      Effect.gen(function* () {
        const odd = yield* Caller.make(Odd)
        for (const what of Object.keys(values)) {
          const exit = yield* Effect.exit(odd.return({ what, later }))
          assert.deepStrictEqual(reason(exit), { reason: "RemoteDefect", started: "yes" }, what)
          assert.strictEqual(yield* odd.ok(), "ok", what)
        }
      }).pipe(Effect.provide(OddLive))
    )

    it.effect(`when the message of an error that comes ${time} throws`, () =>
      Effect.gen(function* () {
        const odd = yield* Caller.make(Odd)
        const exit = yield* Effect.exit(odd.mute({ later }))
        assert.deepStrictEqual(reason(exit), { reason: "RemoteDefect", started: "yes" })
        assert.strictEqual(yield* odd.ok(), "ok")
      }).pipe(Effect.provide(OddLive))
    )
  }

  it.effect("when a payload is never read to its end, by the deadline", () =>
    Effect.gen(function* () {
      const { begun, pass } = yield* gate
      const Reads = Service.make(
        "reads",
        Action.make("read", { payload: { text: text({ decode: pass }) } }),
        Action.make("ok", { success: Schema.String })
      )
      const Live = Handlers.layer(
        Reads,
        { read: () => Effect.die("it must not begin"), ok: () => Effect.succeed("ok") },
        oneSlot
      )
      yield* Effect.gen(function* () {
        const replies = yield* request("reads", {
          action: "read",
          payload: { text: "a" },
          fiberbus: { v: 1, timeout_ms: 100 }
        })
        assert.strictEqual(yield* Queue.take(begun), "a")
        yield* TestClock.adjust(100)
        const { payload } = yield* Queue.take(replies)
        assert.deepInclude(payload, { started: "no", reason: { _tag: "DeadlineExceeded", timeoutMillis: 100 } })
        assert.strictEqual(yield* (yield* Caller.make(Reads)).ok(), "ok")
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("when an answer is never written to its end, by the deadline", () =>
    Effect.gen(function* () {
      const { begun, pass } = yield* gate
      const Writes = Service.make(
        "writes",
        Action.make("write", { success: text({ encode: pass }) }),
        Action.make("ok", { success: Schema.String })
      )
      const Live = Handlers.layer(Writes, { write: () => Effect.succeed("a"), ok: () => Effect.succeed("ok") }, oneSlot)
      yield* Effect.gen(function* () {
        const replies = yield* request("writes", { action: "write", fiberbus: { v: 1, timeout_ms: 100 } })
        assert.strictEqual(yield* Queue.take(begun), "a")
        yield* TestClock.adjust(100)
        const { payload } = yield* Queue.take(replies)
        assert.deepInclude(payload, { started: "yes", reason: { _tag: "DeadlineExceeded", timeoutMillis: 100 } })
        assert.strictEqual(yield* (yield* Caller.make(Writes)).ok(), "ok")
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )
})

describe("Progress to nobody", () => {
  const Steps = Service.make(
    "steps",
    Action.make("go", { payload: { how: Schema.String }, progress: Schema.Finite }),
    Action.make("ok", { success: Schema.String })
  )
  const ways: Record<string, (step: Effect.Effect<void>) => Effect.Effect<void>> = {
    "that goes on": (step) => Effect.andThen(step, Effect.never),
    "that cannot be interrupted": Effect.uninterruptible,
    "whose detached fiber sends": (step) => Effect.andThen(Effect.forkDetach(step), Effect.never)
  }
  /** Confirms before `send` returns, as a transport may; nobody is on `caller:gone`. */
  const Hasty = Layer.sync(Transport.Transport, () => {
    const memory = Memory.make()
    return Transport.Transport.of({
      ...memory,
      send: (channel, frame, sent) => {
        memory.send(channel, frame, () => {})
        sent(undefined, channel === "caller:gone" ? 0 : 1)
      }
    })
  })
  const transports = { "in its turn": Memory.layer, "before send returns": Hasty }

  for (const [confirms, transport] of Object.entries(transports)) {
    for (const [how, handler] of Object.entries(ways)) {
      it.effect(`ends, and frees the slot of a handler ${how}, with a transport that confirms ${confirms}`, () =>
        Effect.gen(function* () {
          const ended = yield* Deferred.make<void>()
          const Live = Handlers.layer(
            Steps,
            {
              go: (_, { progress }) => handler(Effect.ensuring(progress(1), Deferred.succeed(ended, undefined))),
              ok: () => Effect.succeed("ok")
            },
            oneSlot
          ).pipe(Layer.provideMerge(Layer.fresh(transport)))
          yield* Effect.gen(function* () {
            const steps = yield* Caller.make(Steps)
            yield* publish("steps", { action: "go", payload: { how }, reply_to: "caller:gone", request_id: "1" })
            yield* Deferred.await(ended)
            assert.strictEqual(yield* steps.ok(), "ok")
          }).pipe(Effect.provide(Live))
        })
      )
    }
  }
})

describe("A request", () => {
  it.effect("gets one final answer, also when two are written at once by a schema that takes its time", () =>
    Effect.gen(function* () {
      const { begun, open, pass } = yield* gate
      const Twice = Service.make("twice", Action.make("go", { success: text({ encode: pass }) }))
      const outcomes = yield* Queue.unbounded<Exit.Exit<Response.Sent>>()
      const send = (text: string) =>
        Effect.flatMap(Effect.exit(Response.send(text)), (exit) => Queue.offer(outcomes, exit))
      const Live = Handlers.layer(Twice, {
        go: () => Effect.as(Effect.all([send("a"), send("b")], { concurrency: 2 }), Response.sent)
      })
      yield* Effect.gen(function* () {
        const replies = yield* request("twice", { action: "go" })
        assert.deepStrictEqual(yield* Queue.takeBetween(begun, 2, 2), ["a", "b"])
        yield* open
        const failures = (yield* Queue.takeBetween(outcomes, 2, 2)).filter(Exit.isFailure)
        assert.lengthOf(failures, 1)
        assert.instanceOf(Cause.squash(failures[0]!.cause), Response.AlreadyAnswered)
        yield* delivered
        assert.deepStrictEqual(yield* Queue.takeAll(replies), [
          { status: "success", payload: "a", request_id: "1", final: true }
        ])
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("gets no step after its final answer, also when the step was being written before", () =>
    Effect.gen(function* () {
      const { begun, open, pass } = yield* gate
      const Late = Service.make("late", Action.make("go", { success: Schema.String, progress: text({ encode: pass }) }))
      const outcome = yield* Deferred.make<Exit.Exit<void>>()
      const Live = Handlers.layer(Late, {
        go: (_, { progress }) =>
          Effect.flatMap(Effect.exit(progress("step")), (exit) => Deferred.succeed(outcome, exit)).pipe(
            Effect.forkDetach({ startImmediately: true }),
            Effect.as("done")
          )
      })
      yield* Effect.gen(function* () {
        const replies = yield* request("late", { action: "go" })
        assert.strictEqual(yield* Queue.take(begun), "step")
        yield* open
        const exit = yield* Deferred.await(outcome)
        assert.instanceOf(Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined, Response.AlreadyAnswered)
        yield* delivered
        assert.deepStrictEqual(yield* Queue.takeAll(replies), [
          { status: "success", payload: "done", request_id: "1", final: true }
        ])
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("has a Scope of its own, which is closed before the answer, however its handler ends", () =>
    Effect.gen(function* () {
      const Scoped = Service.make(
        "scoped",
        Action.make("go", { payload: { how: Schema.String }, success: Schema.String, error: Schema.String })
      )
      const ends: Record<string, Effect.Effect<string, string>> = {
        succeeds: Effect.succeed("done"),
        fails: Effect.fail("not done"),
        dies: Effect.die("a bug")
      }
      let open = 0
      const Live = Handlers.layer(Scoped, {
        go: ({ how }) =>
          Effect.acquireRelease(
            Effect.sync(() => open++),
            () =>
              Effect.andThen(
                Effect.yieldNow,
                Effect.sync(() => open--)
              )
          ).pipe(Effect.andThen(ends[how]!))
      })
      yield* Effect.gen(function* () {
        const scoped = yield* Caller.make(Scoped)
        for (const how of Object.keys(ends)) {
          yield* Effect.exit(scoped.go({ how }))
          assert.strictEqual(open, 0, how)
        }
      }).pipe(Effect.provide(onMemory(Live).pipe(Layer.provide(silent))))
    })
  )

  it.effect("is taken back by its own caller alone, also where two callers chose one id", () =>
    Effect.gen(function* () {
      const Hang = Service.make("hang", Action.make("go"))
      const stopped = yield* Queue.unbounded<string | undefined>()
      const Live = Handlers.layer(Hang, {
        go: () =>
          Effect.flatMap(Request.current, ({ replyTo }) =>
            Effect.onInterrupt(Effect.never, () => Queue.offer(stopped, replyTo))
          )
      })
      const cancel = (reply_to: string) => publish("hang", { reply_to, fiberbus: { v: 1, cancel: "1" } })
      yield* Effect.gen(function* () {
        for (const reply_to of ["caller:a", "caller:b"]) {
          yield* publish("hang", { action: "go", reply_to, request_id: "1" })
        }
        yield* cancel("caller:c")
        for (const caller of ["caller:a", "caller:b"]) {
          assert.isTrue(Option.isNone(yield* Queue.poll(stopped)))
          yield* cancel(caller)
          assert.strictEqual(yield* Queue.take(stopped), caller)
        }
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )

  it.effect("may send steps from its finalizers when it is stopped: nobody gets them, and nothing is logged", () =>
    Effect.gen(function* () {
      const Stops = Service.make("stops", Action.make("go", { progress: Schema.Finite }))
      const lines: Array<string> = []
      const Log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const begun = yield* Queue.unbounded<void>()
      const ended = yield* Queue.unbounded<boolean>()
      const Live = Handlers.layer(Stops, {
        go: (_, { progress }) =>
          Queue.offer(begun, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.ensuring(progress(1)),
            Effect.onExit((exit) => Queue.offer(ended, Exit.hasInterrupts(exit) && !Exit.hasDies(exit)))
          )
      })
      yield* Effect.gen(function* () {
        const cancelled = yield* request("stops", { action: "go" })
        yield* Queue.take(begun)
        yield* publish("stops", { reply_to: "caller:test", fiberbus: { v: 1, cancel: "1" } })
        assert.isTrue(yield* Queue.take(ended))
        yield* delivered
        assert.isTrue(Option.isNone(yield* Queue.poll(cancelled)))

        yield* publish("stops", {
          action: "go",
          reply_to: "caller:test",
          request_id: "2",
          fiberbus: { v: 1, timeout_ms: 100 }
        })
        yield* Queue.take(begun)
        yield* TestClock.adjust(100)
        assert.isTrue(yield* Queue.take(ended))
        yield* delivered
        const [late, ...more] = yield* Queue.takeAll(cancelled)
        assert.deepInclude(late, { request_id: "2", status: "error", final: true })
        assert.lengthOf(more, 0)
        assert.deepStrictEqual(lines, [])
      }).pipe(Effect.provide(onMemory(Live).pipe(Layer.provide(Log))))
    })
  )

  it.effect("has no deadline but its own, also where its service was built below another request", () =>
    Effect.gen(function* () {
      const Inner = Service.make("inner", Action.make("deadline", { success: Schema.Boolean }))
      const Outer = Service.make("outer", Action.make("start"))
      const InnerLive = Handlers.layer(Inner, {
        deadline: () => Effect.map(Deadline, (deadline) => deadline !== undefined)
      })
      yield* Effect.gen(function* () {
        const scope = yield* Effect.scope
        const bus = yield* Effect.context<Transport.Transport>()
        const start = Layer.buildWithScope(InnerLive, scope).pipe(Effect.orDie, Effect.asVoid, Effect.provide(bus))
        yield* Layer.build(Handlers.layer(Outer, { start: () => start }))
        yield* (yield* Caller.make(Outer)).start({ timeout: 100 })
        const replies = yield* request("inner", { action: "deadline" })
        assert.deepInclude(yield* Queue.take(replies), { status: "success", payload: false })
      }).pipe(Effect.scoped, Effect.provide(Memory.layer))
    })
  )
})

describe("The backlog", () => {
  const Queued = Service.make("queued", Action.make("hold"), Action.make("next", { payload: { id: Schema.Finite } }))
  const waysOut = {
    cancelled: (call: Fiber.Fiber<unknown, unknown>) => Fiber.interrupt(call),
    expired: (call: Fiber.Fiber<unknown, unknown>) => Effect.andThen(TestClock.adjust(60), Fiber.await(call))
  }

  for (const [how, giveUp] of Object.entries(waysOut)) {
    it.effect(`has room again for as many as were ${how}, keeps the order, and begins none of them`, () =>
      Effect.gen(function* () {
        const goOn = yield* Queue.unbounded<void>()
        const handled = yield* Queue.unbounded<number>()
        const Live = Handlers.layer(
          Queued,
          { hold: () => Queue.take(goOn), next: ({ id }) => Effect.asVoid(Queue.offer(handled, id)) },
          { concurrency: 1, backlog: 3, grace: 1 }
        )
        yield* Effect.gen(function* () {
          const queued = yield* Caller.make(Queued)
          const enter = Effect.fnUntraced(function* (id: number, timeout: number) {
            const call = yield* Effect.forkChild(queued.next({ id }, { timeout }), { startImmediately: true })
            yield* delivered
            return call
          })
          // Once more without losses, which count no longer when the line has moved.
          for (const rounds of [5, 0]) {
            yield* queued.hold.send()
            const first = yield* enter(1, 60_000)
            // More often than there are places: what is gone leaves the line as well, some of it only with the line.
            for (let round = 0; round < rounds; round++) {
              const lost = yield* Effect.forEach([100, 101], (id) => enter(id, 50))
              yield* Effect.forEach(lost, giveUp, { discard: true })
              yield* delivered
            }
            const others = yield* Effect.forEach([2, 3], (id) => enter(id, 60_000))
            const tooMany = yield* enter(4, 60_000)
            assert.deepStrictEqual(reason(yield* Fiber.await(tooMany)), { reason: "Busy", started: "no" })
            yield* Queue.offer(goOn, undefined)
            yield* Effect.forEach([first, ...others], Fiber.join, { discard: true })
            assert.deepStrictEqual(yield* Queue.takeAll(handled), [1, 2, 3])
          }
        }).pipe(Effect.provide(onMemory(Live)))
      })
    )
  }

  it.effect("lets thousands that end at once run after each other, in order, without a deeper stack", () =>
    Effect.gen(function* () {
      const { open, pass } = yield* gate
      const Many = Service.make("many", Action.make("hold"), Action.make("next", { payload: { id: Schema.Finite } }))
      const seen: Array<number> = []
      const Live = Handlers.layer(
        Many,
        { hold: () => Effect.asVoid(pass("")), next: ({ id }) => Effect.sync(() => void seen.push(id)) },
        { concurrency: 1, backlog: 20_000 }
      )
      yield* Effect.gen(function* () {
        const many = yield* Caller.make(Many)
        const ids = Array.from({ length: 20_000 }, (_, id) => id)
        yield* many.hold.send()
        yield* Effect.forEach(ids.slice(0, -1), (id) => many.next.send({ id }), { concurrency: "unbounded" })
        const last = yield* Effect.forkChild(many.next({ id: ids.length - 1 }), { startImmediately: true })
        yield* delivered
        assert.lengthOf(seen, 0)
        yield* open
        yield* Fiber.join(last)
        assert.deepStrictEqual(seen, ids)
      }).pipe(Effect.provide(onMemory(Live)))
    })
  )
})

describe("A layer that closes", () => {
  const Short = (schemas: Parameters<typeof text>[0]) =>
    Service.make("short", Action.make("go", { payload: { text: text(schemas) }, success: text(schemas) }))

  /** Tells in which order a handler began and the layer that made it was closed. */
  const told = (schemas: Parameters<typeof text>[0], options?: Parameters<typeof Handlers.layer>[2]) => {
    const events: Array<string> = []
    const Live = Handlers.layer(
      Short(schemas),
      Effect.as(
        Effect.addFinalizer(() => Effect.sync(() => void events.push("closed"))),
        { go: ({ text }) => Effect.sync(() => void events.push("begun")).pipe(Effect.as(text)) }
      ),
      options
    )
    return { events, Live }
  }

  const directions = {
    "whose payload is still being read": "decode",
    "whose answer is still being written": "encode"
  } as const

  for (const [which, direction] of Object.entries(directions)) {
    it.effect(`waits for a request ${which}`, () =>
      Effect.gen(function* () {
        const { begun, open, pass } = yield* gate
        const { Live, events } = told({ [direction]: pass })
        const close = yield* build(Live)
        const replies = yield* request("short", { action: "go", payload: { text: "a" } })
        yield* Queue.take(begun)
        const closing = yield* Effect.forkChild(close, { startImmediately: true })
        yield* delivered
        assert.isUndefined(closing.pollUnsafe())
        yield* open
        yield* Fiber.join(closing)
        assert.deepStrictEqual(events, ["begun", "closed"])
        assert.deepInclude(yield* Queue.take(replies), { status: "success", payload: "a", final: true })
      }).pipe(Effect.provide(Memory.layer))
    )
  }

  it.effect("begins nothing afterwards, also when a payload is read later that could not be stopped", () =>
    Effect.gen(function* () {
      const { begun, open, pass } = yield* gate
      const read = yield* Deferred.make<void>()
      const decode = (text: string) =>
        pass(text).pipe(Effect.ensuring(Deferred.succeed(read, undefined)), Effect.uninterruptible)
      const { Live, events } = told({ decode }, { grace: 1 })
      const close = yield* build(Live)
      const replies = yield* request("short", { action: "go", payload: { text: "a" } })
      yield* Queue.take(begun)
      yield* close
      const { payload } = yield* Queue.take(replies)
      assert.deepInclude(payload, { started: "no", reason: { _tag: "Draining" } })
      yield* open
      yield* Deferred.await(read)
      yield* delivered
      assert.deepStrictEqual(events, ["closed"])
      assert.isTrue(Option.isNone(yield* Queue.poll(replies)))
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("stops what is still being read or written when its grace is over, which is nobody's defect", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const Log = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      for (const direction of ["decode", "encode"]) {
        const { begun, pass } = yield* gate
        const { Live } = told({ [direction]: pass }, { grace: 1 })
        const close = yield* build(Live.pipe(Layer.provide(Log)))
        const replies = yield* request("short", { action: "go", payload: { text: "a" }, request_id: direction })
        yield* Queue.take(begun)
        yield* close
        const { payload } = yield* Queue.take(replies)
        const started = direction === "decode" ? "no" : "yes"
        assert.deepInclude(payload, { started, reason: { _tag: "Draining" } })
      }
      assert.deepStrictEqual(lines, [])
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("does not wait for a test's clock, which nobody moves any more, whatever its grace", () =>
    Effect.gen(function* () {
      const Sleeps = Service.make("sleeps", Action.make("go"))
      const begun = yield* Deferred.make<void>()
      const Live = Handlers.layer(
        Sleeps,
        { go: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.sleep(10)) },
        { grace: "1 hour" }
      )
      const close = yield* build(Live)
      const replies = yield* request("sleeps", { action: "go" })
      yield* Deferred.await(begun)
      yield* close
      const { payload } = yield* Queue.take(replies)
      assert.deepInclude(payload, { started: "yes", reason: { _tag: "Draining" } })
    }).pipe(Effect.provide(Memory.layer))
  )
})
