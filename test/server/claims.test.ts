import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Result, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Action, Handlers, Memory, Service, Transport } from "fiberbus"
import * as Claims from "../../src/server/internal/claims.ts"
import * as Envelope from "../../src/wire/Envelope.ts"
import * as Scripted from "../scripted.ts"

const Work = Service.make("work", Action.make("do", { payload: { n: Schema.Finite } }))

type Shape = Transport.Transport["Service"]

/** Replicas over one broker, each on a transport that a test changes, what they ran, and a way to ask all of them. */
const replicas = Effect.fnUntraced(function* (count: number, change: (memory: Shape) => Shape = (memory) => memory) {
  const broker = Memory.makeBroker()
  const ran: Array<readonly [replica: number, n: number]> = []
  for (let replica = 0; replica < count; replica++) {
    yield* Handlers.layer(Work, { do: ({ n }) => Effect.sync(() => void ran.push([replica, n])) }).pipe(
      Layer.provide(Layer.succeed(Transport.Transport, change(Memory.make({ broker })))),
      Layer.fresh,
      Layer.build
    )
  }
  const transport = Memory.make({ broker })
  const say = (frame: object) => transport.send("work", JSON.stringify({ action: "do", ...frame }), () => {})
  return { ran, say, transport, numbers: () => ran.map(([, n]) => n) }
})

const request = (n: number, more?: object) => ({ payload: { n }, reply_to: "caller:x", request_id: `r${n}`, ...more })

/** As over a network: silence counts, and what is claimed is claimed there. */
const remote = (memory: Shape): Shape => {
  const { inProcess: _, ...capabilities } = memory.capabilities
  return { ...memory, capabilities }
}

const failed = (sent: "no" | "unknown") =>
  new Transport.TransportError({ kind: "Timeout", operation: "SET", detail: "test", hint: "", sent })

