import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  Queue,
  References,
  Schedule,
  Schema,
  Scope
} from "effect"
import { TestClock } from "effect/testing"
import {
  Action,
  Broadcast,
  type CallError,
  Caller,
  Concurrency,
  Handlers,
  Listener,
  Memory,
  Service,
  Supervision,
  Topic,
  Transport
} from "fiberbus"

class Work extends Service.make(
  "work",
  Action.make("go", { payload: { id: Schema.String }, success: Schema.String })
) {}
const News = Topic.make("news", { text: Schema.String })

const nobody = Transport.publish("nobody", "{}")
const restart = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))

/** A limit that breaks a pool on purpose: whoever gives a slot back while it is broken throws, after or before that is done. */
const breakable = (limit: number, when: "after" | "before" = "after") => {
  const sound = Concurrency.makeUnsafe(limit)
  let isBroken = false
  const concurrency: Concurrency.Concurrency = {
    ...sound,
    releaseUnsafe: () => {
      if (when === "after" || !isBroken) sound.releaseUnsafe()
      if (isBroken) throw new Error("broken on purpose")
    }
  }
  const breakIt = (broken: boolean) =>
    Effect.sync(() => {
      isBroken = broken
    })
  return { concurrency, breakIt }
}

/** Everything that is logged, as `Level text`. */
const logs = () => {
  const lines: Array<string> = []
  const layer = Logger.layer([
    Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${String(message)}`)
    })
  ])
  return { lines, layer }
}

/** Handlers that tell that they have begun, and end at a word; `end` ends at once. */
const make = Effect.gen(function* () {
  const begun = yield* Queue.unbounded<string>()
  const interrupted = yield* Queue.unbounded<string>()
  const goOn = yield* Deferred.make<void>()
  const handle = ({ id }: { readonly id: string }) =>
    id.startsWith("end")
      ? Effect.succeed(id)
      : Queue.offer(begun, id).pipe(
          Effect.andThen(Deferred.await(goOn)),
          Effect.as(id),
          Effect.onInterrupt(() => Queue.offer(interrupted, id))
        )
  return { begun, interrupted, goOn: Deferred.succeed(goOn, undefined), handlers: { go: handle } }
})

const outcome = (exit: Exit.Exit<string, unknown>) => {
  if (Exit.isSuccess(exit)) return exit.value
  const { reason, started } = Option.getOrThrow(Exit.findErrorOption(exit)) as CallError.CallError
  return reason._tag === "Busy" ? `Busy ${reason.retryAfterMillis} ${started}` : `${reason._tag} ${started}`
}

const caller = Effect.gen(function* () {
  const work = yield* Caller.make(Work)
  return {
    go: (id: string) => Effect.map(Effect.exit(work.go({ id }, { timeout: 60_000 })), outcome),
    begin: Effect.fnUntraced(function* (id: string) {
      const call = yield* Effect.forkChild(work.go({ id }, { timeout: 60_000 }), { startImmediately: true })
      yield* nobody
      return call
    })
  }
})

describe("A pool that breaks down", () => {
  it.effect("is made anew, and answers what it held and what comes meanwhile", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const { concurrency, breakIt } = breakable(2)
      const { begun, handlers, interrupted } = yield* make
      yield* Layer.build(Handlers.layer(Work, handlers, { concurrency, restart, grace: 0 }))
      const { begin, go } = yield* caller
      const runs = yield* begin("runs")
      yield* breakIt(true)
      assert.strictEqual(yield* Queue.take(begun), "runs")
      // Its answer has left by the time its slot breaks the pool.
      assert.strictEqual(yield* go("end"), "end")
      yield* breakIt(false)
      assert.strictEqual(outcome(yield* Fiber.await(runs)), "RemoteDefect yes")
      assert.strictEqual(yield* Queue.take(interrupted), "runs")

      yield* TestClock.adjust(400)
      assert.strictEqual(yield* go("end meanwhile"), "Busy 600 no")
      yield* TestClock.adjust(600)
      assert.strictEqual(yield* go("end afterwards"), "end afterwards")
      assert.deepStrictEqual(yield* restarts, [["work", 1]])
      assert.lengthOf(lines, 1)
      assert.match(lines[0]!, /^Error fiberbus: the pool of work broke down \(.*\), it is made anew in 1000 ms/)
      assert.strictEqual(yield* concurrency.running, 0)
    }).pipe(Effect.provide([Layer.fresh(Memory.layer), layer]), withMetrics)
  })

  it.effect("answers what waited: it was not begun", () =>
    Effect.gen(function* () {
      const { concurrency, breakIt } = breakable(1, "before")
      const { handlers, goOn } = yield* make
      yield* Layer.build(Handlers.layer(Work, handlers, { concurrency, restart, grace: 0 }))
      const { begin, go } = yield* caller
      const runs = yield* begin("runs")
      const waits = yield* Effect.forEach(["1", "2"], begin)
      yield* breakIt(true)
      yield* goOn
      // It was done when the pool broke.
      assert.strictEqual(outcome(yield* Fiber.await(runs)), "runs")
      yield* breakIt(false)
      for (const call of waits) assert.strictEqual(outcome(yield* Fiber.await(call)), "Busy 1000 no")
      // The slot that was not given back is lost with this limit, which is the test's and not the pool's.
      yield* concurrency.resize(2)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* go("end"), "end")
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("when it lets a request in refuses that one: where it was not begun it is told to come back", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const sound = Concurrency.makeUnsafe(1)
      let broken = true
      const taking = () => {
        if (broken) throw new Error("broken on purpose")
        return sound.takeUnsafe()
      }
      const { handlers } = yield* make
      const limits = { concurrency: { ...sound, takeUnsafe: taking }, restart, grace: 0 }
      yield* Layer.build(Handlers.layer(Work, handlers, limits))
      const { go } = yield* caller
      assert.strictEqual(yield* go("end"), "Busy 1000 no")
      broken = false
      yield* TestClock.adjust(300)
      assert.strictEqual(yield* go("end meanwhile"), "Busy 700 no")
      yield* TestClock.adjust(700)
      assert.strictEqual(yield* go("end afterwards"), "end afterwards")
      assert.lengthOf(lines, 1)
      assert.deepStrictEqual(yield* restarts, [["work", 1]])
    }).pipe(Effect.provide([Layer.fresh(Memory.layer), layer]), withMetrics)
  })

  it.effect("while its layer closes is told, and keeps nobody from closing", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const sound = Concurrency.makeUnsafe(1)
      let broken = false
      const concurrency: Concurrency.Concurrency = {
        ...sound,
        forgetUnsafe: (waiting) => {
          if (broken) throw new Error("broken on purpose")
          sound.forgetUnsafe(waiting)
        }
      }
      const { begun, handlers } = yield* make
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Handlers.layer(Work, handlers, { concurrency, restart, grace: 0 }), scope)
      const { begin } = yield* caller
      const runs = yield* begin("runs")
      yield* begin("waits")
      yield* Queue.take(begun)
      broken = true
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(outcome(yield* Fiber.await(runs)), "Draining yes")
      assert.include(lines, "Error fiberbus: the pool of work broke down while it was closed")
    }).pipe(Effect.provide([Layer.fresh(Memory.layer), layer]))
  })

  it.effect("begins its schedule anew after a minute without a breakdown, and gives up when the schedule ends", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const { concurrency, breakIt } = breakable(1)
      const { handlers } = yield* make
      const Live = Handlers.layer(Work, handlers, { concurrency, restart, grace: 0 })
      const launched = yield* Effect.forkChild(Supervision.launch(Live), { startImmediately: true })
      const { go } = yield* caller
      yield* nobody
      const breakDown = Effect.gen(function* () {
        yield* breakIt(true)
        assert.strictEqual(yield* go("end"), "end")
        yield* breakIt(false)
      })
      for (const calm of ["1 second", "61 seconds", "1 second", "1 second"] as const) {
        yield* breakDown
        yield* TestClock.adjust(calm)
        assert.strictEqual(yield* go("end"), "end")
      }
      assert.isUndefined(launched.pollUnsafe())
      // The third since the calm minute.
      yield* breakDown
      const error = Option.getOrThrow(Exit.findErrorOption(yield* Fiber.await(launched)))
      assert.instanceOf(error, Supervision.PoolGaveUp)
      assert.deepInclude(error, { service: "work", restarts: 2 })
      assert.isTrue(
        lines.some((line) => line.startsWith("Error") && line.includes(`(${error.defectId}), it stays down`))
      )
      // Nobody hears it any more.
      assert.strictEqual(yield* go("end"), "NoResponders no")
    }).pipe(Effect.provide([Layer.fresh(Memory.layer), layer]))
  })

  it.effect("is unsubscribed when it gives up, also where nobody supervises it", () =>
    Effect.gen(function* () {
      const { concurrency, breakIt } = breakable(1)
      const { handlers } = yield* make
      yield* Layer.build(Handlers.layer(Work, handlers, { concurrency, restart: Schedule.recurs(0), grace: 0 }))
      const { go } = yield* caller
      yield* breakIt(true)
      assert.strictEqual(yield* go("end"), "end")
      // By its own channel it still hears a caller that has not learned of it.
      assert.include(["NoResponders no", "Draining no"], yield* go("end"))
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)))
  )

  it.effect("of a listener is made anew as well, and hurts no other that shares its limit", () =>
    Effect.gen(function* () {
      const { concurrency, breakIt } = breakable(1)
      const heard = yield* Queue.unbounded<string>()
      const hear = ({ text }: { readonly text: string }) => Queue.offer(heard, text)
      const { handlers } = yield* make
      const limits = { concurrency, restart, grace: 0 }
      yield* Layer.build(Layer.mergeAll(Listener.layer(News, hear, limits), Handlers.layer(Work, handlers, limits)))
      const { go } = yield* caller
      yield* breakIt(true)
      yield* Broadcast.publish(News, { text: "first" })
      assert.strictEqual(yield* Queue.take(heard), "first")
      yield* nobody
      yield* breakIt(false)
      yield* Broadcast.publish(News, { text: "lost, and counted" })
      assert.strictEqual(yield* go("end"), "end")
      yield* TestClock.adjust("1 second")
      yield* Broadcast.publish(News, { text: "second" })
      assert.strictEqual(yield* Queue.take(heard), "second")
      assert.deepStrictEqual(yield* restarts, [["news", 1]])
    }).pipe(Effect.provide(Layer.fresh(Memory.layer)), withMetrics)
  )
})

describe("Supervision.launch", () => {
  it.effect("fails as its layer does", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(Supervision.launch(Layer.effectDiscard(Effect.fail("no database"))))
      assert.deepStrictEqual(Option.getOrThrow(Exit.findErrorOption(exit)), "no database")
    })
  )

  it.effect("shuts all services down side by side, before what they need, and tells it in one line", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const events: Array<string> = []
      const { begun, goOn, handlers } = yield* make
      const heard = yield* Queue.unbounded<void>()
      const Database = Layer.effectDiscard(
        Effect.acquireRelease(Effect.void, () => Effect.sync(() => void events.push("database closed")))
      )
      const Live = Layer.mergeAll(
        Handlers.layer(Work, handlers, { concurrency: 2 }),
        Listener.layer(News, () => Effect.andThen(Queue.offer(heard, undefined), Effect.never), { grace: 1 })
      ).pipe(Layer.provide(Database))
      const launched = yield* Effect.forkChild(Supervision.launch(Live), { startImmediately: true })
      const { begin, go } = yield* caller
      yield* nobody
      const running = yield* Effect.forEach(["1", "2"], begin)
      const waiting = yield* Effect.forEach(["3", "4", "5"], begin)
      yield* Broadcast.publish(News, { text: "" })
      yield* Queue.take(heard)
      yield* Queue.takeBetween(begun, 2, 2)

      const stopping = yield* Effect.forkChild(Fiber.interrupt(launched), { startImmediately: true })
      for (const call of waiting) assert.strictEqual(outcome(yield* Fiber.await(call)), "Draining no")
      yield* nobody
      assert.strictEqual(yield* go("late"), "NoResponders no")
      assert.deepStrictEqual(events, [])
      yield* goOn
      for (const [index, call] of running.entries()) assert.strictEqual(yield* Fiber.join(call), `${index + 1}`)
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(events, ["database closed"])
      assert.isTrue(Cause.hasInterruptsOnly(yield* Effect.flip(Effect.sandbox(Fiber.join(launched)))))
      const told = lines.filter((line) => line.startsWith("Info"))
      assert.lengthOf(told, 3)
      assert.match(told[0]!, /^Info fiberbus: serving \w+(, \w+)* over memory$/)
      assert.strictEqual(told[1], "Info fiberbus: shutting down, 3 running and 3 waiting")
      assert.match(told[2]!, /^Info fiberbus: shut down, 2 finished, 3 refused, 1 interrupted, \d+ ms$/)
    }).pipe(Effect.provide([Layer.fresh(Memory.layer), layer]))
  })
})

describe("A layer that closes without a supervisor", () => {
  it.effect("tells how it went at level Debug", () => {
    const { layer, lines } = logs()
    return Effect.gen(function* () {
      const { begun, handlers } = yield* make
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Layer.build(Handlers.layer(Work, handlers, { grace: 1 }))
          const { begin } = yield* caller
          yield* begin("1")
          yield* Queue.take(begun)
        })
      )
      assert.lengthOf(lines, 2)
      assert.strictEqual(lines[0], "Debug fiberbus: work takes no more, 1 running and 0 waiting")
      assert.match(lines[1]!, /^Debug fiberbus: work is shut down, 0 finished, 0 refused, 1 interrupted, \d+ ms$/)
    }).pipe(
      Effect.provide([Layer.fresh(Memory.layer), layer]),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  })

  it.effect("waits until the transport has the last answers", () =>
    Effect.gen(function* () {
      const memory = Memory.make()
      const held: Array<() => void> = []
      const slow: Transport.Transport["Service"] = {
        ...memory,
        send: (channel, frame, sent) =>
          channel.startsWith("caller:")
            ? void held.push(() => memory.send(channel, frame, sent))
            : memory.send(channel, frame, sent)
      }
      const { handlers } = yield* make
      const scope = yield* Effect.scope
      const closed = yield* Effect.gen(function* () {
        const { begin } = yield* caller
        const call = yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Layer.build(Handlers.layer(Work, handlers))
            return yield* begin("end")
          })
        ).pipe(Effect.forkIn(scope, { startImmediately: true }))
        yield* nobody
        yield* nobody
        assert.isUndefined(call.pollUnsafe())
        assert.lengthOf(held, 1)
        held[0]!()
        return yield* Fiber.join(call)
      }).pipe(Effect.provideService(Transport.Transport, slow))
      assert.strictEqual(yield* Fiber.join(closed), "end")
    })
  )
})

const restarts = Effect.map(Metric.snapshot, (series) =>
  series.flatMap(({ attributes, id, state }) =>
    id === "fiberbus_pool_restarts_total" ? [[attributes?.["service"], Number((state as { count: number }).count)]] : []
  )
)

/** A registry of its own. */
function withMetrics<A, E, R>(effect: Effect.Effect<A, E, R>) {
  return Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))
}
