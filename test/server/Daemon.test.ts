import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  DateTime,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Queue,
  Schedule,
  Scope,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import { Daemon, Memory, type Transport } from "fiberbus"

class Indexer extends Daemon.Service<Indexer>()("indexer") {}

/** Builds a layer on a transport of its own, and gives what it provides and what closes it. */
const build = Effect.fnUntraced(function* <A, E>(layer: Layer.Layer<A, E, Transport.Transport>) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Layer.buildWithScope(layer.pipe(Layer.provideMerge(Layer.fresh(Memory.layer))), scope)
  return { context, close: Scope.close(scope, Exit.void) }
})

const indexerOf = <E>(layer: Layer.Layer<Indexer, E, Transport.Transport>) =>
  Effect.map(build(layer), ({ context, close }) => ({ indexer: Context.get(context, Indexer), context, close }))

/** Work that tells what becomes of it, and ends when it is told how. */
const work = Effect.gen(function* () {
  const told = yield* Queue.unbounded<string>()
  const ends = yield* Queue.unbounded<Exit.Exit<void, string>>()
  const effect = Effect.gen(function* () {
    yield* Effect.addFinalizer(() => Queue.offer(told, "finalized"))
    yield* Queue.offer(told, "running")
    return yield* yield* Queue.take(ends)
  })
  return { effect, told, end: (exit: Exit.Exit<void, string>) => Queue.offer(ends, exit) }
})

const logged = () => {
  const lines: Array<readonly [level: string, text: string]> = []
  const layer = Logger.layer([
    Logger.make(({ logLevel, message }) => {
      lines.push([logLevel, String(Array.isArray(message) ? message[0] : message)])
    })
  ])
  return { lines, layer }
}

const everySecond = { restart: Schedule.spaced("1 second") }

