import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Queue,
  Ref,
  Schedule,
  Schema,
  Scope,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import { Action, Caller, Handlers, Lifecycle, Memory, Service, Supervision, Transport } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisPubSub from "fiberbus/transport/RedisPubSub"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Reason from "../../src/wire/Reason.ts"

class Users extends Service.make("users", Action.make("name", { success: Schema.String })) {}
const UsersLive = Handlers.layer(Users, { name: () => Effect.succeed("Ada") })

/** Builds a program on a transport of its own in the background, and gives what closes it. */
const launch = Effect.fnUntraced(function* <A, E>(
  layer: Layer.Layer<A, E, Transport.Transport>,
  transport: Layer.Layer<Transport.Transport> = Layer.fresh(Memory.layer)
) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const built = yield* Effect.forkChild(Layer.buildWithScope(layer.pipe(Layer.provideMerge(transport)), scope), {
    startImmediately: true
  })
  return { built, close: Effect.suspend(() => Scope.close(scope, Exit.void)) }
})

const story = () => {
  const lines: Array<string> = []
  const tell = (line: string) => Effect.sync(() => void lines.push(line))
  const during = (name: string) =>
    Layer.effectDiscard(Effect.acquireRelease(tell(`${name} opens`), () => tell(`${name} closes`)))
  const logger = Logger.layer([
    Logger.make(({ logLevel, message }) => {
      const text = String(Array.isArray(message) ? message[0] : message)
      lines.push(`${logLevel}: ${text.replace(/ at .*?:(\d+):\d+\)?/, "")}`)
    })
  ])
  return { lines, tell, during, logger }
}

const stateOf = (context: Context.Context<Lifecycle.Lifecycle>) => Effect.provideContext(Lifecycle.state, context)

