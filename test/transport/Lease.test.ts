import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Ref, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Lease, Transport } from "fiberbus"
import { Faults, RedisServer } from "fiberbus/testing"
import * as RedisLease from "fiberbus/transport/RedisLease"

const ask = (owner: string, occurrence?: Lease.Occurrence, ttlMillis = 60_000): Lease.Ask => ({
  name: "job",
  owner,
  ttlMillis,
  occurrence
})

const hour = 3_600_000

/** What every store does. `now` is its clock; `lapse` succeeds when a lease of 100 ms has lapsed. */
const promises = <E, R>(
  store: Effect.Effect<
    { readonly lease: Lease.Lease["Service"]; readonly now: number; readonly lapse: Effect.Effect<void, E, R> },
    E,
    R
  >
) => {
  const test = (
    title: string,
    body: (
      lease: Lease.Lease["Service"],
      now: number,
      lapse: Effect.Effect<void, E, R>
    ) => Effect.Effect<void, E | Transport.TransportError, R>
  ) => [title, Effect.flatMap(store, ({ lease, now, lapse }) => body(lease, now, lapse))] as const

  return [
    test("gives a lease to one owner, who is answered the same again", (lease) =>
      Effect.gen(function* () {
        const held = yield* lease.acquire(ask("a"))
        assert.strictEqual(held._tag, "Held")
        assert.deepStrictEqual(yield* lease.acquire(ask("b")), { _tag: "Taken" })
        assert.deepStrictEqual(yield* lease.acquire(ask("a")), held)
        assert.strictEqual((yield* lease.acquire({ ...ask("b"), name: "other job" }))._tag, "Held")
      })),
    test("takes it back from its owner only, and gives it with a higher token", (lease) =>
      Effect.gen(function* () {
        const tokens: Array<number> = []
        for (const owner of ["a", "b", "a"]) {
          const held = yield* lease.acquire(ask(owner))
          if (held._tag !== "Held") return assert.fail(held._tag)
          tokens.push(held.token)
          yield* lease.release(ask("somebody else"))
          assert.deepStrictEqual(yield* lease.acquire(ask("c")), { _tag: "Taken" })
          yield* lease.release(ask(owner))
        }
        assert.isTrue(tokens[0]! < tokens[1]! && tokens[1]! < tokens[2]!, String(tokens))
      })),
    test("prolongs it for its owner only, also after it has lapsed unnoticed", (lease, _now, lapse) =>
      Effect.gen(function* () {
        yield* lease.acquire(ask("a", undefined, 100))
        yield* lapse
        assert.isTrue(yield* lease.renew(ask("a")))
        assert.deepStrictEqual(yield* lease.acquire(ask("b")), { _tag: "Taken" })
        assert.isFalse(yield* lease.renew(ask("b")))
        yield* lease.release(ask("a"))
        assert.isFalse(yield* lease.renew(ask("a")))
      })),
    test("gives it to another when it has lapsed; the first one's renewals are in vain", (lease, _now, lapse) =>
      Effect.gen(function* () {
        yield* lease.acquire(ask("a", undefined, 100))
        yield* lapse
        assert.strictEqual((yield* lease.acquire(ask("b")))._tag, "Held")
        assert.isFalse(yield* lease.renew(ask("a")))
        yield* lease.release(ask("a"))
        assert.deepStrictEqual(yield* lease.acquire(ask("a")), { _tag: "Taken" })
      })),
    test("gives an occurrence once, also when the lease is free again", (lease, now) =>
      Effect.gen(function* () {
        const nightly = (atMillis: number, afterMillis = 24 * hour) => ({ atMillis, afterMillis })
        assert.strictEqual((yield* lease.acquire(ask("a", nightly(now))))._tag, "Held")
        assert.deepStrictEqual(yield* lease.acquire(ask("b", nightly(now))), { _tag: "Taken" })
        yield* lease.release(ask("a"))
        // The same; the same by one that was started a second before, or just then; one of before.
        for (const again of [nightly(now), nightly(now, 1_000), nightly(now, 0), nightly(now - 24 * hour)]) {
          assert.deepStrictEqual(yield* lease.acquire(ask("b", again)), { _tag: "Over" })
        }
        // Without an occurrence it is only a lease.
        assert.strictEqual((yield* lease.acquire(ask("b")))._tag, "Held")
        yield* lease.release(ask("b"))
        // Whoever has it already may ask again: the first answer was lost.
        assert.strictEqual((yield* lease.acquire(ask("a", nightly(now))))._tag, "Held")
        yield* lease.release(ask("a"))
        // Of an interval, what comes before nine tenths of it are over is the same.
        const minute = 60_000
        assert.deepStrictEqual(yield* lease.acquire(ask("b", nightly(now + 0.89 * minute, minute))), { _tag: "Over" })
        assert.strictEqual((yield* lease.acquire(ask("b", nightly(now + 0.91 * minute, minute))))._tag, "Held")
      })),
    test("gives no occurrence that lies ahead: it would keep all others away until then", (lease, now) =>
      Effect.gen(function* () {
        const ahead = { atMillis: now + 365 * 24 * hour, afterMillis: 1 }
        assert.deepStrictEqual(yield* lease.acquire(ask("a", ahead)), { _tag: "Early" })
        assert.strictEqual((yield* lease.acquire(ask("a", { atMillis: now, afterMillis: 1 })))._tag, "Held")
      }))
  ]
}