describe("a request that comes to all replicas", () => {
  it.effect("is begun once for an id, and once more for another request with the same id", () =>
    Effect.gen(function* () {
      const { numbers, say } = yield* replicas(3)
      say(request(1))
      say(request(1))
      say(request(1, { payload: { n: 2 } }))
      say(request(1, { reply_to: "caller:y" }))
      yield* Scripted.turns()
      assert.deepStrictEqual(numbers().sort(), [1, 1, 2])
    })
  )

  it.effect("is begun by nobody who cannot tell whether it is his, and is counted", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function* () {
        const { ran, say } = yield* replicas(2, (memory) => ({
          ...memory,
          claim: (key, ttl, done) => memory.claim!(key, ttl, () => done(failed("unknown"), false))
        }))
        say(request(1))
        yield* Scripted.turns()
        assert.deepStrictEqual(ran, [])
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.isTrue(
        lines.some((line) => line.includes("NotClaimed:Timeout")),
        lines.join("\n")
      )
    })
  )

  it.effect("is claimed again where the claim had not left", () =>
    Effect.gen(function* () {
      let attempts = 0
      const { numbers, say } = yield* replicas(1, (memory) => ({
        ...memory,
        claim: (key, ttl, done) => (attempts++ < 3 ? done(failed("no"), false) : memory.claim!(key, ttl, done))
      }))
      say(request(1))
      yield* Scripted.turns()
      assert.deepStrictEqual(numbers(), [])
      yield* TestClock.adjust("1 second")
      yield* Scripted.turns()
      assert.deepStrictEqual(numbers(), [1])
    })
  )

  it.effect("is not claimed again after a gap: the store may have forgotten who has won", () =>
    Effect.gen(function* () {
      let attempts = 0
      const { ran, say } = yield* replicas(1, (memory) => ({
        ...memory,
        get state() {
          return { ...memory.state, gaps: attempts === 0 ? 0 : 1 }
        },
        claim: (key, ttl, done) => (attempts++ < 1 ? done(failed("no"), false) : memory.claim!(key, ttl, done))
      }))
      attempts = 0
      say(request(1))
      yield* Scripted.turns()
      yield* TestClock.adjust("5 seconds")
      yield* Scripted.turns()
      assert.deepStrictEqual(ran, [])
      assert.strictEqual(attempts, 1)
    })
  )

  it.effect("is not begun when its time was over before it was known whose it is", () =>
    Effect.gen(function* () {
      const claims: Array<() => void> = []
      let begun = false
      const { numbers, say } = yield* replicas(1, (memory) => ({
        ...memory,
        claim: (key, ttl, done) =>
          begun ? void claims.push(() => memory.claim!(key, ttl, done)) : memory.claim!(key, ttl, done)
      }))
      begun = true
      say(request(1, { fiberbus: { v: 1, timeout_ms: 500 } }))
      say(request(2, { fiberbus: { v: 1, timeout_ms: 5_000 } }))
      yield* Scripted.turns()
      yield* TestClock.adjust("1 second")
      for (const claim of claims) claim()
      yield* Scripted.turns()
      assert.deepStrictEqual(numbers(), [2])
    })
  )

  it.effect("is not begun when its caller has taken it back meanwhile", () =>
    Effect.gen(function* () {
      const claims: Array<() => void> = []
      let begun = false
      const { numbers, say } = yield* replicas(1, (memory) => ({
        ...memory,
        claim: (key, ttl, done) =>
          begun ? void claims.push(() => memory.claim!(key, ttl, done)) : memory.claim!(key, ttl, done)
      }))
      begun = true
      say(request(1))
      say(request(2))
      yield* Scripted.turns()
      say({ action: undefined, reply_to: "caller:x", fiberbus: { v: 1, cancel: "r1" } })
      yield* Scripted.turns()
      for (const claim of claims) claim()
      yield* Scripted.turns()
      assert.deepStrictEqual(numbers(), [2])
    })
  )

  it.effect("is begun by each of them where the transport has no claims", () =>
    Effect.gen(function* () {
      const { ran, say } = yield* replicas(2, ({ claim: _, ...memory }) => memory)
      say(request(1))
      yield* Scripted.turns()
      assert.deepStrictEqual(ran, [
        [0, 1],
        [1, 1]
      ])
    })
  )

  it.effect("is told from an equal one without an id by how often it came", () =>
    Effect.gen(function* () {
      const { numbers, say } = yield* replicas(3, remote)
      for (let i = 0; i < 10; i++) say({ payload: { n: 1 } })
      yield* Scripted.turns()
      assert.lengthOf(numbers(), 10)
      yield* TestClock.adjust("3 seconds")
      // The claims of the test's broker are kept in real time: another text, counted anew.
      say({ payload: { n: 2 } })
      say({ payload: { n: 2 } })
      yield* Scripted.turns()
      assert.lengthOf(numbers(), 12)
    })
  )

  it.effect("is refused by one of them where none knows its action", () =>
    Effect.gen(function* () {
      const replies: Array<any> = []
      const { say, transport } = yield* replicas(3)
      yield* transport.subscribe({ _tag: "Channel", channel: "caller:x" }, (frame) => {
        replies.push(JSON.parse(String(frame)))
      })
      say(request(1, { action: "undo" }))
      yield* Scripted.turns()
      assert.lengthOf(replies, 1)
      assert.deepStrictEqual(
        [replies[0].request_id, replies[0].payload.reason],
        ["r1", { _tag: "UnknownAction", action: "undo" }]
      )
    })
  )

  it("is dropped after this process stood still for longer than claims may last, until a barrier is passed", () => {
    let now = 0
    const noted: Array<string> = []
    const barriers: Array<(passed: boolean) => void> = []
    const later: Array<{ expire(): void }> = []
    const claims = Claims.make(
      {
        transport: { ...remote(Memory.make()), barrier: (done: (passed: boolean) => void) => void barriers.push(done) },
        wheel: { now: () => now, add: (entry: { expire(): void }) => void later.push(entry) },
        discards: { note: (reason: string) => void noted.push(reason) }
      } as never,
      (_key, _ttl, done) => done(undefined, true)
    )
    const claim = () => {
      let won = false
      const envelope = Envelope.readRequest({ action: "do", ...request(1) }) as Envelope.Request
      claims.claim("work", envelope, "{}", false, (is) => {
        won = is
      })
      return won
    }
    assert.isTrue(claim())
    now += Claims.stallMillis - 1
    assert.isTrue(claim())
    now += Claims.stallMillis
    assert.isFalse(claim())
    assert.deepStrictEqual(noted, ["Stalled"])
    // The link is down: what is in the socket is not known yet.
    barriers.pop()!(false)
    assert.isFalse(claim())
    later.pop()!.expire()
    assert.isFalse(claim())
    barriers.pop()!(true)
    assert.isTrue(claim())
    // Beats that were made meanwhile say that it did not stand still.
    for (let i = 0; i < 10; i++) {
      now += Claims.stallMillis / 2
      claims.look()
    }
    assert.isTrue(claim())
  })
})

