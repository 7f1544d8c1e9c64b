import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema } from "effect"
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
  return { ran, say, numbers: () => ran.map(([, n]) => n) }
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