describe("A store of leases in memory", () => {
  const inMemory = Effect.gen(function* () {
    yield* TestClock.setTime(10 * 365 * 24 * hour)
    const lease = Context.get(yield* Layer.build(Layer.fresh(Lease.layerMemory)), Lease.Lease)
    return { lease, now: 10 * 365 * 24 * hour, lapse: TestClock.adjust(100) }
  })
  for (const [title, body] of promises(inMemory)) it.effect(title, () => body)

  it.effect("keeps nothing of names that nobody holds any more", () =>
    Effect.gen(function* () {
      const { lease } = yield* inMemory
      const names = Array.from({ length: 3_000 }, (_, n) => ({ ...ask("a"), name: `job ${n}` }))
      for (const one of names) {
        yield* lease.acquire(one)
        yield* lease.release(one)
      }
      assert.strictEqual((yield* lease.acquire({ ...ask("b"), name: "job 0" }))._tag, "Held")
    })
  )
})

it.layer(RedisServer.layer, { excludeTestServices: true })("A store of leases in Redis", (it) => {
  const inRedis = Effect.gen(function* () {
    const { command, url } = yield* RedisServer.RedisServer
    yield* command("FLUSHALL")
    const lease = Context.get(yield* Layer.build(RedisLease.layer({ url, prefix: "test:" })), Lease.Lease)
    const [seconds] = (yield* command("TIME")) as [string, string]
    const until = Effect.map(command("HGET", "test:fiberbus:lease:job", "until"), Number)
    const now = Effect.map(command("TIME"), (time) => {
      const [seconds, micros] = time as [string, string]
      return Number(seconds) * 1_000 + Number(micros) / 1_000
    })
    const lapse = Effect.gen(function* () {
      while ((yield* now) <= (yield* until)) yield* Effect.yieldNow
    })
    return { lease, url, now: Number(seconds) * 1_000, lapse }
  })
  for (const [title, body] of promises(inRedis)) it.effect(title, () => body)

  it.effect("knows its script again after somebody has emptied the table of scripts", () =>
    Effect.gen(function* () {
      const { lease } = yield* inRedis
      const { command } = yield* RedisServer.RedisServer
      yield* command("SCRIPT", "FLUSH")
      assert.strictEqual((yield* lease.acquire(ask("a")))._tag, "Held")
    })
  )

  it.effect("leaves a master that has become a replica, and asks again", () =>
    Effect.gen(function* () {
      const { lease } = yield* inRedis
      const { command } = yield* RedisServer.RedisServer
      const id = Effect.map(
        command("CLIENT", "LIST"),
        (list) => /id=(\d+) .*name=fiberbus:lease/.exec(String(list))?.[1]
      )
      const before = yield* id
      yield* command("REPLICAOF", "127.0.0.1", 1)
      const refused = yield* Effect.flip(lease.acquire(ask("a")))
      assert.deepInclude(refused, { kind: "Unreachable", operation: "acquire the lease job" })
      yield* command("REPLICAOF", "NO", "ONE")
      const held = yield* Effect.retry(lease.acquire(ask("a")), Schedule.spaced("10 millis"))
      assert.strictEqual(held._tag, "Held")
      assert.notStrictEqual(yield* id, before)
    })
  )

  it.effect("gives higher tokens also after Redis has lost its data", () =>
    Effect.gen(function* () {
      const { lease } = yield* inRedis
      const { command } = yield* RedisServer.RedisServer
      const before = yield* lease.acquire(ask("a"))
      yield* command("FLUSHALL")
      const after = yield* lease.acquire(ask("b"))
      if (before._tag !== "Held" || after._tag !== "Held") return assert.fail("not held")
      assert.isAbove(after.token, before.token)
    })
  )

  it.effect("leaves nothing behind for ever", () =>
    Effect.gen(function* () {
      const { lease } = yield* inRedis
      const { command } = yield* RedisServer.RedisServer
      yield* lease.acquire(ask("a"))
      yield* lease.release(ask("a"))
      assert.isAbove(Number(yield* command("PTTL", "test:fiberbus:lease:job")), 365 * 24 * hour)
    })
  )

  it.effect("interrupts a holder whose connection is gone, and gives the lease to another with a higher token", () =>
    Effect.gen(function* () {
      const { url } = yield* inRedis
      const server = yield* RedisServer.RedisServer
      const proxy = yield* Faults.proxy({ host: server.host, port: server.port })
      const far = RedisLease.layer({ url: proxy.through(url), prefix: "test:" })
      const near = RedisLease.layer({ url, prefix: "test:" })
      const tokens = yield* Queue.unbounded<number | undefined>()
      const work = (end: Effect.Effect<void>) =>
        Effect.andThen(
          Effect.flatMap(Lease.token, (token) => Queue.offer(tokens, token)),
          end
        )
      const finalized = yield* Deferred.make<void>()
      const holder = yield* work(Effect.never).pipe(
        Effect.onInterrupt(() => Deferred.succeed(finalized, undefined)),
        Lease.hold("job", { ttl: "500 millis" }),
        Effect.provide(far),
        Effect.flip,
        Effect.forkChild
      )
      const first = yield* Queue.take(tokens)
      const refused = yield* work(Effect.void).pipe(Lease.hold("job"), Effect.provide(near), Effect.flip)
      assert.deepInclude(refused, { _tag: "NotHeld", reason: "Taken" })

      yield* proxy.refuse
      yield* proxy.cut
      const lost = yield* Fiber.join(holder)
      if (lost._tag !== "NotHeld") return assert.fail(lost._tag)
      assert.strictEqual(lost.reason, "Lost")
      assert.strictEqual(lost.error?.kind, "ConnectionLost")
      yield* Deferred.await(finalized)

      yield* work(Effect.void).pipe(
        Lease.hold("job"),
        Effect.retry({ while: ({ _tag }) => _tag === "NotHeld", schedule: Schedule.spaced("20 millis") }),
        Effect.provide(near)
      )
      assert.isAbove((yield* Queue.take(tokens))!, first!)
    })
  )

  it.effect("survives a connection that is cut for a moment", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.RedisServer
      const { url } = yield* inRedis
      const proxy = yield* Faults.proxy({ host: server.host, port: server.port })
      const begun = yield* Deferred.make<void>()
      const end = yield* Deferred.make<string>()
      const holder = yield* Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end)).pipe(
        Lease.hold("job", { ttl: "3 seconds" }),
        Effect.provide(RedisLease.layer({ url: proxy.through(url), prefix: "test:" })),
        Effect.forkChild
      )
      yield* Deferred.await(begun)
      yield* proxy.cut
      yield* proxy.awaitConnections(1)
      const until = Effect.map(server.command("HGET", "test:fiberbus:lease:job", "until"), Number)
      const before = yield* until
      while ((yield* until) === before) yield* Effect.yieldNow
      yield* Deferred.succeed(end, "held all the time")
      assert.strictEqual(yield* Fiber.join(holder), "held all the time")
    })
  )

  it.effect("leaves nobody locked out for ever, whatever time to live is asked for", () =>
    Effect.gen(function* () {
      const { lease } = yield* inRedis
      const { command } = yield* RedisServer.RedisServer
      const held = Effect.succeed("held")
      const kept = Effect.provideService(Lease.hold("job", { ttl: "Infinity" })(held), Lease.Lease, lease)
      assert.strictEqual(yield* kept, "held")
      assert.strictEqual(yield* kept, "held")
      assert.isAbove(Number(yield* command("PTTL", "test:fiberbus:lease:job")), 0)
    })
  )

  it.effect("waits for a Redis that is not there yet, where it is told to", () =>
    Effect.gen(function* () {
      const server = yield* RedisServer.make()
      yield* server.stop
      const tried = yield* Deferred.make<void>()
      const connect = Schedule.spaced("10 millis").pipe(Schedule.tap(() => Deferred.succeed(tried, undefined)))
      const built = yield* Effect.forkChild(Layer.build(RedisLease.layer({ url: server.url, connect })))
      yield* Effect.raceFirst(Deferred.await(tried), Fiber.join(built))
      yield* server.start
      const lease = Context.get(yield* Fiber.join(built), Lease.Lease)
      assert.strictEqual((yield* lease.acquire(ask("a")))._tag, "Held")
    })
  )

  it.effect("fails with advice when there is no Redis, or it does not want us", () =>
    Effect.gen(function* () {
      const nowhere = yield* Effect.flip(Layer.build(RedisLease.layer({ url: "redis://127.0.0.1:1" })))
      assert.strictEqual(nowhere.kind, "Unreachable")
      const odd = yield* Effect.flip(Layer.build(RedisLease.layer({ url: "http://127.0.0.1" })))
      assert.strictEqual(odd.operation, "read the options of RedisLease")
    })
  )
})