describe("a service whose claims fail", () => {
  const Live = Service.make("live", Action.make("do").pipe(Action.annotate(Action.Delivery, "live")))

  /** Why a service over a transport with such a claim did not begin. */
  const begin = (
    layer: Layer.Layer<never, Transport.TransportError, Transport.Transport>,
    error: Transport.TransportError
  ) =>
    Layer.build(layer).pipe(
      Effect.provideService(Transport.Transport, { ...Memory.make(), claim: (_key, _ttl, done) => done(error, false) }),
      Effect.scoped,
      Effect.result
    )
  const work = Handlers.layer(Work, { do: () => Effect.void })
  const error = (kind: Transport.TransportError["kind"]) =>
    new Transport.TransportError({ kind, operation: "SET", detail: "no right", hint: "", sent: "no" })

  it.effect("does not begin where it has no right to claim, and says so", () =>
    Effect.gen(function* () {
      const refused = Result.getOrThrow(Result.flip(yield* begin(work, error("PermissionDenied"))))
      assert.deepStrictEqual(
        [refused.kind, refused.operation, refused.detail, refused.sent],
        ["PermissionDenied", "claim requests to work", "no right", "no"]
      )
    })
  )

  it.effect("begins where the link is only late, or where it claims nothing", () =>
    Effect.gen(function* () {
      assert.isTrue(Result.isSuccess(yield* begin(work, error("Timeout"))))
      const live = Handlers.layer(Live, { do: () => Effect.void })
      assert.isTrue(Result.isSuccess(yield* begin(live, error("PermissionDenied"))))
    })
  )
})

