import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Queue, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  CallError,
  Caller,
  Durable,
  Handlers,
  Memory,
  type Policy,
  Response,
  Retry,
  Service,
  Transport
} from "fiberbus"
import * as CircuitBreaker from "fiberbus/policy/CircuitBreaker"
import * as RateLimit from "fiberbus/policy/RateLimit"
import { inbox } from "../../src/client/internal/inbox.ts"
import { Deadline } from "../../src/policy/Deadline.ts"
import * as LinkState from "../../src/transport/LinkState.ts"
import * as Scripted from "../scripted.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

const Work = Service.make(
  "work",
  Action.make("echo", { payload: { text: Schema.String }, success: Schema.String }),
  Action.make("repeat", { payload: { text: Schema.String, times: Schema.Finite }, success: Schema.String }),
  Action.make("refuse", { error: Refused }),
  Action.make("wait", { progress: { step: Schema.Finite } }),
  Action.make("step", { progress: { step: Schema.Finite } }),
  Action.make("die"),
  Action.make("dieWriting", { success: Schema.Finite.check(Schema.isGreaterThan(0)) }),
  Action.make("byHand", { success: Schema.String })
)

/** The same names, another contract: what was there before, or comes later. */
const Other = Service.make(
  "work",
  Action.make("echo", { payload: { text: Schema.String }, success: Schema.Finite }),
  Action.make("refuse", { error: Schema.Struct({ code: Schema.Finite }) }),
  Action.make("step", { progress: { percent: Schema.Finite } }),
  Action.make("removed")
)

/** A service, and word of each `wait` and `step` that begins. */
const serving = (options?: Parameters<typeof Handlers.layer>[2]) =>
  Effect.map(Queue.unbounded<string>(), (begun) => ({
    begun: Queue.take(begun),
    layer: Handlers.layer(
      Work,
      {
        echo: ({ text }) => Effect.succeed(text),
        repeat: ({ text, times }) => Effect.succeed(text.repeat(times)),
        refuse: () => Effect.fail(new Refused({ why: "no" })),
        wait: () => Effect.andThen(Queue.offer(begun, "wait"), Effect.never),
        step: (_, { progress }) =>
          progress({ step: 1 }).pipe(Effect.andThen(Queue.offer(begun, "step")), Effect.andThen(Effect.never)),
        die: () => Effect.die(new Error("a secret")),
        dieWriting: () => Effect.succeed(-1),
        byHand: () => Response.error("by hand")
      },
      { grace: 0, ...options }
    )
  }))

type Ended = readonly [CallError.CallErrorReason["_tag"], CallError.Started]

interface Case {
  readonly name: string
  readonly ends: Ended
  readonly run: Effect.Effect<CallError.CallError, unknown, import("effect/Scope").Scope>
}

const callError = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(call), (error) => {
    assert.instanceOf(error, CallError.CallError)
    return error
  })

type WorkCaller = Caller.Caller<typeof Work>

/** How a call of the service ends. */
const served = (
  call: (work: WorkCaller, begun: Effect.Effect<string>) => Effect.Effect<unknown, unknown>,
  {
    transport = Memory.layer,
    ...options
  }: Parameters<typeof Handlers.layer>[2] & {
    readonly transport?: Layer.Layer<Transport.Transport>
  } = {}
) =>
  Effect.gen(function* () {
    const { begun, layer } = yield* serving(options)
    return yield* Effect.gen(function* () {
      const error = yield* callError(call(yield* Caller.make(Work), begun))
      assert.strictEqual(yield* pendingCalls, 0)
      return error
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(transport))))
  })

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

/** How a call ends over a transport of which a script says what becomes of frames. */
const scripted = (script: Scripted.Script, call: (work: WorkCaller) => Effect.Effect<unknown, unknown>) =>
  served(call, { transport: Scripted.make(script).layer })

const other = (call: (work: Caller.Caller<typeof Other>) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    const { layer } = yield* serving()
    return yield* Effect.flatMap(Caller.make(Other), (work) => callError(call(work))).pipe(
      Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer)))
    )
  })

/** Lets the time of a call pass while it runs. */
const timingOut = <A, E>(call: Effect.Effect<A, E>, begun: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(call, { startImmediately: true })
    yield* begun
    yield* TestClock.adjust("5 seconds")
    return yield* Fiber.join(fiber)
  })