describe("The life of a program", () => {
  it.effect("runs its hooks in order, when all is built and before anything closes", () =>
    Effect.gen(function* () {
      const { lines, tell, during } = story()
      const App = Layer.mergeAll(
        Lifecycle.onStop(tell("stop 1")),
        Lifecycle.onReady(tell("ready 1")),
        Layer.provide(Lifecycle.onReady(tell("ready after what it stands on")), during("service")),
        Lifecycle.onReady(tell("ready 2")),
        Lifecycle.onStop(tell("stop 2"))
      )
      const { built, close } = yield* launch(App.pipe(Lifecycle.managed, Layer.provide(during("database"))))
      const context = yield* Fiber.join(built)
      assert.deepStrictEqual(yield* stateOf(context), { _tag: "Ready" })
      yield* close
      assert.deepStrictEqual(lines.slice(0, 2), ["database opens", "service opens"])
      assert.sameMembers(lines.slice(2, 5), ["ready 1", "ready 2", "ready after what it stands on"])
      assert.isBelow(lines.indexOf("ready 1"), lines.indexOf("ready 2"))
      assert.deepStrictEqual(lines.slice(5), ["stop 2", "stop 1", "service closes", "database closes"])
      assert.deepStrictEqual(yield* stateOf(context), { _tag: "Stopping" })
    })
  )

  it.effect("tells its state as it changes, and lets others wait for ready", () =>
    Effect.gen(function* () {
      const waited = yield* Deferred.make<string>()
      const App = Layer.mergeAll(
        Lifecycle.waitFor(Users),
        Layer.effectDiscard(
          Effect.forkScoped(Effect.andThen(Lifecycle.ready, Deferred.succeed(waited, "the health endpoint knows")))
        ),
        Layer.effect(
          Seen,
          Effect.gen(function* () {
            const seen: Array<Lifecycle.State> = []
            yield* Effect.forkScoped(
              Effect.provideContext(
                Stream.runForEach(Lifecycle.states, (state) => Effect.sync(() => seen.push(state))),
                yield* Effect.context<Lifecycle.Lifecycle>()
              )
            )
            return seen
          })
        )
      )
      const broker = Memory.makeBroker()
      const transport = Memory.layerOptions({ broker })
      const { built } = yield* launch(App.pipe(Lifecycle.managed), transport)
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(built.pollUnsafe())
      yield* Layer.build(Layer.provide(UsersLive, Layer.fresh(transport)))
      yield* TestClock.adjust("1 second")
      const seen = Context.get(yield* Fiber.join(built), Seen)
      assert.strictEqual(yield* Deferred.await(waited), "the health endpoint knows")
      assert.deepStrictEqual(seen, [
        { _tag: "Starting", waitingFor: ["users"] },
        { _tag: "Starting", waitingFor: [] },
        { _tag: "Ready" }
      ])
    })
  )

  it.effect("goes on when a hook fails, dies or takes too long, and says so", () =>
    Effect.gen(function* () {
      const { lines, tell, logger } = story()
      const App = Layer.mergeAll(
        Lifecycle.onReady(Effect.fail("no")),
        Lifecycle.onReady(Effect.die("no")),
        Lifecycle.onReady(
          Effect.onInterrupt(Effect.never, () => tell("interrupted")),
          { timeout: "10 seconds" }
        ),
        Lifecycle.onReady(Effect.uninterruptible(Effect.never), { timeout: "10 seconds" }),
        Lifecycle.onReady(tell("ready")),
        Lifecycle.onStop(tell("stopped")),
        Lifecycle.onStop(Effect.fail("no"))
      )
      const { built, close } = yield* launch(App.pipe(Lifecycle.managed, Layer.provideMerge(logger)))
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(built)
      yield* close
      assert.deepStrictEqual(lines, [
        "Error: fiberbus: the hook of Lifecycle.onReady failed",
        "Error: fiberbus: the hook of Lifecycle.onReady failed",
        "interrupted",
        "Error: fiberbus: the hook of Lifecycle.onReady was interrupted: it took longer than its time",
        "Error: fiberbus: the hook of Lifecycle.onReady was interrupted: it took longer than its time",
        "ready",
        "Error: fiberbus: the hook of Lifecycle.onStop failed",
        "stopped"
      ])
    })
  )

  it.effect("has its stop hooks before the services shut down, also under Supervision.launch", () =>
    Effect.gen(function* () {
      const { lines, tell, during } = story()
      const broker = Memory.makeBroker()
      const transport = Memory.layerOptions({ broker })
      const farewell = Effect.gen(function* () {
        const users = yield* Caller.make(Users)
        yield* tell(`${yield* users.name()} still answers`)
        yield* tell((yield* Lifecycle.state)._tag)
      })
      const App = Layer.mergeAll(UsersLive, during("service"), Lifecycle.onStop(farewell)).pipe(
        Lifecycle.managed,
        Layer.provide(transport),
        Layer.provide(Logger.layer([Logger.make(({ message }) => lines.push(String(message).slice(0, 23)))]))
      )
      const running = yield* Effect.forkChild(Supervision.launch(App), { startImmediately: true })
      yield* Effect.provide(Lifecycle.isServed(Users), Layer.fresh(transport))
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(
        lines.filter((line) => !line.includes("shut")),
        ["service opens", "Ada still answers", "Stopping", "service closes"]
      )
    })
  )

  it.live("is not held up for long by a stop hook that cannot be interrupted", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<void>()
      const App = Lifecycle.onStop(Effect.uninterruptible(Deferred.await(release)), { timeout: "10 millis" })
      const { built, close } = yield* launch(App.pipe(Lifecycle.managed, Layer.provideMerge(Logger.layer([]))))
      yield* Fiber.join(built)
      // It would wait for ever: nobody releases the hook before.
      yield* close
      yield* Deferred.succeed(release, undefined)
    })
  )
})

class Seen extends Context.Service<Seen, ReadonlyArray<Lifecycle.State>>()("Seen") {}