describe("the claims of a process", () => {
  type Asked = { readonly key: string; readonly ttl: number; readonly done: Parameters<NonNullable<Shape["claim"]>>[2] }

  /** Claims whose transport answers when the test says so, and a clock that it moves. */
  const process = () => {
    const asked: Array<Asked> = []
    const noted: Array<string> = []
    const later: Array<{ readonly entry: { expire(): void }; readonly millis: number }> = []
    const time = { now: 0 }
    const claims = Claims.make(
      {
        transport: remote(Memory.make()),
        wheel: {
          now: () => time.now,
          add: (entry: { expire(): void }, millis: number) => void later.push({ entry, millis })
        },
        discards: { note: (reason: string) => void noted.push(reason) },
        shutDownClock: {}
      } as never,
      (key, ttl, done) => void asked.push({ key, ttl, done })
    )
    const claim = (frame: string, more?: object, defer = false) => {
      const outcome: Array<boolean> = []
      const envelope = Envelope.readRequest({ action: "do", ...more }) as Envelope.Request
      claims.claim("work", envelope, frame, defer, (won) => void outcome.push(won))
      return outcome
    }
    return { asked, claim, later, noted, time }
  }

  const failure = (kind: Transport.TransportError["kind"], sent: "no" | "unknown" = "no") =>
    new Transport.TransportError({ kind, operation: "SET", detail: "test", hint: "", sent })

  it("are kept for twice a request's own time, within a minute and an hour, and a second without an id", () => {
    const { asked, claim } = process()
    const ttlOf = (more?: object) => {
      claim("{}", more)
      return asked.at(-1)!.ttl
    }
    assert.strictEqual(ttlOf({ request_id: "a" }), Claims.shortestClaimMillis)
    assert.strictEqual(ttlOf({ request_id: "a", fiberbus: { v: 1, timeout_ms: 1 } }), Claims.shortestClaimMillis)
    assert.strictEqual(ttlOf({ request_id: "a", fiberbus: { v: 1, timeout_ms: 45_000 } }), 90_000)
    assert.strictEqual(ttlOf({ request_id: "a", fiberbus: { v: 1, timeout_ms: 3_000_000 } }), Claims.longestClaimMillis)
    assert.strictEqual(ttlOf(), Claims.anonymousClaimMillis)
  })

  it("that wait are so many and no more, until one is settled", () => {
    const { asked, claim, noted } = process()
    for (let n = 0; n < Claims.maxClaiming; n++) assert.deepStrictEqual(claim(`${n}`, { request_id: "a" }), [])
    assert.deepStrictEqual(claim("more", { request_id: "a" }), [false])
    assert.deepStrictEqual(noted, ["TooManyClaims"])
    assert.strictEqual(asked.length, Claims.maxClaiming)
    asked[0]!.done(undefined, true)
    assert.deepStrictEqual(claim("one", { request_id: "a" }), [])
    assert.deepStrictEqual(claim("more", { request_id: "a" }), [false])
  })

  it("that could not leave are asked for twenty times, a tenth of a second apart", () => {
    const { asked, claim, later, noted } = process()
    const outcome = claim("{}", { request_id: "a" })
    for (let times = 1; times < 20; times++) {
      asked.at(-1)!.done(failure("Timeout"), false)
      assert.deepStrictEqual(outcome, [])
      assert.strictEqual(later.at(-1)!.millis, 100)
      later.at(-1)!.entry.expire()
      assert.strictEqual(asked.length, times + 1)
    }
    asked.at(-1)!.done(failure("Timeout"), false)
    assert.deepStrictEqual(outcome, [false])
    assert.deepStrictEqual(noted, ["NotClaimed:Timeout"])
    assert.strictEqual(later.length, 19)
    assert.strictEqual(new Set(asked.map(({ key }) => key)).size, 1)
  })

  it("that cannot be had are not asked for again", () => {
    for (const [kind, sent] of [
      ["PermissionDenied", "no"],
      ["Closed", "no"],
      ["Timeout", "unknown"]
    ] as const) {
      const { asked, claim, later, noted } = process()
      const outcome = claim("{}", { request_id: "a" })
      asked[0]!.done(failure(kind, sent), false)
      assert.deepStrictEqual(outcome, [false])
      assert.deepStrictEqual(noted, [`NotClaimed:${kind}`])
      assert.deepStrictEqual(later, [])
    }
  })

  it("are asked for a moment later by who has no room", () => {
    const { asked, claim, later } = process()
    claim("{}", { request_id: "a" }, true)
    assert.deepStrictEqual(asked, [])
    assert.strictEqual(later[0]!.millis, Claims.deferMillis)
    later[0]!.entry.expire()
    assert.strictEqual(asked.length, 1)
  })

  it("without an id are counted for two seconds each, of ten thousand texts at most", () => {
    const { asked, claim, time } = process()
    /** Which one of its text a message is taken for. */
    const countOf = (text: string) => {
      claim(text)
      asked.at(-1)!.done(undefined, true)
      return asked.at(-1)!.key.split(".").at(-1)
    }
    assert.strictEqual(countOf("a"), "1")
    time.now += Claims.repeatedMillis
    assert.strictEqual(countOf("a"), "2")
    time.now += Claims.repeatedMillis + 1
    assert.strictEqual(countOf("a"), "1")
    for (let n = 1; n < 10_000; n++) countOf(`${n}`)
    assert.strictEqual(countOf("a"), "2")
    assert.strictEqual(countOf("1"), "2")
    // The oldest is now "2": one text more, and it is forgotten, the next is not.
    countOf("b")
    assert.strictEqual(countOf("3"), "2")
    assert.strictEqual(countOf("2"), "1")
  })
})
