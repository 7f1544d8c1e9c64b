import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Action, type CallError, Caller, Handlers, Memory, Request, Service, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"

const steps = { payload: { n: Schema.Finite }, success: Schema.Finite } as const
const hop = (name: string) => Service.make(name, Action.make("go", steps))
const First = hop("first")
const Second = hop("second")
const Third = hop("third")

/** Three services on one broker, each in a process of its own, each calling the next; the last one waits for ever. */
const chain = Effect.gen(function* () {
  const broker = Memory.makeBroker()
  const process = () => Layer.fresh(Memory.layerOptions({ broker }))
  const remaining = yield* Queue.unbounded<readonly [string, number | undefined]>()
  const ended = yield* Queue.unbounded<readonly [string, "interrupted" | "done"]>()
  const noting = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
    Effect.andThen(
      Effect.flatMap(Request.current, (request) => Queue.offer(remaining, [name, request.remainingMillis] as const)),
      Effect.onExit(effect, (exit) =>
        Queue.offer(ended, [name, Exit.hasInterrupts(exit) ? "interrupted" : "done"] as const)
      )
    )
  const relay = (service: typeof First, next: typeof Second, timeout?: "1 minute") =>
    Handlers.layer(
      service,
      Effect.map(Caller.make(next), (caller) => ({
        go: ({ n }: { readonly n: number }) =>
          noting(
            service.serviceName,
            Effect.andThen(Effect.sleep(100), Effect.orDie(caller.go({ n }, timeout === undefined ? {} : { timeout })))
          )
      }))
    )
  const layer = Layer.mergeAll(
    relay(First, Second, "1 minute").pipe(Layer.provide(process())),
    relay(Second, Third, "1 minute").pipe(Layer.provide(process())),
    Handlers.layer(Third, { go: () => noting("third", Effect.never) }).pipe(Layer.provide(process())),
    Memory.layerOptions({ broker })
  )
  return { layer, remaining, ended }
})

const pendingCalls = Effect.scoped(Effect.map(inbox, (inbox) => inbox.size()))

/** Lets real turns of the event loop pass, and virtual time with them, until the queue has something. */
const taking = <A>(queue: Queue.Queue<A>, millis: number) =>
  Effect.gen(function* () {
    const taken = yield* Effect.forkChild(Queue.take(queue))
    while (taken.pollUnsafe() === undefined) {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      if (taken.pollUnsafe() === undefined) yield* TestClock.adjust(millis)
    }
    return yield* Fiber.join(taken)
  })