describe("Waiting for a service", () => {
  it.effect("ends with a typed error when it does not come; what was built is closed, and stop hooks have run", () =>
    Effect.gen(function* () {
      const { lines, tell, during } = story()
      const App = Layer.mergeAll(
        during("service"),
        Lifecycle.onReady(tell("ready")),
        Lifecycle.onStop(tell("stop")),
        Lifecycle.waitFor("users", { timeout: "10 seconds", schedule: Schedule.spaced("1 second") })
      )
      const { built, close } = yield* launch(App.pipe(Lifecycle.managed))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Effect.flip(Fiber.join(built))
      assert.deepInclude(error, { _tag: "DependencyMissing", service: "users", waitedMillis: 10_000 })
      assert.strictEqual(error.message, "the service users was not there within 10000 ms: nobody serves it")
      yield* close
      assert.deepStrictEqual(lines, ["service opens", "stop", "service closes"])
    })
  )

  it.effect("of each other is no deadlock: each serves while it waits", () =>
    Effect.gen(function* () {
      const broker = Memory.makeBroker()
      const transport = Memory.layerOptions({ broker })
      const program = (own: string, other: string) =>
        Handlers.layer(Service.make(own, Action.make("ping")), { ping: () => Effect.void }).pipe(
          Layer.merge(Lifecycle.waitFor(other)),
          Lifecycle.managed
        )
      const one = yield* launch(program("one", "two"), Layer.fresh(transport))
      const two = yield* launch(program("two", "one"), Layer.fresh(transport))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* stateOf(yield* Fiber.join(one.built)), { _tag: "Ready" })
      assert.deepStrictEqual(yield* stateOf(yield* Fiber.join(two.built)), { _tag: "Ready" })
    })
  )

  it.effect("takes an answer for a sign, whatever the broker counts", () =>
    Effect.gen(function* () {
      const memory = Memory.make()
      const hint: Transport.Transport["Service"] = {
        ...memory,
        capabilities: { ...memory.capabilities, receivers: "hint" },
        send: (channel, frame, sent) => memory.send(channel, frame, (error) => sent(error, 0))
      }
      const isServed = (timeMoves: boolean) =>
        Effect.gen(function* () {
          const asked = yield* Effect.forkChild(Lifecycle.isServed(Users), { startImmediately: true })
          if (timeMoves) yield* TestClock.adjust("1 second")
          return yield* Fiber.join(asked)
        })
      yield* Effect.gen(function* () {
        assert.isFalse(yield* isServed(true))
        yield* Layer.build(UsersLive)
        assert.isTrue(yield* isServed(false))
      }).pipe(Effect.provideService(Transport.Transport, hint))
    })
  )

  it.effect("takes the broker's count where no answer comes: from Daebus, or with unknown actions ignored", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const frames: Array<{ readonly action?: unknown }> = []
      yield* transport.subscribe({ _tag: "Channel", channel: "daebus_service" }, (frame) => {
        frames.push(JSON.parse(String(frame)))
      })
      yield* Layer.build(Handlers.layer(Users, { name: () => Effect.succeed("Ada") }, { unknownAction: "ignore" }))
      for (const name of ["daebus_service", "users"]) {
        const asked = yield* Effect.forkChild(Lifecycle.isServed(name), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        assert.isTrue(yield* Fiber.join(asked), name)
      }
      // What Daebus gets is a request for an action that it does not have, which it ignores.
      assert.deepStrictEqual(
        frames.map(({ action }) => action),
        ["fiberbus.probe"]
      )
      assert.isFalse(yield* Lifecycle.isServed("nobody"))
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("does not count one that is draining", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<string>()
      const begun = yield* Deferred.make<void>()
      const Slow = Handlers.layer(Users, {
        name: () => Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(release))
      })
      const scope = yield* Scope.fork(yield* Effect.scope)
      yield* Layer.buildWithScope(Slow, scope)
      const users = yield* Caller.make(Users)
      const call = yield* Effect.forkChild(users.name())
      yield* Deferred.await(begun)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.isFalse(yield* Lifecycle.isServed(Users))
      yield* Deferred.succeed(release, "Ada")
      yield* Fiber.join(closing)
      assert.strictEqual(yield* Fiber.join(call), "Ada")
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("does not take a refusal by one that drains for a sign, but any other answer", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const answering = (channel: string, reason: Reason.Sent) =>
        transport.subscribe({ _tag: "Channel", channel }, (frame) => {
          const { reply_to, request_id } = JSON.parse(String(frame))
          const payload = Envelope.writeErrorPayload({ error: "no", reason: Reason.encode(reason), started: "no" })
          transport.send(reply_to, Envelope.writeReply("error", payload, request_id, true), () => {})
        })
      yield* answering("draining", new Reason.Draining({}))
      yield* answering("draining", new Reason.Draining({}))
      yield* answering("busy", new Reason.Busy({ retryAfterMillis: 1 }))
      assert.isFalse(yield* Lifecycle.isServed("draining"))
      assert.isTrue(yield* Lifecycle.isServed("busy"))
      // One replica leaves, another stays; the one that leaves is the first to answer.
      yield* answering("rolling", new Reason.Draining({}))
      yield* answering("rolling", new Reason.UnknownAction({ action: "fiberbus.probe" }))
      assert.isTrue(yield* Lifecycle.isServed("rolling"))
      // Nor does whoever only listens, such as a tap, make up for one that leaves.
      yield* transport.subscribe({ _tag: "Channel", channel: "draining" }, () => {})
      const tapped = yield* Effect.forkChild(Lifecycle.isServed("draining"), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isFalse(yield* Fiber.join(tapped))
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("leaves no trace in the service but a count", () =>
    Effect.gen(function* () {
      const handled = yield* Ref.make(0)
      const logged = yield* Queue.unbounded<unknown>()
      const Live = Handlers.layer(Users, {
        name: () =>
          Effect.as(
            Ref.update(handled, (n) => n + 1),
            "Ada"
          )
      })
      yield* Effect.gen(function* () {
        assert.isTrue(yield* Lifecycle.isServed(Users))
      }).pipe(
        Effect.provide(Live.pipe(Layer.provideMerge(Layer.fresh(Memory.layer)))),
        Effect.provide(Logger.layer([Logger.make(({ message }) => Queue.offerUnsafe(logged, message))]))
      )
      assert.strictEqual(yield* Ref.get(handled), 0)
      assert.strictEqual(yield* Queue.size(logged), 0)
    })
  )

  it.effect("fails at once where waiting mends nothing", () =>
    Effect.gen(function* () {
      const memory = Memory.make()
      const error = new Transport.TransportError({
        kind: "PermissionDenied",
        operation: "SUBSCRIBE",
        detail: "NOPERM",
        hint: "",
        sent: "no"
      })
      const denied = Layer.succeed(Transport.Transport, { ...memory, subscribe: () => Effect.fail(error) })
      const { built } = yield* launch(Lifecycle.waitFor(Users).pipe(Lifecycle.managed), denied)
      const missing = yield* Effect.flip(Fiber.join(built))
      assert.strictEqual(missing.error?.kind, "PermissionDenied")
    })
  )
})

it.layer(RedisServer.layer, { excludeTestServices: true })("Over Redis", (it) => {
  it.effect("two programs wait for each other", () =>
    Effect.gen(function* () {
      const { url } = yield* RedisServer.RedisServer
      const program = (own: string, other: string) =>
        Handlers.layer(Service.make(own, Action.make("ping")), { ping: () => Effect.void }).pipe(
          Layer.merge(Lifecycle.waitFor(other)),
          Lifecycle.managed,
          Layer.provide(RedisPubSub.layer({ url, prefix: "lifecycle:" })),
          Layer.build
        )
      const contexts = yield* Effect.all([program("one", "two"), program("two", "one")], { concurrency: 2 })
      for (const context of contexts) assert.deepStrictEqual(yield* stateOf(context), { _tag: "Ready" })
    })
  )
})
