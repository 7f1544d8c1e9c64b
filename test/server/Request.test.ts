import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Option, Queue, Random, Schema } from "effect"
import { Action, Caller, Handlers, Listener, Memory, Request, Response, Service, Topic, Transport } from "fiberbus"

const Who = Service.make(
  "who",
  Action.make("am_i", { payload: { tag: Schema.String, hops: Schema.Natural }, success: Schema.Array(Schema.String) })
)

/** What the current fiber believes to be handling. */
const tag = Effect.map(Request.current, ({ payload }) => (payload as { readonly tag: string }).tag)

/** Wanders through yields, forks of every kind and nested effects, looking at the request all the way. */
const wander = (hops: number): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    const seen = [yield* tag]
    for (let hop = 0; hop < hops; hop++) {
      switch (yield* Random.nextIntBetween(0, 5)) {
        case 0:
          yield* Effect.yieldNow
          break
        case 1:
          seen.push(yield* Fiber.join(yield* Effect.forkChild(Effect.andThen(Effect.yieldNow, tag))))
          break
        case 2:
          seen.push(yield* Fiber.join(yield* Effect.forkDetach(tag)))
          break
        case 3:
          seen.push(...(yield* Effect.all([tag, Effect.andThen(Effect.yieldNow, tag)], { concurrency: 2 })))
          break
        case 4:
          yield* Effect.promise(() => Promise.resolve())
          break
        default:
          seen.push(yield* Effect.sync(() => Fiber.getCurrent()).pipe(Effect.andThen(tag)))
      }
    }
    seen.push(yield* tag)
    return seen
  })

describe("Request", () => {
  it.effect.prop(
    "is its own for each of hundreds of handlers that run interleaved",
    [Schema.Array(Schema.Natural.check(Schema.isLessThan(12))).check(Schema.isMinLength(300), Schema.isMaxLength(400))],
    ([hops]) =>
      Effect.gen(function* () {
        const who = yield* Caller.make(Who)
        const answers = yield* Effect.forEach(
          hops,
          (hops, index) => Effect.map(who.am_i({ tag: `request ${index}`, hops }), (seen) => ({ index, seen })),
          { concurrency: "unbounded" }
        )
        for (const { index, seen } of answers) {
          assert.isAtLeast(seen.length, 2)
          assert.deepStrictEqual(new Set(seen), new Set([`request ${index}`]))
        }
      }).pipe(
        Effect.provide(
          Handlers.layer(Who, { am_i: ({ hops }) => wander(hops) }, { concurrency: 1_000 }).pipe(
            Layer.provideMerge(Memory.layer)
          )
        )
      ),
    { arbitrary: { runs: 20 } }
  )

  it.effect("tells what there is to know", () =>
    Effect.gen(function* () {
      const seen = yield* Queue.unbounded<Request.Request>()
      const Live = Handlers.layer(Who, {
        am_i: () =>
          Effect.as(
            Effect.flatMap(Request.current, (request) => Queue.offer(seen, request)),
            []
          )
      })
      yield* Effect.gen(function* () {
        const who = yield* Caller.make(Who)
        yield* who.am_i({ tag: "a", hops: 0 }, { timeout: "3 seconds", headers: { tenant: "acme" } })
        const request = yield* Queue.take(seen)
        assert.deepInclude(request, {
          service: "who",
          action: "am_i",
          headers: { tenant: "acme" },
          payload: { tag: "a", hops: 0 }
        })
        assert.match(request.replyTo ?? "", /^staging:caller:[0-9a-f-]{36}$/)
        assert.strictEqual(request.raw["request_id"], request.id)
        assert.strictEqual(request.remainingMillis, 3_000)
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layerOptions({ prefix: "staging:" })))))
    })
  )

  it.effect("dies with a clear error outside of a handler", () =>
    Effect.gen(function* () {
      for (const [operation, effect] of Object.entries<Effect.Effect<unknown>>({
        "Request.current": Request.current,
        "Response.send": Response.send(1),
        "Response.error": Response.error("no")
      })) {
        const exit = yield* Effect.exit(effect)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(defect, Request.NotInRequest)
        assert.include((defect as Error).message, `${operation} was used outside of a request`)
      }
      assert.isTrue(Option.isNone(yield* Request.option))
    })
  )

  it.effect("is there below a listener, which may answer by hand", () =>
    Effect.gen(function* () {
      const Ask = Topic.make("ask", Schema.Record(Schema.String, Schema.Any))
      const Live = Layer.mergeAll(
        Listener.layer(Ask, () => Effect.flatMap(Request.current, ({ payload }) => Response.send({ heard: payload }))),
        // Its result is nobody's business.
        Listener.layer(Ask, () => Effect.succeed("not an answer"))
      )
      yield* Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const answers = yield* Queue.unbounded<unknown>()
        yield* transport.subscribe({ _tag: "Channel", channel: "caller:me" }, (frame) => {
          Queue.offerUnsafe(answers, JSON.parse(String(frame)))
        })
        const ask = (message: object) => Transport.publish("ask", JSON.stringify(message))
        yield* ask({ payload: { q: 1 } })
        yield* ask({ payload: '{"q": 2}', reply_to: "elsewhere", request_id: "2" })
        yield* ask({ payload: '{"q": 3}', reply_to: "caller:me", request_id: "3" })
        assert.deepStrictEqual(yield* Queue.take(answers), {
          status: "success",
          payload: { heard: { q: 3 } },
          request_id: "3",
          final: true
        })
        assert.isTrue(Option.isNone(yield* Queue.poll(answers)))
      }).pipe(Effect.provide(Live.pipe(Layer.provideMerge(Memory.layer))))
    })
  )
})
