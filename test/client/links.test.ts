import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { CallError, Caller, Memory, Transport } from "fiberbus"
import { inbox } from "../../src/client/internal/inbox.ts"
import * as LinkState from "../../src/transport/LinkState.ts"
import { isPresence } from "../scripted.ts"
import { Users } from "../users.ts"

const cut = new Transport.TransportError({
  kind: "ConnectionLost",
  operation: "test",
  detail: "the cable was cut",
  hint: "",
  sent: "unknown"
})

/** A transport in memory whose link the test moves, and the requests that were sent over it. */
const make = Effect.fnUntraced(function* (whileDown?: Transport.WhileDown, way?: LinkState.Watched) {
  const link = LinkState.make({ _tag: "Ready", gaps: 0 })
  const inner = Memory.make()
  const sent = yield* Queue.unbounded<{
    readonly channel: string
    readonly frame: any
    readonly sent: Transport.Sent
  }>()
  const transport = Transport.Transport.of({
    ...inner,
    send: (channel, frame, done) => {
      if (isPresence(JSON.parse(frame))) return done(undefined, 1)
      Queue.offerUnsafe(sent, { channel, frame: JSON.parse(frame), sent: done })
    },
    get state() {
      return link.current()
    },
    watch: link.watch,
    // Only what is subscribed has a way of its own.
    linkOf: (channel) => (way !== undefined && channel.startsWith("caller:") ? way : undefined),
    whileDown
  })
  let gaps = 0
  const shared = yield* inbox.pipe(Effect.provideService(Transport.Transport, transport))
  const users = yield* Caller.make(Users).pipe(Effect.provideService(Transport.Transport, transport))
  return {
    users,
    pending: shared.size,
    sent,
    inner,
    link,
    lose: (connection: "publisher" | "subscriber") =>
      link.change({ _tag: "Degraded", gaps: connection === "subscriber" ? ++gaps : gaps, error: cut, down: true }),
    heal: () => link.change({ _tag: "Ready", gaps })
  }
})

const failed = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), (error) => {
    assert.instanceOf(error, CallError.CallError)
    return error
  })

const reply = (inner: Transport.Transport["Service"], request: any, fields: object) =>
  Transport.publish(request.reply_to, JSON.stringify({ request_id: request.request_id, ...fields })).pipe(
    Effect.provideService(Transport.Transport, inner)
  )

describe("a transport whose channels fail apart from each other", () => {
  it.effect("ends and holds calls by the way to their inbox alone", () =>
    Effect.gen(function* () {
      const way = LinkState.make({ _tag: "Ready", gaps: 0 })
      const { inner, lose, pending, sent, users } = yield* make(undefined, way)
      const first = yield* Effect.forkChild(users.ping(), { startImmediately: true })
      const request = yield* Queue.take(sent)
      // Another channel's trouble.
      lose("subscriber")
      assert.strictEqual(pending(), 1)
      yield* reply(inner, request.frame, { status: "success", payload: null, final: true })
      yield* Fiber.join(first)
      // A call that begins now is sent.
      const second = yield* Effect.forkChild(users.ping(), { startImmediately: true })
      yield* Queue.take(sent)
      way.change({ _tag: "Degraded", gaps: 1, error: cut, down: true })
      assert.strictEqual((yield* failed(second)).reason._tag, "ConnectionLost")
      // Nothing is sent while no answer can come.
      const third = yield* Effect.flip(users.ping())
      assert.deepInclude(third, { _tag: "CallError", started: "no" })
      assert.strictEqual(yield* Queue.size(sent), 0)
    })
  )
})

describe("a call whose link is lost", () => {
  it.effect("ends with ConnectionLost at once, with the reason, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal, pending } = yield* make()
      const calls = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(users.get_user({ id: "1" })))
      for (const _ of calls) yield* Queue.take(sent)
      assert.strictEqual(pending(), 3)
      lose("subscriber")
      for (const call of calls) {
        const error = yield* failed(call)
        assert.strictEqual(error.started, "unknown")
        assert.instanceOf(error.reason, CallError.ConnectionLost)
        assert.include(error.message, "the cable was cut")
      }
      assert.strictEqual(pending(), 0)
      heal()
      assert.strictEqual(yield* Queue.size(sent), 0)
    })
  )

  it.effect("has started when a step had come", () =>
    Effect.gen(function* () {
      const { users, sent, lose, inner } = yield* make()
      const steps = yield* Queue.unbounded<unknown>()
      const call = yield* users.import_users.stream({ rows: ["a"] }).pipe(
        Stream.runForEach((event) => Queue.offer(steps, event)),
        Effect.forkChild
      )
      const request = yield* Queue.take(sent)
      yield* reply(inner, request.frame, { status: "progress", final: false, payload: { done: 1, total: 2 } })
      yield* Queue.take(steps)
      lose("subscriber")
      const error = yield* failed(call)
      assert.strictEqual(error.reason._tag, "ConnectionLost")
      assert.strictEqual(error.started, "yes")
    })
  )

  it.effect("goes on when the publisher alone is lost, unless its own sending was", () =>
    Effect.gen(function* () {
      const { users, sent, lose, inner } = yield* make()
      const [one, two] = [yield* Effect.forkChild(users.ping()), yield* Effect.forkChild(users.ping())]
      const [first, second] = [yield* Queue.take(sent), yield* Queue.take(sent)]
      lose("publisher")
      second.sent(cut, 0)
      const error = yield* failed(two)
      assert.strictEqual(error.reason._tag, "ConnectionLost")
      assert.strictEqual(error.started, "unknown")
      yield* reply(inner, first.frame, { status: "success", final: true, payload: {} })
      assert.isUndefined(yield* Fiber.join(one))
    })
  )

  it.effect("ends with the transport's own error when that is closed", () =>
    Effect.gen(function* () {
      const { users, sent, link, pending } = yield* make()
      const call = yield* Effect.forkChild(users.ping())
      yield* Queue.take(sent)
      link.change({ _tag: "Closed", gaps: 0, error: undefined })
      const error = yield* failed(call)
      assert.isTrue(error.reason._tag === "TransportError" && error.reason.kind === "Closed")
      const late = yield* Effect.flip(users.ping())
      assert.isTrue(late.reason._tag === "TransportError" && late.reason.kind === "Closed")
      assert.strictEqual(late.started, "no")
      assert.strictEqual(pending(), 0)
    })
  )
})