describe("A daemon", () => {
  it.effect("waits at least 10 ms before it is started again, where its schedule would not", () => {
    let runs = 0
    const failing = Effect.suspend(() => {
      runs++
      return Effect.fail("no")
    })
    return Effect.gen(function* () {
      yield* build(Daemon.layer("failing", failing, { restart: Schedule.forever }))
      yield* TestClock.adjust(100)
      assert.isAtLeast(runs, 2)
      assert.isAtMost(runs, 11)
    }).pipe(Effect.provide(logged().layer))
  })

  it.effect("runs from when its Layer is built until it closes, with finalizers", () =>
    Effect.gen(function* () {
      const { effect, told } = yield* work
      const { indexer, close } = yield* indexerOf(Daemon.layer(Indexer, effect))
      assert.strictEqual(yield* Queue.take(told), "running")
      assert.strictEqual((yield* indexer.state)._tag, "Running")
      yield* close
      assert.deepStrictEqual(yield* Queue.takeAll(told), ["finalized"])
      assert.strictEqual((yield* indexer.state)._tag, "Stopped")
      yield* indexer.start
      assert.strictEqual((yield* indexer.state)._tag, "Stopped")
    })
  )

  it.effect("that fails or dies is logged and started again by its schedule", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      const { effect, told, end } = yield* work
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, effect, everySecond).pipe(Layer.provideMerge(layer)))
      for (const exit of [Exit.fail("disk full"), Exit.die(new Error("a bug")), Exit.interrupt()]) {
        assert.strictEqual(yield* Queue.take(told), "running")
        yield* end(exit)
        assert.strictEqual(yield* Queue.take(told), "finalized")
        yield* TestClock.adjust("999 millis")
        const waiting = yield* indexer.state
        assert.strictEqual(waiting._tag, "Waiting")
        assert.strictEqual(yield* Queue.size(told), 0)
        yield* TestClock.adjust("1 millis")
      }
      assert.strictEqual(yield* Queue.take(told), "running")
      assert.deepInclude(yield* indexer.state, { _tag: "Running", restarts: 3 })
      assert.deepStrictEqual(lines, [
        ["Error", "fiberbus: the daemon indexer failed, again in 1000 ms"],
        ["Error", "fiberbus: the daemon indexer failed, again in 1000 ms"],
        ["Error", "fiberbus: the daemon indexer failed, again in 1000 ms"]
      ])
    })
  )

  it.effect("is given up loudly when its schedule ends, and may be started again", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      const { effect, told, end } = yield* work
      const restart = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 1 }))
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, effect, { restart }).pipe(Layer.provideMerge(layer)))
      for (const _ of [1, 2]) {
        assert.strictEqual(yield* Queue.take(told), "running")
        yield* end(Exit.fail("disk full"))
        assert.strictEqual(yield* Queue.take(told), "finalized")
        yield* TestClock.adjust("1 second")
      }
      const state = yield* indexer.state
      assert.deepInclude(state, { _tag: "GivenUp", restarts: 1 })
      assert.strictEqual(state._tag === "GivenUp" && Cause.squash(state.cause!), "disk full")
      assert.deepStrictEqual(lines.at(-1), ["Error", "fiberbus: the daemon indexer is given up after 1 restarts"])
      yield* indexer.start
      assert.strictEqual(yield* Queue.take(told), "running")
      assert.deepInclude(yield* indexer.state, { _tag: "Running", restarts: 0 })
    })
  )

  it.effect("begins its schedule anew after a steady run", () =>
    Effect.gen(function* () {
      const { effect, told, end } = yield* work
      const restart = Schedule.exponential("1 second")
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, effect, { restart, steadyAfter: "1 hour" }))
      const waits: Array<number> = []
      for (const lasted of ["1 second", "1 second", "1 hour", "1 second"] as const) {
        yield* Queue.take(told)
        yield* TestClock.adjust(lasted)
        yield* end(Exit.fail("disk full"))
        yield* Queue.take(told)
        yield* TestClock.adjust(0)
        const state = yield* indexer.state
        if (state._tag !== "Waiting") return assert.fail(state._tag)
        waits.push(DateTime.toEpochMillis(state.until) - (yield* Effect.map(DateTime.now, DateTime.toEpochMillis)))
        yield* TestClock.adjust(waits.at(-1)!)
      }
      assert.deepStrictEqual(waits, [1_000, 2_000, 1_000, 2_000])
    })
  )

  it.effect("hands its schedule the Cause, so that it may give up at once", () =>
    Effect.gen(function* () {
      const restart = Schedule.spaced("1 second").pipe(
        Schedule.setInputType<Cause.Cause<string>>(),
        Schedule.while(({ input }) => !Cause.hasDies(input))
      )
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, Effect.die("a bug"), { restart }))
      yield* TestClock.adjust("1 minute")
      assert.deepInclude(yield* indexer.state, { _tag: "GivenUp", restarts: 0 })
    })
  )

  it.effect("that succeeds is done, or goes on where that is asked for", () =>
    Effect.gen(function* () {
      const { effect, told, end } = yield* work
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, effect, everySecond))
      yield* end(Exit.void)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* Queue.takeAll(told), ["running", "finalized"])
      assert.deepStrictEqual(yield* indexer.state, { _tag: "Done", restarts: 0 })

      const again = yield* work
      yield* build(Daemon.layer("again", again.effect, { ...everySecond, onSuccess: "restart" }))
      yield* again.end(Exit.void)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Queue.takeAll(again.told), ["running", "finalized", "running"])
    })
  )

  it.effect("whose schedule is broken is given up", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      const restart = Schedule.spaced("1 second").pipe(Schedule.tap(() => Effect.die("no more")))
      const { indexer } = yield* indexerOf(
        Daemon.layer(Indexer, Effect.fail("disk full"), { restart }).pipe(Layer.provideMerge(layer))
      )
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* indexer.state)._tag, "GivenUp")
      assert.deepStrictEqual(lines, [["Error", "fiberbus: the restart schedule of the daemon indexer is broken"]])
    })
  )
})

