import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Action, Caller, Handlers, Service } from "fiberbus"
import { RedisServer } from "fiberbus/testing"
import * as RedisStreams from "fiberbus/transport/RedisStreams"

const Payments = Service.make(
  "payments",
  Action.make("charge", { payload: { cents: Schema.Finite }, success: Schema.Finite }).pipe(
    Action.annotate(Action.Delivery, "durable")
  )
)

const bus = Layer.unwrap(
  RedisServer.RedisServer.use(({ url }) => Effect.succeed(RedisStreams.layer({ url, prefix: "p:" })))
)

it.layer(Layer.provideMerge(bus, RedisServer.layer), { excludeTestServices: true })("what is kept in Redis", (it) => {
  it.effect("is what docs/wire.md says", () =>
    Effect.gen(function* () {
      const { command } = yield* RedisServer.RedisServer
      const payments = yield* Caller.make(Payments)
      yield* payments.charge.enqueue({ cents: 5 }, { id: "a", headers: { tenant: "acme" } })
      yield* payments.charge.enqueue({ cents: 6 }, { id: "b", key: "ann" })
      yield* payments.charge.enqueue({ cents: 7 }, { id: "c", key: "ann" })
      yield* payments.charge.enqueue({ cents: 8 }, { id: "d", delay: "1 hour" })
      const entries = (yield* command("XRANGE", "p:{payments}.requests", "-", "+")) as Array<[string, Array<string>]>
      const frame = (cents: number, id: string, more = "") =>
        `{"action":"charge","service":"payments","payload":{"cents":${cents}},"request_id":"${id}"${more}}`
      assert.deepStrictEqual(entries[0]![1], [
        "id",
        "a",
        "frame",
        frame(5, "a", `,"fiberbus":{"v":1,"headers":{"tenant":"acme"}}`)
      ])
      const [entry, fields] = entries[1]!
      const at = fields[7]!
      assert.match(at, /^\d{13}$/)
      assert.deepStrictEqual(fields, ["id", "b", "frame", frame(6, "b"), "n", "0", "at", at, "key", "ann"])
      assert.lengthOf(entries, 2)
      assert.deepStrictEqual(yield* command("HGETALL", "p:{payments}.lanes"), ["ann", entry])
      assert.strictEqual(yield* command("LLEN", "p:{payments}.lane:ann"), 1)
      assert.strictEqual(yield* command("GET", "p:{payments}.laned"), "1")
      assert.strictEqual(yield* command("ZCARD", "p:{payments}.delayed"), 1)
      assert.strictEqual(yield* command("GET", "p:{payments}.id:a"), "w")

      yield* Layer.build(Handlers.layer(Payments, { charge: ({ cents }) => Effect.succeed(cents) }))
      assert.strictEqual(yield* payments.charge.receipt("c").await(), 7)
      assert.strictEqual(
        yield* command("GET", "p:{payments}.id:c"),
        `{"status":"success","payload":7,"request_id":"c","final":true}`
      )
      const keys = (yield* command("KEYS", "*")) as Array<string>
      assert.deepStrictEqual(keys.filter((key) => !key.includes(".id:")).sort(), [
        "p:{payments}.delayed",
        "p:{payments}.held",
        "p:{payments}.laned",
        "p:{payments}.number",
        "p:{payments}.requests"
      ])
      const consumers = (yield* command("XINFO", "GROUPS", "p:{payments}.requests")) as Array<Array<unknown>>
      assert.strictEqual(consumers[0]![1], "payments")
    }).pipe(Effect.scoped)
  )

  it.effect("may be added to by another program, by its frame alone", () =>
    Effect.gen(function* () {
      const { command } = yield* RedisServer.RedisServer
      const done: Array<number> = []
      yield* Layer.build(
        Handlers.layer(Payments, {
          charge: ({ cents }) =>
            Effect.as(
              Effect.sync(() => done.push(cents)),
              cents
            )
        })
      )
      yield* command("XADD", "p:{payments}.requests", "*", "frame", `{"action":"charge","payload":{"cents":9}}`)
      while (done.length === 0) yield* Effect.sleep("5 millis")
      assert.deepStrictEqual(done, [9])
    }).pipe(Effect.scoped)
  )
})