describe("deadlines", () => {
  it.effect("shrink hop by hop, whatever a hop asks for, and stop the handlers of all hops", () =>
    Effect.gen(function* () {
      const { ended, layer, remaining } = yield* chain
      yield* Effect.gen(function* () {
        const first = yield* Caller.make(First)
        const call = yield* Effect.forkChild(Effect.flip(first.go({ n: 1 }, { timeout: 1_000 })))
        const [one, left1] = yield* taking(remaining, 1)
        const [two, left2] = yield* taking(remaining, 10)
        const [three, left3] = yield* taking(remaining, 10)
        assert.deepStrictEqual([one, two, three], ["first", "second", "third"])
        assert.isAtMost(left1!, 1_000)
        assert.isAtMost(left2!, left1! - 100)
        assert.isAtMost(left3!, left2! - 100)
        yield* TestClock.adjust(1_000)
        assert.strictEqual(((yield* Fiber.join(call)) as CallError.CallError).reason._tag, "DeadlineExceeded")
        const over = yield* Queue.takeBetween(ended, 3, 3)
        assert.sameMembers(
          over.map(([name]) => name),
          ["first", "second", "third"]
        )
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("end a call of a handler before it is sent when no time is left", () =>
    Effect.gen(function* () {
      const outcome = yield* Deferred.make<CallError.CallError>()
      const Late = Handlers.layer(
        First,
        Effect.map(Caller.make(Second), (second) => ({
          go: ({ n }: { readonly n: number }) =>
            Effect.uninterruptible(
              Effect.sleep(2_000).pipe(
                Effect.andThen(Effect.orDie(Effect.flip(second.go({ n })))),
                Effect.flatMap((error) => Deferred.succeed(outcome, error)),
                Effect.as(n)
              )
            )
        }))
      )
      yield* Effect.gen(function* () {
        const first = yield* Caller.make(First)
        const call = yield* Effect.forkChild(Effect.exit(first.go({ n: 1 }, { timeout: 1_000 })))
        while (!(yield* Deferred.isDone(outcome))) {
          yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
          yield* TestClock.adjust(500)
        }
        const error = yield* Deferred.await(outcome)
        assert.deepStrictEqual([error.reason._tag, error.started], ["DeadlineExceeded", "no"])
        yield* Fiber.join(call)
      }).pipe(Effect.provide(Late.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})

describe("cancellation", () => {
  it.effect("interrupts the handlers of all hops when the caller's fiber is interrupted", () =>
    Effect.gen(function* () {
      const { ended, layer, remaining } = yield* chain
      yield* Effect.gen(function* () {
        const first = yield* Caller.make(First)
        const call = yield* Effect.forkChild(first.go({ n: 1 }, { timeout: "1 minute" }))
        for (const name of ["first", "second", "third"]) assert.strictEqual((yield* taking(remaining, 10))[0], name)
        yield* Fiber.interrupt(call)
        const over = yield* Queue.takeBetween(ended, 3, 3)
        assert.deepStrictEqual(
          new Map(over),
          new Map([
            ["first", "interrupted"],
            ["second", "interrupted"],
            ["third", "interrupted"]
          ])
        )
        assert.strictEqual(yield* pendingCalls, 0)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("stops a handler whose stream nobody consumes any more", () =>
    Effect.gen(function* () {
      const Ticks = Service.make("ticks", Action.make("tick", { progress: { n: Schema.Finite } }))
      const over = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const Live = Handlers.layer(Ticks, {
        tick: (_, { progress }) =>
          Effect.forever(progress({ n: 1 })).pipe(Effect.onExit((exit) => Deferred.succeed(over, exit)))
      })
      yield* Effect.gen(function* () {
        const ticks = yield* Caller.make(Ticks)
        yield* ticks.tick.stream().pipe(Stream.take(3), Stream.runDrain)
        assert.isTrue(Exit.hasInterrupts(yield* Deferred.await(over)))
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("stops a stream to an inbox that is no longer there", () =>
    Effect.gen(function* () {
      const Ticks = Service.make("ticks", Action.make("tick", { progress: { n: Schema.Finite } }))
      const over = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const Live = Handlers.layer(Ticks, {
        tick: (_, { progress }) =>
          Effect.forever(progress({ n: 1 })).pipe(Effect.onExit((exit) => Deferred.succeed(over, exit)))
      })
      yield* Effect.gen(function* () {
        yield* Transport.publish("ticks", JSON.stringify({ action: "tick", reply_to: "caller:gone", request_id: "1" }))
        assert.isTrue(Exit.hasInterrupts(yield* Deferred.await(over)))
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("skips a request that is taken back while it waits", () =>
    Effect.gen(function* () {
      const begun = yield* Queue.unbounded<number>()
      const open = yield* Deferred.make<void>()
      const Live = Handlers.layer(
        First,
        { go: ({ n }) => Queue.offer(begun, n).pipe(Effect.andThen(Deferred.await(open)), Effect.as(n)) },
        { concurrency: 1 }
      )
      yield* Effect.gen(function* () {
        const first = yield* Caller.make(First)
        const calls = yield* Effect.forEach([1, 2, 3], (n) =>
          Effect.forkChild(first.go({ n }), { startImmediately: true })
        )
        assert.strictEqual(yield* Queue.take(begun), 1)
        yield* Fiber.interrupt(calls[1]!)
        // Behind the word that takes it back, in the order of one sender.
        assert.strictEqual(yield* Transport.publish("first", "{}"), 1)
        yield* Deferred.succeed(open, undefined)
        assert.strictEqual(yield* Fiber.join(calls[2]!), 3)
        assert.strictEqual(yield* Queue.take(begun), 3)
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("needs the caller's own inbox: nobody else takes a request back", () =>
    Effect.gen(function* () {
      const open = yield* Deferred.make<void>()
      const begun = yield* Deferred.make<string>()
      const Live = Handlers.layer(First, {
        go: ({ n }) =>
          Effect.flatMap(Request.current, ({ id }) => Deferred.succeed(begun, id)).pipe(
            Effect.andThen(Deferred.await(open)),
            Effect.as(n)
          )
      })
      yield* Effect.gen(function* () {
        const first = yield* Caller.make(First)
        const call = yield* Effect.forkChild(first.go({ n: 1 }))
        const cancel = yield* Deferred.await(begun)
        yield* Transport.publish("first", JSON.stringify({ reply_to: "caller:other", fiberbus: { v: 1, cancel } }))
        yield* Deferred.succeed(open, undefined)
        assert.strictEqual(yield* Fiber.join(call), 1)
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )

  it.effect("ends what waits when the last caller's Scope closes", () =>
    Effect.gen(function* () {
      const call = yield* Effect.scoped(
        Effect.gen(function* () {
          const first = yield* Caller.make(First)
          return yield* Effect.forkDetach(Effect.flip(first.go({ n: 1 })), { startImmediately: true })
        })
      )
      const error = (yield* Fiber.join(call)) as CallError.CallError
      assert.deepInclude(error.reason, { _tag: "TransportError", kind: "Closed" })
      assert.strictEqual(error.started, "unknown")
    }).pipe(
      Effect.provide(
        Handlers.layer(First, { go: () => Effect.never }, { grace: 0 }).pipe(Layer.provideMerge(Memory.layer))
      )
    )
  )
})