describe("The handle of a daemon", () => {
  it.effect("starts, stops and restarts it", () =>
    Effect.gen(function* () {
      const { lines, layer } = logged()
      const { effect, told } = yield* work
      const { indexer } = yield* indexerOf(
        Daemon.layer(Indexer, effect, { autoStart: false }).pipe(Layer.provideMerge(layer))
      )
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Queue.size(told), 0)
      yield* Effect.all([indexer.start, indexer.start], { concurrency: 2 })
      assert.strictEqual(yield* Queue.take(told), "running")
      yield* indexer.restart
      yield* Queue.take(told)
      assert.strictEqual(yield* Queue.take(told), "running")
      yield* indexer.stop
      yield* indexer.stop
      assert.deepStrictEqual(yield* Queue.takeAll(told), ["finalized"])
      assert.strictEqual((yield* indexer.state)._tag, "Stopped")
      assert.deepStrictEqual(lines, [])
    })
  )

  it.effect("stops one that waits to be started again", () =>
    Effect.gen(function* () {
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, Effect.fail("disk full"), everySecond))
      yield* TestClock.adjust("500 millis")
      yield* indexer.stop
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* indexer.state)._tag, "Stopped")
    })
  )

  it.effect("can be used by the daemon itself", () =>
    Effect.gen(function* () {
      const stopped = yield* Deferred.make<void>()
      const self: Effect.Effect<void, Daemon.UnknownDaemon, Transport.Transport> = Effect.andThen(
        Effect.forkDetach(Effect.andThen(Daemon.stop("self"), Deferred.succeed(stopped, undefined))),
        Effect.never
      )
      const { context } = yield* build(Daemon.layer("self", self))
      yield* Deferred.await(stopped)
      const { state } = yield* Effect.provideContext(Daemon.get("self"), context)
      assert.strictEqual((yield* state)._tag, "Stopped")
    })
  )

  it.effect("starts a daemon again that asks for its own restart", () =>
    Effect.gen(function* () {
      const { effect, told } = yield* work
      let asked = false
      const self = Effect.gen(function* () {
        if (asked) return yield* effect
        asked = true
        return yield* Daemon.restart("self")
      })
      const { context } = yield* build(Daemon.layer("self", self))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Queue.takeAll(told), ["running"])
      const { state } = yield* Effect.provideContext(Daemon.get("self"), context)
      assert.strictEqual((yield* state)._tag, "Running")
    })
  )

  it.effect("stops a daemon that stops itself, and tells so", () =>
    Effect.gen(function* () {
      const { context } = yield* build(Daemon.layer("self", Effect.andThen(Daemon.stop("self"), Effect.never)))
      yield* TestClock.adjust("1 minute")
      const { state } = yield* Effect.provideContext(Daemon.get("self"), context)
      assert.strictEqual((yield* state)._tag, "Stopped")
    })
  )

  it.effect("goes on stopping it when whoever asked for that has gone", () =>
    Effect.gen(function* () {
      const release = yield* Deferred.make<void>()
      const { indexer } = yield* indexerOf(
        Daemon.layer(
          Indexer,
          Effect.onInterrupt(Effect.never, () => Deferred.await(release))
        )
      )
      yield* TestClock.adjust("1 second")
      const asked = yield* Effect.forkChild(indexer.stop, { startImmediately: true })
      yield* Fiber.interrupt(asked)
      yield* Deferred.succeed(release, undefined)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* indexer.state)._tag, "Stopped")
    })
  )

  it.live("leaves nobody waiting once its Layer has closed, also where it could not be stopped", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const stubborn = Effect.uninterruptible(
        Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(release))
      )
      const { indexer, close } = yield* indexerOf(Daemon.layer(Indexer, stubborn))
      yield* Deferred.await(begun)
      yield* Effect.forkChild(indexer.stop, { startImmediately: true })
      yield* close
      yield* indexer.start
      yield* indexer.stop
      yield* Deferred.succeed(release, undefined)
    })
  )

  it.effect("streams its states", () =>
    Effect.gen(function* () {
      const { effect, told, end } = yield* work
      const { indexer } = yield* indexerOf(Daemon.layer(Indexer, effect, everySecond))
      const seen = yield* Effect.forkChild(
        indexer.states.pipe(
          Stream.map(({ _tag }) => _tag),
          Stream.takeUntil((tag) => tag === "Done"),
          Stream.runCollect
        )
      )
      yield* Queue.take(told)
      yield* end(Exit.fail("disk full"))
      yield* TestClock.adjust("1 second")
      yield* end(Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(seen), ["Running", "Waiting", "Running", "Done"])
    })
  )
})

describe("By their names", () => {
  it.effect("the daemons of a transport are found, started and stopped", () =>
    Effect.gen(function* () {
      const { effect, told } = yield* work
      const { context } = yield* build(
        Layer.mergeAll(Daemon.layer("indexer", effect, { autoStart: false }), Daemon.layer("poller", Effect.never))
      )
      yield* Effect.gen(function* () {
        assert.deepStrictEqual([...(yield* Daemon.all).keys()].sort(), ["indexer", "poller"])
        yield* Daemon.start("indexer")
        assert.strictEqual(yield* Queue.take(told), "running")
        yield* Daemon.restart("indexer")
        yield* Daemon.stop("indexer")
        const unknown = yield* Effect.flip(Daemon.stop("index"))
        assert.match(unknown.message, /^no daemon is named index; there are (indexer, poller|poller, indexer)$/)
      }).pipe(Effect.provideContext(context))
    })
  )

  it.effect("two of one name are refused, with both places", () =>
    Effect.gen(function* () {
      const two = Layer.mergeAll(Daemon.layer("indexer", Effect.never), Daemon.layer(Indexer, Effect.never))
      const exit = yield* Effect.exit(build(two))
      const defect = exit._tag === "Failure" ? exit.cause.reasons.find(Cause.isDieReason)?.defect : undefined
      if (!(defect instanceof Daemon.DuplicateName)) return assert.fail(String(exit))
      assert.match(
        defect.message,
        /^There are two daemons named indexer: Daemon\.layer at .*:\d+ and Daemon\.layer at /
      )
    })
  )
})