describe("a call that begins while the link is down", () => {
  it.effect("fails at once where nothing may wait", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal, pending } = yield* make()
      lose("publisher")
      const error = yield* Effect.flip(users.ping())
      assert.isTrue(error.reason._tag === "TransportError" && error.reason.kind === "ConnectionLost")
      assert.strictEqual(error.started, "no")
      assert.deepInclude(error.reason, { operation: "call", detail: "the link is down: the cable was cut" })
      heal()
      assert.strictEqual(yield* Queue.size(sent), 0)
      assert.strictEqual(pending(), 0)
    })
  )

  it.effect("is sent once when the link is back, with the time that is left", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal, inner } = yield* make({ calls: 10, millis: 1000 })
      lose("subscriber")
      const call = yield* Effect.forkChild(users.ping({ timeout: "3 seconds" }), { startImmediately: true })
      yield* TestClock.adjust("500 millis")
      // Another attempt failed: that is no loss to those who wait.
      lose("subscriber")
      assert.strictEqual(yield* Queue.size(sent), 0)
      heal()
      const { frame } = yield* Queue.take(sent)
      assert.strictEqual(frame.fiberbus.timeout_ms, 2500)
      heal()
      assert.strictEqual(yield* Queue.size(sent), 0)
      yield* reply(inner, frame, { status: "success", final: true, payload: {} })
      assert.isUndefined(yield* Fiber.join(call))
    })
  )

  it.effect("waits no longer than it may", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal, pending } = yield* make({ calls: 10, millis: 1000 })
      lose("publisher")
      const call = yield* Effect.forkChild(users.ping(), { startImmediately: true })
      yield* TestClock.adjust("1010 millis")
      const error = yield* failed(call)
      assert.deepInclude(error.reason, {
        _tag: "TransportError",
        detail: "the link is down, and did not come back within 1000 ms: the cable was cut"
      })
      assert.strictEqual(error.started, "no")
      heal()
      assert.strictEqual(yield* Queue.size(sent), 0)
      assert.strictEqual(pending(), 0)
    })
  )

  it.effect("is not sent after its own time, nor when its caller has left", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal, pending } = yield* make({ calls: 10, millis: 1000 })
      lose("publisher")
      const late = yield* Effect.forkChild(users.ping({ timeout: "200 millis" }), { startImmediately: true })
      const left = yield* Effect.forkChild(users.ping(), { startImmediately: true })
      yield* TestClock.adjust("300 millis")
      const error = yield* failed(late)
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.strictEqual(error.started, "no")
      yield* Fiber.interrupt(left)
      heal()
      assert.strictEqual(yield* Queue.size(sent), 0)
      assert.strictEqual(pending(), 0)
    })
  )

  it.effect("is refused when too many wait, and the others are not harmed", () =>
    Effect.gen(function* () {
      const { users, sent, lose, heal } = yield* make({ calls: 2, millis: 1000 })
      lose("publisher")
      yield* Effect.forkChild(users.ping(), { startImmediately: true })
      yield* Effect.forkChild(users.ping(), { startImmediately: true })
      const error = yield* Effect.flip(users.ping())
      assert.strictEqual(error.started, "no")
      assert.deepInclude(error.reason, {
        detail: "the link is down, and 2 calls wait for it already: the cable was cut"
      })
      heal()
      assert.strictEqual(yield* Queue.size(sent), 2)
    })
  )

  it.effect("ends with the link when that is closed, and with its Scope", () =>
    Effect.gen(function* () {
      const { users, lose, link } = yield* make({ calls: 2, millis: 1000 })
      lose("publisher")
      const call = yield* Effect.forkChild(users.ping(), { startImmediately: true })
      link.change({
        _tag: "Closed",
        gaps: 0,
        error: new Transport.TransportError({ ...cut, kind: "Closed", sent: "no" })
      })
      const error = yield* failed(call)
      assert.isTrue(error.reason._tag === "TransportError" && error.reason.kind === "Closed")
      assert.strictEqual(error.started, "no")

      const scope = yield* Scope.make()
      const other = yield* Scope.provide(make({ calls: 2, millis: 1000 }), scope)
      other.lose("publisher")
      const held = yield* Effect.forkChild(other.users.ping(), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* failed(held)).started, "no")
    })
  )
})