const cases: ReadonlyArray<Case> = [
  {
    name: "nobody serves the name",
    ends: ["NoResponders", "no"],
    run: Effect.flatMap(Caller.make(Work), (work) => callError(work.die())).pipe(Effect.provide(Memory.layer))
  },
  {
    name: "the slots are taken and the backlog is full",
    ends: ["Busy", "no"],
    run: served(
      (work, begun) =>
        Effect.gen(function* () {
          const first = yield* Effect.forkChild(work.wait())
          yield* begun
          const error = yield* Effect.flip(work.wait())
          assert.isAbove(((error as CallError.CallError).reason as CallError.Busy).retryAfterMillis, 0)
          yield* Fiber.interrupt(first)
          return yield* Effect.fail(error)
        }),
      { concurrency: 1, backlog: 0 }
    )
  },
  ...(["waits", "runs"] as const).map(
    (state): Case => ({
      name: `the service shuts down while the request ${state}`,
      ends: ["Draining", state === "waits" ? "no" : "yes"],
      run: Effect.gen(function* () {
        const { begun, layer } = yield* serving({ concurrency: 1 })
        return yield* Effect.gen(function* () {
          const calls = yield* Effect.scoped(
            Effect.gen(function* () {
              yield* Layer.build(layer)
              const work = yield* Caller.make(Work)
              const first = yield* Effect.forkDetach(callError(work.wait()))
              yield* begun
              const second = yield* Effect.forkDetach(callError(work.wait()))
              yield* Scripted.turns()
              return { runs: first, waits: second }
            })
          )
          return yield* Fiber.join(calls[state])
          // Whoever asks lives longer than who answers.
        }).pipe((effect) => Effect.andThen(Caller.make(Work), effect), Effect.provide(Memory.layer))
      })
    })
  ),
  {
    name: "the link of its answer is lost",
    ends: ["ConnectionLost", "unknown"],
    run: Effect.gen(function* () {
      const link = LinkState.make({ _tag: "Ready", gaps: 0 })
      const sent = yield* Deferred.make<void>()
      const transport = Transport.Transport.of({
        ...Memory.make(),
        get state() {
          return link.current()
        },
        watch: link.watch,
        send: (_channel, frame, done) => {
          done(undefined, 1)
          if (Scripted.isPresence(JSON.parse(frame))) return
          Deferred.doneUnsafe(sent, Effect.void)
        }
      })
      const cut = { kind: "ConnectionLost", operation: "", detail: "cut", hint: "", sent: "unknown" } as const
      return yield* Effect.gen(function* () {
        const work = yield* Caller.make(Work)
        const call = yield* Effect.forkChild(callError(work.wait()))
        yield* Deferred.await(sent)
        link.change({ _tag: "Degraded", gaps: 1, error: new Transport.TransportError(cut), down: true })
        return yield* Fiber.join(call)
      }).pipe(Effect.provideService(Transport.Transport, transport))
    })
  },
  { name: "the service has no such action", ends: ["UnknownAction", "no"], run: other((work) => work.removed()) },
  {
    name: "the payload does not fit, found before sending",
    ends: ["InvalidPayload", "no"],
    run: scripted({ request: () => assert.fail("it was sent") }, (work) => work.echo({ text: 1 as never }))
  },
  {
    name: "the payload does not fit, found by the service",
    ends: ["InvalidPayload", "no"],
    run: served(
      () =>
        Effect.flatMap(Caller.dynamic("work"), (work) => work.call("echo", { text: 1 })).pipe(
          Effect.scoped
        ) as Effect.Effect<unknown, unknown>
    )
  },
  {
    name: "the request is too large",
    ends: ["PayloadTooLarge", "no"],
    run: served((work) => work.echo({ text: "x".repeat(1_000) }), {
      transport: Memory.layerOptions({ maxFrameBytes: 1_000 })
    })
  },
  {
    name: "the reply is too large",
    ends: ["PayloadTooLarge", "yes"],
    run: served((work) => work.repeat({ text: "x", times: 1_000 }), {
      transport: Memory.layerOptions({ maxFrameBytes: 1_000 })
    })
  },
  {
    name: "the request is lost",
    ends: ["DeadlineExceeded", "unknown"],
    run: scripted({ request: () => "lost" }, (work) => timingOut(work.die(), Scripted.turns()))
  },
  {
    name: "the answer is lost",
    ends: ["DeadlineExceeded", "unknown"],
    run: scripted({ reply: () => "lost" }, (work) => timingOut(work.die(), Scripted.turns()))
  },
  {
    name: "the handler takes too long: half way it said that it had begun",
    ends: ["DeadlineExceeded", "yes"],
    run: served((work, begun) => timingOut(work.wait(), begun))
  },
  {
    name: "the handler takes too long, and nothing of it arrives",
    ends: ["DeadlineExceeded", "unknown"],
    run: scripted({ reply: () => "lost" }, (work) => timingOut(work.wait(), Scripted.turns()))
  },
  {
    name: "the handler takes longer than a time too short for a word of it",
    ends: ["DeadlineExceeded", "unknown"],
    run: served((work, begun) => timingOut(work.wait({ timeout: 100 }), begun))
  },
  {
    name: "the handler takes too long after a step",
    ends: ["DeadlineExceeded", "yes"],
    run: served((work, begun) => timingOut(work.step(), Effect.andThen(begun, Scripted.turns())))
  },
  {
    name: "a streamed handler takes too long after a step",
    ends: ["DeadlineExceeded", "yes"],
    run: served((work, begun) =>
      timingOut(Stream.runDrain(work.step.stream()), Effect.andThen(begun, Scripted.turns()))
    )
  },
  {
    name: "no time was left for it",
    ends: ["DeadlineExceeded", "no"],
    run: scripted({ request: () => assert.fail("it was sent") }, (work) =>
      Effect.provideService(work.die(), Deadline, Number.NEGATIVE_INFINITY)
    )
  },
  { name: "the handler dies", ends: ["RemoteDefect", "yes"], run: served((work) => work.die()) },
  {
    name: "the handler's result does not fit its own contract",
    ends: ["RemoteDefect", "yes"],
    run: served((work) => work.dieWriting())
  },
  { name: "the handler answers with a text", ends: ["RemoteError", "yes"], run: served((work) => work.byHand()) },
  {
    name: "the result is of another contract",
    ends: ["ContractMismatch", "yes"],
    run: other((work) => work.echo({ text: "x" }))
  },
  { name: "the error is of another contract", ends: ["ContractMismatch", "yes"], run: other((work) => work.refuse()) },
  {
    name: "a step is of another contract",
    ends: ["ContractMismatch", "yes"],
    run: other((work) => Stream.runDrain(work.step.stream()))
  },
  {
    name: "the sending fails before anything left",
    ends: ["TransportError", "no"],
    run: scripted({ request: () => "refused" }, (work) => work.die())
  },
  {
    name: "the sending fails, and nobody knows whether it was sent",
    ends: ["TransportError", "unknown"],
    run: scripted({ request: () => "broken" }, (work) => work.die())
  },
  {
    name: "too many frames wait for delivery",
    ends: ["TransportError", "no"],
    run: served(
      (work) =>
        Effect.gen(function* () {
          const first = yield* Effect.forkChild(work.byHand(), { startImmediately: true })
          const error = yield* Effect.flip(work.byHand())
          yield* Effect.exit(Fiber.join(first))
          return yield* Effect.fail(error)
        }),
      { transport: Memory.layerOptions({ capacity: 1 }) }
    )
  },
  {
    name: "the caller's own Scope closes while it waits",
    ends: ["TransportError", "unknown"],
    run: Effect.gen(function* () {
      const { begun, layer } = yield* serving()
      return yield* Effect.gen(function* () {
        const call = yield* Effect.scoped(
          Effect.gen(function* () {
            const work = yield* Caller.make(Work)
            const call = yield* Effect.forkDetach(callError(work.wait()))
            yield* begun
            return call
          })
        )
        return yield* Fiber.join(call)
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  },
  {
    name: "a circuit is open",
    ends: ["CircuitOpen", "no"],
    run: served((work) =>
      Effect.scoped(
        Effect.gen(function* () {
          const policies = [yield* CircuitBreaker.make({ failures: 1 })]
          yield* Effect.exit(work.die({ policies }))
          return yield* work.die({ policies })
        })
      )
    )
  },
  {
    name: "nothing is kept under the id of a receipt",
    ends: ["UnknownReceipt", "unknown"],
    run: Effect.gen(function* () {
      const Kept = Service.make("kept", Action.make("work").pipe(Action.annotate(Action.Delivery, "durable")))
      const kept = yield* Caller.make(Kept)
      return yield* callError(kept.work.receipt("nothing").poll)
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(Memory.layer, Durable.layerMemory)))
  },
  {
    name: "the caller's rate limit is reached",
    ends: ["RateLimited", "no"],
    run: served((work) =>
      Effect.scoped(
        Effect.gen(function* () {
          const policies = [yield* RateLimit.make({ limit: 1, whenReached: "fail" })]
          yield* Effect.exit(work.die({ policies }))
          return yield* work.die({ policies })
        })
      )
    )
  }
]

describe("a call ends", () => {
  it.effect("with its success", () =>
    Effect.gen(function* () {
      const { layer } = yield* serving()
      yield* Effect.gen(function* () {
        const work = yield* Caller.make(Work)
        assert.strictEqual(yield* work.echo({ text: "x" }), "x")
        assert.deepStrictEqual(yield* Effect.flip(work.refuse()), new Refused({ why: "no" }))
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  for (const { ends, name, run } of cases) {
    it.effect(`with ${ends[0]}, started: ${ends[1]}, when ${name}`, () =>
      Effect.gen(function* () {
        const { reason, started } = yield* run
        assert.deepStrictEqual([reason._tag, started], ends)
      })
    )
  }

  it("with each reason there is, somewhere above", () => {
    const tags = CallError.CallError.fields.reason.members.map((member) => member.fields._tag.schema.literal)
    assert.sameMembers([...new Set(cases.map(({ ends }) => ends[0]))], [...tags])
  })

  it.effect("by interruption, when its caller is interrupted", () =>
    Effect.gen(function* () {
      const { begun, layer } = yield* serving()
      yield* Effect.gen(function* () {
        const work = yield* Caller.make(Work)
        const call = yield* Effect.forkChild(work.wait())
        yield* begun
        yield* Fiber.interrupt(call)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(call)))
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("by its deadline, whatever its policies do", () =>
    Effect.gen(function* () {
      const { layer } = yield* serving()
      yield* Effect.gen(function* () {
        const stuck = <A, E>(call: Effect.Effect<A, E>) => Effect.catch(call, () => Effect.never)
        const before = <A, E>(call: Effect.Effect<A, E>) => Effect.andThen(Effect.never, call)
        const work = yield* Caller.make(Work)
        for (const [policy, started] of [
          [stuck, "yes"],
          [before, "no"]
        ] as const) {
          const call = yield* Effect.forkChild(callError(work.die({ policies: [policy] })))
          yield* Scripted.turns()
          assert.isUndefined(call.pollUnsafe())
          yield* TestClock.adjust("5 seconds")
          const error = yield* Fiber.join(call)
          assert.deepStrictEqual([error.reason._tag, error.started], ["DeadlineExceeded", started])
        }
        // Stuck after the deadline has been told: one more turn of the clock.
        const late = yield* Effect.forkChild(callError(work.wait({ policies: [stuck] })))
        yield* Scripted.turns()
        yield* TestClock.adjust("5 seconds")
        assert.isUndefined(late.pollUnsafe())
        yield* TestClock.adjust(10)
        assert.strictEqual((yield* Fiber.join(late)).started, "yes")
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("with what is known of the handler, not with what a policy thinks that gave up waiting", () =>
    Effect.gen(function* () {
      const { begun, layer } = yield* serving()
      yield* Effect.gen(function* () {
        const impatient: Policy.Policy = (call, subject) =>
          Effect.timeoutOrElse(call, {
            duration: 100,
            orElse: () => subject.refuse(new CallError.RateLimited({ retryAfterMillis: 0 }))
          })
        const work = yield* Caller.make(Work, { policies: [impatient] })
        for (const [call, started] of [
          [work.wait(), "unknown"],
          [work.step(), "yes"]
        ] as const) {
          const fiber = yield* Effect.forkChild(callError(call))
          yield* begun
          yield* Scripted.turns()
          yield* TestClock.adjust(100)
          assert.strictEqual((yield* Fiber.join(fiber)).started, started)
        }
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("in a defect, when a policy makes two attempts at once", () =>
    Effect.gen(function* () {
      const { layer } = yield* serving()
      yield* Effect.gen(function* () {
        const twice = <A, E>(call: Effect.Effect<A, E>) =>
          Effect.map(Effect.all([call, call], { concurrency: 2 }), ([first]) => first)
        const work = yield* Caller.make(Work, { policies: [twice] })
        const exit = yield* Effect.exit(work.echo({ text: "x" }))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})

const Sums = Service.make(
  "sums",
  Action.make("once", { payload: { n: Schema.Finite }, success: Schema.Finite }),
  Action.make("again", { payload: { n: Schema.Finite }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Idempotent, true)
  )
)

const delay = Schema.Struct({ millis: Schema.Literals([1, 30, 300, 3_000]) })
const fate = Schema.Union([Schema.Literals(["arrives", "lost", "refused", "unconfirmed", "broken", "twice"]), delay])
const fates = Schema.Array(fate)

/** Fates of frames, then those of them that come after the plan: they arrive. */
const plan = (fates: ReadonlyArray<Scripted.Fate>) => (index: number) => fates[index] ?? "arrives"

const handling = Effect.sync(() => {
  const runs = new Map<string, number>()
  const run =
    (action: string) =>
    ({ n }: { readonly n: number }) =>
      Effect.sync(() => {
        runs.set(`${action} ${n}`, (runs.get(`${action} ${n}`) ?? 0) + 1)
        return n
      })
  return { runs, layer: Handlers.layer(Sums, { once: run("once"), again: run("again") }, { grace: 0 }) }
})

/** Lets time pass until all have ended. */
const passing = (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>, step: number) =>
  Effect.gen(function* () {
    while (fibers.some((fiber) => fiber.pollUnsafe() === undefined)) {
      yield* Scripted.turns(4)
      yield* TestClock.adjust(step)
    }
  })

describe("calls with retries over a transport that loses, refuses, repeats and delays", () => {
  it.effect.prop(
    "end once each, by their deadline; nothing runs twice unasked, and no more is sent than the budget allows",
    [Schema.Array(Schema.Boolean), fates, fates],
    ([idempotent, requests, replies]) =>
      Effect.gen(function* () {
        const left: Array<readonly [action: string, id: string, fate: Scripted.Fate]> = []
        let sends = 0
        const script = Scripted.make({
          request: (index, frame) => {
            sends++
            const fate = plan(requests)(index)
            if (fate !== "refused") left.push([frame["action"], frame["request_id"], fate])
            return fate
          },
          reply: plan(replies)
        })
        const { layer, runs } = yield* handling
        yield* Effect.gen(function* () {
          const budget = { ratio: 0.1, reserve: 4 }
          const policies = [Retry.policy({ schedule: Schedule.spaced(20), attemptTimeout: 200, budget })]
          const sums = yield* Caller.make(Sums, { policies })
          let ends = 0
          const calls = yield* Effect.forEach(idempotent, (safe, n) =>
            (safe ? sums.again : sums.once)({ n }, { timeout: 1_000 }).pipe(
              Effect.onExit(() => Effect.sync(() => ends++)),
              Effect.exit,
              Effect.forkChild({ startImmediately: true })
            )
          )
          yield* passing(calls, 20)
          // Late frames of all kinds find nobody.
          yield* TestClock.adjust(5_000)
          yield* Scripted.turns()
          assert.strictEqual(ends, calls.length)
          assert.strictEqual(yield* pendingCalls, 0)
          assert.isAtMost(sends, Math.floor(calls.length * 1.1) + budget.reserve)

          for (const [n, call] of calls.entries()) {
            const exit = yield* Fiber.join(call)
            const ran = runs.get(`${idempotent[n] ? "again" : "once"} ${n}`) ?? 0
            if (Exit.isSuccess(exit)) {
              assert.strictEqual(exit.value, n)
              assert.isAtLeast(ran, 1)
            } else {
              const error = Cause.squash(exit.cause)
              assert.instanceOf(error, CallError.CallError)
              // Its word holds: what says that nothing ran did not run.
              if (error.started === "no") assert.strictEqual(ran, 0)
            }
          }
          for (const id of new Set(left.map(([, id]) => id))) {
            const own = left.filter(([, other]) => other === id)
            if (own[0]![0] === "once") assert.lengthOf(own, 1)
          }
        }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
      }),
    { arbitrary: { runs: 150 } }
  )

  it.effect.prop(
    "all succeed where the actions are idempotent and the losses end in time",
    [fates, fates],
    ([requests, replies]) =>
      Effect.gen(function* () {
        // 80 lost frames at 420 ms each end within the minute, even if one call met them all.
        const script = Scripted.make({ request: plan(requests.slice(0, 40)), reply: plan(replies.slice(0, 40)) })
        const { layer } = yield* handling
        yield* Effect.gen(function* () {
          const policies = [
            Retry.policy({ schedule: Schedule.spaced(20), attemptTimeout: 400, budget: { reserve: 1_000 } })
          ]
          const sums = yield* Caller.make(Sums, { policies })
          const calls = yield* Effect.forEach([1, 2, 3, 4], (n) =>
            Effect.forkChild(sums.again({ n }, { timeout: "1 minute" }), { startImmediately: true })
          )
          yield* passing(calls, 100)
          assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), [1, 2, 3, 4])
          yield* TestClock.adjust(5_000)
          yield* Scripted.turns()
          assert.strictEqual(yield* pendingCalls, 0)
        }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(script.layer))))
      }),
    { arbitrary: { runs: 60 } }
  )
})