describe("Holding a lease", () => {
  /** A store whose answers can be held back, lost or denied. */
  const fickle = Effect.gen(function* () {
    const store = Context.get(yield* Layer.build(Layer.fresh(Lease.layerMemory)), Lease.Lease)
    const mood = yield* Ref.make<"well" | "failing" | "silent">("well")
    const calls: Array<string> = []
    const moody = <A>(name: string, answer: Effect.Effect<A, Transport.TransportError>) =>
      Effect.flatMap(Ref.get(mood), (now) => {
        calls.push(name)
        if (now === "silent") return Effect.never
        return now === "failing" ? Effect.fail(down) : answer
      })
    const lease: Lease.Lease["Service"] = {
      acquire: (asked) => moody("acquire", store.acquire(asked)),
      renew: (asked) => moody("renew", store.renew(asked)),
      release: (asked) => moody("release", store.release(asked))
    }
    return { store, calls, become: (next: "well" | "failing" | "silent") => Ref.set(mood, next), lease }
  })
  const down = new Transport.TransportError({
    kind: "ConnectionLost",
    operation: "renew",
    detail: "gone",
    hint: "",
    sent: "unknown"
  })

  it.effect("renews it by thirds of its time, and gives it back at the end", () =>
    Effect.gen(function* () {
      const { lease, calls } = yield* fickle
      const held = yield* Effect.sleep("65 seconds").pipe(
        Effect.andThen(Lease.token),
        Lease.hold("job", { ttl: "30 seconds" }),
        Effect.provideService(Lease.Lease, lease),
        Effect.forkChild
      )
      yield* TestClock.adjust("65 seconds")
      assert.strictEqual(yield* Fiber.join(held), 1)
      assert.deepStrictEqual(calls, ["acquire", ...Array(6).fill("renew"), "release"])
      assert.isUndefined(yield* Lease.token)
    })
  )

  it.effect("gives it back after a failure, a defect and an interruption too", () =>
    Effect.gen(function* () {
      const { lease, calls } = yield* fickle
      const holding = (work: Effect.Effect<void, string>) =>
        Effect.exit(Effect.provideService(Lease.hold("job")(work), Lease.Lease, lease))
      assert.deepStrictEqual(yield* holding(Effect.fail("no paper")), Exit.fail("no paper"))
      assert.isTrue(Exit.hasDies(yield* holding(Effect.die("a bug"))))
      const never = yield* Effect.forkChild(holding(Effect.never))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(never)
      assert.deepStrictEqual(calls, ["acquire", "release", "acquire", "release", "acquire", "release"])
    })
  )

  for (const mood of ["failing", "silent"] as const) {
    it.effect(`interrupts the work before it lapses when the store is ${mood}`, () =>
      Effect.gen(function* () {
        const { lease, become } = yield* fickle
        const finalized = yield* Ref.make(false)
        const held = yield* Effect.never.pipe(
          Effect.onInterrupt(() => Ref.set(finalized, true)),
          Lease.hold("job", { ttl: "30 seconds" }),
          Effect.provideService(Lease.Lease, lease),
          Effect.flip,
          Effect.forkChild
        )
        yield* TestClock.adjust("15 seconds")
        yield* become(mood)
        // Confirmed at 10 s, so it may be another's from 40 s on.
        yield* TestClock.adjust("21999 millis")
        assert.isFalse(yield* Ref.get(finalized))
        yield* TestClock.adjust("1 millis")
        assert.isTrue(yield* Ref.get(finalized))
        yield* become("well")
        yield* TestClock.adjust("1 second")
        if (mood === "failing") assert.strictEqual((yield* Fiber.join(held)).error?.detail, "gone")
      })
    )
  }

  it.effect("goes on over a store that fails for a while", () =>
    Effect.gen(function* () {
      const { lease, become } = yield* fickle
      const held = yield* Effect.as(Effect.sleep("2 minutes"), "done").pipe(
        Lease.hold("job", { ttl: "30 seconds" }),
        Effect.provideService(Lease.Lease, lease),
        Effect.forkChild({ startImmediately: true })
      )
      for (const _ of [1, 2, 3]) {
        yield* become("failing")
        yield* TestClock.adjust("15 seconds")
        yield* become("well")
        yield* TestClock.adjust("25 seconds")
      }
      assert.strictEqual(yield* Fiber.join(held), "done")
    })
  )

  it.effect("interrupts the work when somebody else has got it", () =>
    Effect.gen(function* () {
      const { lease } = yield* fickle
      const held = yield* Effect.never.pipe(
        Lease.hold("job", { ttl: "30 seconds" }),
        Effect.provideService(Lease.Lease, { ...lease, renew: () => Effect.succeed(false) }),
        Effect.flip,
        Effect.forkChild
      )
      yield* TestClock.adjust("10 seconds")
      const lost = yield* Fiber.join(held)
      assert.deepInclude(lost, { reason: "Lost", name: "job" })
      assert.isUndefined(lost.error)
    })
  )

  it.effect("waits for a store that cannot be reached as long as it has patience, then does not begin", () =>
    Effect.gen(function* () {
      const { lease, become, calls } = yield* fickle
      yield* become("failing")
      const patient = (work: Effect.Effect<string>) =>
        Lease.hold("job", { patience: "10 seconds" })(work).pipe(Effect.provideService(Lease.Lease, lease))
      const impatient = yield* Effect.flip(
        Lease.hold("job")(Effect.void).pipe(Effect.provideService(Lease.Lease, lease))
      )
      assert.strictEqual(impatient.reason, "Unreachable")
      const inVain = yield* Effect.forkChild(Effect.flip(patient(Effect.die("begun"))), {
        startImmediately: true
      })
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual((yield* Fiber.join(inVain)).reason, "Unreachable")
      const inTime = yield* Effect.forkChild(patient(Effect.succeed("begun")), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      yield* become("well")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(inTime), "begun")
      assert.isBelow(calls.length, 25)
    })
  )

  it.effect("gives back what it may have got when it is interrupted while it asks", () =>
    Effect.gen(function* () {
      const { lease, store } = yield* fickle
      const asked = yield* Deferred.make<void>()
      const holder = yield* Effect.never.pipe(
        Lease.hold("job"),
        Effect.provideService(Lease.Lease, {
          ...lease,
          acquire: (one) =>
            store.acquire(one).pipe(Effect.andThen(Deferred.succeed(asked, undefined)), Effect.andThen(Effect.never))
        }),
        Effect.forkChild
      )
      yield* Deferred.await(asked)
      yield* Fiber.interrupt(holder)
      assert.strictEqual((yield* store.acquire(ask("other")))._tag, "Held")
    })
  )
})
